"""Galleries that earlier versions wrote: they open, recognise and can be changed."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from obelisk.embedding import Bundle
from obelisk.errors import GalleryError
from obelisk.gallery import Gallery, Landmark, ReferencePhoto, check_gallery, gather_facts
from obelisk.gallery.changes import update_photo_files
from obelisk.gallery.database import reading
from obelisk.gallery.schema import (
    FORMAT,
    keep_own_calibration,
    read_edited,
    read_identity,
    read_own_calibration,
    read_revision,
)

GOLDEN = Path(__file__).parent / "golden"
FORMATS = range(1, FORMAT + 1)

# All golden galleries hold the same: photo n lies along axis n of 8, the last along two; `d` was removed again. From
# format 3 on the first landmark has a link and a former name, and the first photo lies in a data folder. From format 4
# on the second photo has an author and a license.
LANDMARKS = (
    Landmark(id=7, name="Tôrre de Belém", latitude=38.6916, longitude=-9.216),
    Landmark(id=20, name="塔"),
    Landmark(id=21, name="塔"),
    Landmark(id=22, name="Dôme"),
)
PHOTOS = (
    ReferencePhoto(id="a", landmark_id=7, content_hash="00112233445566778899aabbccddeeff", source="/photos/a.jpg"),
    ReferencePhoto(
        id="Tôrre/b.jpg",
        landmark_id=7,
        content_hash="ffeeddccbbaa99887766554433221100",
        source="https://example.org/b.jpg",
    ),
    ReferencePhoto(id="c", landmark_id=20),
    ReferencePhoto(id="e", landmark_id=21),
    ReferencePhoto(id="f", landmark_id=22),
)


@pytest.fixture(params=FORMATS)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / f"format-{request.param}", tmp_path / f"format-{request.param}"))


def columns_and_indexes(folder: Path) -> set[tuple[str, ...]]:
    with closing(sqlite3.connect(folder / "gallery.sqlite")) as connection:
        return set(
            connection.execute(
                'SELECT t.name, c.name, c.type, c."notnull", c.pk FROM sqlite_schema t, pragma_table_info(t.name) c'
                " WHERE t.type = 'table' UNION SELECT tbl_name, name, type, '', '' FROM sqlite_schema"
            )
        )


def test_there_is_a_golden_gallery_of_every_format() -> None:
    assert sorted(path.name for path in GOLDEN.iterdir()) == [f"format-{number}" for number in FORMATS]


def test_an_old_gallery_is_read_as_it_is(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    before = (golden / "gallery.sqlite").read_bytes()
    gallery = Gallery.open(golden)
    assert [replace(landmark, links=(), origins=()) for landmark in gallery.landmarks] == list(LANDMARKS)
    without_path = [replace(photo, path="", folder="", author="", licence="") for photo in gallery.photos]
    assert without_path == list(PHOTOS)
    known = golden.name not in ("format-1", "format-2", "format-3")
    assert {(photo.author, photo.licence) for photo in gallery.photos} == {("", "")} | (
        {("Ánn", "CC BY 4.0")} if known else set()
    )
    ids, similarities = gallery.search(np.eye(8)[[0, 4, 5]], 1)
    assert [gallery.photo(found).id for found in ids[:, 0]] == ["a", "e", "f"]
    np.testing.assert_allclose(similarities[:, 0], [1, 1, np.sqrt(0.5)], rtol=1e-6)
    assert gallery.load_bundle().name == "golden"
    assert check_gallery(golden) == []
    assert f"format-{gather_facts(gallery).format}" == golden.name
    assert (golden / "gallery.sqlite").read_bytes() == before


def test_the_first_change_makes_it_one_of_the_present_format(golden: Path, tmp_path: Path) -> None:
    gallery = Gallery.open(golden)
    gallery_before = gallery.landmarks
    new = gallery.add(np.eye(8)[[7]], ["Arch"], [ReferencePhoto(id="g", source="https://example.org/g", path="/g")])
    assert new.tolist() == [7], "ids of removed photos are not used again"
    again = Gallery.open(golden)
    assert gather_facts(again).format == FORMAT
    assert [photo.id for photo in again.photos] == [*(photo.id for photo in PHOTOS), "g"]
    assert again.photos[-1].file == Path("/g")
    assert again.landmarks == (*gallery_before, Landmark(id=23, name="Arch"))
    assert check_gallery(golden) == []
    fresh = Gallery.create(tmp_path / "fresh", Bundle.load(golden / "model"))
    assert columns_and_indexes(golden) == columns_and_indexes(fresh.path)


def test_a_change_that_fails_leaves_the_old_format(golden: Path) -> None:
    with pytest.raises(GalleryError, match="no photo with the id `zz`"):
        Gallery.open(golden).remove(photos=["zz"])
    assert f"format-{gather_facts(Gallery.open(golden)).format}" == golden.name


def test_a_photo_knows_where_its_file_lay() -> None:
    assert ReferencePhoto(id="a", source="/photos/a.jpg").file == Path("/photos/a.jpg")
    assert ReferencePhoto(id="a", source="https://x.org/a.jpg").file is None
    assert ReferencePhoto(id="a", source="https://x.org/a.jpg", path="b/a.jpg").file == Path("b/a.jpg")
    assert ReferencePhoto(id="a").file is None


def test_revisions_tell_additions_from_other_changes(tmp_path: Path, bundle: Bundle) -> None:
    gallery = Gallery.create(tmp_path / "city", bundle)
    rows = np.eye(24)

    def revisions() -> tuple[int, int]:
        with reading(gallery.path) as connection:
            return read_revision(connection), read_edited(connection)

    assert revisions() == (0, 0)
    steps = [
        (lambda: gallery.add(rows[:3], ["A", "B", "C"], ["a", "b", "c"]), 0),
        (lambda: gallery.add(rows[3:4], [Landmark(id=1, name="A")], ["d"]), 0),
        (lambda: gallery.add(rows[3:4], [Landmark(id=1, name="A", latitude=1.0, longitude=2.0)], ["e"]), 3),
        (lambda: gallery.add(rows[3:4], ["A"], ["f"]), 3),
        (lambda: gallery.add(rows[3:4], ["A"], ["g"], replace=True), 3),
        (lambda: gallery.add(rows[3:4], ["A"], ["g"], replace=True), 6),
        (lambda: gallery.rename(1, "D"), 7),
        (lambda: gallery.merge([2], 1), 8),
        (lambda: gallery.remove(photos=["a"]), 9),
    ]
    for number, (change, edited) in enumerate(steps, start=1):
        change()
        assert revisions() == (number, edited)


def test_a_gallery_has_an_identity_that_its_copies_share(golden: Path, tmp_path: Path, bundle: Bundle) -> None:
    def identity(folder: Path) -> str:
        with reading(folder) as connection:
            return read_identity(connection)

    assert (identity(golden) == "") == (golden.name in ("format-1", "format-2"))
    Gallery.open(golden).rename(7, "Belem")
    own = identity(golden)
    Gallery.open(golden).rename(7, "Torre")
    assert identity(golden) == own
    shutil.copytree(golden, tmp_path / "copy")
    assert identity(tmp_path / "copy") == own
    others = [identity(Gallery.create(tmp_path / name, bundle).path) for name in ("one", "two")]
    assert len({own, *others}) == 3
    assert all(len(one) == 32 for one in (own, *others))


def test_a_renamed_landmark_keeps_the_name_that_data_knows_it_by(golden: Path) -> None:
    gallery = Gallery.open(golden)
    assert gallery.landmarks[3].origins == ()
    for name, origins in (("Cupola", ("Dôme",)), ("Kuppel", ("Dôme",)), ("Dôme", ())):
        gallery.rename(22, name)
        assert (gallery.landmarks[3].name, gallery.landmarks[3].origins) == (name, origins)


def test_links_are_kept_until_others_come(golden: Path) -> None:
    gallery = Gallery.open(golden)
    gallery.add(np.eye(8)[[6]], [Landmark(id=20, name="塔", links=("https://example.org/塔",))], ["x"])
    gallery.add(np.eye(8)[[6]], [Landmark(id=20, name="塔", latitude=1.5, longitude=2.5)], ["y"])
    assert gallery.landmarks[1] == Landmark(
        id=20, name="塔", latitude=1.5, longitude=2.5, links=("https://example.org/塔",)
    )


def test_a_calibration_is_kept_with_the_revision_it_was_made_at(golden: Path) -> None:
    gallery = Gallery.open(golden)

    def state() -> tuple[tuple[str, int] | None, int]:
        with reading(golden) as connection:
            return read_own_calibration(connection), read_revision(connection)

    first = state()[1]
    assert state() == (None, first)
    for number, content in enumerate(('{"format": 1}', '{"format": 2}'), start=first + 1):
        with gallery.changing() as connection:
            keep_own_calibration(connection, content)
        assert state() == ((content, number), number)
    gallery.rename(7, "Belem")
    assert state() == (('{"format": 2}', first + 2), first + 3)


def test_the_files_of_photos_lie_in_data_folders(golden: Path, tmp_path: Path) -> None:
    gallery = Gallery.open(golden)
    old, new = tmp_path / "disk" / "photos", tmp_path / "elsewhere"
    old.mkdir(parents=True)
    photo = ReferencePhoto(id="g", source=str(old / "Dôme" / "g.jpg"), path="Dôme/g.jpg", folder=str(old))
    remote = ReferencePhoto(id="h", source="https://example.org/h.jpg", path="h.jpg", folder=str(old))
    gallery.add(np.eye(8)[[6, 7]], ["Dôme"] * 2, [photo, remote])
    found = [gallery.find_photo(name) for name in "gh"]
    assert found == [replace(one, landmark_id=22) for one in (photo, remote)]
    assert [one.file for one in found if one] == [old / "Dôme" / "g.jpg", old / "h.jpg"]

    with gallery.changing() as connection:
        update_photo_files(connection, [replace(photo, source="", folder=str(new))])
        assert connection.execute("SELECT count(*) FROM folders WHERE path = ?", (str(old),)).fetchone() == (1,)
        update_photo_files(connection, [replace(remote, path="", folder="")])
        assert connection.execute("SELECT count(*) FROM folders WHERE path = ?", (str(old),)).fetchone() == (0,)
    found = [gallery.find_photo(name) for name in "gh"]
    assert [one and (one.source, one.file) for one in found] == [
        (str(new / "Dôme" / "g.jpg"), new / "Dôme" / "g.jpg"),
        ("https://example.org/h.jpg", None),
    ]


def test_a_gallery_and_its_photos_may_move_together(tmp_path: Path, bundle: Bundle) -> None:
    photos = tmp_path / "disk" / "photos"
    photos.mkdir(parents=True)
    gallery = Gallery.create(tmp_path / "disk" / "city", bundle)
    gallery.add(np.eye(24)[[0]], ["A"], [ReferencePhoto(id="a", path="A/a.jpg", folder=str(photos))])
    for place in ("mounted", "elsewhere"):
        (tmp_path / "disk").rename(tmp_path / place)
        photo = Gallery.open(tmp_path / place / "city").find_photo("a")
        assert photo
        assert (photo.file, photo.folder) == (tmp_path / place / "photos/A/a.jpg", str(tmp_path / place / "photos"))
        (tmp_path / place).rename(tmp_path / "disk")
