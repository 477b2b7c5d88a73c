"""What a gallery keeps, finds, forgets and refuses."""

from __future__ import annotations

import doctest
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from obelisk.arrays import l2_normalize
from obelisk.embedding import Bundle
from obelisk.errors import GalleryError, ModelError, UsageError
from obelisk.gallery import Gallery, Landmark, ReferenceFiles, ReferencePhoto, as_stored, check_gallery, database
from obelisk.gallery.snapshot import References, read_references
from obelisk.photos import content_hash
from obelisk.records import Neighbor

D = 24


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, D)).astype(np.float32)


@pytest.fixture
def gallery(tmp_path: Path, bundle: Bundle) -> Gallery:
    gallery = Gallery.create(tmp_path / "city", bundle)
    place = Landmark(id=7, name="Dome", latitude=48.2, longitude=16.4)
    photos = [ReferencePhoto(id="a", content_hash="h", source="/photos/a.jpg"), "b", "c"]
    gallery.add(rows(3), [place, 7, "Gate"], photos)
    return gallery


def change(gallery: Gallery, statement: str) -> None:
    with closing(sqlite3.connect(gallery.path / "gallery.sqlite")) as connection, connection:
        connection.execute(statement)


def test_what_was_added_is_there_for_the_next_one_who_opens_it(gallery: Gallery, bundle: Bundle) -> None:
    again = Gallery.open(str(gallery.path))
    assert len(again) == 3
    assert again.landmarks == (
        Landmark(id=7, name="Dome", latitude=48.2, longitude=16.4),
        Landmark(id=8, name="Gate"),
    )
    assert again.photos[0] == ReferencePhoto(id="a", landmark_id=7, content_hash="h", source="/photos/a.jpg")
    assert [photo.landmark_id for photo in again.photos] == [7, 7, 8]
    assert (again.model, again.fingerprint, again.dimensions) == ("colors", bundle.fingerprint, D)
    np.testing.assert_array_equal(again.references().rows(np.arange(3)), as_stored(l2_normalize(rows(3), dimensions=D)))
    assert again.load_bundle().fingerprint == bundle.fingerprint
    assert sorted(file.name for file in gallery.path.iterdir()) == ["gallery.sqlite", "model"], "no log is left behind"


def test_search_gives_ids_and_similarities(gallery: Gallery) -> None:
    ids, similarities = gallery.search(5.0 * rows(3), 2)
    assert ids.shape == similarities.shape == (3, 2)
    assert (ids.dtype, similarities.dtype) == (np.int64, np.float32)
    assert [gallery.photo(first).id for first in ids[:, 0]] == ["a", "b", "c"]
    np.testing.assert_allclose(similarities[:, 0], 1.0, atol=1e-3)


def test_equal_rows_come_in_the_order_they_were_added(tmp_path: Path, bundle: Bundle) -> None:
    gallery = Gallery.create(tmp_path / "same", bundle)
    first = gallery.add(np.ones((40, D)), ["Dome"] * 40, [f"{number:03}" for number in reversed(range(40))])
    assert gallery.search(np.ones((1, D)), 11)[0][0].tolist() == first[:11].tolist()


def test_the_next_search_sees_what_was_added_and_removed(gallery: Gallery) -> None:
    new = gallery.add(rows(1, seed=9), [7], ["d"])
    assert gallery.search(rows(1, seed=9), 1)[0][0, 0] == new[0]
    gallery.remove(photos=["d"])
    assert gallery.search(rows(1, seed=9), 3)[0].max() < new[0]
    with pytest.raises(GalleryError, match=f"search id {new[0]}"):
        gallery.photo(int(new[0]))
    assert gallery.add(rows(1, seed=9), [7], ["d"])[0] > new[0], "a search id is never used twice"


def test_a_landmark_goes_with_its_photos_and_with_its_last_photo(gallery: Gallery) -> None:
    gallery.remove(landmarks=[7])
    assert [photo.id for photo in gallery.photos] == ["c"]
    gallery.remove(photos=["c"])
    assert (gallery.landmarks, len(gallery)) == ((), 0)
    assert check_gallery(gallery.path) == []


