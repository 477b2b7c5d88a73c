"""Search a gallery that is too large to compare a query with every row.

An index proposes candidates, and the embeddings in the gallery's database decide: every similarity is that of a
stored embedding, and a row that the gallery does not have is never an answer, whatever the index holds. Rows that
were added after the index was made are kept in memory and searched exactly.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from obelisk.arrays import Embeddings, Integers
from obelisk.embedding.user_cache import cache_folder
from obelisk.errors import GalleryError
from obelisk.files import exclusive_lock
from obelisk.gallery import database, schema
from obelisk.gallery.ann.build_index import add_rows, drop_other_rows, make_index
from obelisk.gallery.ann.index_file import INDEX, read_index, write_index
from obelisk.gallery.ann.ivfpq import FINGERPRINT_ROWS, NEAREST, CandidateSearch, IvfPqIndex, contains, covers
from obelisk.gallery.embeddings import EmbeddingReader, pick_embeddings
from obelisk.gallery.exact import check_fits, cosines, nearest_rows
from obelisk.records import Progress

EXACT_UP_TO = 200_000  # photos that are searched without an index: 400 MB of embeddings with 512 values
GROWTH = 1.5  # times the photos an index was measured with; beyond, it is trained again
LOCK = "lock"
LONGEST_WAIT = 3600.0  # s, for another process that makes the same index


class IndexedSearch:
    """The search engine of a large gallery at one moment.

    ``ids`` (N,) are the row numbers of the gallery, ascending; ``tail`` (T, D) are the embeddings of the last T rows,
    which the index does not hold.
    """

    def __init__(self, folder: Path, index: CandidateSearch, ids: Integers, tail: Embeddings) -> None:
        self.index = index
        self.tail = tail
        self._ids, self._last = ids, int(ids[-1])
        # An index may hold rows that are not of this moment, removed or later ones: these do not count.
        self._indexed = len(ids) - len(tail)
        self._allowed = ids if len(index) != self._indexed else None
        self._reader = EmbeddingReader(folder, tail.shape[1])

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def dimensions(self) -> int:
        """D, the length of an embedding."""
        return int(self.tail.shape[1])

    def rows(self, indices: Integers) -> Embeddings:
        """Return the unit-norm embeddings (M, D) at M indices.

        Raises :class:`GalleryError` if one of them was removed after the moment of this search.
        """
        asked = self._ids[indices]
        found, embeddings = self._reader.read(np.unique(asked).tolist())
        if not contains(found, asked).all():
            what = "a reference photo was removed while it was used"
            raise GalleryError(what, where=self._reader.folder, fix="try again")
        return embeddings[np.searchsorted(found, asked)]

    def nearest(self, queries: Embeddings, k: int) -> tuple[Integers, Embeddings]:
        """Find the k rows most similar to each query; at k = 10 the recall is at least 0.99.

        The similarities are exact. Raises :class:`GalleryError` if k is larger than N.
        """
        check_fits(k, len(self))
        indices = np.empty((len(queries), k), dtype=np.int64)
        similarities = np.empty((len(queries), k), dtype=np.float32)
        tail = self._nearest_in_tail(queries, k)
        pending, asked, widening = list(range(len(queries))), queries, 1
        while pending:
            proposed = self.index.candidates(asked, k, allowed=self._allowed, widening=widening)
            left = []
            for number, query, candidates in zip(pending, asked, proposed, strict=True):
                rows, exact = self._measure(query, candidates)
                if len(rows) < min(max(k, NEAREST), self._indexed) and len(candidates) < len(self.index):
                    left.append(number)  # too many rows near it were removed: look at more of them
                    continue
                if tail:
                    rows, exact = np.append(rows, tail[0][number]), np.append(exact, tail[1][number])
                best = np.argsort(-exact, kind="stable")[:k]  # equal ones keep the order of their rows
                if len(best) < k:
                    what = f"fewer than {k} reference photos are left of {len(self)}"
                    raise GalleryError(what, where=self._reader.folder, fix="try again")
                indices[number] = indices_of(self._ids, rows[best])
                similarities[number] = exact[best]
            pending, asked, widening = left, queries[left], 4 * widening
        return indices, similarities

    def _nearest_in_tail(self, queries: Embeddings, k: int) -> tuple[Integers, Embeddings] | None:
        """Return rows (Q, K) and similarities (Q, K) of the K ≤ k nearest in the tail, or None if it is empty."""
        if not len(self.tail):
            return None
        found, similarities = nearest_rows(queries, self.tail, min(k, len(self.tail)))
        return self._ids[self._indexed + found], similarities

    def _measure(self, query: Embeddings, candidates: Integers) -> tuple[Integers, Embeddings]:
        """Return those of the candidates (C,) that the gallery has, ascending, and their similarities to (D,)."""
        # Row numbers only ever grow: a row up to the last of this moment that exists now existed then.
        found, embeddings = self._reader.read(sorted(row for row in candidates.tolist() if 0 <= row <= self._last))
        return found, cosines(query, embeddings)


def indices_of(ids: Integers, rows: Integers) -> Integers:
    """Return the indices of rows among the ascending ``ids`` (N,), which must hold them all."""
    if len(ids) and int(ids[-1]) - int(ids[0]) == len(ids) - 1:  # without gaps there is no need to search
        return np.asarray(rows - ids[0])
    return np.searchsorted(ids, rows)


def load_index(folder: Path, dimensions: int) -> CandidateSearch | None:
    """Load the gallery's index from the disk, however old it is; None if there is none."""
    for path in index_paths(folder):
        if path.exists():
            with database.reading(folder) as connection:
                (last,) = connection.execute("SELECT max(row) FROM photos").fetchone()
            # A photo takes more bytes than its embedding, and an index holds at most twice the photos.
            most_rows = min(last or 0, 2 * database.stat_database(folder)[2] // (schema.STORED.itemsize * dimensions))
            index = read_own_index(path, folder, dimensions, most_rows=most_rows)
            if index:
                with contextlib.suppress(GalleryError):  # the file was cut short meanwhile
                    return CandidateSearch(index)
    return None


def open_index(
    folder: Path, ids: Integers, dimensions: int, progress: Progress, loaded: CandidateSearch | None = None
) -> CandidateSearch:
    """Return an index of a gallery's photos ``ids`` (N,): the one on the disk, updated if need be, or a new one.

    ``loaded`` is the one on the disk if it was read before. A new index is kept in the gallery's folder; in the
    user's cache folder if the gallery is read-only; and only in memory if neither can be written to.
    """
    if loaded and covers(loaded.rows, ids):
        return loaded
    paths = index_paths(folder)
    index = read_best_index(paths, folder, ids, dimensions)
    if not (index and covers(np.sort(index.rows), ids)):
        # After the longest wait, continue anyway: two writers cost time, not correctness.
        with exclusive_lock(paths[-1].with_name(LOCK), wait=LONGEST_WAIT):
            index = read_best_index(paths, folder, ids, dimensions)  # another process may have made it meanwhile
            if not (index and covers(np.sort(index.rows), ids)):
                index = update_index(index, folder, ids, dimensions, progress)
                with contextlib.suppress(OSError):
                    write_index(paths[-1], index)
    return CandidateSearch(index)


def describe_index(folder: Path, connection: sqlite3.Connection) -> str | None:
    """Describe in one sentence what is wrong with the search index of a gallery; None if it is sound, or not needed.

    The gallery itself is sound all the same: the next search repairs the index.
    """
    ids = np.fromiter((row for (row,) in connection.execute("SELECT row FROM photos ORDER BY row")), dtype=np.int64)
    if len(ids) <= EXACT_UP_TO:
        return None
    paths = index_paths(folder)
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return f"the search index is missing: the next search makes it · {paths[-1]}"
    index = read_best_index(paths, folder, ids, schema.about_of(connection, folder).dimensions)
    if index is None:
        return f"the search index is damaged, or of another gallery: the next search makes a new one · {path}"
    if not covers(np.sort(index.rows), ids):
        return f"the search index is out of date: the next search brings it up to date · {path}"
    return None


def index_paths(folder: Path) -> list[Path]:
    """Return the paths where an index of a gallery may lie; a new one is written to the last."""
    if database.may_write(folder):
        return [folder / INDEX]
    name = blake2b(str(folder.resolve()).encode(), digest_size=16).hexdigest()
    return [folder / INDEX, cache_folder() / "galleries" / name / INDEX]


def read_best_index(paths: Sequence[Path], folder: Path, ids: Integers, dimensions: int) -> IvfPqIndex | None:
    """Return the first index that covers the gallery's photos, else one that lacks some; None if there is none."""
    index = None
    for path in paths:
        index = read_own_index(path, folder, dimensions, most_rows=2 * len(ids)) or index
        if index and covers(np.sort(index.rows), ids):
            break
    return index


def read_own_index(path: Path, folder: Path, dimensions: int, *, most_rows: int) -> IvfPqIndex | None:
    """Return the index in a file if it is sound and was made from this gallery, else None."""
    index = read_index(path, dimensions=dimensions, most_rows=most_rows)
    if index is None:
        return None
    with database.reading(folder) as connection:
        found, stored = pick_embeddings(connection, index.fingerprint_rows.tolist(), dimensions, folder)
    expected = index.fingerprint_vectors[np.searchsorted(index.fingerprint_rows, found)]
    return index if len(found) and np.array_equal(expected.view(np.uint16), stored.view(np.uint16)) else None


def update_index(
    index: IvfPqIndex | None, folder: Path, ids: Integers, dimensions: int, progress: Progress
) -> IvfPqIndex:
    """Bring an index up to the photos ``ids`` (N,); train it again if there is none, or if N has grown too far."""
    reader = EmbeddingReader(folder, dimensions)

    def read(rows: Integers) -> tuple[Integers, Embeddings]:
        return reader.read(rows.tolist())

    if index is None or len(ids) > GROWTH * index.measured:
        index = make_index(ids, dimensions, read, progress)
    else:
        index = drop_other_rows(index, ids)
        index = add_rows(index, ids[~contains(np.sort(index.rows), ids)], read, progress)
    rows = np.sort(index.rows)
    spread = np.unique(np.linspace(0, len(rows) - 1, FINGERPRINT_ROWS).astype(np.int64))  # includes the last row
    with database.reading(folder) as connection:
        found, stored = pick_embeddings(connection, rows[spread].tolist(), dimensions, folder)
    return replace(index, fingerprint_rows=found, fingerprint_vectors=stored)
