from __future__ import annotations

import hashlib
import json
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from obelisk.data import Catalog, read_catalog, read_subset, refuse_occupied, sample_subset, write_subset
from obelisk.data.formats.subset_manifest import hash_contents
from obelisk.errors import DataError, UsageError

# Twelve landmarks of 1 to 12 photos, one query that has a landmark and three that have none.
LABELS = {f"{landmark:x}{photo:x}00": landmark for landmark in range(1, 13) for photo in range(landmark)}
QUERIES = {"e000": "3", "f000": "", "f100": "", "f200": ""}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """A dataset whose query f100 is a copy of a photo of landmark 12, and whose photo c100 is one of c000."""
    root = tmp_path_factory.mktemp("whole") / "d"
    (root / "metadata").mkdir(parents=True)
    rows = "".join(f"{image_id},,{landmark}\n" for image_id, landmark in LABELS.items())
    (root / "metadata/train.csv").write_text("id,url,landmark_id\n" + rows)
    rows = "".join(f"{image_id},{cell},Public\n" for image_id, cell in QUERIES.items())
    (root / "metadata/recognition_solution_v2.1.csv").write_text("id,landmarks,Usage\n" + rows)
    names = "".join(f'{landmark},"Place, {landmark}",,0,{landmark}.123456789,-1.5\n' for landmark in range(1, 13))
    header = "landmark_id,name,supercategory,area_level,latitude,longitude\n"
    (root / "metadata/landmarks.csv").write_text(header + names)
    for image_id in [*LABELS, *QUERIES]:
        source = {"c100": "c000", "f100": "c000"}.get(image_id, image_id)
        # Cells of a hash, in a format that keeps the pixels: the same photos on every machine.
        cells = hashlib.shake_256(source.encode()).digest(100)
        path = root / ("test" if image_id in QUERIES else "train") / f"{image_id}.png"
        path.parent.mkdir(exist_ok=True)
        Image.frombytes("L", (10, 10), cells).resize((80, 80), Image.Resampling.NEAREST).save(path)
    return root


@pytest.fixture(scope="module")
def catalog(dataset) -> Catalog:
    return read_catalog(dataset)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("seed", range(6))
def test_every_evaluated_landmark_has_a_reference_and_copies_share_a_split(seed: int, catalog):
    subset = sample_subset(catalog, landmarks=12, seed=seed, validation_share=0.3, test_share=0.3)
    splits = dict(subset.photos.select("image_id", "split").iter_rows())
    members = subset.photos.drop_nulls("landmark_id")
    assert {"train", "val", "test"} == set(members["split"])
    for _, photos in members.group_by("landmark_id"):
        assert "train" in photos["split"].to_list()
    assert splits["c000"] == splits["c100"]
    assert dict(members.select("image_id", "landmark_id").iter_rows()) == LABELS


def test_queries_without_a_landmark_stay_unless_they_copy_a_photo(catalog):
    subset = sample_subset(catalog, landmarks=12, seed=0)
    distractors = subset.photos.filter(pl.col("split") == "distractor")
    assert distractors.select("image_id", "landmark_id").rows() == [("f000", None), ("f200", None)]
    assert subset.count_splits()["distractor"] == 2


def test_smaller_subset_is_part_of_a_larger_one_and_seeds_differ(catalog):
    chosen = {
        (n, seed): set(sample_subset(catalog, landmarks=n, seed=seed).landmarks["landmark_id"])
        for n, seed in ((3, 0), (7, 0), (3, 1))
    }
    assert len(chosen[3, 0]) == 3
    assert chosen[3, 0] < chosen[7, 0]
    assert chosen[3, 0] != chosen[3, 1]


def test_whole_dataset_has_distance_zero(catalog):
    subset = sample_subset(catalog, landmarks=12, seed=0)
    assert subset.ks_distance == 0
    assert subset.percentiles == subset.source_percentiles


@pytest.mark.parametrize(("landmarks", "reported"), [(13, "at most 12"), (0, "at least 1"), (-4, "at least 1")])
def test_impossible_number_of_landmarks_is_an_error_with_what_is_possible(landmarks: int, reported: str, catalog):
    with pytest.raises(UsageError, match=reported):
        sample_subset(catalog, landmarks=landmarks, seed=0)