def test_replacing_a_photo_keeps_one_of_it(gallery: Gallery) -> None:
    gallery.add(rows(1, seed=5), ["Tower"], ["c"], replace=True)
    assert [(photo.id, photo.landmark_id) for photo in gallery.photos] == [("a", 7), ("b", 7), ("c", 9)]
    assert [landmark.name for landmark in gallery.landmarks] == ["Dome", "Tower"], "Gate lost its only photo"


def test_a_landmark_given_again_is_updated(gallery: Gallery) -> None:
    gallery.add(rows(1), [Landmark(id=7, name="Old Dome")], ["d"])
    assert gallery.landmarks[0] == Landmark(id=7, name="Old Dome", latitude=48.2, longitude=16.4)
    gallery.add(rows(1), [Landmark(id=7, name="Old Dome", latitude=-1.0, longitude=0.0)], ["e"])
    assert gallery.landmarks[0] == Landmark(id=7, name="Old Dome", latitude=-1.0, longitude=0.0)


@pytest.mark.parametrize(
    ("landmarks", "photos", "text"),
    [
        pytest.param([7, 7], ["x", "a"], "has a photo with the id `a`", id="taken photo id"),
        pytest.param([7, 7], ["x", "x"], "`x` was given twice", id="photo id twice"),
        pytest.param([7, 99], ["x", "y"], "no landmark with the id 99", id="unknown landmark id"),
        pytest.param([7], ["x", "y"], "2 embeddings, 1 landmarks and 2 photos", id="lengths differ"),
    ],
)
def test_an_addition_that_cannot_be_made_changes_nothing(
    gallery: Gallery, landmarks: list[int], photos: list[str], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        gallery.add(rows(2), landmarks, photos)
    assert len(gallery) == len(Gallery.open(gallery.path)) == 3


def test_a_name_of_two_landmarks_is_not_guessed_at(gallery: Gallery) -> None:
    gallery.add(rows(1), [Landmark(id=20, name="Dome")], ["d"])
    with pytest.raises(GalleryError, match=r"2 landmarks are called `Dome` · ids \[7, 20\] · give the id"):
        gallery.add(rows(1), ["Dome"], ["e"])


@pytest.mark.parametrize(
    ("what", "text"),
    [({"photos": ["a", "zz"]}, "no photo with the id `zz`"), ({"landmarks": [7, 99]}, "no landmark with the id 99")],
)
def test_a_removal_of_the_unknown_changes_nothing(gallery: Gallery, what: dict[str, list], text: str) -> None:
    with pytest.raises(GalleryError, match=text):
        gallery.remove(**what)
    assert len(gallery) == 3


def test_a_read_only_gallery_recognises_and_refuses_changes(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in [gallery.path, *gallery.path.rglob("*")]:
        file.chmod(0o555 if file.is_dir() else 0o444)
    # who runs the tests may be allowed everything
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    read_only = Gallery.open(gallery.path)
    before = sorted(gallery.path.iterdir())
    assert read_only.search(rows(3), 1)[0].shape == (3, 1)
    assert sorted(gallery.path.iterdir()) == before, "nothing is written beside it"
    with pytest.raises(GalleryError, match="cannot be written to"):
        read_only.add(rows(1), [7], ["d"])
    gallery.path.chmod(0o755)


def test_many_threads_add_and_search_at_once(gallery: Gallery) -> None:
    def add_and_search(number: int) -> int:
        new = gallery.add(rows(1, seed=number), [f"place {number % 3}"], [f"photo {number}"])
        return int(gallery.search(rows(1, seed=number), 1)[0][0, 0] - new[0])

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(add_and_search, range(100, 148))) == {0}
    assert len(Gallery.open(gallery.path)) == 51
    assert len(gallery.landmarks) == 5
    assert check_gallery(gallery.path) == []


def test_a_change_that_comes_while_the_gallery_is_read_is_seen_afterwards(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it leaves the files' times and sizes as they were, and reading took long."""
    state, now = (*gallery.truth.state()[:1], time.time_ns(), 0, 0, 0), time.time_ns()
    monkeypatch.setattr(gallery.truth, "state", lambda: state)

    def read_slowly(*arguments: Any) -> References:
        found = read_references(*arguments)
        monkeypatch.undo()
        Gallery.open(gallery.path).add(rows(1, seed=9), ["Gate"], ["d"])
        monkeypatch.setattr(gallery.truth, "state", lambda: state)
        monkeypatch.setattr(time, "time_ns", lambda: now + 10**9)
        return found

    monkeypatch.setattr("obelisk.gallery.gallery.read_references", read_slowly)
    assert len(gallery) == 3
    assert len(gallery) == 4


def test_a_change_shows_in_the_files_when_it_can_be_read(gallery: Gallery) -> None:
    """SQLite writes to its log before anybody sees the change."""
    path = gallery.path / "gallery.sqlite"
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("SELECT * FROM about").fetchall()  # so that the log is not folded in
        os.utime(path, (1, 1))
        gallery.add(rows(1, seed=9), ["Gate"], ["d"])
        assert path.stat().st_mtime > 1


def test_a_folder_that_is_taken_is_left_alone(gallery: Gallery, bundle: Bundle) -> None:
    with pytest.raises(GalleryError, match="this path already exists"):
        Gallery.create(gallery.path, bundle)
    assert len(Gallery.open(gallery.path)) == 3


def test_a_gallery_that_lacks_its_model_says_where_to_find_it(gallery: Gallery) -> None:
    (gallery.path / "model").rename(gallery.path / "elsewhere")
    told = r"model `.*` \(fingerprint [0-9a-f]{32}\) is missing · .*model · put the folder back: a backup"
    with pytest.raises(ModelError, match=told):
        Gallery.open(gallery.path).load_bundle()


def break_into(gallery: Gallery, how: str) -> None:
    database = gallery.path / "gallery.sqlite"
    if how == "missing":
        shutil.rmtree(gallery.path)
    elif how == "no database":
        database.unlink()
    elif how == "text":
        database.write_text("this is no database, but a text that is long enough to be read as one " * 20)
    elif how == "empty":
        database.write_bytes(b"")
    elif how == "cut":
        database.write_bytes(database.read_bytes()[:5000])
    else:
        change(gallery, how)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("missing", "no such gallery .*`obelisk gallery build"),
        ("no database", "not a gallery: `gallery.sqlite` is missing .* move the folder away"),
        (
            "text",
            "not a gallery: the file is empty, or belongs to another program .* move the folder away and build a new",
        ),
        ("empty", "not a gallery: the file is empty, or belongs to another program .* move the folder away"),
        ("cut", r"damaged: it has \d+ of \d+ bytes .* move the folder away"),
        ("PRAGMA user_version = 99", "gallery format 99 is newer than 4"),
        ("PRAGMA application_id = 5", "belongs to another program"),
        ("DELETE FROM about WHERE key = 'dimensions'", "no usable entry: 'dimensions' .* move the folder away"),
        ("UPDATE about SET value = 'many' WHERE key = 'dimensions'", "no usable entry: invalid literal"),
        (
            "UPDATE about SET value = '0' WHERE key = 'complete'",
            "only half-built .* run the same",
        ),
    ],
)
def test_what_is_no_whole_gallery_is_refused(gallery: Gallery, how: str, text: str) -> None:
    break_into(gallery, how)
    with pytest.raises(GalleryError, match=text):
        Gallery.open(gallery.path).references()


