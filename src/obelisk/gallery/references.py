"""What a gallery holds, in memory: its landmarks, its reference photos and their embeddings."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from obelisk.errors import GalleryError, UsageError
from obelisk.gallery.landmarks import Landmark
from obelisk.gallery.search import unit_rows
from obelisk.gallery.store import read_embeddings


@dataclass(frozen=True, kw_only=True)
class ReferencePhoto:
    """A labelled photo of a gallery.

    ``landmark_id`` is filled in when a photo is read from a gallery. ``source`` says where it came from, a
    path or an address; ``content_hash`` is that of its bytes. Both may be empty for an embedding that was
    added without its photo.
    """

    id: str
    landmark_id: int | None = None
    content_hash: str = ""
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class References:
    """All reference photos of a gallery at one moment; place n is the same photo in every field.

    ==================  ======  =====================================================================
    ``ids``             (N,)    int64, what :meth:`Gallery.search` returns; ascending, never used twice
    ``embeddings``      (N, D)  float32 unit rows
    ``landmark_ids``    (N,)    int64
    ``photos``          N       the photos
    ==================  ======  =====================================================================
    """

    ids: NDArray[np.int64]
    embeddings: NDArray[np.float32]
    landmark_ids: NDArray[np.int64]
    photos: tuple[ReferencePhoto, ...]
    landmarks: dict[int, Landmark]

    def __len__(self) -> int:
        return len(self.ids)


def read_references(connection: sqlite3.Connection, dimensions: int, folder: Path) -> References:
    """Read everything that recognition needs, in row order."""
    places = connection.execute("SELECT id, name, latitude, longitude FROM landmarks ORDER BY id")
    landmarks = {row[0]: Landmark(id=row[0], name=row[1], latitude=row[2], longitude=row[3]) for row in places}
    rows = connection.execute("SELECT row, id, landmark_id, content_hash, source FROM photos ORDER BY row").fetchall()
    stored = read_embeddings(connection, len(rows), dimensions, folder)
    try:
        embeddings = unit_rows(stored, dimensions=dimensions)
    except UsageError as error:
        fix = f"see `obelisk gallery check {folder}`"
        raise GalleryError(f"the gallery is damaged: {error.what}", where=folder, fix=fix) from error
    return References(
        ids=np.array([row[0] for row in rows], dtype=np.int64),
        embeddings=embeddings,
        landmark_ids=np.array([row[2] for row in rows], dtype=np.int64),
        photos=tuple(ReferencePhoto(id=row[1], landmark_id=row[2], content_hash=row[3], source=row[4]) for row in rows),
        landmarks=landmarks,
    )
