from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from obelisk.data import LANDMARKS, QUERIES, REFERENCES, check_dataset, read_catalog
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
    write_photo(tmp_path, "B/b.jpg", 2)
    for path in ("A/.hidden.jpg", ".git/x.jpg", "__MACOSX/A/a.jpg", "A/.thumbs/t.jpg"):
        write_photo(tmp_path, path, 2)
    (tmp_path / "A" / "notes.txt").write_text("no photo")
    catalog = read_catalog(tmp_path)
    assert catalog.references["path"].to_list() == ["A/a.jpg", "B/b.jpg"]
    assert catalog.notes == ("passed over: 1 folder that machines make (1 __MACOSX)",)
    counting = PhotoFilter(["[ab].*"])
    with pytest.raises(DataError, match=r"1 folder that machines make \(1 __MACOSX\), 2 excluded"):
        read_catalog(tmp_path, photo_filter=counting)


def test_empty_folders_and_loose_photos_are_noted(tmp_path, write_photo):
    for path in ("A/a.jpg", "B/b.jpg", "loose.jpg"):
        write_photo(tmp_path, path, 1)
    (tmp_path / "Empty").mkdir()
    catalog = read_catalog(tmp_path)
    assert catalog.landmark_names() == {1: "A", 2: "B"}
    assert catalog.notes == (
        "photos in no landmark's folder, left out: 1, the first is loose.jpg",
        "folders without a photo, left out: 'Empty'",
    )


def test_empty_folders_of_landmarks_in_splits_are_noted(tmp_path, write_photo):
    for path in ("train/A/a.jpg", "train/B/b.jpg", "val/A/c.jpg"):
        write_photo(tmp_path, path, 1)
    for empty in ("train/Empty", "val/B", "val/Empty", "train/A/deeper", "test"):
        (tmp_path / empty).mkdir(parents=True, exist_ok=True)
    told = ["test", "train/Empty", "val/Empty"]
    catalog = read_catalog(tmp_path)
    assert catalog.notes[-1] == f"folders without a photo, left out: {', '.join(map(repr, told))}"
    assert [(issue.kind, issue.where) for issue in check_dataset(tmp_path) if issue.kind == "empty"] == [
        ("empty", folder) for folder in told
    ]


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
    write_photo(tmp_path, "B/b.jpg", 2)
    catalog = read_catalog(tmp_path)
    assert catalog.references["path"].to_list() == ["A/a.jpg", "B/b.jpg"]
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
def test_no_dataset_is_an_error_that_names_the_layouts(make, tmp_path):
    with pytest.raises(DataError) as raised:
        read_catalog(make(tmp_path))
    assert "train.csv" in str(raised.value)
    assert "a folder per landmark" in str(raised.value)


def test_photos_in_no_folder_are_no_dataset(tmp_path, write_photo):
    write_photo(tmp_path, "a.jpg", 1)
    with pytest.raises(DataError, match="no photo found in a landmark's folder"):
        read_catalog(tmp_path)


def make_folders(root: Path, write_photo, *paths: str) -> Path:
    for seed, path in enumerate(paths):
        write_photo(root, path, seed)
    return root


def test_folders_of_splits_are_read_as_splits(tmp_path, write_photo):
    paths = ("train/A/1.jpg", "train/A/in/2.jpg", "train/B/3.jpg", "Valid/A/4.jpg", "test/B/5.jpg", "test/A/6.jpg")
    catalog = read_catalog(make_folders(tmp_path, write_photo, *paths))
    assert catalog.landmark_names() == {1: "A", 2: "B"}
    assert catalog.references.select("path", "landmark_id", "split").rows() == [
        ("Valid/A/4.jpg", 1, "val"),
        ("train/A/1.jpg", 1, "train"),
        ("train/A/in/2.jpg", 1, "train"),
        ("train/B/3.jpg", 2, "train"),
    ]
    assert catalog.queries.rows() == [
        ("test/A/6.jpg", "test/A/6.jpg", [1], "test"),
        ("test/B/5.jpg", "test/B/5.jpg", [2], "test"),
    ]
    assert (catalog.references.schema, catalog.queries.schema, catalog.landmarks.schema) == (
        REFERENCES,
        QUERIES,
        LANDMARKS,
    )
    assert catalog.notes == ("folders read as splits: Valid as val, test, train; the photos in test are the queries",)


def test_splits_may_lack_landmarks_of_each_other(tmp_path, write_photo):
    paths = (
        "train/A/1.jpg",
        "train/B/2.jpg",
        "val/A/3.jpg",
        "val/C/4.jpg",
        "test/A/5.jpg",
        "test/0/6.jpg",
        "test/7.jpg",
    )
    catalog = read_catalog(make_folders(tmp_path, write_photo, *paths))
    assert catalog.landmark_names() == {1: "A", 2: "B", 3: "C"}
    # Nothing would be left to recognize C by if its only photo were held out.
    assert catalog.references.filter(split="val")["path"].to_list() == ["val/A/3.jpg"]
    assert catalog.queries.select("path", "landmark_ids").rows() == [("test/0/6.jpg", [4]), ("test/A/5.jpg", [1])]
    assert catalog.notes[1:] == (
        "landmarks of queries that have no reference photo: '0'",
        "photos in no landmark's folder, left out: 1, the first is test/7.jpg",
    )