def test_a_gallery_that_nobody_may_read_is_reported(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, mode: str) -> sqlite3.Connection:
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        raise error

    # who runs the tests may be allowed everything
    monkeypatch.setattr(database, "connect", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(GalleryError, match=r"no permission to read .*gallery\.sqlite · .*`chmod u\+r`"):
        Gallery.open(gallery.path).references()


@pytest.mark.parametrize(("vector", "text"), [("x'0000'", "of a wrong length"), ("zeroblob(48)", "zero or not finite")])
def test_an_embedding_that_cannot_be_used_is_refused(gallery: Gallery, vector: str, text: str) -> None:
    change(gallery, f"UPDATE embeddings SET vector = {vector} WHERE row = 2")
    with pytest.raises(GalleryError, match=rf"{text} .*`obelisk gallery check {gallery.path}`"):
        len(Gallery.open(gallery.path))


@pytest.mark.parametrize("kept", [False, True], ids=["opened then", "opened before"])
@pytest.mark.parametrize("shown", [99, "'Dome'", "'7-'", "'7,7'", "x'37'", "x'ff'", 7.5])
def test_a_photo_without_a_landmark_is_refused(gallery: Gallery, shown: object, kept: bool) -> None:
    opened = Gallery.open(gallery.path)
    if kept:
        opened.references()
    change(gallery, f"INSERT INTO photos (id, landmark_id, content_hash, source) VALUES ('d', {shown}, '', '')")
    change(gallery, "INSERT INTO embeddings SELECT 4, vector FROM embeddings WHERE row = 1")
    change(gallery, "UPDATE about SET value = '9' WHERE key = 'revision'")
    with pytest.raises(GalleryError, match=r"damaged: there are photos without a landmark .*`obelisk gallery check"):
        opened.references()


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("UPDATE embeddings SET vector = x'0000' WHERE row = 2", "row 2 has 2 bytes, not 48"),
        ("UPDATE embeddings SET vector = zeroblob(48) WHERE row = 2", "row 2 has length 0, not 1"),
        ("UPDATE embeddings SET vector = x'00'", "of a wrong size: 3, the first in row 1 has 1 bytes, not 48"),
        ("UPDATE landmarks SET name = CAST(x'47ff' AS TEXT)", "Could not decode to UTF-8 column 'name'"),
        ("DELETE FROM embeddings WHERE row = 1", "photos without an embedding: 1, the first is `a`"),
        ("INSERT INTO embeddings SELECT 50, vector FROM embeddings LIMIT 1", "embeddings without a photo: 1"),
        ("DELETE FROM landmarks WHERE id = 7", "photos without a landmark: 2, the first is `a`"),
        (
            "INSERT INTO landmarks (id, name) VALUES (99, 'Nowhere')",
            "landmarks without a photo: 1, the first is `Now",
        ),
        ("UPDATE about SET value = 'f00' WHERE key = 'fingerprint'", "the embeddings f00"),
        ("UPDATE about SET value = '0' WHERE key = 'complete'", "only half-built"),
    ],
)
def test_check_names_each_fault(gallery: Gallery, statement: str, text: str) -> None:
    assert check_gallery(gallery.path) == []
    change(gallery, statement)
    assert text in " ".join(check_gallery(gallery.path))


