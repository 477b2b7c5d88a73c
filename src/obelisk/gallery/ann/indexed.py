"""Search a gallery that is too large to compare a query with every row.

An index proposes candidates, and the embeddings in the gallery's database decide: every similarity is that of a
stored embedding, and a row that the gallery does not have is never an answer, whatever the index holds. Rows that
were added after the index was made are kept in memory and searched exactly.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from obelisk.arrays import Embeddings, Integers
from obelisk.errors import GalleryChangedError, GalleryError
from obelisk.files import exclusive_lock
from obelisk.gallery import schema
from obelisk.gallery.ann.build_index import add_rows, drop_other_rows, make_index
from obelisk.gallery.ann.candidates import OWN, Candidates, EngineError, ExhaustiveCandidates, refuse_too_large
from obelisk.gallery.ann.index_file import read_index, write_index
from obelisk.gallery.ann.ivfpq import FINGERPRINT_ROWS, NEAREST, CandidateSearch, IvfPqIndex, contains, covers
from obelisk.gallery.embeddings import pick_embeddings
from obelisk.gallery.exact import check_fits, cosines, nearest_rows
from obelisk.gallery.truth import Tables, Truth
from obelisk.records import Progress

EXACT_UP_TO = 200_000  # photos that are searched without an index: 400 MB of embeddings with 512 values
MOST_GONE = 1 << 12  # removed rows of an index that a search remembers
GROWTH = 1.5  # times the photos an index was measured with; beyond, it is trained again
LOCK = "lock"
LONGEST_WAIT = 3600.0  # s, for another process that makes the same index


class IndexedSearch:
    """The search engine of a large gallery at one moment; it calls a photo by its row.

    ``count`` is N, and ``last`` the last row. ``newer`` (T,) are the rows that the index does not hold, ascending, and
    ``tail`` (T, D) their embeddings. Nothing else is kept of the photos.
    """

    def __init__(
        self, truth: Truth, index: Candidates, newer: Integers, tail: Embeddings, *, count: int, last: int
    ) -> None:
        self.index = index
        self.newer, self.tail = newer, tail
        self.reader = truth.reader(tail.shape[1])
        self._truth = truth
        self._count, self._last = count, last
        self._indexed = count - len(newer)
        # An index may hold rows that are not of this moment, removed or later ones: these are left out once met.
        self._gone = np.empty(0, dtype=np.int64)
        self._stand_in: ExhaustiveCandidates | None = None

    def __len__(self) -> int:
        return self._count

    @property
    def dimensions(self) -> int:
        """D, the length of an embedding."""
        return int(self.tail.shape[1])

    def rows(self, numbers: Integers) -> Embeddings:
        """Return the unit-norm embeddings (M, D) of M rows.

        Raises :class:`GalleryChangedError` if one of them was removed after the moment of this search.
        """
        found, embeddings = self.reader.read(np.unique(numbers).tolist())
        if not contains(found, numbers).all():
            what = "a reference photo was removed while it was used"
            raise GalleryChangedError(what, where=self._truth.name, fix="try again")
        return embeddings[np.searchsorted(found, numbers)]

    def nearest(self, queries: Embeddings, k: int) -> tuple[Integers, Embeddings]:
        """Find the k rows most similar to each query; at k = 10 the recall is at least 0.99.

        The similarities are exact. Raises :class:`GalleryError` if k is larger than N.
        """
        check_fits(k, len(self))
        numbers = np.empty((len(queries), k), dtype=np.int64)
        similarities = np.empty((len(queries), k), dtype=np.float32)
        tail = self._nearest_in_tail(queries, k)
        gone = self._gone
        waiting = [(1, list(range(len(queries))))]
        while waiting:
            widening, places = waiting.pop()
            goes_on = widening * max(k, NEAREST) < len(self.index)
            again, wider = [], []
            proposed = self._propose(queries[places], k, gone, widening)
            for place, candidates in zip(places, proposed, strict=True):
                rows, exact = self._measure(queries[place], candidates)
                if self.index.leaves_out and len(missing := find_vanished(candidates, rows, gone)):
                    gone = np.union1d(gone, missing)
                    again.append(place)  # which others it proposed depended on these
                elif len(rows) < min(max(k, NEAREST), self._indexed) and goes_on and len(candidates) < len(self.index):
                    wider.append(place)  # too many rows near it were removed: look at more of them
                else:
                    if tail:
                        rows, exact = np.append(rows, tail[0][place]), np.append(exact, tail[1][place])
                    best = np.argsort(-exact, kind="stable")[:k]  # equal ones keep the order of their rows
                    if len(best) < k:
                        what = f"fewer than {k} reference photos are left of {len(self)}"
                        raise GalleryChangedError(what, where=self._truth.name, fix="try again")
                    numbers[place], similarities[place] = rows[best], exact[best]
            waiting += [(more, left) for more, left in ((widening, again), (4 * widening, wider)) if left]
        if len(gone) != len(self._gone):
            self._gone = gone[-MOST_GONE:]
        return numbers, similarities

    def _propose(self, queries: Embeddings, k: int, gone: Integers, widening: int) -> list[Integers]:
        """Ask the engine for candidates; while it is away, compare with every row, if they are few enough."""
        try:
            return self.index.candidates(queries, k, gone=gone, widening=widening)
        except EngineError as error:
            refuse_too_large(error, len(self))
            if self._stand_in is None:
                last = min(self.index.last, self._last)
                self._stand_in = ExhaustiveCandidates(OWN, self._truth, self.reader, last, self._indexed)
            return self._stand_in.candidates(queries, k, gone=gone, widening=widening)

    def _nearest_in_tail(self, queries: Embeddings, k: int) -> tuple[Integers, Embeddings] | None:
        """Return rows (Q, K) and similarities (Q, K) of the K ≤ k nearest in the tail, or None if it is empty."""
        if not len(self.tail):
            return None
        found, similarities = nearest_rows(queries, self.tail, min(k, len(self.tail)))
        return self.newer[found], similarities

    def _measure(self, query: Embeddings, candidates: Integers) -> tuple[Integers, Embeddings]:
        """Return those of the candidates (C,) that the gallery has, ascending, and their similarities to (D,)."""
        # Row numbers only ever grow: a row up to the last of this moment that exists now existed then.
        found, embeddings = self.reader.read(sorted({row for row in candidates.tolist() if 0 <= row <= self._last}))
        return found, cosines(query, embeddings)


def find_vanished(candidates: Integers, rows: Integers, gone: Integers) -> Integers:
    """Return those of the candidates (C,), each given once, that are neither among the ``rows`` nor known as ``gone``.

    Both are ascending.
    """
    if len(rows) == len(candidates):
        return rows[:0]
    return candidates[~(contains(rows, candidates) | contains(gone, candidates))]


def load_index(truth: Truth, dimensions: int) -> CandidateSearch | None:
    """Load the gallery's own index from the disk, however old it is; None if there is none, or another engine."""
    with truth.reading() as connection:
        if schema.read_engine(connection) != OWN:
            return None
    for path in truth.index_paths():
        if path.exists():
            index = read_own_index(path, truth, dimensions, most_rows=truth.count_rows_at_most(dimensions))
            if index:
                with contextlib.suppress(GalleryError):  # the file was cut short meanwhile
                    return CandidateSearch(index)
    return None


