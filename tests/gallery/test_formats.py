"""Galleries that earlier versions wrote: they open, recognise and can be changed."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from obelisk.embedding import Bundle
from obelisk.errors import GalleryError
from obelisk.gallery import Gallery, Landmark, ReferencePhoto, check_gallery, gather_facts
from obelisk.gallery.database import reading
from obelisk.gallery.schema import FORMAT, MIGRATIONS, read_edited, read_revision

GOLDEN = Path(__file__).parent / "golden"
FORMATS = range(1, FORMAT + 1)

# All golden galleries hold the same: photo n lies along axis n of 8, the last along two; `d` was removed again.
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
    assert sorted(MIGRATIONS) == list(FORMATS)[:-1]


def test_an_old_gallery_is_read_as_it_is(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    before = (golden / "gallery.sqlite").read_bytes()
    gallery = Gallery.open(golden)
    assert gallery.landmarks == LANDMARKS
    without_path = [ReferencePhoto(**{**vars(photo), "path": ""}) for photo in gallery.photos]
    assert without_path == list(PHOTOS)
    ids, similarities = gallery.search(np.eye(8)[[0, 4, 5]], 1)
    assert [gallery.photo(found).id for found in ids[:, 0]] == ["a", "e", "f"]
    np.testing.assert_allclose(similarities[:, 0], [1, 1, np.sqrt(0.5)], rtol=1e-6)
    assert gallery.load_bundle().name == "golden"
    assert check_gallery(golden) == []
    assert f"format-{gather_facts(gallery).format}" == golden.name
    assert (golden / "gallery.sqlite").read_bytes() == before


def test_the_first_change_makes_it_one_of_the_present_format(golden: Path, tmp_path: Path) -> None:
    gallery = Gallery.open(golden)
    new = gallery.add(np.eye(8)[[7]], ["Arch"], [ReferencePhoto(id="g", source="https://example.org/g", path="/g")])
    assert new.tolist() == [7], "ids of removed photos are not used again"
    again = Gallery.open(golden)
    assert gather_facts(again).format == FORMAT
    assert [photo.id for photo in again.photos] == [*(photo.id for photo in PHOTOS), "g"]
    assert again.photos[-1].file == Path("/g")
    assert again.landmarks == (*LANDMARKS, Landmark(id=23, name="Arch"))
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
