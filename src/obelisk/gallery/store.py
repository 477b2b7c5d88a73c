"""``gallery.sqlite``: the truth of a gallery. The format is described in docs/gallery-format.md.

Connections are opened for one reading or one change and closed again: nothing is shared between threads,
and when the last one closes, SQLite folds its write-ahead log into the file, so that the folder is whole.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from obelisk.errors import GalleryError

FORMAT = 1
APPLICATION_ID = 0x4F42454C  # "OBEL", so that the file can be told from other SQLite files
DATABASE = "gallery.sqlite"
STORED = np.dtype("<f2")  # embeddings on disk: float16, little-endian
BUSY_SECONDS = 60.0  # how long a writer waits for the others
ROWS_AT_ONCE = 4096

SCHEMA = f"""
PRAGMA journal_mode = WAL;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
CREATE TABLE about (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE landmarks (
    id        INTEGER PRIMARY KEY,
    name      TEXT NOT NULL,
    latitude  REAL,
    longitude REAL
);
CREATE INDEX landmarks_by_name ON landmarks (name);
CREATE TABLE photos (
    row          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT NOT NULL UNIQUE,
    landmark_id  INTEGER NOT NULL REFERENCES landmarks (id),
    content_hash TEXT NOT NULL,
    source       TEXT NOT NULL
);
CREATE INDEX photos_by_landmark ON photos (landmark_id);
CREATE TABLE embeddings (
    row    INTEGER PRIMARY KEY REFERENCES photos (row) ON DELETE CASCADE,
    vector BLOB NOT NULL
);
"""


@dataclass(frozen=True, kw_only=True)
class About:
    """Which model a gallery belongs to, and whether its building was finished."""

    model: str
    fingerprint: str
    dimensions: int
    complete: bool


def create_database(folder: Path, about: About) -> None:
    """Write an empty database into the folder."""
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        connection.executescript(SCHEMA)
        rows = {"model": about.model, "fingerprint": about.fingerprint, "dimensions": about.dimensions}
        with connection:
            connection.executemany("INSERT INTO about VALUES (?, ?)", [(key, str(rows[key])) for key in rows])
            connection.execute("INSERT INTO about VALUES ('complete', ?)", (str(int(about.complete)),))


@contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the database of a folder for one consistent reading, also where nothing can be written."""
    path = folder / DATABASE
    log = folder / f"{DATABASE}-wal"
    mode = "mode=rw"
    if not (os.access(folder, os.W_OK) and os.access(path, os.W_OK)):
        # SQLite must not look for its lock and log files here. Only an unfinished log would be overlooked.
        mode = "mode=ro" if log.exists() and log.stat().st_size else "mode=ro&immutable=1"
    with opened(folder, mode) as connection:
        connection.execute("BEGIN")
        yield connection
        connection.execute("COMMIT")


@contextmanager
def writing(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the database for one change: all of it is on the disk when the block ends, or none of it."""
    if not (os.access(folder, os.W_OK) and os.access(folder / DATABASE, os.W_OK)):
        raise GalleryError("the gallery cannot be written to", where=folder, fix="copy it to a folder of your own")
    with opened(folder, "mode=rw") as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")


@contextmanager
def opened(folder: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """Open the database in an SQLite URI mode, and turn what SQLite says of it into a :class:`GalleryError`."""
    address = f"{(folder / DATABASE).resolve().as_uri()}?{mode}"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            yield connection
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        fix = f"look with `obelisk gallery check {folder}`; build it again if it is damaged"
        raise GalleryError(f"the gallery cannot be used: {error}", where=folder / DATABASE, fix=fix) from error


def read_about(folder: Path) -> About:
    """Return what a gallery says of itself; raise :class:`GalleryError` if there is none, or one we cannot read."""
    if not (folder / DATABASE).is_file():
        what = "no such gallery" if not folder.exists() else f"not a gallery: `{DATABASE}` is missing"
        raise GalleryError(what, where=folder, fix=f"build it with `obelisk gallery build {folder} --data DIR`")
    with reading(folder) as connection:
        return about_of(connection, folder)


def about_of(connection: sqlite3.Connection, folder: Path) -> About:
    """Return the identity that the database states, after checking its format."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise GalleryError("not a gallery: the file is of another program", where=folder / DATABASE)
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > FORMAT:
        what = f"gallery format {found} is newer than {FORMAT}, the newest this version reads"
        raise GalleryError(what, where=folder, fix="upgrade with `pip install -U obelisk-landmarks`")
    rows = dict(connection.execute("SELECT key, value FROM about"))
    try:
        return About(
            model=rows["model"],
            fingerprint=rows["fingerprint"],
            dimensions=int(rows["dimensions"]),
            complete=rows["complete"] == "1",
        )
    except (KeyError, ValueError) as error:
        what = f"the gallery is damaged: its table `about` has no usable entry: {error}"
        raise GalleryError(what, where=folder / DATABASE, fix="build it again") from error


def landmark_names(connection: sqlite3.Connection) -> dict[int, str]:
    """Return the landmarks, id → name."""
    return {row[0]: row[1] for row in connection.execute("SELECT id, name FROM landmarks ORDER BY id")}


def insert_landmarks(
    connection: sqlite3.Connection, rows: Iterable[tuple[int, str, float | None, float | None]]
) -> None:
    """Write landmarks (id, name, latitude, longitude); one that is there gets the new name and place."""
    connection.executemany(
        "INSERT INTO landmarks VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
        " SET name = excluded.name, latitude = excluded.latitude, longitude = excluded.longitude",
        rows,
    )


def insert_photos(
    connection: sqlite3.Connection,
    photos: Sequence[tuple[str, int, str, str]],
    embeddings: NDArray[np.float32],
) -> list[int]:
    """Write photos (id, landmark id, content hash, source) and their embeddings (N, D); return the new rows."""
    rows = []
    for photo, vector in zip(photos, embeddings.astype(STORED), strict=True):
        insert = "INSERT INTO photos (id, landmark_id, content_hash, source) VALUES (?, ?, ?, ?)"
        row = connection.execute(insert, photo).lastrowid
        connection.execute("INSERT INTO embeddings VALUES (?, ?)", (row, vector.tobytes()))
        rows.append(int(row or 0))
    return rows


def known_ids(connection: sqlite3.Connection, ids: Iterable[str]) -> list[str]:
    """Return those photo ids that the gallery has."""
    find = "SELECT EXISTS (SELECT 1 FROM photos WHERE id = ?)"
    return [photo_id for photo_id in ids if connection.execute(find, (photo_id,)).fetchone()[0]]


def delete_photos(connection: sqlite3.Connection, ids: Iterable[str]) -> None:
    """Delete photos by id."""
    connection.executemany("DELETE FROM photos WHERE id = ?", [(photo_id,) for photo_id in ids])


def delete_photos_of(connection: sqlite3.Connection, landmark_ids: Iterable[int]) -> None:
    """Delete all photos of landmarks."""
    connection.executemany("DELETE FROM photos WHERE landmark_id = ?", [(landmark_id,) for landmark_id in landmark_ids])


def delete_empty_landmarks(connection: sqlite3.Connection) -> None:
    """Delete the landmarks that have no photo."""
    connection.execute("DELETE FROM landmarks WHERE id NOT IN (SELECT landmark_id FROM photos)")


def mark_complete(connection: sqlite3.Connection) -> None:
    """Note that the gallery's building was finished."""
    connection.execute("UPDATE about SET value = '1' WHERE key = 'complete'")


def read_embeddings(connection: sqlite3.Connection, count: int, dimensions: int, folder: Path) -> NDArray[np.float16]:
    """Return the embeddings (N, D) in row order."""
    rows = np.empty((count, dimensions), dtype=STORED)
    cursor = connection.execute("SELECT vector FROM embeddings ORDER BY row")
    for start in range(0, count, ROWS_AT_ONCE):
        blobs = [blob for (blob,) in cursor.fetchmany(ROWS_AT_ONCE)]
        part = rows[start : start + ROWS_AT_ONCE]
        if len(blobs) != len(part) or any(len(blob) != STORED.itemsize * dimensions for blob in blobs):
            fix = f"see `obelisk gallery check {folder}`"
            raise GalleryError("embeddings are missing or of a wrong length", where=folder / DATABASE, fix=fix)
        part[:] = np.frombuffer(b"".join(blobs), dtype=STORED).reshape(part.shape)
    return rows