CHANGES = {
    "add": lambda gallery: gallery.add(rows(1)[:, : gallery.dimensions], ["Dome"], ["d"]),
    "remove": lambda gallery: gallery.remove(photos=["c"]),
    "rename": lambda gallery: gallery.rename(8, "Arch"),
}


@pytest.mark.parametrize("act", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("UPDATE embeddings SET vector = x'0000' WHERE row = 1", "missing or of a wrong length"),
        ("UPDATE embeddings SET vector = 'text' WHERE row = 1", "missing or of a wrong length"),
        ("UPDATE embeddings SET vector = zeroblob(48) WHERE row = 2", "zero or not finite"),
        ("DELETE FROM embeddings WHERE row = 1", "missing or of a wrong length"),
        ("DELETE FROM landmarks WHERE id = 7", "photos without a landmark"),
        ("UPDATE about SET value = '23' WHERE key = 'dimensions'", "missing or of a wrong length"),
    ],
)
def test_a_damaged_gallery_is_not_changed(
    gallery: Gallery, statement: str, text: str, act: Callable[[Gallery], object]
) -> None:
    change(gallery, statement)
    before = (gallery.path / "gallery.sqlite").read_bytes()
    with pytest.raises(GalleryError, match=rf"the gallery is damaged: .*{text} .*`obelisk gallery check"):
        act(Gallery.open(gallery.path))
    assert (gallery.path / "gallery.sqlite").read_bytes() == before


def test_a_gallery_cut_within_its_last_page_is_refused(gallery: Gallery) -> None:
    opened = Gallery.open(gallery.path)
    database = gallery.path / "gallery.sqlite"
    size = database.stat().st_size
    os.truncate(database, size - 100)
    for use in (lambda: Gallery.open(gallery.path), *(partial(act, opened) for act in CHANGES.values())):
        with pytest.raises(GalleryError, match=rf"damaged: it has {size - 100} of {size} bytes .* move the folder"):
            use()
    assert database.stat().st_size == size - 100