def open_index(truth: Truth, dimensions: int, progress: Progress) -> CandidateSearch:
    """Return an index of a gallery: the one on the disk, updated if need be, or a new one.

    A new index is kept in the gallery's folder; in the user's cache folder if the gallery is read-only; and only in
    memory if neither can be written to.
    """
    with truth.reading() as connection:
        ids, _ = connection.read_photo_rows(after=None)
    paths = truth.index_paths()
    index = read_best_index(paths, truth, ids, dimensions)
    if not (index and covers(np.sort(index.rows), ids)):
        # After the longest wait, continue anyway: two writers cost time, not correctness.
        with exclusive_lock(paths[-1].with_name(LOCK), wait=LONGEST_WAIT):
            index = read_best_index(paths, truth, ids, dimensions)  # another process may have made it meanwhile
            if not (index and covers(np.sort(index.rows), ids)):
                index = update_index(index, truth, ids, dimensions, progress)
                with contextlib.suppress(OSError):
                    write_index(paths[-1], index)
    return CandidateSearch(index)


def describe_index(truth: Truth, connection: Tables) -> str | None:
    """Describe in one sentence what is wrong with the search index of a gallery; None if it is sound, or not needed.

    The gallery itself is sound all the same: the next search repairs the index.
    """
    ids, _ = connection.read_photo_rows(after=None)
    if len(ids) <= EXACT_UP_TO:
        return None
    paths = truth.index_paths()
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return f"the search index is missing: the next search makes it · {paths[-1]}"
    index = read_best_index(paths, truth, ids, schema.about_of(connection).dimensions)
    if index is None:
        return f"the search index is damaged, or of another gallery: the next search makes a new one · {path}"
    if not covers(np.sort(index.rows), ids):
        return f"the search index is out of date: the next search brings it up to date · {path}"
    return None


def read_best_index(paths: Sequence[Path], truth: Truth, ids: Integers, dimensions: int) -> IvfPqIndex | None:
    """Return the first index that covers the gallery's photos, else one that lacks some; None if there is none."""
    index = None
    for path in paths:
        index = read_own_index(path, truth, dimensions, most_rows=2 * len(ids)) or index
        if index and covers(np.sort(index.rows), ids):
            break
    return index


def read_own_index(path: Path, truth: Truth, dimensions: int, *, most_rows: int) -> IvfPqIndex | None:
    """Return the index in a file if it is sound and was made from this gallery, else None."""
    index = read_index(path, dimensions=dimensions, most_rows=most_rows)
    if index is None:
        return None
    with truth.reading() as connection:
        found, stored = pick_embeddings(connection, index.fingerprint_rows.tolist(), dimensions)
    expected = index.fingerprint_vectors[np.searchsorted(index.fingerprint_rows, found)]
    return index if len(found) and np.array_equal(expected.view(np.uint16), stored.view(np.uint16)) else None


def update_index(
    index: IvfPqIndex | None, truth: Truth, ids: Integers, dimensions: int, progress: Progress
) -> IvfPqIndex:
    """Bring an index up to the photos ``ids`` (N,); train it again if there is none, or if N has grown too far."""
    reader = truth.reader(dimensions)

    def read(rows: Integers) -> tuple[Integers, Embeddings]:
        return reader.read(rows.tolist())

    if index is None or len(ids) > GROWTH * index.measured:
        index = make_index(ids, dimensions, read, progress)
    else:
        index = drop_other_rows(index, ids)
        index = add_rows(index, ids[~contains(np.sort(index.rows), ids)], read, progress)
    rows = np.sort(index.rows)
    spread = np.unique(np.linspace(0, len(rows) - 1, FINGERPRINT_ROWS).astype(np.int64))  # includes the last row
    with truth.reading() as connection:
        found, stored = pick_embeddings(connection, rows[spread].tolist(), dimensions)
    return replace(index, fingerprint_rows=found, fingerprint_vectors=stored)
