"""From the tables of a gallery to :class:`References`: everything at first, then only what was changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from obelisk.arrays import Embeddings, Integers
from obelisk.gallery import database as store
from obelisk.gallery.ann import indexed
from obelisk.gallery.ann.indexed import IndexedSearch, load_index, open_index, places_of
from obelisk.gallery.ann.ivfpq import Progress
from obelisk.gallery.embeddings import read_embeddings, unit_embeddings
from obelisk.gallery.exact import ExactSearch, SearchEngine
from obelisk.gallery.landmarks import Landmark
from obelisk.gallery.references import References


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What a gallery holds but for the embeddings; see :class:`References`."""

    ids: Integers
    landmark_ids: Integers
    landmarks: dict[int, Landmark]
    revision: int


def read_references(folder: Path, dimensions: int, before: References | None, watch: Progress) -> References:
    """Return what a gallery holds now; ``before`` is what it held when it was last read.

    A gallery of more than :data:`indexed.EXACT_UP_TO` photos gets a search index if it has none: ``watch`` is told
    how far that is.
    """
    index = before.engine.index if before and isinstance(before.engine, IndexedSearch) else None
    now: Tables | None = None
    fresh = False
    with ThreadPoolExecutor(1) as beside:
        loading = None if before else beside.submit(load_index, folder, dimensions)
        while True:
            with store.reading(folder) as connection:
                revision = store.read_revision(connection)
                if before and revision and before.revision == revision:
                    return before
                if now is None or not revision or now.revision != revision:
                    now = read_tables(connection, folder, now or before)
                if len(now.ids) <= indexed.EXACT_UP_TO:
                    rows = read_rows(connection, folder, now.ids, dimensions, before)
                    return references_of(folder, now, ExactSearch(rows))
                if index and (fresh or index.serves(now.ids)):
                    tail = now.ids[now.ids > index.last]
                    rows = read_rows(connection, folder, tail, dimensions, before)
                    return references_of(folder, now, IndexedSearch(folder, index, now.ids, rows))
            loaded = loading.result() if loading else None
            index, fresh = open_index(folder, now.ids, dimensions, watch, loaded), True


def references_of(folder: Path, tables: Tables, engine: SearchEngine) -> References:
    """Put the tables and the search over the embeddings together."""
    return References(
        folder=folder,
        ids=tables.ids,
        landmark_ids=tables.landmark_ids,
        landmarks=tables.landmarks,
        engine=engine,
        revision=tables.revision,
    )


def read_tables(connection: sqlite3.Connection, folder: Path, before: Tables | References | None) -> Tables:
    """Read the landmarks and photos: if nothing but additions was made since, only those.

    Raises :class:`GalleryError` for a photo of a landmark that the gallery does not have.
    """
    revision = store.read_revision(connection)
    if before is None or not before.revision or store.read_edited(connection) > before.revision:
        ids, landmark_ids, shown = read_photo_rows(connection, after=0)
        landmarks = read_landmarks(connection, "TRUE", ())
        refuse_orphans(shown, landmarks, folder)
        return Tables(ids=ids, landmark_ids=landmark_ids, landmarks=landmarks, revision=revision)
    ids, landmark_ids, shown = read_photo_rows(connection, after=int(before.ids[-1]) if len(before.ids) else 0)
    landmarks = dict(before.landmarks)
    for landmark_id in shown - landmarks.keys():
        landmarks |= read_landmarks(connection, "id = ?", (landmark_id,))
    refuse_orphans(shown, landmarks, folder)
    return Tables(
        ids=np.concatenate([before.ids, ids]),
        landmark_ids=np.concatenate([before.landmark_ids, landmark_ids]),
        landmarks=dict(sorted(landmarks.items())),
        revision=revision,
    )


def refuse_orphans(shown: set[int], landmarks: dict[int, Landmark], folder: Path) -> None:
    """Refuse photos that show other landmarks than the gallery's."""
    if not shown <= landmarks.keys():
        raise store.damaged("there are photos without a landmark", folder)


def read_photo_rows(connection: sqlite3.Connection, *, after: int) -> tuple[Integers, Integers, set[int]]:
    """Return the rows (N,) of the photos behind a row, ascending, what they show (N,), and each of that once.

    What is no number of a landmark becomes -1; if all photos are read, one such makes all of them -1.
    """
    if after:
        number = "iif(typeof(landmark_id) = 'integer', landmark_id, -1)"
        found = connection.execute(f"SELECT row, {number} FROM photos WHERE row > ? ORDER BY row", (after,))
        pairs = np.fromiter(found, dtype=np.dtype([("row", np.int64), ("landmark_id", np.int64)]))
        return pairs["row"].copy(), pairs["landmark_id"].copy(), set(pairs["landmark_id"].tolist())
    # Texts are above all numbers; without any, there are whole numbers, nothing, and fractions with their point.
    (kind,) = connection.execute("SELECT typeof(max(landmark_id)) FROM photos").fetchone()
    number = "landmark_id" if kind == "integer" else "NULL"
    # Two long texts are read in a third of the time of a million pairs of numbers, and other threads work meanwhile.
    select = f"SELECT coalesce(group_concat(row), ''), coalesce(group_concat({number}), '') FROM photos"
    rows, shown = (parse_numbers(text) for text in connection.execute(select).fetchone())
    if len(shown) != len(rows):
        shown = np.full(len(rows), -1)
    ids, landmark_ids = np.sort(rows), np.empty_like(rows)
    landmark_ids[places_of(ids, rows)] = shown
    return ids, landmark_ids, set(np.unique(shown).tolist())


def parse_numbers(text: str) -> Integers:
    """Return numbers that are separated by commas; none unless all are whole."""
    if text.encode().translate(None, b"-,0123456789"):
        return np.empty(0, dtype=np.int64)
    return np.fromstring(text, dtype=np.int64, sep=",")


def read_landmarks(connection: sqlite3.Connection, condition: str, values: Sequence[int]) -> dict[int, Landmark]:
    """Return the landmarks that meet a condition, by id."""
    select = f"SELECT id, name, latitude, longitude FROM landmarks WHERE {condition} ORDER BY id"
    rows = connection.execute(select, values)
    return {row[0]: Landmark(id=row[0], name=row[1], latitude=row[2], longitude=row[3]) for row in rows}


def read_rows(
    connection: sqlite3.Connection, folder: Path, ids: Integers, dimensions: int, before: References | None
) -> Embeddings:
    """Return the embeddings (N, D) of the last N photos as float32 of length 1: what is in memory is not read again."""
    known_ids, known = in_memory(before) if before else (ids[:0], np.empty((0, dimensions), dtype=np.float32))
    if len(known_ids) and len(ids) and known_ids[0] > ids[0]:
        known_ids, known = known_ids[:0], known[:0]
    new = ids[np.searchsorted(ids, known_ids[-1], side="right") :] if len(known_ids) else ids
    kept = known[np.isin(known_ids, ids)]
    read = unit_embeddings(read_embeddings(connection, new, dimensions, folder), folder)
    return np.concatenate([kept, read]) if len(kept) else read


def in_memory(references: References) -> tuple[Integers, Embeddings]:
    """Return the ids (M,) of those photos whose embeddings (M, D) are in memory."""
    engine = references.engine
    if isinstance(engine, IndexedSearch):
        return references.ids[len(references) - len(engine.tail) :], engine.tail
    return references.ids, engine.embeddings if isinstance(engine, ExactSearch) else engine.rows(references.ids[:0])
