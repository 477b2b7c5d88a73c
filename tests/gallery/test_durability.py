"""What a gallery survives: a full disk at any write, locks, readers and writers at once, read-only folders."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from obelisk.embedding import Bundle
from obelisk.errors import GalleryError, GalleryLockedError
from obelisk.gallery import Gallery, Landmark, ReferencePhoto, check_gallery, database

D = 24
BATCH = 5
WAIT = 300.0  # s


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, D)).astype(np.float32)


@pytest.fixture
def gallery(tmp_path: Path, bundle: Bundle) -> Gallery:
    gallery = Gallery.create(tmp_path / "city", bundle)
    gallery.add(rows(60), ["Dome"] * 30 + ["Gate"] * 30, [f"photo {number}" for number in range(60)])
    return gallery


def contents(gallery: Gallery) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(gallery.path / "gallery.sqlite")) as connection:
        return connection.execute(
            "SELECT p.id, l.name, hex(e.vector) FROM photos p JOIN landmarks l ON l.id = p.landmark_id"
            " JOIN embeddings e USING (row) ORDER BY row"
        ).fetchall()


@contextmanager
def disk_with_room(pages: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the database grow by so many pages and no more."""
    connect = database.connect

    def connect_with_limit(folder: Path, mode: str) -> sqlite3.Connection:
        connection = connect(folder, mode)
        used = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {used + pages}")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(database, "connect", connect_with_limit)
        yield


LONG = "x" * 3000

CHANGES: dict[str, Callable[[Gallery], object]] = {
    "add": lambda gallery: gallery.add(rows(40, seed=1), ["Tower"] * 40, [f"{LONG} {number}" for number in range(40)]),
    "replace": lambda gallery: gallery.add(
        rows(20, seed=2), ["Gate"] * 20, [ReferencePhoto(id=f"photo {n}", source=LONG) for n in range(20)], replace=True
    ),
    "update": lambda gallery: gallery.add(rows(1, seed=3), [Landmark(id=1, name=LONG)], ["new"]),
    "rename": lambda gallery: gallery.rename(1, LONG * 4),
    "merge": lambda gallery: gallery.merge([1], 2, name=LONG * 4),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_full_disk_at_any_page_leaves_the_gallery_as_it_was(
    gallery: Gallery, change: Callable[[Gallery], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(gallery)
    for pages in count():
        with disk_with_room(pages, monkeypatch):
            refused = run(change, gallery)
        if refused is None:
            break
        assert (refused.errno, refused.filename) == (errno.ENOSPC, str(gallery.path))
        assert contents(gallery) == before
        assert len(gallery) == 60
    assert pages > 0, "the disk was never full"
    assert contents(gallery) != before
    assert check_gallery(gallery.path) == []


def run(change: Callable[[Gallery], object], gallery: Gallery) -> OSError | None:
    try:
        change(gallery)
    except OSError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (sqlite3.SQLITE_IOERR_SHMSIZE, OSError, "No space left"),
        (
            sqlite3.SQLITE_IOERR_LOCK,
            GalleryError,
            "has no locks.*if it is a network share, keep the",
        ),
        (sqlite3.SQLITE_IOERR_SHMMAP, GalleryError, "has no locks"),
    ],
    ids=["no room for the lock file", "no locks", "no shared memory"],
)
def test_what_prevents_a_change_still_lets_one_read(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception], text: str
) -> None:
    connect = database.connect

    def connect_on_such_a_disk(folder: Path, mode: str) -> sqlite3.Connection:
        if mode == "mode=rw":
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = code
            raise error
        return connect(folder, mode)

    monkeypatch.setattr(database, "connect", connect_on_such_a_disk)
    again = Gallery.open(gallery.path)
    assert again.search(rows(1), 1)[0].shape == (1, 1)
    with pytest.raises(kind, match=text):
        again.remove(photos=["photo 0"])


