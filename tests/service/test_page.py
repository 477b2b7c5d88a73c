"""The page in a real browser: Debian's Chromium, driven by Playwright; screenshots go to $OBELISK_SCREENSHOTS."""

import contextlib
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.service.conftest import TOKEN, running_servers

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (`apt install chromium`)")
SECONDS = 60_000

OpenPage = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def unchanged(built_gallery: Path) -> Iterator[str]:
    """The address of a service that allows no changes."""
    with running_servers() as run:
        yield run(built_gallery)


@pytest.fixture
def open_page(browser: Any, run_server: Callable[..., str], unchanged: str) -> Iterator[OpenPage]:
    """Open the page of a service, which allows changes to a gallery that is given.

    Afterwards, there was no message, and no request to anybody else.
    """
    contexts, messages, requests = [], [], []

    def open_it(gallery: Path | None = None, *, path: str = "/", **options: Any) -> Any:
        address = run_server(gallery, allow_changes=True, token=TOKEN) if gallery else unchanged
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SECONDS)
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(f"{address}{path}")
        yield_from_address.append(address)
        return page

    yield_from_address: list[str] = []
    yield open_it
    for context in contexts:
        context.close()
    assert messages == []
    assert [url for url in requests if not url.startswith((*yield_from_address, "blob:"))] == []


def save_screenshot(page: Any, name: str) -> None:
    if folder := os.environ.get("OBELISK_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


SIZES = {
    "wide": {"viewport": {"width": 1400, "height": 900}},
    "narrow": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
    "dark": {"viewport": {"width": 1024, "height": 768}, "color_scheme": "dark", "reduced_motion": "reduce"},
}


@pytest.mark.parametrize("size", SIZES)
def test_photos_are_named(open_page: OpenPage, photos: list[Path], size: str) -> None:
    page = open_page(**SIZES[size])
    page.set_input_files("#choose", [str(photo) for photo in photos[:3]])
    page.get_by_text(re.compile(r"^3 photos done")).wait_for()
    cards = page.locator(".answer")
    assert cards.count() == 3
    assert cards.first.locator(".candidates tr").count() == 5
    assert cards.first.locator(".neighbors img").count() == 3
    cards.first.get_by_role("button", name="Show why").click()
    cards.first.get_by_text(re.compile(r"^(These|No) region|is not at hand")).wait_for()
    boxes = cards.first.locator(".pictures > .picture .region").count()
    assert cards.first.locator("figure .region").count() == boxes  # the reference photo shows as many
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out
    save_screenshot(page, f"photos-{size}")


def test_the_gallery_is_browsed(open_page: OpenPage) -> None:
    page = open_page(path="/#gallery", **SIZES["wide"])
    page.locator("#landmarks li").nth(5).wait_for()
    save_screenshot(page, "gallery-wide")
    name = page.locator("#landmarks button").first.inner_text().split("\n")[0]
    page.get_by_label("Search").fill(name.upper())
    page.get_by_text("found.").wait_for()
    page.locator("#landmarks button").first.click()
    page.get_by_role("heading", name=name).wait_for()
    page.locator("#landmark img").first.wait_for()
    save_screenshot(page, "landmark-wide")
    page.keyboard.press("Escape")
    assert not page.locator("#landmark").is_visible()


def test_an_unreadable_photo_and_one_that_is_none(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    (tmp_path / "broken.jpg").write_bytes(b"broken")
    (tmp_path / "notes.txt").write_text("no photo")
    page.set_input_files("#choose", str(tmp_path / "notes.txt"))
    page.get_by_text("That was no photo").wait_for()
    page.set_input_files("#choose", str(tmp_path / "broken.jpg"))
    page.locator(".verdict.error", has_text="can't be read").wait_for()


def test_a_landmark_is_added_and_removed(open_page: OpenPage, own_gallery: Path, photos: list[Path]) -> None:
    page = open_page(own_gallery, path="/#gallery")
    page.get_by_role("button", name="Add a landmark").click()
    page.get_by_label("Name", exact=True).fill("<img src=x onerror=alert(1)>")
    page.get_by_label("Position: latitude").fill("48.8583, 2.2945")
    page.locator("#change input[type=file]").set_input_files(str(photos[0]))
    page.get_by_label("Token").fill(TOKEN)
    save_screenshot(page, "add")
    page.locator("#change").get_by_role("button", name="Add a landmark").click()
    page.locator("#landmarks button", has_text="onerror").click()
    page.get_by_text("48.8583, 2.2945").wait_for()
    page.get_by_role("button", name="Remove").click()
    page.locator("#change").get_by_role("button", name="Remove").click()
    page.locator("#landmarks button", has_text="onerror").wait_for(state="detached")


def test_a_landmark_on_the_map_and_who_made_reference_photos(
    open_page: OpenPage, own_gallery: Path, photos: list[Path]
) -> None:
    with contextlib.closing(sqlite3.connect(own_gallery / "gallery.sqlite")) as tables, tables:
        credit = "<b>Ann</b>", "https://creativecommons.org/licenses/by-sa/3.0/"
        tables.execute("UPDATE photos SET author = ?, licence = ?", credit)
    page = open_page(own_gallery)
    form = {"name": "Gate", "latitude": "48.8583", "longitude": "2.2945"}
    parts = {**form, "photos": {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": photos[0].read_bytes()}}
    page.request.post(f"{page.url}v1/landmarks", multipart=parts, headers={"Authorization": f"Bearer {TOKEN}"})
    page.set_input_files("#choose", str(photos[0]))
    page.locator("#map path.leaflet-interactive").last.wait_for()
    page.locator(".neighbors .credit", has_text="Photo: <b>Ann</b>, CC BY-SA 3.0").last.wait_for()
    save_screenshot(page, "map")


def test_everything_works_by_keyboard(open_page: OpenPage) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert {"tab-photos", "tab-gallery", "choose", "use-position"} <= reached
    page.locator("#tab-gallery").focus()
    page.keyboard.press("Enter")
    page.locator("#landmarks button").first.focus()
    page.keyboard.press("Enter")
    page.locator("#landmark").wait_for()
    assert page.evaluate("document.getElementById('landmark').contains(document.activeElement)")


def test_the_page_is_light() -> None:
    import obelisk.service

    page = Path(obelisk.service.__file__).parent / "page"
    assert sum(file.stat().st_size for file in page.rglob("*") if file.is_file()) < 350_000
