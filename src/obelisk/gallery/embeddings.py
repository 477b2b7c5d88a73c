"""The embeddings of a gallery: float16 in its database, float32 of length 1 when they are used."""

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
from obelisk.gallery import database as store

NEWEST = 1000  # rows that every change looks at: some milliseconds


class EmbeddingReader:
    """Reads embeddings by their rows, each time as the gallery is then.

    Its connection stays open, where the database may change meanwhile: to open one takes longer than to search
    a million photos. Several threads may use a reader.
    """

    def __init__(self, folder: Path, dimensions: int) -> None:
        self.folder, self.dimensions = folder, dimensions
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0

    def read(self, rows: Sequence[int]) -> tuple[Integers, Embeddings]:
        """Return those of the rows that are in the gallery, ascending, and their embeddings (M, D) of length 1."""
        with self._lock, store.translated(self.folder):
            connection = self._open()
            if connection:
                found, stored = pick_embeddings(connection, rows, self.dimensions, self.folder)
            else:
                with store.reading(self.folder) as connection:
                    found, stored = pick_embeddings(connection, rows, self.dimensions, self.folder)
        return found, unit_embeddings(stored, self.folder)

    def _open(self) -> sqlite3.Connection | None:
        """Return the connection of this process; None where it must not stay open."""
        if self._process != os.getpid():  # a connection does not outlive a fork
            connection, mode = store.begin_reading(self.folder)
            connection.execute("COMMIT")
            if mode == store.IMMUTABLE:
                connection.close()
                return None
            weakref.finalize(self, connection.close)
            self._connection, self._process = connection, os.getpid()
        return self._connection


def read_embeddings(
    connection: sqlite3.Connection, rows: NDArray[np.int64], dimensions: int, folder: Path
) -> NDArray[np.float16]:
    """Return the embeddings (N, D) of these rows, which are all that the gallery has from the first of them on."""
    first = int(rows[0]) if len(rows) else 0
    cursor = connection.execute("SELECT row, vector FROM embeddings WHERE row >= ? ORDER BY row", (first,))
    embeddings = np.empty((len(rows), dimensions), dtype=store.STORED)
    for start in range(0, len(rows), store.ROWS_AT_ONCE):
        wanted = rows[start : start + store.ROWS_AT_ONCE].tolist()
        found = cursor.fetchmany(len(wanted))
        blobs = [blob for row, blob in found] if [row for row, _ in found] == wanted else []
        embeddings[start : start + store.ROWS_AT_ONCE] = join_embeddings(blobs, (len(wanted), dimensions), folder)
    return embeddings


def refuse_damaged(connection: sqlite3.Connection, dimensions: int, folder: Path) -> None:
    """Look at the newest photos; raise :class:`GalleryError` if one lacks its landmark or a usable embedding.

    In a small gallery these are all. To look at all of a large one would take longer than most changes.
    """
    found = connection.execute(
        "SELECT row, landmark_id IN (SELECT id FROM landmarks) FROM photos"
        f" WHERE row > (SELECT max(row) FROM photos) - {NEWEST} ORDER BY row"
    ).fetchall()
    if not all(has_landmark for _, has_landmark in found):
        raise store.damaged("there are photos without a landmark", folder)
    rows = np.array([row for row, _ in found], dtype=np.int64)
    unit_embeddings(read_embeddings(connection, rows, dimensions, folder), folder)


def pick_embeddings(
    connection: sqlite3.Connection, rows: Sequence[int], dimensions: int, folder: Path
) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    """Return those of the rows that are in the gallery, ascending, and their embeddings (M, D)."""
    found: list[tuple[int, bytes]] = []
    for start in range(0, len(rows), store.VALUES_AT_ONCE):
        part = rows[start : start + store.VALUES_AT_ONCE]
        select = f"SELECT row, vector FROM embeddings WHERE row IN ({', '.join('?' * len(part))}) ORDER BY row"
        found += connection.execute(select, part)
    numbers, blobs = zip(*found, strict=True) if found else ((), ())
    return np.array(numbers, dtype=np.int64), join_embeddings(blobs, (len(found), dimensions), folder)


def join_embeddings(blobs: Sequence[bytes], shape: tuple[int, ...], folder: Path) -> NDArray[np.float16]:
    """Return stored embeddings as an array of this shape; raise :class:`GalleryError` if they do not make one."""
    count, dimensions = shape
    size = store.STORED.itemsize * dimensions
    if len(blobs) != count or set(map(type, blobs)) - {bytes} or set(map(len, blobs)) - {size}:
        raise store.damaged("embeddings are missing or of a wrong length", folder)
    return np.frombuffer(b"".join(blobs), dtype=store.STORED).reshape(shape)


def unit_embeddings(stored: NDArray[np.float16], folder: Path) -> Embeddings:
    """Return stored embeddings as float32 rows of length 1; raise :class:`GalleryError` for one without a direction."""
    try:
        return l2_normalize(stored, dimensions=stored.shape[1])
    except UsageError as error:
        raise store.damaged(error.what, folder) from error
