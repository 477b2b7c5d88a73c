"""The inspection of a gallery: is everything there, and does it fit together."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from obelisk.embedding import Bundle
from obelisk.errors import GalleryError, ObeliskError
from obelisk.gallery import store
from obelisk.gallery.gallery import MODEL

ORPHANS = {
    "photos without a landmark": "SELECT id FROM photos WHERE landmark_id NOT IN (SELECT id FROM landmarks)",
    "photos without an embedding": "SELECT id FROM photos WHERE row NOT IN (SELECT row FROM embeddings)",
    "embeddings without a photo": "SELECT row FROM embeddings WHERE row NOT IN (SELECT row FROM photos)",
    "landmarks without a photo": "SELECT name FROM landmarks WHERE id NOT IN (SELECT landmark_id FROM photos)",
}


def check_gallery(path: Path | str) -> list[str]:
    """Return what is wrong with a gallery, one sentence each; an empty list if it is sound.

    Raises :class:`GalleryError` when there is nothing to look at: no gallery, or one of a newer format.
    """
    path = Path(path)
    about = store.read_about(path)
    problems = [] if about.complete else ["it is only half-built: run the same `gallery build` again"]
    problems += check_model_copy(path / MODEL, about)
    try:
        with store.reading(path) as connection:
            problems += check_database(connection, about.dimensions)
    except GalleryError as error:
        problems.append(str(error))
    return problems


def check_model_copy(folder: Path, about: store.About) -> list[str]:
    """Compare the gallery's copy of its bundle with the bundle that the embeddings were made with."""
    try:
        bundle = Bundle.load(folder)
    except ObeliskError as error:
        return [f"the copy of the model cannot be used: {error}"]
    if bundle.fingerprint != about.fingerprint:
        return [f"the copy of the model has fingerprint {bundle.fingerprint}, the embeddings {about.fingerprint}"]
    if bundle.dimensions != about.dimensions:
        return [f"the copy of the model gives {bundle.dimensions} dimensions, the gallery has {about.dimensions}"]
    return []


def check_database(connection: sqlite3.Connection, dimensions: int) -> Iterator[str]:
    """Yield what SQLite, the links between the tables, and the embeddings themselves have to complain about."""
    for (finding,) in connection.execute("PRAGMA integrity_check(10)"):
        if finding != "ok":
            yield f"the database is damaged: {finding}"
    for what, query in ORPHANS.items():
        if found := [str(row[0]) for row in connection.execute(query)]:
            yield f"{what}: {len(found)}, the first is `{found[0]}`"
    for row, vector in connection.execute("SELECT row, vector FROM embeddings ORDER BY row"):
        if len(vector) != store.STORED.itemsize * dimensions:
            yield f"the embedding of row {row} has {len(vector)} bytes, not {store.STORED.itemsize * dimensions}"
            continue
        length = float(np.linalg.norm(np.frombuffer(vector, dtype=store.STORED).astype(np.float64)))
        if not abs(length - 1.0) < 0.01:
            yield f"the embedding of row {row} has length {length:.4g}, not 1"
