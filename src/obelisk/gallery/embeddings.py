"""The embeddings of a gallery: float16 in the database, unit-norm float32 in use."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Embeddings, Integers, l2_normalize
from obelisk.errors import UsageError
from obelisk.gallery import database, schema

NEWEST = 1000  # rows that every change checks, in some milliseconds


class EmbeddingReader:
    """Reads embeddings by row, each time from the gallery as it is at that moment.

    Its connection stays open if the database may be written to, because opening one takes longer than searching a
    million photos. Threads may share a reader.
    """

    def __init__(self, folder: Path, dimensions: int) -> None:
        self.folder, self.dimensions = folder, dimensions
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0

    def read(self, rows: Sequence[int]) -> tuple[Integers, Embeddings]:
        """Return those of the rows that the gallery has, ascending, and their unit-norm embeddings (M, D)."""
        with self._lock, database.translating_errors(self.folder):
            connection = self._open()
            if connection:
                found, stored = pick_embeddings(connection, rows, self.dimensions, self.folder)
            else:
                with database.reading(self.folder) as connection:
                    found, stored = pick_embeddings(connection, rows, self.dimensions, self.folder)
        return found, normalize_stored(stored, self.folder)

    def _open(self) -> sqlite3.Connection | None:
        """Return this process's connection, or None if it must not stay open."""
        if self._process != os.getpid():  # a connection does not survive a fork
            connection, mode = database.open_snapshot(self.folder)
            connection.execute("COMMIT")
            if mode == database.IMMUTABLE:
                connection.close()
                return None
            weakref.finalize(self, connection.close)
            self._connection, self._process = connection, os.getpid()
        return self._connection


def read_embeddings(
    connection: sqlite3.Connection, rows: Integers, dimensions: int, folder: Path
) -> NDArray[np.float16]:
    """Return the stored embeddings (N, D) of ascending rows; the gallery must have no row between them."""
    first = int(rows[0]) if len(rows) else 0
    cursor = connection.execute("SELECT row, vector FROM embeddings WHERE row >= ? ORDER BY row", (first,))
    embeddings = np.empty((len(rows), dimensions), dtype=schema.STORED)
    for start in range(0, len(rows), database.ROWS_AT_ONCE):
        wanted = rows[start : start + database.ROWS_AT_ONCE].tolist()
        found = cursor.fetchmany(len(wanted))
        blobs = [blob for row, blob in found] if [row for row, _ in found] == wanted else []
        embeddings[start : start + database.ROWS_AT_ONCE] = join_blobs(blobs, (len(wanted), dimensions), folder)
    return embeddings


def pick_embeddings(
    connection: sqlite3.Connection, rows: Sequence[int], dimensions: int, folder: Path
) -> tuple[Integers, NDArray[np.float16]]:
    """Return those of the rows that the gallery has, ascending, and their stored embeddings (M, D)."""
    found: list[tuple[int, bytes]] = []
    for start in range(0, len(rows), database.VALUES_AT_ONCE):
        part = rows[start : start + database.VALUES_AT_ONCE]
        select = f"SELECT row, vector FROM embeddings WHERE row IN ({', '.join('?' * len(part))}) ORDER BY row"
        found += connection.execute(select, part)
    numbers, blobs = zip(*found, strict=True) if found else ((), ())
    return np.array(numbers, dtype=np.int64), join_blobs(blobs, (len(found), dimensions), folder)


def join_blobs(blobs: Sequence[bytes], shape: tuple[int, ...], folder: Path) -> NDArray[np.float16]:
    """Join the blobs of the database to an array (N, D); raise :class:`GalleryError` if they don't fit the shape."""
    count, dimensions = shape
    size = schema.STORED.itemsize * dimensions
    if len(blobs) != count or set(map(type, blobs)) - {bytes} or set(map(len, blobs)) - {size}:
        raise schema.damage_error("embeddings are missing or of a wrong length", folder)
    return np.frombuffer(b"".join(blobs), dtype=schema.STORED).reshape(shape)


def normalize_stored(stored: NDArray[np.float16], folder: Path) -> Embeddings:
    """Return stored embeddings as unit-norm float32 rows; raise :class:`GalleryError` for a zero or non-finite one."""
    try:
        return l2_normalize(stored, dimensions=stored.shape[1])
    except UsageError as error:
        raise schema.damage_error(error.what, folder) from error


def refuse_damaged(connection: sqlite3.Connection, dimensions: int, folder: Path) -> None:
    """Check the newest photos; raise :class:`GalleryError` if one lacks its landmark or a usable embedding.

    These are all photos of a small gallery. Checking every photo of a large one would take longer than most changes.
    """
    found = connection.execute(
        "SELECT row, landmark_id IN (SELECT id FROM landmarks) FROM photos"
        f" WHERE row > (SELECT max(row) FROM photos) - {NEWEST} ORDER BY row"
    ).fetchall()
    if not all(has_landmark for _, has_landmark in found):
        raise schema.damage_error("there are photos without a landmark", folder)
    rows = np.array([row for row, _ in found], dtype=np.int64)
    normalize_stored(read_embeddings(connection, rows, dimensions, folder), folder)
