"""Search over a gallery that is too large to look at every row of for each query.

An index proposes candidates, and the embeddings in the gallery's database decide: a similarity is always that of
the stored embedding, and a row that is not in the gallery is no answer, whatever the index holds. Rows that were
added since the index was made are in memory and searched exactly.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from obelisk.arrays import Embeddings, Integers
from obelisk.embedding.caches import cache_folder
from obelisk.errors import GalleryError
from obelisk.gallery import database as store
from obelisk.gallery.ann.index_file import INDEX, read_index, write_index
from obelisk.gallery.ann.ivfpq import (
    NEAREST,
    CandidateSearch,
    Progress,
    RowIndex,
    add_rows,
    is_among,
    is_current,
    keep_rows,
    make_index,
)
from obelisk.gallery.embeddings import EmbeddingReader, pick_embeddings
from obelisk.gallery.exact import check_fits, cosines, nearest_rows

EXACT_UP_TO = 200_000  # photos that are searched without an index: 400 MB of embeddings with 512 values
GROWTH = 1.5  # times the photos that an index was measured with: then it is made anew
WITNESSES = 256  # rows that tell to which gallery an index belongs
LOCK = "lock"
LONGEST_WAIT = 3600.0  # s, for another process that makes the same index


class IndexedSearch:
    """The search engine of a large gallery at one moment.

    ``ids`` (N,) are the row numbers of the gallery, ascending; ``tail`` (T, D) the embeddings of the last T,
    which the index does not hold.
    """

    def __init__(self, folder: Path, index: CandidateSearch, ids: Integers, tail: Embeddings) -> None:
        self.index = index
        self.tail = tail
        self._ids, self._last = ids, int(ids[-1])
        # An index may hold rows besides those of this moment, removed ones and later ones: these do not count.
        self._indexed = len(ids) - len(tail)
        self._among = ids if len(index) != self._indexed else None
        self._reader = EmbeddingReader(folder, tail.shape[1])

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def dimensions(self) -> int:
        """D, the number of values in a row."""
        return int(self.tail.shape[1])

    def rows(self, places: Integers) -> Embeddings:
        """Return the rows in these places.

        Raises :class:`GalleryError` if one of them was removed since the moment of this search.
        """
        asked = self._ids[places]
        found, rows = self._reader.read(np.unique(asked).tolist())
        if not is_among(found, asked).all():
            what = "a reference photo was removed while it was used"
            raise GalleryError(what, where=self._reader.folder, fix="do the same again")
        return rows[np.searchsorted(found, asked)]

    def nearest(self, queries: Embeddings, k: int) -> tuple[Integers, Embeddings]:
        """Find the k rows most similar to each query; at k = 10 with a recall of 0.99 and more.

        The similarities are exact. Raises :class:`GalleryError` when k is larger than N.
        """
        check_fits(k, len(self))
        places = np.empty((len(queries), k), dtype=np.int64)
        similarities = np.empty((len(queries), k), dtype=np.float32)
        late = self._nearest_of_tail(queries, k)
        unsettled, asked, widening = list(range(len(queries))), queries, 1
        while unsettled:
            proposed = self.index.candidates(asked, k, among=self._among, widening=widening)
            left = []
            for number, query, candidates in zip(unsettled, asked, proposed, strict=True):
                rows, exact = self._measure(query, candidates)
                if len(rows) < min(max(k, NEAREST), self._indexed) and len(candidates) < len(self.index):
                    left.append(number)  # many near it are gone
                    continue
                if late:
                    rows, exact = np.append(rows, late[0][number]), np.append(exact, late[1][number])
                best = np.argsort(-exact, kind="stable")[:k]  # equal ones stay in the order of their rows
                if len(best) < k:
                    what = f"fewer than {k} reference photos are left of {len(self)}"
                    raise GalleryError(what, where=self._reader.folder, fix="do the same again")
                places[number] = places_of(self._ids, rows[best])
                similarities[number] = exact[best]
            unsettled, asked, widening = left, queries[left], 4 * widening
        return places, similarities

    def _nearest_of_tail(self, queries: Embeddings, k: int) -> tuple[Integers, Embeddings] | None:
        """Return rows (Q, K) and similarities (Q, K) of the K ≤ k nearest of the tail; None if there is no tail."""
        if not len(self.tail):
            return None
        found, similarities = nearest_rows(queries, self.tail, min(k, len(self.tail)))
        return self._ids[self._indexed + found], similarities

    def _measure(self, query: Embeddings, candidates: Integers) -> tuple[Integers, Embeddings]:
        """Return those of the candidates (C,) that are in the gallery, ascending, and their similarities to (D,)."""
        # Row numbers only ever grow: one that the gallery has now, up to the last of this moment, it had then.
        found, rows = self._reader.read([row for row in candidates.tolist() if 0 <= row <= self._last])
        return found, cosines(query, rows)


def places_of(ids: Integers, rows: Integers) -> Integers:
    """Return the places of rows among ``ids`` (N,), ascending, which has them all."""
    if len(ids) and int(ids[-1]) - int(ids[0]) == len(ids) - 1:  # nothing is missing between: there is no need to look
        return np.asarray(rows - ids[0])
    return np.searchsorted(ids, rows)


def load_index(folder: Path, dimensions: int) -> CandidateSearch | None:
    """Return an index of the gallery that is on the disk, whatever has changed since; None if there is none."""
    for place in index_places(folder):
        if place.exists():
            with store.reading(folder) as connection:
                (last,) = connection.execute("SELECT max(row) FROM photos").fetchone()
            index = read_own_index(place, folder, dimensions, most_rows=last or 0)
            if index:
                with contextlib.suppress(GalleryError):  # it was cut short since
                    return CandidateSearch(index)
    return None


def open_index(
    folder: Path, ids: Integers, dimensions: int, watch: Progress, loaded: CandidateSearch | None = None
) -> CandidateSearch:
    """Return an index of a gallery's photos ``ids`` (N,): the one on the disk, brought up to them, or a new one.

    ``loaded`` is the one on the disk, where it was read before. A new one is kept in the gallery's folder; in the
    user's cache folder where nothing may be written there; and in memory alone where neither works.
    """
    if loaded and is_current(loaded.rows, ids):
        return loaded
    places = index_places(folder)
    index = read_best_index(places, folder, ids, dimensions)
    if not (index and is_current(np.sort(index.rows), ids)):
        with alone_in(places[-1].parent):
            index = read_best_index(places, folder, ids, dimensions)  # somebody may have made it meanwhile
            if not (index and is_current(np.sort(index.rows), ids)):
                index = renew(index, folder, ids, dimensions, watch)
                with contextlib.suppress(OSError):
                    write_index(places[-1], index)
    return CandidateSearch(index)


def describe_index(folder: Path, connection: sqlite3.Connection) -> str | None:
    """Say in a sentence what is wrong with the search index of a gallery; None if nothing is, or if it needs none.

    The next search mends it; it is no fault of the gallery.
    """
    ids = np.fromiter((row for (row,) in connection.execute("SELECT row FROM photos ORDER BY row")), dtype=np.int64)
    if len(ids) <= EXACT_UP_TO:
        return None
    places = index_places(folder)
    path = next((place for place in places if place.exists()), None)
    if path is None:
        return f"the search index is missing: the next search makes it · {places[-1]}"
    index = read_best_index(places, folder, ids, store.about_of(connection, folder).dimensions)
    if index is None:
        return f"the search index is damaged, or of another gallery: the next search makes it anew · {path}"
    if not is_current(np.sort(index.rows), ids):
        return f"the search index is out of date: the next search brings it up to date · {path}"
    return None


def index_places(folder: Path) -> list[Path]:
    """Return where an index of a gallery may lie; the last is where one is kept that is made now."""
    if store.may_write(folder):
        return [folder / INDEX]
    name = blake2b(str(folder.resolve()).encode(), digest_size=16).hexdigest()
    return [folder / INDEX, cache_folder() / "galleries" / name / INDEX]


def read_best_index(places: Sequence[Path], folder: Path, ids: Integers, dimensions: int) -> RowIndex | None:
    """Return the first index that holds the gallery's photos; else one that lacks some; None if there is none."""
    index = None
    for place in places:
        index = read_own_index(place, folder, dimensions, most_rows=2 * len(ids)) or index
        if index and is_current(np.sort(index.rows), ids):
            break
    return index


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process makes an index in this folder; where no lock can be had, wait for nobody."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError, sqlite3.Error):
            folder.mkdir(parents=True, exist_ok=True)
            # SQLite's locks work on every system, and end with their process.
            lock = sqlite3.connect(folder / LOCK, timeout=LONGEST_WAIT, isolation_level=None)
            held.enter_context(closing(lock)).execute("BEGIN EXCLUSIVE")
        yield


