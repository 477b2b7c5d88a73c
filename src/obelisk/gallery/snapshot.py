"""A gallery at one moment: read in full the first time, and after a change only what was changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from obelisk.arrays import Embeddings, Integers
from obelisk.bundled import name_gallery
from obelisk.gallery import database, schema
from obelisk.gallery.ann import indexed
from obelisk.gallery.ann.indexed import IndexedSearch, indices_of, load_index, open_index
from obelisk.gallery.connections import allowing_length
from obelisk.gallery.embeddings import normalize_stored, read_embeddings
from obelisk.gallery.exact import ExactSearch, SearchEngine
from obelisk.gallery.landmarks import Landmark
from obelisk.gallery.lookup import all_landmarks, count_reference_photos, photos_by_row, select_landmarks
from obelisk.gallery.schema import ReferencePhoto
from obelisk.records import Progress

LONGEST_NUMBER = 26  # characters of a number in SQL, and a comma


@dataclass(frozen=True, kw_only=True)
class References:
    """All N reference photos of a gallery at one moment; index n is the same photo everywhere.

    ==================  ======  ===========================================================================
    ``ids``             (N,)    int64, what :meth:`Gallery.search` returns; ascending, never used twice
    ``landmark_ids``    (N,)    int64
    ``landmarks``               landmark id → landmark, in the order of the ids
    ``revision``                number of changes made to the gallery until then
    ``engine``          N       the search over the embeddings; :meth:`nearest` and :meth:`rows` are its own
    ==================  ======  ===========================================================================

    The records of the photos stay in the database until :meth:`photo` or :meth:`photos` asks for them.
    """

    folder: Path
    ids: Integers
    landmark_ids: Integers
    landmarks: dict[int, Landmark]
    engine: SearchEngine
    revision: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dimensions(self) -> int:
        """D, the length of an embedding."""
        return self.engine.dimensions

    def nearest(self, queries: Embeddings, k: int) -> tuple[Integers, Embeddings]:
        """Find the k most similar photos for each unit-norm query (Q, D): indices (Q, k), similarities (Q, k)."""
        return self.engine.nearest(queries, k)

    def rows(self, indices: Integers) -> Embeddings:
        """Return the unit-norm float32 embeddings (M, D) at M indices."""
        return self.engine.rows(indices)

    @cached_property
    def name(self) -> str:
        """How the gallery is called: ``bundled``, or its path."""
        return name_gallery(self.folder)

    def gallery_of(self, landmark_id: int) -> str:
        """Return how the gallery of a landmark is called."""
        return self.name

    def photo(self, index: int) -> ReferencePhoto:
        """Return the photo at an index."""
        return self.photos([index])[0]

    def photos(self, indices: Sequence[int] | Integers) -> list[ReferencePhoto]:
        """Return the photos at M indices, read together.

        A photo that was removed since has an empty id, and only its landmark.
        """
        indices = np.asarray(indices, dtype=np.int64)
        rows = self.ids[indices].tolist()
        with database.reading(self.folder) as connection:
            found = photos_by_row(connection, rows)
        landmark_ids = self.landmark_ids[indices].tolist()
        return [
            found.get(row) or ReferencePhoto(id="", landmark_id=landmark_id)
            for row, landmark_id in zip(rows, landmark_ids, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class PhotoTable:
    """What a gallery holds besides the embeddings; the fields are those of :class:`References`."""

    ids: Integers
    landmark_ids: Integers
    landmarks: dict[int, Landmark]
    revision: int


def read_references(folder: Path, dimensions: int, before: References | None, progress: Progress) -> References:
    """Return what a gallery holds now; ``before`` is what it held when it was last read.

    A gallery of more than :data:`indexed.EXACT_UP_TO` photos gets a search index if it has none; ``progress`` reports
    on that.
    """
    index = before.engine.index if before and isinstance(before.engine, IndexedSearch) else None
    now: PhotoTable | None = None
    fresh = False
    with ThreadPoolExecutor(1) as beside:
        # The first time, another thread loads the index while this one reads the tables.
        loading = None if before else beside.submit(load_index, folder, dimensions)
        while True:
            with database.reading(folder) as connection:
                revision = schema.read_revision(connection)
                if before and revision and before.revision == revision:
                    return before
                if now is None or not revision or now.revision != revision:
                    now = read_photo_table(connection, folder, now or before)
                if len(now.ids) <= indexed.EXACT_UP_TO:
                    embeddings = update_embeddings(connection, folder, now.ids, dimensions, before)
                    return assemble_references(folder, now, ExactSearch(embeddings))
                if index and (fresh or index.still_pays(now.ids)):
                    tail = now.ids[now.ids > index.last]
                    embeddings = update_embeddings(connection, folder, tail, dimensions, before)
                    return assemble_references(folder, now, IndexedSearch(folder, index, now.ids, embeddings))
            # Making an index may take minutes, so it happens outside of any transaction: then look again.
            loaded = loading.result() if loading else None
            index, fresh = open_index(folder, now.ids, dimensions, progress, loaded), True


def assemble_references(folder: Path, table: PhotoTable, engine: SearchEngine) -> References:
    """Put the photos and the search over their embeddings together."""
    return References(
        folder=folder,
        ids=table.ids,
        landmark_ids=table.landmark_ids,
        landmarks=table.landmarks,
        engine=engine,
        revision=table.revision,
    )


def read_photo_table(
    connection: sqlite3.Connection, folder: Path, before: PhotoTable | References | None
) -> PhotoTable:
    """Read the landmarks and photos; if there were only additions since ``before``, read just those.

    Raises :class:`GalleryError` for a photo whose landmark the gallery does not have.
    """
    revision = schema.read_revision(connection)
    if before is None or not before.revision or schema.read_edited(connection) > before.revision:
        ids, landmark_ids, shown = read_all_photo_rows(connection)
        landmarks = all_landmarks(connection)
        refuse_orphans(shown, landmarks, folder)
        return PhotoTable(ids=ids, landmark_ids=landmark_ids, landmarks=landmarks, revision=revision)
    ids, landmark_ids, shown = read_new_photo_rows(connection, after=int(before.ids[-1]) if len(before.ids) else 0)
    landmarks = dict(before.landmarks)
    for landmark_id in shown - landmarks.keys():
        landmarks |= select_landmarks(connection, "id = ?", (landmark_id,))
    refuse_orphans(shown, landmarks, folder)
    return PhotoTable(
        ids=np.concatenate([before.ids, ids]),
        landmark_ids=np.concatenate([before.landmark_ids, landmark_ids]),
        landmarks=dict(sorted(landmarks.items())),
        revision=revision,
    )


def refuse_orphans(shown: set[int], landmarks: dict[int, Landmark], folder: Path) -> None:
    """Raise :class:`GalleryError` for photos that show a landmark which the gallery does not have."""
    if not shown <= landmarks.keys():
        raise schema.damage_error("there are photos without a landmark", folder)


def read_new_photo_rows(connection: sqlite3.Connection, *, after: int) -> tuple[Integers, Integers, set[int]]:
    """Return rows (N,) above ``after``, ascending, their landmark ids (N,), and the set of these ids.

    A landmark id that is not an integer becomes -1.
    """
    number = "iif(typeof(landmark_id) = 'integer', landmark_id, -1)"
    found = connection.execute(f"SELECT row, {number} FROM photos WHERE row > ? ORDER BY row", (after,))
    pairs = np.fromiter(found, dtype=np.dtype([("row", np.int64), ("landmark_id", np.int64)]))
    return pairs["row"].copy(), pairs["landmark_id"].copy(), set(pairs["landmark_id"].tolist())


def read_all_photo_rows(connection: sqlite3.Connection) -> tuple[Integers, Integers, set[int]]:
    """Return all rows (N,), ascending, their landmark ids (N,), and the set of these ids.

    If one landmark id is not an integer, all become -1.
    """
    # In SQLite's order texts and blobs are above all numbers: if the largest is an integer, the others are integers,
    # NULL, or fractions, which show by their decimal point.
    (kind,) = connection.execute("SELECT typeof(max(landmark_id)) FROM photos").fetchone()
    number = "landmark_id" if kind == "integer" else "NULL"
    # Two long texts are read in a third of the time of a million pairs, and other threads run meanwhile.
    select = f"SELECT coalesce(group_concat(row), ''), coalesce(group_concat({number}), '') FROM photos"
    with allowing_length(connection, LONGEST_NUMBER * count_reference_photos(connection)):
        rows, shown = (parse_integers(text) for text in connection.execute(select).fetchone())
    if len(shown) != len(rows):
        shown = np.full(len(rows), -1)
    ids, landmark_ids = np.sort(rows), np.empty_like(rows)
    landmark_ids[indices_of(ids, rows)] = shown
    return ids, landmark_ids, set(np.unique(shown).tolist())


def parse_integers(text: str) -> Integers:
    """Return the integers of a comma-separated text, or none of them if one is not an integer."""
    if text.encode().translate(None, b"-,0123456789"):
        return np.empty(0, dtype=np.int64)
    return np.fromstring(text, dtype=np.int64, sep=",")


def update_embeddings(
    connection: sqlite3.Connection, folder: Path, ids: Integers, dimensions: int, before: References | None
) -> Embeddings:
    """Return the unit-norm embeddings (N, D) of the last N photos; those that are in memory are not read again."""
    known_ids, known = embeddings_in_memory(before) if before else (ids[:0], np.empty((0, dimensions), np.float32))
    if len(known_ids) and len(ids) and known_ids[0] > ids[0]:
        known_ids, known = known_ids[:0], known[:0]
    new = ids[np.searchsorted(ids, known_ids[-1], side="right") :] if len(known_ids) else ids
    kept = known[np.isin(known_ids, ids)]
    read = normalize_stored(read_embeddings(connection, new, dimensions, folder), folder)
    return np.concatenate([kept, read]) if len(kept) else read


def embeddings_in_memory(references: References) -> tuple[Integers, Embeddings]:
    """Return the ids (M,) of the photos whose embeddings (M, D) are in memory."""
    engine = references.engine
    if isinstance(engine, IndexedSearch):
        return references.ids[len(references) - len(engine.tail) :], engine.tail
    return references.ids, engine.embeddings if isinstance(engine, ExactSearch) else engine.rows(references.ids[:0])
