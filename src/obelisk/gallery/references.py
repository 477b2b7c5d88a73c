"""What a gallery holds at one moment: its landmarks, its reference photos, and the search over their embeddings."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from obelisk.gallery import database as store
from obelisk.gallery.exact import SearchEngine
from obelisk.gallery.landmarks import Landmark


@dataclass(frozen=True, kw_only=True)
class ReferencePhoto:
    """A labelled photo of a gallery.

    ``landmark_id`` is filled in when a photo is read from a gallery. ``content_hash`` is that of its bytes.
    ``source`` says where it came from: the address it was published at, or the path of a file; where it is an
    address, ``path`` may name the file. All three may be empty for an embedding that was added without its photo.
    """

    id: str
    landmark_id: int | None = None
    content_hash: str = ""
    source: str = ""
    path: str = ""

    @property
    def file(self) -> Path | None:
        """Where the photo lay when it was added; None if nobody knows. It may be gone, or another one by now."""
        place = self.path or ("" if "://" in self.source else self.source)
        return Path(place) if place else None


@dataclass(frozen=True, kw_only=True)
class References:
    """All reference photos of a gallery at one moment; place n is the same photo everywhere.

    ==================  ======  ===========================================================================
    ``ids``             (N,)    int64, what :meth:`Gallery.search` returns; ascending, never used twice
    ``landmark_ids``    (N,)    int64
    ``landmarks``               landmark id → landmark, by id
    ``revision``                the number of changes that were made to the gallery until then
    ``engine``          N       the search over the embeddings; :class:`References` offers it as its own
    ==================  ======  ===========================================================================

    The records of the photos stay in the gallery's database until :meth:`photo` or :meth:`photos` asks for them.
    """

    folder: Path
    ids: NDArray[np.int64]
    landmark_ids: NDArray[np.int64]
    landmarks: dict[int, Landmark]
    engine: SearchEngine
    revision: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dimensions(self) -> int:
        """D, the number of values in an embedding."""
        return self.engine.dimensions

    def nearest(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the places (Q, k) and similarities (Q, k) of the k photos most similar to each unit query (Q, D)."""
        return self.engine.nearest(queries, k)

    def rows(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the embeddings (M, D) in M places, as float32 rows of length 1."""
        return self.engine.rows(places)

    def photo(self, place: int) -> ReferencePhoto:
        """Return the photo in a place."""
        return self.photos([place])[0]

    def photos(self, places: Sequence[int] | NDArray[np.int64]) -> list[ReferencePhoto]:
        """Return the photos in these places, read together.

        One that was removed after this moment has no id any more, only its landmark.
        """
        places = np.asarray(places, dtype=np.int64)
        rows = self.ids[places].tolist()
        with store.reading(self.folder) as connection:
            found = dict(read_photos(connection, rows))
        shown = self.landmark_ids[places].tolist()
        return [
            found.get(row) or ReferencePhoto(id="", landmark_id=landmark)
            for row, landmark in zip(rows, shown, strict=True)
        ]


def read_photos(connection: sqlite3.Connection, rows: Sequence[int]) -> Iterator[tuple[int, ReferencePhoto]]:
    """Yield those of the rows that are in the gallery, each with its photo."""
    for start in range(0, len(rows), store.VALUES_AT_ONCE):
        part = rows[start : start + store.VALUES_AT_ONCE]
        yield from select_photos(connection, f"row IN ({', '.join('?' * len(part))})", part)


def select_photos(
    connection: sqlite3.Connection, condition: str, values: Sequence[int | str]
) -> Iterator[tuple[int, ReferencePhoto]]:
    """Yield the photos that meet a condition, each with its row."""
    statement = f"SELECT {store.photo_columns(connection)} FROM photos WHERE {condition}"
    for row, photo_id, landmark_id, content_hash, source, path in connection.execute(statement, values):
        photo = ReferencePhoto(
            id=photo_id, landmark_id=landmark_id, content_hash=content_hash, source=source, path=path
        )
        yield row, photo
