"""An approximate index of embeddings (IVF-PQ), for galleries too large to compare a query with every row.

The rows are divided among L lists by their nearest of L centroids. The residual of each row is stored as a code of
M numbers from 0 to 15, one for each of M sub-vectors (product quantization; Jégou et al. 2011,
https://doi.org/10.1109/TPAMI.2010.57; scanned as in André et al. 2015, https://doi.org/10.14778/2856318.2856324):

    x ≈ centroid[list] + (codebook[1][code 1], …, codebook[M][code M])

A search for up to ten neighbors scans the codes in the ``probes`` lists nearest to the query. Its candidates are the
ten best rows and all others within a ``margin`` of the tenth; the caller computes their exact similarities. How many
lists and how wide a margin that takes depends on the embeddings, so :mod:`obelisk.gallery.ann.build_index` chooses
both by the recall it measures.

faiss is imported where it is needed: a command that searches a small gallery starts a tenth sooner without it.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Booleans, Embeddings, Integers
from obelisk.gallery.ann.candidates import OWN
from obelisk.photos import library_on_one_thread

NEAREST = 10  # neighbors for which probes, depth and margin are measured
CODES = 16  # centroids of a sub-vector: 4 bits
COMPARED = 8  # centroids compared exactly for each list that is wanted
FINGERPRINT_ROWS = 256  # by which an index knows its gallery
LISTS_AT_ONCE = 64  # packed together
FEW_QUERIES = 20  # up to so many are searched by one thread
MOST_ROWS = 2  # in an index, for each that the gallery still has
LONGEST_TAIL = 1 << 13  # rows searched beside an index; when there are more, the index takes them in


@dataclass(frozen=True, kw_only=True)
class IvfPqIndex:
    """The index of N rows as plain arrays; P ≥ D is a multiple of M.

    =======================  ============  ==============================================================
    ``dimensions``                         D
    ``probes``                             lists that a search for 10 neighbors scans
    ``depth``                              most candidates it proposes for each of them
    ``margin``                             by how much their similarity by codes may fall below the tenth's
    ``measured``                           rows in the index when these three were chosen
    ``centroids``            (L, P)        float32, unit norm; the values from D on are 0
    ``codebooks``            (M, 16, P/M)  float32
    ``sizes``                (L,)          int64, rows in each list
    ``rows``                 (N,)          int64, row numbers, list by list, ascending in each
    ``codes``                (N, M/2)      uint8, two codes per byte, in the order of ``rows``
    ``fingerprint_rows``     (W,)          int64, row numbers; with their embeddings they identify the gallery
    ``fingerprint_vectors``  (W, D)        float16, the embeddings as they are stored in the gallery
    =======================  ============  ==============================================================
    """

    dimensions: int
    probes: int
    depth: int
    margin: float
    measured: int
    centroids: Embeddings
    codebooks: Embeddings
    sizes: Integers
    rows: Integers
    codes: Codes
    fingerprint_rows: Integers
    fingerprint_vectors: NDArray[np.float16]


class Codes(Protocol):
    """Codes (N, M/2), in memory or in a file, read in parts."""

    def __getitem__(self, part: slice, /) -> NDArray[np.uint8]:
        """Return the codes of consecutive rows."""


class CandidateSearch:
    """An index in the form in which faiss searches it; see :class:`~obelisk.gallery.ann.candidates.Candidates`."""

    setting = OWN
    leaves_out = True

    def __init__(self, index: IvfPqIndex) -> None:
        self._list_count, self._width = index.centroids.shape
        with faiss_on_one_thread():  # other threads are reading the gallery's tables
            quantizer = centroid_search(index.centroids)
            self._lists = pack_lists(index, quantizer, range(0))
            reserve_lists(self._lists, index.sizes)
            for start in range(0, self._list_count, LISTS_AT_ONCE):
                numbers = range(start, min(self._list_count, start + LISTS_AT_ONCE))
                copy_lists(pack_lists(index, quantizer, numbers), self._lists, numbers)
        self.last = int(index.rows.max())
        self._probes, self._depth, self._margin = index.probes, index.depth, index.margin

    def __len__(self) -> int:
        return int(self._lists.ntotal)

    def still_pays(self, covered: int, newer: int) -> bool:
        """Return whether the index holds all ``covered`` photos, as it does unless it is damaged, and few others."""
        return newer <= LONGEST_TAIL and covered <= len(self) <= MOST_ROWS * covered

    def candidates(self, queries: Embeddings, k: int, *, gone: Integers, widening: int = 1) -> list[Integers]:
        """Return, for each query (Q, D), the row numbers (C,) that may be among its k nearest.

        ``gone`` are rows that do not count, ascending. If too few of the rows near a query count, its list is empty.
        ``widening`` multiplies the number of rows looked at; if it is large enough, every row is a candidate.
        """
        needed = NEAREST * self._depth + 2 * max(0, k - NEAREST)
        count = widening * needed
        if count >= len(self):
            return [self.list_rows()] * len(queries)
        enough = -(-4 * count * self._list_count // len(self))
        found = self.search_codes(queries, count, probes=max(widening * self._probes, enough))
        proposed = []
        for similarities, rows in zip(*found, strict=True):
            if len(gone):
                kept = ~contains(gone, rows)
                similarities, rows = similarities[kept], rows[kept]
                if len(rows) < needed:
                    rows = rows[:0]
            if k <= NEAREST < len(rows):  # the margin was measured for NEAREST neighbors only
                close = similarities >= similarities[NEAREST - 1] - widening * self._margin
                rows = rows[: np.count_nonzero(close)]
            proposed.append(rows[rows >= 0])
        return proposed

    def list_rows(self) -> Integers:
        """Return the row numbers (N,) of all rows."""
        import faiss

        lists, numbers = self._lists.invlists, range(self._list_count)
        return np.concatenate([faiss.rev_swig_ptr(lists.get_ids(n), lists.list_size(n)) for n in numbers])

    def search_codes(self, queries: Embeddings, count: int, *, probes: int) -> tuple[Embeddings, Integers]:
        """Return similarities by codes and row numbers, each (Q, count), best first, from the ``probes`` nearest lists.

        Where these hold fewer rows, the row number is -1 and its similarity is below all others.
        """
        parameters = search_parameters(min(self._list_count, probes))
        with faiss_on_one_thread() if len(queries) <= FEW_QUERIES else nullcontext():
            similarities, rows = self._lists.search(pad_columns(queries, self._width), count, params=parameters)
        return similarities, rows


def centroid_search(centroids: Embeddings) -> Any:
    """Return a faiss index of the centroids (L, P), which finds the lists nearest to a query.

    All centroids together would not stay in the processor's cache, so they are compared by codes first, and only the
    best of them exactly.
    """
    import faiss

    width = centroids.shape[1]
    exact = faiss.IndexFlatIP(width)
    exact.add(centroids)
    if len(centroids) < CODES:  # too few to learn codes from
        return exact
    rough = faiss.IndexPQFastScan(width, width // 2, 4, faiss.METRIC_INNER_PRODUCT)
    rough.pq.cp.min_points_per_centroid = 1
    rough.pq.cp.niter = 1
    rough.train(centroids)
    rough.add(centroids)
    refined = faiss.IndexRefine(rough, exact)
    refined.k_factor = COMPARED
    return refined


def pack_lists(index: IvfPqIndex, quantizer: Any, numbers: range) -> Any:
    """Return a faiss index of some of the lists, with their codes in the order in which faiss scans them.

    It keeps the codes in their former order as well, which is why the lists are packed in parts and copied.
    """
    import faiss

    width, lists, subvectors = index.centroids.shape[1], len(index.sizes), len(index.codebooks)
    plain: Any = faiss.IndexIVFPQ(quantizer, width, lists, subvectors, 4, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(index.codebooks.ravel(), plain.pq.centroids)
    plain.is_trained = True
    ends = np.cumsum(index.sizes)
    for number in numbers:
        part = slice(ends[number] - index.sizes[number], ends[number])
        rows, codes = np.ascontiguousarray(index.rows[part]), np.ascontiguousarray(index.codes[part])
        plain.invlists.add_entries(number, len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(codes))
        plain.ntotal += len(rows)
    return faiss.IndexIVFPQFastScan(plain)


def reserve_lists(index: Any, sizes: Integers) -> None:
    """Make room for the rows of all lists of an empty index.

    faiss rounds the memory of a list up to a power of two. What it does not write to takes no memory, unless the system
    gives it memory that was used and freed before: so all of it is taken first.
    """
    for number, size in enumerate(sizes.tolist()):
        index.invlists.resize(number, size)
    index.ntotal = int(sizes.sum())


def copy_lists(part: Any, index: Any, numbers: range) -> None:
    """Copy some lists of an index into the room that another has for them."""
    import faiss

    blocks: Any = faiss.downcast_InvertedLists(index.invlists)
    for number in numbers:
        size = part.invlists.list_size(number)
        code_bytes = -(-size // blocks.n_per_block) * blocks.block_size
        faiss.memcpy(blocks.get_codes(number), part.invlists.get_codes(number), code_bytes)
        faiss.memcpy(blocks.get_ids(number), part.invlists.get_ids(number), 8 * size)


@functools.lru_cache
def search_parameters(probes: int) -> Any:
    """Return faiss's parameters for scanning so many lists."""
    import faiss

    parameters = faiss.SearchParametersIVF()
    parameters.nprobe = probes
    return parameters


