"""Photos read from GLDv2's tars as if these were folders."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from mirror import draw_photo, name_photo, pack, place_photo

from obelisk.data import check_dataset, read_catalog
from obelisk.errors import DataError, PhotoMissingError
from obelisk.photos import photo_exists, read_bytes, tarred_photo_table, tars

PHOTOS = 12


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset of two tars, with one of their photos unpacked as well."""
    (tmp_path / "train").mkdir()
    ids = [name_photo(number) for number in range(PHOTOS)]
    rows = "".join(f"{image_id},,{number % 3}\n" for number, image_id in enumerate(ids))
    (tmp_path / "train.csv").write_text("id,url,landmark_id\n" + rows)
    for number in range(2):
        members = {place_photo(image_id): draw_photo(place) for place, image_id in enumerate(ids)}
        half = dict(list(members.items())[number::2])
        (tmp_path / "train" / f"images_00{number}.tar").write_bytes(pack(half))
    unpacked = tmp_path / "train" / place_photo(ids[0])
    unpacked.parent.mkdir(parents=True)
    unpacked.write_bytes(draw_photo(0))
    return tmp_path


def test_a_catalog_of_tars_has_every_photo_once(dataset: Path) -> None:
    catalog = read_catalog(dataset)
    assert catalog.references.height == PHOTOS
    assert sum(".tar/" in path for path in catalog.references["path"]) == PHOTOS - 1
    places = {name_photo(number): number for number in range(PHOTOS)}
    for image_id, path in zip(catalog.references["image_id"], catalog.locate_photos(catalog.references), strict=True):
        assert read_bytes(path) == draw_photo(places[image_id])
        assert photo_exists(path)


def test_the_checks_of_a_dataset_look_into_tars(dataset: Path) -> None:
    assert [found.kind for found in check_dataset(dataset)] == ["unnamed"]
    rotten = dataset / "train" / "images_001.tar"
    data = rotten.read_bytes()
    rotten.write_bytes(data.replace(draw_photo(3), bytes(len(draw_photo(3)))))
    _, found = check_dataset(dataset)
    assert found.kind == "unreadable"
    assert found.where.startswith("train/images_001.tar/")


def test_the_table_of_a_tar_is_kept_and_made_anew_for_another_tar(dataset: Path) -> None:
    tar = dataset / "train" / "images_000.tar"
    before = tarred_photo_table(tar)
    (kept,) = dataset.glob("train/.images_000.tar.*.npy")
    assert np.array_equal(np.load(kept), before)
    tar.write_bytes(pack({place_photo(name_photo(99)): draw_photo(99)}))
    assert tarred_photo_table(tar)["path"].tolist() == [place_photo(name_photo(99)).encode()]


def test_a_damaged_table_is_made_anew(dataset: Path) -> None:
    tar = dataset / "train" / "images_001.tar"
    found = tar.stat()
    (dataset / "train" / f".images_001.tar.{found.st_size}-{found.st_mtime_ns}.npy").write_bytes(b"\x93NUMPY half")
    assert len(tarred_photo_table(tar)) == PHOTOS // 2


# Side tables that don't fit their tar: each is made anew.
LYING = {
    "a length of -1": [("0/0/0/000.jpg", 512, -1)],
    "a length beyond the tar": [("0/0/0/000.jpg", 512, 2**62)],
    "an offset beyond the tar": [("0/0/0/000.jpg", 2**40, 4)],
    "paths out of order": [("1/0/0/100.jpg", 512, 4), ("0/0/0/000.jpg", 512, 4)],
    "paths that are no text": [(b"\xff", 512, 4)],
    "no row": [],
}


@pytest.mark.parametrize("rows", LYING.values(), ids=LYING)
def test_a_table_that_does_not_fit_its_tar_is_made_anew(rows: list[tuple[str, int, int]], dataset: Path) -> None:
    tar = dataset / "train" / "images_001.tar"
    found = tar.stat()
    saved = dataset / "train" / f".images_001.tar.{found.st_size}-{found.st_mtime_ns}.npy"
    np.save(saved, np.array(rows, dtype=[("path", "S26"), ("offset", np.int64), ("bytes", np.int64)]))
    assert len(tarred_photo_table(tar)) == PHOTOS // 2


@pytest.mark.parametrize("size", ["1000000000000000000", "9" * 30, "9" * 200, "-1024"])
def test_a_size_that_lies_is_an_error_that_names_the_tar(size: str, dataset: Path) -> None:
    tar = dataset / "train" / "images_000.tar"
    entry = tarfile.TarInfo(place_photo(name_photo(1)))
    entry.pax_headers = {"size": size}
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as opened:
        opened.addfile(entry)
    with pytest.raises(DataError, match=r"images_000\.tar"):
        read_catalog(dataset)


def test_a_header_that_claims_gigabytes_is_not_read(dataset: Path) -> None:
    tar = dataset / "train" / "images_000.tar"
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, 2**33 - 1
    tar.write_bytes(entry.tobuf(tarfile.GNU_FORMAT))
    os.truncate(tar, 2**34)
    with pytest.raises(DataError, match="a header takes"):
        read_catalog(dataset)


def test_a_tar_of_too_many_files_is_refused(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "MAX_ENTRIES", 3)
    with pytest.raises(DataError, match="more than 3 files"):
        read_catalog(dataset)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_in_place_of_a_tar_is_refused_and_a_folder_is_a_folder(dataset: Path) -> None:
    (dataset / "train" / "images_003.tar").mkdir()
    assert read_catalog(dataset).references.height == PHOTOS
    os.mkfifo(dataset / "train" / "images_004.tar")
    with pytest.raises(DataError, match="not a regular file"):
        read_catalog(dataset)


def test_a_read_only_folder_serves_its_tars(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(np, "save", refuse)
    assert read_catalog(dataset).references.height == PHOTOS
    assert not list(dataset.glob("train/.*"))


def test_photos_that_are_not_in_the_tar(dataset: Path) -> None:
    tar = dataset / "train" / "images_000.tar"
    for path in (tar / place_photo(name_photo(77)), tar / "0/0/0/../../../secret.jpg", dataset / "train.csv" / "x.jpg"):
        assert not photo_exists(path)
        with pytest.raises(PhotoMissingError, match="no such photo"):
            read_bytes(path)


def test_an_unsafe_tar_is_refused(dataset: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("/etc/passwd"))
    (dataset / "train" / "images_002.tar").write_bytes(file.getvalue())
    with pytest.raises(DataError, match="/etc/passwd"):
        read_catalog(dataset)
    with pytest.raises(PhotoMissingError, match="/etc/passwd"):
        read_bytes(dataset / "train" / "images_002.tar" / place_photo(name_photo(1)))


def test_a_truncated_tar_is_refused(dataset: Path) -> None:
    tar = dataset / "train" / "images_000.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"images_000\.tar"):
        read_catalog(dataset)


def test_a_tar_with_a_damaged_header_is_refused(dataset: Path) -> None:
    tar = dataset / "train" / "images_000.tar"
    whole = bytearray(tar.read_bytes())
    whole[whole.index(place_photo(name_photo(4)).encode())] ^= 1
    tar.write_bytes(whole)
    with pytest.raises(DataError, match="no sound header at byte"):
        read_catalog(dataset)
