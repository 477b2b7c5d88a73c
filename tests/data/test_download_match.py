"""Downloading the photos of landmarks by the names of their categories at Wikimedia Commons."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from mirror import Fault, Mirror, draw_photo, name_photo, place_photo
from PIL import Image

from obelisk.data import read_catalog
from obelisk.data.download import Downloader, DownloadReport, DownloadRequest, DownloadState, RetryPolicy, commons
from obelisk.data.formats.gldv2 import read_category_links
from obelisk.errors import UsageError

NAMES = ("Colosseum", "Trevi_Fountain_(Rome)", "Eiffel_Tower", "Piazza_Navona,_Rome", "Panth%C3%A9on", "Roman_Forum")
QUICK = RetryPolicy(retries=1, first_wait=0.01, longest_wait=0.02, timeout=2.0)


@pytest.fixture
def rome(mirror: Mirror) -> Mirror:
    """Six landmarks of two photos each, with their categories at Commons and the authors of the photos."""
    rows = [f"{number},http://commons.wikimedia.org/wiki/Category:{name}" for number, name in enumerate(NAMES)]
    rows = ["landmark_id,category", *(f'"{row.partition(",")[0]}","{row.partition(",")[2]}"' for row in rows)]
    mirror.files["metadata/train_label_to_category.csv"] = ("\n".join(rows) + "\n").encode()
    ids = [name_photo(number) for number in range(12)]
    authors = [f'{one},https://commons.wikimedia.org/wiki/File:{one}.jpg,"Ann, B.",CC BY 4.0,{one}' for one in ids]
    lines = ["id,url,author,license,title", *authors]
    mirror.files["metadata/train_attribution.csv"] = ("\n".join(lines) + "\n").encode()
    return mirror


@pytest.fixture
def request_for(rome: Mirror, folder: Path) -> Callable[..., DownloadRequest]:
    def make(**wanted: object) -> DownloadRequest:
        given = {"splits": ("train",), "base_url": rome.url, "match": "rom"} | wanted
        return DownloadRequest(directory=folder, **given)  # type: ignore[arg-type]

    return make


@pytest.fixture
def fetch(request_for: Callable[..., DownloadRequest], folder: Path) -> Callable[..., DownloadReport]:
    def run(**wanted: object) -> DownloadReport:
        with DownloadState(folder) as state:
            return Downloader(request_for(**wanted), state, rate=1000.0, policy=QUICK).run()

    return run


def found_in(folder: Path) -> dict[str, int]:
    return dict(read_catalog(folder).references.select("image_id", "landmark_id").iter_rows())


@pytest.mark.parametrize(
    ("match", "landmarks"),
    [
        ("rom", {1, 3, 5}),
        ("ROME$", {3}),
        (r"\(rome\)|colosseum", {0, 1}),  # names have blanks where their addresses have underscores
        ("Piazza Navona", {3}),
        ("panthéon", {4}),
    ],
)
def test_landmarks_are_found_by_the_names_of_their_categories(
    fetch: Callable[..., DownloadReport], folder: Path, match: str, landmarks: set[int]
) -> None:
    assert fetch(match=match).failed == ()
    expected = {name_photo(number): number // 2 for number in range(12) if number // 2 in landmarks}
    assert found_in(folder) == expected


def test_what_was_fetched_is_ready_for_a_gallery_with_its_authors(
    fetch: Callable[..., DownloadReport], folder: Path
) -> None:
    fetch(match="trevi")
    catalog = read_catalog(folder)
    fetch(match="forum")
    assert catalog.landmark_names() == {1: "Trevi Fountain (Rome)"}
    assert read_category_links(catalog)[1].endswith("Category:Trevi_Fountain_(Rome)")
    with (folder / commons.ATTRIBUTION).open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert {(row["image_id"], row["author"], row["license"]) for row in rows} == {
        (name_photo(number), "Ann, B.", "CC BY 4.0") for number in (2, 3, 10, 11)
    }


def test_the_cleaned_photos_of_a_landmark_come_first(
    rome: Mirror, fetch: Callable[..., DownloadReport], folder: Path
) -> None:
    later = max(name_photo(2), name_photo(3))
    rome.files["metadata/train_clean.csv"] = f"landmark_id,images\n1,{later}\n".encode()
    fetch(match="trevi|navona", per_landmark=1)
    assert found_in(folder) == {later: 1, min(name_photo(6), name_photo(7)): 3}


def test_a_smaller_version_is_fetched_where_commons_has_one(
    rome: Mirror, fetch: Callable[..., DownloadReport], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commons, "UPLOADS", f"{rome.url.partition('://')[2]}/wikipedia/commons")
    large, small = (name_photo(number) for number in (2, 3))
    table = rome.files["metadata/train.csv"].decode()
    for one, path in ((large, "a/ab/Large.JPG"), (small, "b/bc/Small.jpg")):
        table = table.replace(f"{rome.url}/commons/{one}.jpg", f"{rome.url}/wikipedia/commons/{path}")
    rome.files["metadata/train.csv"] = table.encode()
    rome.files["wikipedia/commons/thumb/a/ab/Large.JPG/120px-Large.JPG"] = draw_photo(1, (120, 160))
    rome.files["wikipedia/commons/b/bc/Small.jpg"] = draw_photo(2, (40, 30))  # too small for that version: 400
    rome.faults["wikipedia/commons/thumb/b/bc/Small.jpg/120px-Small.jpg"] = [Fault(status=400)]
    assert fetch(match="trevi", max_side=100).failed == ()
    assert rome.count("wikipedia/commons/a/ab/Large.JPG") == 0
    for one, size in ((large, (75, 100)), (small, (40, 30))):
        with Image.open(folder / "train" / place_photo(one)) as photo:
            assert photo.size == size


@pytest.mark.parametrize(
    ("url", "side", "expected"),
    [
        ("https://upload.wikimedia.org/wikipedia/commons/a/ab/A%20b.jpg", 960, "/thumb/a/ab/A%20b.jpg/960px-A%20b.jpg"),
        ("http://upload.wikimedia.org/wikipedia/commons/a/ab/A.png", 961, "/thumb/a/ab/A.png/1280px-A.png"),
        ("https://upload.wikimedia.org/wikipedia/commons/a/ab/A.jpg", None, None),
        ("https://upload.wikimedia.org/wikipedia/commons/a/ab/A.jpg", 4000, None),
        ("https://upload.wikimedia.org/wikipedia/commons/a/ab/A.tif", 960, None),
        ("https://upload.wikimedia.org/wikipedia/en/a/ab/A.jpg", 960, None),
        ("https://example.org/a/ab/A.jpg", 960, None),
    ],
)
def test_addresses_of_smaller_versions(url: str, side: int | None, expected: str | None) -> None:
    found = commons.smaller_version(url, side)
    assert (found and found.partition("/commons")[2]) == expected


def test_a_dry_run_lists_the_landmarks_and_keeps_nothing(
    request_for: Callable[..., DownloadRequest], fetch: Callable[..., DownloadReport], folder: Path, rome: Mirror
) -> None:
    expected = ["Piazza Navona, Rome", "Roman Forum", "Trevi Fountain (Rome)"]
    with DownloadState(folder, keep=False) as state:
        assert Downloader(request_for(), state, policy=QUICK).list_landmarks() == [(name, None) for name in expected]
    assert not folder.exists()
    assert {asked.path for asked in rome.asked} == {"metadata/train_label_to_category.csv"}
    fetch(match="trevi")
    with DownloadState(folder, keep=False) as state:
        downloader = Downloader(request_for(per_landmark=1), state, policy=QUICK)
        assert downloader.list_landmarks() == [(name, 1) for name in expected]
        assert downloader.plan().photos == 2


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        ({"match": "(rome"}, "not a regular expression"),
        ({"landmarks": 3}, "either drawn or matched"),
        ({"splits": ("test",)}, "those of train or clean"),
        ({"match": None, "landmarks": None, "per_landmark": 3}, "of chosen landmarks"),
    ],
)
def test_contradictions_are_refused(
    request_for: Callable[..., DownloadRequest], wanted: dict[str, object], match: str
) -> None:
    with pytest.raises(UsageError, match=match):
        request_for(**wanted)


def test_a_name_that_no_landmark_has_is_told(fetch: Callable[..., DownloadReport]) -> None:
    with pytest.raises(UsageError, match="no category of Wikimedia Commons contains `carthage`"):
        fetch(match="carthage")
