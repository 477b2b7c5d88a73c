from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from obelisk.data import check_dataset, read_catalog, sample_subset, write_subset
from obelisk.data.issues import FIXES, ISSUE_KINDS
from obelisk.errors import DataError
from obelisk.photos import PhotoFilter

A, B, C, D = "aaa0", "bbb0", "ccc0", "ddd0"
Q, R = "eee0", "fff0"


@pytest.fixture
def dataset(tmp_path, make_gldv2) -> Path:
    return make_gldv2(tmp_path / "d", {A: 5, B: 5, C: 6, D: 6}, {Q: "5", R: ""})


def photo(root: Path, image_id: str, folder: str = "train") -> Path:
    return root / folder / image_id[0] / image_id[1] / image_id[2] / f"{image_id}.jpg"


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_a_sound_dataset_has_no_problem(dataset):
    assert list(check_dataset(dataset)) == []


# One fault each: what is done to the sound dataset, and the kind, place and words of the one finding.
def remove_photo(root: Path) -> None:
    photo(root, B).unlink()


def empty_photo(root: Path) -> None:
    photo(root, B).write_bytes(b"")


def write_text_as_photo(root: Path) -> None:
    photo(root, B).write_text("I am no photo")


def truncate_photo(root: Path) -> None:
    data = photo(root, B).read_bytes()
    photo(root, B).write_bytes(data[: len(data) // 2])


def copy_inside_landmark(root: Path) -> None:
    shutil.copy(photo(root, A), photo(root, B))


def copy_across_landmarks(root: Path) -> None:
    shutil.copy(photo(root, A), photo(root, C))


def copy_into_queries(root: Path) -> None:
    shutil.copy(photo(root, A), photo(root, Q, "test"))


def add_orphan(root: Path) -> None:
    Image.new("RGB", (40, 40), "red").save(photo(root, A).with_name("aaa9.jpg"))


def repeat_row(root: Path) -> None:
    append(root / "metadata/train.csv", f"{A},,5\n")


def label_twice(root: Path) -> None:
    append(root / "metadata/train.csv", f"{A},,6\n")


def spoil_landmark(root: Path) -> None:
    append(root / "metadata/train.csv", "aaa7,,six\n")
    shutil.copy(photo(root, A), photo(root, "aaa7"))


def leave_landmark_out(root: Path) -> None:
    append(root / "metadata/recognition_solution_v2.1.csv", f"{D},x,Public\n")
    shutil.copy(photo(root, A), root / "test" / "ddd0.jpg")


def disagree_in_clean(root: Path) -> None:
    (root / "metadata/train_clean.csv").write_text(f"landmark_id,images\n5,{A} {C}\n6,{D}\n")


def list_more_in_clean(root: Path) -> None:
    (root / "metadata/train_clean.csv").write_text(f"landmark_id,images\n5,{A} abc9\n")


def lose_a_name(root: Path) -> None:
    (root / "metadata/landmarks.csv").write_text("landmark_id,name\n5,Five\n6,\n")


def lose_all_names(root: Path) -> None:
    (root / "metadata/landmarks.csv").unlink()


def ask_for_an_unknown_landmark(root: Path) -> None:
    text = (root / "metadata/recognition_solution_v2.1.csv").read_text()
    (root / "metadata/recognition_solution_v2.1.csv").write_text(text.replace(f"{Q},5", f"{Q},77"))


FAULTS = {
    remove_photo: ("missing", "train/b/b/b/bbb0.jpg", "listed in train.csv, row 3"),
    empty_photo: ("empty", "train/b/b/b/bbb0.jpg", "the file is empty"),
    write_text_as_photo: ("unreadable", "train/b/b/b/bbb0.jpg", ""),
    truncate_photo: ("unreadable", "train/b/b/b/bbb0.jpg", ""),
    copy_inside_landmark: ("duplicate", "train/b/b/b/bbb0.jpg", "the same content as train/a/a/a/aaa0.jpg"),
    copy_across_landmarks: ("mislabelled", "train/c/c/c/ccc0.jpg", "under landmark 6 here and 5 there"),
    copy_into_queries: ("leaked", "test/e/e/e/eee0.jpg", "one a query, one a reference"),
    add_orphan: ("orphan", "train/a/a/a/aaa9.jpg", "not listed in train.csv"),
    repeat_row: ("duplicate", "train.csv, row 6", "listed in row 2 already"),
    label_twice: ("mislabelled", "train.csv, row 6", "shows landmark 6 here, 5 in row 2"),
    spoil_landmark: ("malformed", "train.csv, row 6", "`six` is not a landmark id"),
    leave_landmark_out: ("malformed", "recognition_solution_v2.1.csv, row 4", "`x` is not a landmark id"),
    disagree_in_clean: ("mislabelled", "train_clean.csv, row 2", "photo ccc0 shows landmark 5 here, 6 in train.csv"),
    list_more_in_clean: ("malformed", "train_clean.csv, row 2", "photo abc9 is not listed in train.csv"),
    lose_a_name: ("unnamed", "landmarks.csv", "landmark 6 has photos but no name"),
    lose_all_names: ("unnamed", "", "no table of names"),
    ask_for_an_unknown_landmark: ("unknown landmark", "recognition_solution_v2.1.csv, row 2", "landmark 77"),
}


OWN_FIXES = {write_text_as_photo: "save it as JPEG, PNG, ", truncate_photo: "fetch or copy it again"}


@pytest.mark.parametrize(("spoil", "expected"), FAULTS.items(), ids=[spoil.__name__ for spoil in FAULTS])
def test_each_fault_is_named_and_nothing_else(spoil, expected, dataset):
    spoil(dataset)
    findings = list(check_dataset(dataset))
    kind, where, what = expected
    assert [finding.kind for finding in findings] == [kind]
    assert where in findings[0].where
    assert what in findings[0].what
    assert findings[0].fix.startswith(OWN_FIXES.get(spoil, FIXES[kind]))


def test_a_sound_photo_that_cannot_be_read_here_is_never_to_be_deleted(dataset):
    photo(dataset, A).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    Image.new("1", (9000, 9000)).save(photo(dataset, B), format="PNG")
    findings = list(check_dataset(dataset))
    assert [finding.kind for finding in findings] == ["unreadable", "unreadable"]
    assert not any("delete" in finding.fix for finding in findings)


def test_every_kind_of_fault_is_tried():
    embedded = {"look-alike"}  # found by the cleaning room, which embeds photos
    assert {kind for kind, _, _ in FAULTS.values()} | embedded == set(ISSUE_KINDS)


def test_ignored_query_is_neither_an_orphan_nor_asked_for_a_landmark(dataset):
    solution = dataset / "metadata/recognition_solution_v2.1.csv"
    solution.write_text(solution.read_text().replace(f"{Q},5,Public", f"{Q},77,Ignored"))
    assert list(check_dataset(dataset)) == []


def test_folder_per_landmark_is_checked(tmp_path, write_photo):
    write_photo(tmp_path, "A/a.jpg", 1)
    write_photo(tmp_path, "A/b.jpg", 1)
    write_photo(tmp_path, "B/a.jpg", 1)
    (tmp_path / "B/text.jpg").write_text("no photo")
    (tmp_path / "B/link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "Empty").mkdir()
    found = [(finding.kind, finding.where) for finding in check_dataset(tmp_path)]
    assert found == [
        ("empty", "Empty"),
        ("duplicate", "A/b.jpg"),
        ("mislabelled", "B/a.jpg"),
        ("missing", "B/link.jpg"),
        ("unreadable", "B/text.jpg"),
    ]


def test_folders_that_may_not_be_listed_are_named(tmp_path, write_photo, monkeypatch):
    for path in ("A/a.jpg", "A/in/b.jpg", "B/c.jpg"):
        write_photo(tmp_path, path, len(path))
    locked = {str(tmp_path / "A" / "in"), str(tmp_path / "B")}
    scandir = os.scandir

    def refuse(path):
        if str(path) in locked:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = [(finding.kind, finding.where) for finding in check_dataset(tmp_path)]
    assert found == [("unreadable", "A/in"), ("unreadable", "B")]
    with pytest.raises(DataError, match="cannot be listed"):
        read_catalog(tmp_path)


def test_subset_names_its_missing_photos(dataset):
    out = write_subset(sample_subset(read_catalog(dataset), landmarks=2, seed=0), dataset / "sub")
    assert list(check_dataset(out)) == []
    photo(dataset, B).unlink()
    assert [(finding.kind, finding.where) for finding in check_dataset(out)] == [("missing", "train/b/b/b/bbb0.jpg")]


def test_progress_sees_every_photo_once(dataset):
    seen: list[tuple[str, int, int]] = []
    list(check_dataset(dataset, progress=lambda *step: seen.append(step)))
    count = len(list(dataset.rglob("*.jpg")))
    assert seen == [("checking photos", done, count) for done in range(1, count + 1)]


def test_a_problem_is_one_line_of_json(dataset):
    remove_photo(dataset)
    (finding,) = check_dataset(dataset)
    assert json.loads(finding.to_json()) == {
        "kind": "missing",
        "where": "train/b/b/b/bbb0.jpg",
        "what": "no such file, listed in train.csv, row 3",
        "fix": "fetch the photo again, or delete its row",
    }


def test_folder_that_is_no_dataset_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        list(check_dataset(tmp_path / "absent"))


def test_what_is_passed_over_is_no_fault_and_counted_once(dataset, write_photo):
    write_photo(dataset, "train/a/@eaDir/x.jpg", 1)
    (photo(dataset, A).parent / "scan.psd").write_bytes(b"8BPS")
    counting = PhotoFilter(["bbb0.*"])
    findings = list(check_dataset(dataset, photo_filter=counting))
    assert [(finding.kind, finding.where) for finding in findings] == [("missing", "train/b/b/b/bbb0.jpg")]
    told = "1 picture of another format (1 psd), 1 folder that machines make (1 @eaDir), 1 excluded"
    assert counting.describe() == f"passed over: {told}"


def test_photos_outside_the_landmarks_folders_are_remarked_on(tmp_path, write_photo):
    for seed, path in enumerate(("A/a.jpg", "B/b.jpg", "loose.jpg")):
        write_photo(tmp_path, path, seed)
    remarks = []
    assert list(check_dataset(tmp_path, remark=remarks.append)) == []
    assert remarks == ["photos in no landmark's folder, left out: 1, the first is loose.jpg"]