def test_a_gallery_that_is_locked_too_long_is_reported_and_left_alone(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    before = contents(gallery)
    with closing(sqlite3.connect(gallery.path / "gallery.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(
            GalleryLockedError, match=r"kept the gallery locked for 0 s .* when they are done"
        ) as caught:
            gallery.add(rows(1), ["Dome"], ["new"])
        assert caught.value.exit_code == 1
        assert Gallery.open(gallery.path).search(rows(1), 1)[0].shape == (1, 1), "readers do not wait"
    assert contents(gallery) == before


@pytest.mark.skipif(os.name == "nt", reason="there is no such answer")
def test_a_share_that_grants_no_locks_is_reported_at_once(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    monkeypatch.setattr(fcntl, "lockf", Mock(side_effect=OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))))
    monkeypatch.setattr(database, "BUSY_SECONDS", 1e6)
    with closing(sqlite3.connect(gallery.path / "gallery.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")  # SQLite is told that the database is busy
        with pytest.raises(GalleryError, match="the file system has no locks") as caught:
            gallery.add(rows(1), ["Dome"], ["new"])
        assert caught.value.exit_code == 1
        assert Gallery.open(gallery.path).search(rows(1), 1)[0].shape == (1, 1)


def test_a_gallery_changed_while_it_is_read_as_a_file_is_noticed(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "may_write", lambda folder: False)
    with pytest.raises(GalleryError, match="changed while it was read"), database.reading(gallery.path):
        rename_elsewhere(gallery)


def rename_elsewhere(gallery: Gallery) -> None:
    with closing(sqlite3.connect(gallery.path / "gallery.sqlite")) as other, other:
        other.execute("UPDATE landmarks SET name = 'Arch' WHERE id = 1")


@pytest.mark.parametrize("files", [["", "-wal", "-shm"], ["", "-wal"]], ids=["with its lock file", "without"])
def test_what_a_killed_writer_acknowledged_is_in_the_copy(gallery: Gallery, tmp_path: Path, files: list[str]) -> None:
    """A log that was never folded in is read, also where nothing can be written; or refused, never overlooked."""
    with closing(sqlite3.connect(gallery.path / "gallery.sqlite", isolation_level=None)) as killed:
        killed.execute("BEGIN IMMEDIATE")
        killed.execute("UPDATE landmarks SET name = 'Arch' WHERE id = 1")
        killed.execute("COMMIT")
        copy = tmp_path / "copy"
        shutil.copytree(gallery.path / "model", copy / "model")
        for ending in files:
            shutil.copy(gallery.path / f"gallery.sqlite{ending}", copy)
    assert database.reading_modes(copy) == ["mode=rw"], "an unfinished log is never passed over"
    assert Gallery.open(copy).landmarks[0].name == "Arch"
    assert [path.name for path in copy.glob("gallery*")] == ["gallery.sqlite"], "it was folded in"


def test_the_gallery_of_the_installation_is_never_written_to(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "is_bundled", lambda folder: folder == gallery.path)
    assert database.reading_modes(gallery.path) == [database.IMMUTABLE]
    with pytest.raises(GalleryError, match=r"cannot be written to: .* `obelisk gallery export bundled FILE`"):
        gallery.remove(photos=["photo 0"])


def test_a_gallery_replaced_by_one_of_another_model_is_not_written_to(
    gallery: Gallery, make_bundle: Callable[[str], Bundle]
) -> None:
    shutil.rmtree(gallery.path)
    Gallery.create(gallery.path, make_bundle("shapes"))
    with pytest.raises(GalleryError, match="replaced by one of another model"):
        gallery.add(rows(1), ["Dome"], ["new"])
    assert contents(gallery) == []


def test_a_gallery_that_is_gone_is_reported(gallery: Gallery) -> None:
    shutil.rmtree(gallery.path)
    with pytest.raises(GalleryError, match="no longer there"):
        gallery.references()
    with pytest.raises(GalleryError, match="cannot be written to"):
        gallery.remove(photos=["photo 0"])


WRITER = """
import sys
import numpy as np
from obelisk.gallery import Gallery
folder, writer, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
gallery = Gallery.open(folder)
rows = np.random.default_rng(writer).normal(size=(batch, gallery.dimensions))
for number in range(6):
    name = f"place {writer} {number}"
    gallery.add(rows, [name] * batch, [f"{name} {photo}" for photo in range(batch)])
"""


def test_eight_processes_add_at_once_and_readers_see_whole_batches(gallery: Gallery) -> None:
    commands = [[sys.executable, "-c", WRITER, str(gallery.path), str(writer), str(BATCH)] for writer in range(8)]
    writers = [subprocess.Popen(command) for command in commands]
    counts: set[int] = set()
    started = time.monotonic()
    while any(writer.poll() is None for writer in writers):
        assert time.monotonic() < started + WAIT
        with database.reading(gallery.path) as connection:
            found = connection.execute(
                "SELECT count(*), count(vector) FROM photos LEFT JOIN embeddings USING (row) GROUP BY landmark_id"
            ).fetchall()
        counts |= {photos for photos, _ in found}
        assert all(photos == vectors for photos, vectors in found)
    assert [writer.returncode for writer in writers] == [0] * 8
    assert counts <= {30, BATCH}
    assert len(Gallery.open(gallery.path)) == 60 + 8 * 6 * BATCH
    assert check_gallery(gallery.path) == []


def test_a_lack_of_memory_in_sqlite_has_words(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, mode: str) -> sqlite3.Connection:
        raise MemoryError  # SQLite says so of some damaged pages, too

    monkeypatch.setattr(database, "connect", refuse)
    with pytest.raises(GalleryError, match="more memory than there is") as caught:
        Gallery.open(gallery.path).references()
    assert caught.value.exit_code == 1