def test_what_is_only_in_the_log_is_not_taken_for_cut_off(gallery: Gallery) -> None:
    with closing(sqlite3.connect(gallery.path / "gallery.sqlite")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM about").fetchone()
        gallery.add(rows(500), ["Dome"] * 500, [f"photo {number}" for number in range(500)])
        assert (gallery.path / "gallery.sqlite-wal").stat().st_size > (gallery.path / "gallery.sqlite").stat().st_size
        Gallery.open(gallery.path).remove(photos=["photo 7"])
    assert len(Gallery.open(gallery.path)) == 502


def test_a_gallery_that_states_other_dimensions_than_its_model_is_refused(gallery: Gallery) -> None:
    change(gallery, "UPDATE about SET value = '23' WHERE key = 'dimensions'")
    with pytest.raises(GalleryError, match="damaged: it states 23 dimensions, its model gives 24"):
        Gallery.open(gallery.path).load_bundle()


def test_check_notices_a_changed_model_copy(gallery: Gallery) -> None:
    (gallery.path / "model" / "model.onnx").write_bytes(b"another network")
    assert "the copy of the model cannot be used" in check_gallery(gallery.path)[0]
    with pytest.raises(ModelError, match="fingerprint"):
        gallery.load_bundle()


def test_another_model_is_refused_with_the_way_out(gallery: Gallery, make_bundle: Callable[[str], Bundle]) -> None:
    other = make_bundle("shapes")
    with pytest.raises(GalleryError, match=r"built with model `colors` .* not with `shapes`") as caught:
        gallery.check_model(other)
    assert f"obelisk gallery build NEW-GALLERY --data DIR --model {other.folder}" in str(caught.value)


def test_the_example_runs() -> None:
    results = doctest.testmod(sys.modules["obelisk.gallery.gallery"])
    assert (results.failed, results.attempted > 0) == (0, True)


def test_a_list_of_rows_that_is_too_long_for_a_text_is_read_in_parts(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.add(np.eye(D)[:5], ["A", "B", "A", "C", "B"], [f"more {n}" for n in range(5)])
    gallery.remove(photos=["more 1"])
    whole = Gallery.open(gallery.path).references()
    monkeypatch.setattr("obelisk.gallery.sqlite_tables.ROWS_OF_A_TEXT", 2)
    parts = Gallery.open(gallery.path).references()
    assert parts.ids.tolist() == whole.ids.tolist()
    assert parts.landmark_ids.tolist() == whole.landmark_ids.tolist()


def test_the_photos_of_an_answer_are_found_without_reading_them_again(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = [Neighbor(id=photo_id, landmark="Dome", landmark_id=7, similarity=0.5) for photo_id in ("b", "a", "gone")]
    a, b, _ = gallery.photos
    gallery = Gallery.open(gallery.path)
    assert gallery.find_neighbors(named) == [b, a, None]
    gallery.references().photos([0, 1])
    with monkeypatch.context() as patch:
        patch.setattr("obelisk.gallery.gallery.photos_by_id", lambda connection, ids: dict.fromkeys(ids))
        assert gallery.find_neighbors(named) == [b, a, None]
    Gallery.open(gallery.path).remove(photos=["b"])  # another process
    assert gallery.find_neighbors(named) == [None, a, None]


def test_a_file_that_was_written_to_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"photo")
    photo = ReferencePhoto(id="a", source=str(path), content_hash=content_hash(b"photo"))
    files = ReferenceFiles()
    assert not files.is_unchanged(photo)
    assert files.read(photo) == b"photo"
    assert files.is_unchanged(photo)
    path.write_bytes(b"another photo")
    assert not files.is_unchanged(photo)
    assert files.read(photo) is None
    assert not files.is_unchanged(photo)
    assert (files.asked, files.at_hand) == (1, 0)
    assert not files.is_unchanged(ReferencePhoto(id="b")), "it has no file"