def test_a_train_folder_of_numbered_landmarks_is_no_gldv2(tmp_path, write_photo):
    catalog = read_catalog(make_folders(tmp_path, write_photo, "train/0/a.jpg", "train/1/b.jpg"))
    assert catalog.landmark_names() == {1: "0", 2: "1"}
    assert catalog.notes[0] == "folders read as splits: train"


# Folders that are called like splits and can't be read so, with the reason that is told.
NO_SPLITS = {
    "no landmark repeats": (("train/A/1.jpg", "test/B/2.jpg"), "no folder in `test` has the name of one in train"),
    "no train folder": (("val/A/1.jpg", "test/A/2.jpg"), "none of them is a train folder"),
    "photos without landmarks": (("train/1.jpg", "test/2.jpg"), "none of them is a train folder"),
    "another folder": (("train/A/1.jpg", "test/A/2.jpg", "extra/3.jpg"), "`extra` lies beside them"),
}


@pytest.mark.parametrize(("paths", "reason"), NO_SPLITS.values(), ids=NO_SPLITS)
def test_what_may_be_splits_is_refused_with_the_layouts(paths, reason, tmp_path, write_photo):
    make_folders(tmp_path, write_photo, *paths)
    with pytest.raises(DataError, match=reason) as raised:
        read_catalog(tmp_path)
    assert "a folder per landmark" in raised.value.fix
    assert "DIR/train/Space Needle/photo.jpg" in raised.value.fix


# Folders that are landmarks although some are called like splits.
LANDMARKS_ALL_THE_SAME = (
    ("Test/1.jpg", "Eiffel/2.jpg"),
    ("Test/1.jpg", "Train/2.jpg", "Eiffel/3.jpg"),
    ("test/A/1.jpg", "Eiffel/2.jpg"),
)


@pytest.mark.parametrize("paths", LANDMARKS_ALL_THE_SAME)
def test_a_landmark_may_be_called_like_a_split(paths, tmp_path, write_photo):
    catalog = read_catalog(make_folders(tmp_path, write_photo, *paths))
    assert sorted(catalog.landmark_names().values()) == sorted(path.partition("/")[0] for path in paths)


# Landmarks whose names are hardly those of landmarks, and the start of the one remark.
STRANGE_NAMES = {
    "one folder too many": (
        ("places/A/1.jpg", "places/B/2.jpg"),
        "the only landmark, 'places', holds only folders ('A', 'B')",
    ),
    "one landmark": (("A/1.jpg", "A/in/2.jpg"), "there is one landmark only, 'A'"),
    "months": (("2023-05/1.jpg", "2023-06/2.jpg"), "the landmarks are called by dates ('2023-05', '2023-06')"),
    "days": (("20230512/1.jpg", "20230513/2.jpg", "Alps/3.jpg"), "the landmarks are called by dates"),
    "years": (("2023/05/1.jpg", "2024/01/2.jpg"), "the landmarks are called by dates"),
    "German days": (("12.05.2023/1.jpg", "1.6.2023/2.jpg"), "the landmarks are called by dates"),
    "numbers": (("0/1.jpg", "1/2.jpg", "17/3.jpg"), "the landmarks are called by numbers ('0', '1', '17')"),
}


@pytest.mark.parametrize(("paths", "remark"), STRANGE_NAMES.values(), ids=STRANGE_NAMES)
def test_names_that_are_hardly_those_of_landmarks_are_remarked_on(paths, remark, tmp_path, write_photo):
    (told,) = read_catalog(make_folders(tmp_path, write_photo, *paths)).notes
    assert told.startswith(remark)


@pytest.mark.parametrize("names", [("1984", "Louvre"), ("10 Downing St.", "30 St Mary Axe"), ("4711", "A", "B")])
def test_a_landmark_may_be_called_by_a_number(names, tmp_path, write_photo):
    assert read_catalog(make_folders(tmp_path, write_photo, *(f"{name}/1.jpg" for name in names))).notes == ()


def test_folders_that_differ_in_unicode_form_are_one_landmark(tmp_path, write_photo):
    composed, decomposed = (unicodedata.normalize(form, "Zürich") for form in ("NFC", "NFD"))
    alone = unicodedata.normalize("NFD", "Café")
    paths = (f"{decomposed}/1.jpg", f"{composed}/2.jpg", f"{alone}/3.jpg")
    catalog = read_catalog(make_folders(tmp_path, write_photo, *paths))
    assert catalog.landmark_names() == {1: alone, 2: composed}
    assert catalog.references.filter(landmark_id=2).height == 2
    assert catalog.notes == (f"folders of one name in different Unicode forms are one landmark: '{decomposed}'",)


def test_a_linked_folder_takes_no_name_away(tmp_path, write_photo):
    make_folders(tmp_path, write_photo, "A/1.jpg", "B/2.jpg")
    (tmp_path / "A again").symlink_to(tmp_path / "A")
    catalog = read_catalog(tmp_path)
    assert catalog.landmark_names() == {1: "A", 2: "B"}
    assert catalog.notes == ("passed over: 1 link to a folder that is read anyway (A again → A)",)
