from __future__ import annotations

from pathlib import Path

import pytest

from obelisk.data import read_catalog
from obelisk.errors import DataError
from obelisk.photos import PhotoFilter


def test_folder_per_landmark_is_named_verbatim_and_numbered_in_order(tmp_path, write_photo):
    for path in ("Zoo/z.jpg", "Café  _x/nested/deep/b.png", "Café  _x/a.JPG", "10 Downing St./q.webp"):
        write_photo(tmp_path, path, 1)
    catalog = read_catalog(tmp_path)
    assert catalog.landmark_names() == {1: "10 Downing St.", 2: "Café  _x", 3: "Zoo"}
    assert catalog.references.rows() == [
        ("10 Downing St./q.webp", "10 Downing St./q.webp", 1, "train"),
        ("Café  _x/a.JPG", "Café  _x/a.JPG", 2, "train"),
        ("Café  _x/nested/deep/b.png", "Café  _x/nested/deep/b.png", 2, "train"),
        ("Zoo/z.jpg", "Zoo/z.jpg", 3, "train"),
    ]
    assert catalog.queries.is_empty()


def test_hidden_and_other_files_are_passed_over(tmp_path, write_photo):
    write_photo(tmp_path, "A/a.jpg", 1)
    for path in ("A/.hidden.jpg", ".git/x.jpg", "__MACOSX/A/a.jpg", "A/.thumbs/t.jpg"):
        write_photo(tmp_path, path, 2)
    (tmp_path / "A" / "notes.txt").write_text("no photo")
    catalog = read_catalog(tmp_path)
    assert catalog.references["path"].to_list() == ["A/a.jpg"]
    assert catalog.notes == ("passed over: 1 folder that machines make (1 __MACOSX)",)
    counting = PhotoFilter(["a.*"])
    with pytest.raises(DataError, match=r"1 folder that machines make \(1 __MACOSX\), 1 excluded"):
        read_catalog(tmp_path, photo_filter=counting)


def test_empty_folders_and_loose_photos_are_noted(tmp_path, write_photo):
    write_photo(tmp_path, "A/a.jpg", 1)
    write_photo(tmp_path, "loose.jpg", 2)
    (tmp_path / "Empty").mkdir()
    catalog = read_catalog(tmp_path)
    assert catalog.landmark_names() == {1: "A"}
    assert catalog.notes == (
        "folders without a photo, left out: 'Empty'",
        "photos in no landmark's folder, left out: 1, the first is loose.jpg",
    )


def test_links_to_folders_are_followed_and_circles_end(tmp_path, write_photo):
    write_photo(tmp_path, "elsewhere/a.jpg", 1)
    places = tmp_path / "places"
    (places / "B").mkdir(parents=True)
    (places / "A").symlink_to(tmp_path / "elsewhere")
    (places / "B" / "circle").symlink_to(places)
    assert read_catalog(places).references["path"].to_list() == ["A/a.jpg"]


def test_name_that_is_not_utf8_is_passed_over_and_noted(tmp_path, write_photo):
    good = write_photo(tmp_path, "A/a.jpg", 1)
    Path(str(good.parent) + "/b\udcff.jpg").write_bytes(good.read_bytes())
    catalog = read_catalog(tmp_path)
    assert catalog.references["path"].to_list() == ["A/a.jpg"]
    assert catalog.notes == (r"'A/b\udcff.jpg': the name is not UTF-8",)


# Folders that are no dataset: each error tells of the two layouts.
def make_nothing(root: Path) -> Path:
    return root / "absent"


def make_file(root: Path) -> Path:
    (root / "file").write_text("x")
    return root / "file"


def make_bare(root: Path) -> Path:
    (root / "Empty").mkdir()
    (root / "Texts").mkdir()
    (root / "Texts" / "a.txt").write_text("x")
    return root


@pytest.mark.parametrize("make", [make_nothing, make_file, make_bare])
def test_no_dataset_is_an_error_that_tells_the_layouts(make, tmp_path):
    with pytest.raises(DataError) as raised:
        read_catalog(make(tmp_path))
    assert "train.csv" in str(raised.value)
    assert "a folder per landmark" in str(raised.value)


def test_photos_in_no_folder_are_no_dataset(tmp_path, write_photo):
    write_photo(tmp_path, "a.jpg", 1)
    with pytest.raises(DataError, match="no photo found in a landmark's folder"):
        read_catalog(tmp_path)