def faiss_on_one_thread() -> AbstractContextManager[None]:
    """Make faiss compute in the calling thread only, for the length of the block.

    After a parallel search faiss's threads spin for milliseconds on cores that NumPy's could use, which makes a
    single search take longer.
    """
    import faiss

    return library_on_one_thread(faiss.omp_get_max_threads, faiss.omp_set_num_threads)


def pad_columns(embeddings: Embeddings, width: int) -> Embeddings:
    """Return the embeddings (N, D) as (N, width), with zeros from column D on."""
    missing = width - embeddings.shape[1]
    return np.pad(embeddings, ((0, 0), (0, missing))) if missing else np.ascontiguousarray(embeddings)


def covers(rows: Integers, ids: Integers) -> bool:
    """Return whether the ascending rows of an index hold all photos ``ids``, except a few that were added last.

    They must not hold many that were removed, either.
    """
    old = ids[: np.searchsorted(ids, rows[-1], side="right")]
    if len(ids) - len(old) > LONGEST_TAIL or len(rows) > MOST_ROWS * len(old):
        return False
    return np.array_equal(rows, old) or bool(contains(rows, old).all())


def contains(rows: Integers, asked: Integers) -> Booleans:
    """Return a mask, shaped like ``asked``, of the values that are among the ascending ``rows``."""
    if not len(rows):
        return np.zeros(asked.shape, dtype=bool)
    return np.asarray(rows[np.minimum(np.searchsorted(rows, asked), len(rows) - 1)] == asked)