def test_unreadable_photos_are_left_out_and_named(tmp_path, make_gldv2):
    root = make_gldv2(tmp_path / "d", {"aaa0": 1, "bbb0": 1, "ccc0": 2})
    (root / "train/b/b/b/bbb0.jpg").write_text("no photo")
    subset = sample_subset(read_catalog(root), landmarks=2, seed=0)
    assert subset.photos["image_id"].to_list() == ["aaa0", "ccc0"]
    assert len(subset.notes) == 1
    assert "bbb0.jpg" in subset.notes[0]


GOLDEN_HASH = "eb89a3cf3f47232014f6927abb28a589"


def test_manifests_are_the_same_bytes_on_every_machine(catalog, tmp_path):
    out = write_subset(sample_subset(catalog, landmarks=8, seed=3), tmp_path / "a")
    assert json.loads((out / "manifest.json").read_text())["content_hash"] == GOLDEN_HASH
    assert files_of(out) == files_of(write_subset(sample_subset(catalog, landmarks=8, seed=3), tmp_path / "b"))


def test_manifests_tell_no_place_and_no_time(catalog, tmp_path):
    out = write_subset(sample_subset(catalog, landmarks=5, seed=3), tmp_path / "a")
    assert list(files_of(out)) == ["landmarks.csv", "manifest.json", "photos.csv"]
    text = b"".join(files_of(out).values())
    assert str(catalog.root).encode() not in text
    assert b"\r" not in text
    assert b'"Place, ' in text
    assert b".123457,-1.500000" in text


def test_subset_is_read_back_from_inside_the_dataset(dataset, catalog):
    subset = sample_subset(catalog, landmarks=8, seed=1)
    out = write_subset(subset, dataset / "subsets" / "eight")
    read = read_catalog(out)
    assert read.root.resolve() == dataset.resolve()
    back = dict(read.references.select("image_id", "split").iter_rows())
    back |= dict(read.queries.select("image_id", "usage").iter_rows())
    assert back == dict(subset.photos.select("image_id", "split").iter_rows())
    assert read.landmarks.drop("latitude").equals(subset.landmarks.drop("latitude"))
    truth = dict(read.queries.select("image_id", "landmark_ids").iter_rows())
    assert truth["f000"] == []
    assert all(landmarks == [LABELS[i]] for i, landmarks in truth.items() if i in LABELS)
    assert all(path.is_file() for path in read.locate_photos(read.references))


def test_subset_elsewhere_finds_its_photos_by_the_environment(dataset, catalog, tmp_path, monkeypatch):
    out = write_subset(sample_subset(catalog, landmarks=8, seed=1), tmp_path / "sub")
    monkeypatch.delenv("OBELISK_PHOTOS", raising=False)
    with pytest.raises(DataError, match="set OBELISK_PHOTOS"):
        read_subset(out)
    monkeypatch.setenv("OBELISK_PHOTOS", str(dataset))
    assert read_subset(out).root == dataset


def test_absent_photos_of_a_subset_are_left_out_and_counted(tmp_path, make_gldv2):
    root = make_gldv2(tmp_path / "d", {"aaa0": 1, "bbb0": 1, "ccc0": 1})
    out = write_subset(sample_subset(read_catalog(root), landmarks=1, seed=0), root / "sub")
    (root / "train/c/c/c/ccc0.jpg").unlink()
    read = read_catalog(out)
    assert read.references.height + read.queries.height == 2
    assert read.notes == ("1 photos of the subset are not on disk and left out",)