def read_own_index(path: Path, folder: Path, dimensions: int, *, most_rows: int) -> RowIndex | None:
    """Return the index in a file, if there is one, if it is whole, and if it was made of this gallery."""
    index = read_index(path, dimensions=dimensions, most_rows=most_rows)
    if index is None:
        return None
    with store.reading(folder) as connection:
        found, stored = pick_embeddings(connection, index.witnesses.tolist(), dimensions, folder)
    given = index.testimony[np.searchsorted(index.witnesses, found)]
    return index if len(found) and np.array_equal(given.view(np.uint16), stored.view(np.uint16)) else None


def renew(index: RowIndex | None, folder: Path, ids: Integers, dimensions: int, watch: Progress) -> RowIndex:
    """Take the photos that an index lacks into it; make it anew if there is none, or one of far fewer photos."""
    reader = EmbeddingReader(folder, dimensions)

    def read(rows: Integers) -> tuple[Integers, Embeddings]:
        return reader.read(rows.tolist())

    if index is None or len(ids) > GROWTH * index.measured:
        index = make_index(ids, dimensions, read, watch)
    else:
        index = keep_rows(index, ids)
        index = add_rows(index, ids[~is_among(np.sort(index.rows), ids)], read, watch)
    rows = np.sort(index.rows)
    spread = np.unique(np.linspace(0, len(rows) - 1, WITNESSES).astype(np.int64))  # the last row among them
    with store.reading(folder) as connection:
        witnesses, testimony = pick_embeddings(connection, rows[spread].tolist(), dimensions, folder)
    return replace(index, witnesses=witnesses, testimony=testimony)
