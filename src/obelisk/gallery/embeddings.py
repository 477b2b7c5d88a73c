"""The embeddings of a gallery: float16 in the database, unit-norm float32 in use."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Embeddings, Integers, l2_normalize
from obelisk.errors import UsageError
from obelisk.gallery import schema
from obelisk.gallery.lookup import VALUES_AT_ONCE
from obelisk.gallery.truth import Tables

ROWS_AT_ONCE = 4096
NEWEST = 1000  # rows that every change checks, in some milliseconds


def read_embeddings(connection: Tables, rows: Integers, dimensions: int) -> NDArray[np.float16]:
    """Return the stored embeddings (N, D) of ascending rows; the gallery must have no row between them."""
    first = int(rows[0]) if len(rows) else 0
    cursor = connection.stream(f"SELECT row, vector FROM embeddings WHERE row >= {first} ORDER BY row")
    embeddings = np.empty((len(rows), dimensions), dtype=schema.STORED)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        wanted = rows[start : start + ROWS_AT_ONCE].tolist()
        found = list(islice(cursor, len(wanted)))
        blobs = [blob for row, blob in found] if [row for row, _ in found] == wanted else []
        embeddings[start : start + ROWS_AT_ONCE] = join_blobs(blobs, (len(wanted), dimensions), connection.place)
    return embeddings


def pick_embeddings(connection: Tables, rows: Sequence[int], dimensions: int) -> tuple[Integers, NDArray[np.float16]]:
    """Return those of the rows that the gallery has, ascending, and their stored embeddings (M, D)."""
    found: list[tuple[int, bytes]] = []
    for start in range(0, len(rows), VALUES_AT_ONCE):
        part = rows[start : start + VALUES_AT_ONCE]
        select = f"SELECT row, vector FROM embeddings WHERE row IN ({', '.join('?' * len(part))}) ORDER BY row"
        found += connection.execute(select, part)
    numbers, blobs = zip(*found, strict=True) if found else ((), ())
    return np.array(numbers, dtype=np.int64), join_blobs(blobs, (len(found), dimensions), connection.place)


def join_blobs(blobs: Sequence[bytes], shape: tuple[int, ...], place: Path | str) -> NDArray[np.float16]:
    """Join the blobs of the database to an array (N, D); raise :class:`GalleryError` if they don't fit the shape."""
    count, dimensions = shape
    size = schema.STORED.itemsize * dimensions
    if len(blobs) != count or set(map(type, blobs)) - {bytes} or set(map(len, blobs)) - {size}:
        raise schema.damage_error("embeddings are missing or of a wrong length", place)
    return np.frombuffer(b"".join(blobs), dtype=schema.STORED).reshape(shape)


def normalize_stored(stored: NDArray[np.float16], place: Path | str) -> Embeddings:
    """Return stored embeddings as unit-norm float32 rows; raise :class:`GalleryError` for a zero or non-finite one."""
    try:
        return l2_normalize(stored, dimensions=stored.shape[1])
    except UsageError as error:
        raise schema.damage_error(error.what, place) from error


def refuse_damaged(connection: Tables, dimensions: int) -> None:
    """Check the newest photos; raise :class:`GalleryError` if one lacks its landmark or a usable embedding.

    These are all photos of a small gallery. Checking every photo of a large one would take longer than most changes.
    """
    found = connection.execute(
        "SELECT row, landmark_id IN (SELECT id FROM landmarks) FROM photos"
        f" WHERE row > (SELECT max(row) FROM photos) - {NEWEST} ORDER BY row"
    ).fetchall()
    if not all(has_landmark for _, has_landmark in found):
        raise schema.damage_error("there are photos without a landmark", connection.place)
    rows = np.array([row for row, _ in found], dtype=np.int64)
    normalize_stored(read_embeddings(connection, rows, dimensions), connection.place)