def test_same_subset_may_be_written_again_and_another_may_not(catalog, tmp_path):
    first = sample_subset(catalog, landmarks=5, seed=0)
    out = write_subset(first, tmp_path / "sub")
    before = files_of(out)
    write_subset(first, out)
    for blocked in (out, tmp_path):
        with pytest.raises(DataError, match="holds something else"):
            write_subset(sample_subset(catalog, landmarks=6, seed=0), blocked)
    assert files_of(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["sub"]


def test_asking_for_a_place_makes_nothing(tmp_path):
    refuse_occupied(tmp_path / "new" / "sub")
    assert not any(tmp_path.iterdir())


def test_subset_cannot_be_written_over_a_file(catalog, tmp_path):
    (tmp_path / "sub").write_text("x")
    with pytest.raises(DataError, match="this is a file"):
        write_subset(sample_subset(catalog, landmarks=5, seed=0), tmp_path / "sub")


def test_failed_write_leaves_nothing_behind(catalog, tmp_path, monkeypatch):
    def fail(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left"):
        write_subset(sample_subset(catalog, landmarks=5, seed=0), tmp_path / "sub")
    assert list(tmp_path.iterdir()) == []


# What a person or a damaged disk may do to the files; none of it may be read as if it were whole.
SPOILED = {
    "a photo given to another landmark": ("photos.csv", lambda data: data.replace(b",12,train", b",11,train", 1)),
    "a row gone": ("photos.csv", lambda data: data[: data.rindex(b"\n", 0, -1) + 1]),
    "a file gone": ("landmarks.csv", None),
    "a landmark renamed": ("landmarks.csv", lambda data: data.replace(b"Place", b"Palace", 1)),
    "another seed": ("manifest.json", lambda data: data.replace(b'"seed": 0', b'"seed": 1')),
    "half a manifest": ("manifest.json", lambda data: data[: len(data) // 2]),
    "no object": ("manifest.json", lambda data: b"[]"),
    "a newer format": ("manifest.json", lambda data: data.replace(b'"version": 1', b'"version": 2')),
}


@pytest.mark.parametrize(("name", "spoil"), SPOILED.values(), ids=SPOILED.keys())
def test_changed_subset_is_an_error(name: str, spoil, dataset, catalog, tmp_path, monkeypatch):
    monkeypatch.setenv("OBELISK_PHOTOS", str(dataset))
    out = write_subset(sample_subset(catalog, landmarks=12, seed=0), tmp_path / "sub")
    data = (out / name).read_bytes()
    if spoil is None:
        (out / name).unlink()
    else:
        assert spoil(data) != data
        (out / name).write_bytes(spoil(data))
    with pytest.raises(DataError, match=r"manifest\.json"):
        read_catalog(out)


def write_tables(root: Path, rows: str) -> Path:
    """Write a subset whose manifest has the right hash, whatever its table of photos lists."""
    root.mkdir()
    (root / "photos.csv").write_text("image_id,path,landmark_id,split\n" + rows)
    (root / "landmarks.csv").write_text("landmark_id,name,supercategory,area_level,latitude,longitude\n")
    fields = {"format": "obelisk-subset", "version": 1}
    tables = {name: root / name for name in ("photos.csv", "landmarks.csv")}
    hashed = hash_contents({name: path.read_bytes() for name, path in tables.items()}, fields)
    assert hash_contents(tables, fields) == hashed
    (root / "manifest.json").write_text(json.dumps(fields | {"content_hash": hashed}))
    return root


# Tables that no subset has, with what is said of them.
STRANGE_TABLES = {
    "no photo": ("", "lists no photo"),
    "a path upwards": ("a,../../a.jpg,1,train\n", r"row 2"),
    "an absolute path": ("a,x/a.jpg,1,train\nb,/etc/passwd,1,train\n", r"`/etc/passwd` .*row 3"),
    "no path": ("a,,1,train\n", "row 2"),
    "a landmark that is no number": ("a,a.jpg,one,train\n", "cannot be read"),
    "an open quote": ('a,"a.jpg,1,train\n', "never closed"),
}


@pytest.mark.parametrize(("rows", "told"), STRANGE_TABLES.values(), ids=STRANGE_TABLES)
def test_a_table_that_no_subset_has_is_an_error(rows: str, told: str, tmp_path):
    with pytest.raises(DataError, match=told):
        read_catalog(write_tables(tmp_path / "sub", rows))


@pytest.mark.parametrize("start", ["[" * 100_000, '{"format": "obelisk-subset", "x": "' + "a" * 2**20])
def test_a_manifest_that_no_subset_has_is_an_error(start: str, tmp_path):
    root = write_tables(tmp_path / "sub", "a,a.jpg,1,train\n")
    (root / "manifest.json").write_text(start)
    with pytest.raises(DataError, match="the subset cannot be read"):
        read_catalog(root)
