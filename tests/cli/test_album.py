"""``obelisk album``: from a folder to a page, again after an interruption, and in a browser."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from obelisk.embedding import Embedder
from obelisk.outputs import AlbumState

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def city(tmp_path: Path, obelisk: Any, places: Path, calibrated_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    assert obelisk("gallery", "build", "city", "--data", places, "--model", calibrated_bundle)[0] == 0
    return "city"


@pytest.fixture
def holiday(tmp_path: Path, photograph: Any) -> Path:
    for number in range(6):
        color = ((230, 60, 60), (60, 60, 240))[number % 2]
        photograph(tmp_path / "holiday" / f"{number}.png", color, 100 + number)
    return Path("holiday")


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the photos that were embedded."""
    seen: list[str] = []
    embed_one = Embedder.embed_one

    def watch(self: Embedder, source: Any, **options: Any) -> Any:
        seen.append(source.path.name)
        return embed_one(self, source, **options)

    monkeypatch.setattr(Embedder, "embed_one", watch)
    return seen


def test_a_folder_becomes_a_page(city: str, holiday: Path, obelisk: Any) -> None:
    (holiday / "broken.jpg").write_text("no photo", encoding="utf-8")
    code, out, err = obelisk("album", holiday, "--out", "new/a.html", "--gallery", city, "--threshold", "0")
    assert code == 1
    assert out == "new/a.html: 7 photos: 6 show 2 landmarks, 1 could not be read.\n"
    assert "1 of 7 photos could not be used" in err
    page = Path("new/a.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 6
    assert 'href="./../holiday/0.png"' in page
    assert [path.name for path in Path("new").iterdir()] == ["a.html"]


def test_an_album_goes_on_where_the_disk_was_full(
    city: str, holiday: Path, obelisk: Any, embedded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("album", holiday, "--out", "a.html", "--gallery", city)
    Path("a.html").write_text("the last one", encoding="utf-8")
    keep = AlbumState.keep

    def fill_disk(state: AlbumState, *words: Any) -> None:
        if len(state) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(state.folder))
        keep(state, *words)

    monkeypatch.setattr(AlbumState, "keep", fill_disk)
    code, out, err = obelisk(*command)
    assert (code, out) == (1, "")
    assert "4 answers are kept in a.html.partial" in err
    assert "the disk is full · a.html.partial · free some space, and run the command again" in err
    assert Path("a.html").read_text(encoding="utf-8") == "the last one"

    monkeypatch.setattr(AlbumState, "keep", keep)
    embedded.clear()
    code, out, err = obelisk(*command)
    assert (code, sorted(embedded)) == (0, ["4.png", "5.png"])
    assert "going on: 4 answers in a.html.partial" in err
    page = Path("a.html").read_text(encoding="utf-8")
    assert re.findall('alt="[^"]*([0-9]).png"', page) == list("024135")
    assert not Path("a.html.partial").exists()


def test_answers_of_another_gallery_are_not_taken(
    city: str, holiday: Path, obelisk: Any, embedded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photo that moved is known again; a gallery that changed answers anew."""
    command = ("album", holiday, "--out", "a.html", "--gallery", city)

    def refuse(*words: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr("obelisk.outputs.write_album", refuse)
        assert obelisk(*command)[0] == 130
        embedded.clear()
        shutil.move(holiday / "0.png", holiday / "z.png")
        assert obelisk(*command)[0] == 130
        assert embedded == []
    obelisk("gallery", "rename", city, "Dome", "--into", "Cupola")
    embedded.clear()
    assert obelisk(*command)[0] == 0
    assert len(embedded) == 6
    assert "Cupola" in Path("a.html").read_text(encoding="utf-8")
    assert not Path("a.html.partial").exists()


def test_a_folder_is_no_page(city: str, holiday: Path, obelisk: Any) -> None:
    code, _, err = obelisk("album", holiday, "--out", holiday, "--gallery", city)
    assert (code, "name a file: --out holiday/album.html" in err) == (2, True)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize("script", [True, False])
def test_a_browser_shows_the_page_and_asks_for_nothing(
    city: str, holiday: Path, obelisk: Any, photograph: Any, script: bool, tmp_path: Path
) -> None:
    driver = pytest.importorskip("playwright.sync_api", reason="no Playwright")
    photograph(holiday / "<img src=x onerror=document.title='broken'>.png", (230, 60, 60), 3)
    assert obelisk("album", holiday, "--out", "a.html", "--gallery", city, "--threshold", "0")[0] == 0
    said: list[str] = []
    asked: list[str] = []
    with driver.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=60_000)
        page = browser.new_page(viewport={"width": 360, "height": 740}, java_script_enabled=script)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url.partition(",")[0]))
        page.goto((tmp_path / "a.html").as_uri())
        assert page.title() == "holiday"
        assert page.get_by_role("heading", level=2).count() == 2
        assert page.get_by_role("navigation", name="Landmarks").count() == 1
        first = page.get_by_role("img").first
        first.scroll_into_view_if_needed()
        if script:
            assert first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 40
            wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            assert page.evaluate(wide) is False
        browser.close()
    assert said == []
    assert {url for url in asked if not url.startswith("data:")} == {(tmp_path / "a.html").as_uri()}
