"""An approximate index of embeddings, for galleries that are too large to look at every row of.

The rows are divided among L lists by their nearest of L centroids, and what is left of each is kept as a code of
M numbers from 0 to 15, one for each of M sub-vectors (product quantisation; Jégou et al. 2011,
https://doi.org/10.1109/TPAMI.2010.57; scanned as in André et al. 2015, https://doi.org/10.14778/2856318.2856324):

    x ≈ centroid[list] + (codebook[1][code 1], …, codebook[M][code M])

A search for up to ten neighbours scans the codes of the ``probes`` lists nearest to the query, and proposes as
candidates the ten best and all that come within a ``margin`` of the tenth; the caller measures those exactly. How many
lists and how wide a margin that takes depends on the embeddings, so both are chosen when the index is made, by its
recall on reference photos that are searched for among the others.

faiss is imported where it is needed: a command that searches a small gallery starts a tenth sooner without it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Embeddings, Integers
from obelisk.gallery.exact import dot_products, propose_rows

Progress = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and of how much."""
ReadRows = Callable[[Integers], tuple[Integers, Embeddings]]
"""Returns those of the rows that still exist, ascending, and their embeddings (M, D)."""

ROWS_PER_CENTROID = 48  # in the sample that the centroids are learnt from
ITERATIONS = 8
CODES = 16  # centroids of a sub-vector: 4 bits
MOST_CODES = 512  # of an embedding; fine codes cost memory, 256 bytes a row, and save reading candidates
ROWS_AT_ONCE = 1 << 14
SEED = 0
COMPARED = 8  # centroids that are compared exactly, for each list that is wanted
LISTS_AT_ONCE = 64  # that are packed
FEW_QUERIES = 20  # so many are searched by one thread
LONGEST_TAIL = 1 << 13  # rows that are searched beside an index: it takes them in when they are more

TRIALS = 256  # reference photos that the recall is measured with
NEAREST = 10  # at so many neighbours
PROBES_RECALL = 0.996  # share of the true neighbours that the probed lists hold
RECALL = 0.995  # share of them among the candidates
LARGEST_DEPTH = 64  # candidates for each of the nearest
WIDEST_MARGIN = 2.0  # between the similarities of unit rows


def tell_nobody(what: str, done: int, total: int) -> None:
    """Watch nothing."""


@dataclass(frozen=True, kw_only=True)
class RowIndex:
    """The index of N rows as plain arrays; P ≥ D is a multiple of M.

    ==============  ============  ====================================================================
    ``dimensions``                D
    ``probes``                    lists that a search for 10 neighbours scans
    ``depth``                     candidates that it proposes for each of them, at most
    ``margin``                    by how much their similarity by codes may be less than that of the tenth
    ``measured``                  rows of the index when these three were chosen
    ``centroids``   (L, P)        float32, of length 1; the values from D on are 0
    ``codebooks``   (M, 16, P/M)  float32
    ``sizes``       (L,)          int64, rows in each list
    ``rows``        (N,)          int64, row numbers, list by list, ascending in each
    ``codes``       (N, M/2)      uint8, two codes a byte, in the order of ``rows``
    ``witnesses``   (W,)          int64, row numbers that tell to which gallery the index belongs, by
    ``testimony``   (W, D)        float16, their embeddings as they are stored there
    ==============  ============  ====================================================================
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
    witnesses: Integers
    testimony: NDArray[np.float16]


class Codes(Protocol):
    """Codes (N, M/2) in memory or in a file, to be read in parts."""

    def __getitem__(self, part: slice, /) -> NDArray[np.uint8]:
        """Return the codes of some rows in succession."""


class CandidateSearch:
    """The index, ready to be searched. Several threads may use it at once."""

    def __init__(self, index: RowIndex) -> None:
        self._list_count, self._width = index.centroids.shape
        with one_thread():  # beside others that read the gallery's tables
            nearest = search_lists(index.centroids)
            self._lists = pack_lists(index, nearest, range(0))
            for start in range(0, self._list_count, LISTS_AT_ONCE):
                more = pack_lists(index, nearest, range(start, min(self._list_count, start + LISTS_AT_ONCE)))
                self._lists.merge_from(more, 0)
        self.rows = np.sort(index.rows)
        self.last = int(self.rows[-1])
        self._probes, self._depth, self._margin = index.probes, index.depth, index.margin

    def __len__(self) -> int:
        return len(self.rows)

    def serves(self, ids: Integers) -> bool:
        """Say whether the index still pays for the photos ``ids`` (N,): few are beside it, and few in it are gone."""
        beside = len(ids) - int(np.searchsorted(ids, self.last, side="right"))
        return beside <= LONGEST_TAIL and 2 * (len(ids) - beside) >= len(self)

    def candidates(
        self, queries: Embeddings, k: int, *, among: Integers | None = None, widening: int = 1
    ) -> list[Integers]:
        """Return, for each query (Q, D), the numbers of the rows (C,) that may be among its k nearest.

        ``among`` are the rows that count, ascending; None: all that the index holds. A query near which too few of them
        were looked at to tell has no candidate. ``widening`` is how many times more to look at than usual; enough of
        it proposes every row.
        """
        needed = NEAREST * self._depth + 2 * max(0, k - NEAREST)
        count = widening * needed
        if count >= len(self):
            return [self.rows] * len(queries)
        enough = -(-4 * count * self._list_count // len(self))
        proposed = []
        for similarities, rows in zip(
            *self.ranked(queries, count, probes=max(widening * self._probes, enough)), strict=True
        ):
            if among is not None:
                kept = is_among(among, rows)
                similarities, rows = similarities[kept], rows[kept]
                if len(rows) < needed:
                    rows = rows[:0]
            if k <= NEAREST < len(rows):  # the margin was not measured beyond
                close = similarities >= similarities[NEAREST - 1] - widening * self._margin
                rows = rows[: np.count_nonzero(close)]
            proposed.append(rows)
        return proposed

    def ranked(self, queries: Embeddings, count: int, *, probes: int) -> tuple[Embeddings, Integers]:
        """Return similarities and numbers of the rows (Q, count) that are nearest by their codes, best first.

        So many lists are scanned; where they hold fewer rows, -1 and a similarity below all others.
        """
        settings = scanning(min(self._list_count, probes))
        with one_thread() if len(queries) <= FEW_QUERIES else nullcontext():
            similarities, rows = self._lists.search(padded(queries, self._width), count, params=settings)
        return similarities, rows


def search_lists(centroids: Embeddings) -> Any:
    """Return a faiss index of the centroids (L, P), which finds the lists nearest to a query.

    All of them would fill the processor's cache for each query: they are compared by codes, and only the best of them
    as they are.
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


def pack_lists(index: RowIndex, nearest: Any, numbers: range) -> Any:
    """Return a faiss index with the rows of some of the lists, their codes in the order in which its search reads them.

    It holds them in the former order, too: merged into another index, only the new one is kept.
    """
    import faiss

    width = index.centroids.shape[1]
    plain: Any = faiss.IndexIVFPQ(nearest, width, len(index.sizes), len(index.codebooks), 4, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(index.codebooks.ravel(), plain.pq.centroids)
    plain.is_trained = True
    ends = np.cumsum(index.sizes)
    for number in numbers:
        part = slice(ends[number] - index.sizes[number], ends[number])
        rows, codes = np.ascontiguousarray(index.rows[part]), np.ascontiguousarray(index.codes[part])
        plain.invlists.add_entries(number, len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(codes))
        plain.ntotal += len(rows)
    return faiss.IndexIVFPQFastScan(plain)


@functools.lru_cache
def scanning(probes: int) -> Any:
    """Return how faiss is told to scan so many lists."""
    import faiss

    settings = faiss.SearchParametersIVF()
    settings.nprobe = probes
    return settings


@contextmanager
def one_thread() -> Iterator[None]:
    """Let what the calling thread asks of faiss be computed by that thread alone.

    Its threads go on spinning for milliseconds, on cores that NumPy's would use: a single search takes longer for them.
    """
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def make_index(ids: Integers, dimensions: int, read: ReadRows, watch: Progress) -> RowIndex:
    """Learn the centroids and codebooks from a sample of the rows ``ids`` (N,), code all rows, measure the recall."""
    generator = np.random.default_rng(SEED)
    lists = 1 << max(0, round(np.log2(len(ids)) / 2))
    sample = generator.choice(ids, min(len(ids), ROWS_PER_CENTROID * lists), replace=False)
    _, rows = read(np.sort(sample))
    untuned = learn_codes(padded(rows, coded_width(dimensions)), lists, dimensions, watch)
    trials = Trials(*read(np.sort(generator.choice(ids, min(len(ids), TRIALS), replace=False))))
    return tune(add_rows(untuned, ids, read, watch, trials), trials)


def coded_width(dimensions: int) -> int:
    """Return P, the least width from D on that divides into an even number of equal sub-vectors."""
    each = values_per_code(dimensions)
    return -(-dimensions // (2 * each)) * 2 * each


def values_per_code(dimensions: int) -> int:
    """Return how many values of an embedding one code stands for."""
    return -(-dimensions // MOST_CODES)


def padded(rows: Embeddings, width: int) -> Embeddings:
    """Return the rows with zeros after their D values, up to the width."""
    missing = width - rows.shape[1]
    return np.pad(rows, ((0, 0), (0, missing))) if missing else np.ascontiguousarray(rows)


def learn_codes(rows: Embeddings, lists: int, dimensions: int, watch: Progress) -> RowIndex:
    """Learn the centroids of L lists and the codebooks of what they leave; the index holds no row yet."""
    import faiss

    width = rows.shape[1]
    M = width // values_per_code(dimensions)
    step = "learning a search index"
    watch(step, 0, 2)
    clusters = faiss.Kmeans(width, lists, niter=ITERATIONS, spherical=True, seed=SEED + 1, min_points_per_centroid=1)
    clusters.train(rows)
    watch(step, 1, 2)
    coarse = faiss.IndexFlatIP(width)
    centroids = np.array(clusters.centroids, dtype=np.float32)
    coarse.add(centroids)
    plain = faiss.IndexIVFPQ(coarse, width, lists, M, 4, faiss.METRIC_INNER_PRODUCT)
    plain.pq.cp.min_points_per_centroid = 1
    plain.train(rows)
    watch(step, 2, 2)
    return RowIndex(
        dimensions=dimensions,
        probes=1,
        depth=1,
        margin=0.0,
        measured=0,
        centroids=centroids,
        codebooks=faiss.vector_to_array(plain.pq.centroids).reshape(M, CODES, width // M),
        sizes=np.zeros(lists, dtype=np.int64),
        rows=np.empty(0, dtype=np.int64),
        codes=np.empty((0, M // 2), dtype=np.uint8),
        witnesses=np.empty(0, dtype=np.int64),
        testimony=np.empty((0, dimensions), dtype=np.float16),
    )


class Trials:
    """Reference photos that are searched for among the others, and their nearest rows, as far as these were seen."""

    def __init__(self, rows: Integers, queries: Embeddings) -> None:
        self.rows, self.queries = rows, queries
        self.nearest = np.empty((len(rows), 0), dtype=np.int64)
        self._similarities = np.empty((len(rows), 0), dtype=np.float32)

    def see(self, rows: Integers, embeddings: Embeddings) -> None:
        """Let more rows compete for the places of the nearest."""
        found, _ = propose_rows(self.queries, embeddings, min(len(rows), NEAREST + 1))
        similarities = dot_products(self.queries, embeddings, found)
        others = rows[found] != self.rows[:, None]
        self.nearest = np.hstack([self.nearest, rows[found]])
        self._similarities = np.hstack([self._similarities, np.where(others, similarities, -np.inf)])
        best = np.argsort(-self._similarities, axis=1, kind="stable")[:, :NEAREST]
        self.nearest = np.take_along_axis(self.nearest, best, axis=1)
        self._similarities = np.take_along_axis(self._similarities, best, axis=1)


def add_rows(index: RowIndex, ids: Integers, read: ReadRows, watch: Progress, trials: Trials | None = None) -> RowIndex:
    """Return the index with the rows ``ids`` added, which it does not hold yet; the trials see them, too."""
    rows, codes = [index.rows], [index.codes[:]]
    lists = [np.repeat(np.arange(len(index.sizes)), index.sizes)]
    for start in range(0, len(ids), ROWS_AT_ONCE):
        watch("indexing embeddings", start, len(ids))
        found, embeddings = read(ids[start : start + ROWS_AT_ONCE])
        if not len(found):
            continue
        nearest, coded = code(index, padded(embeddings, index.centroids.shape[1]))
        rows.append(found)
        lists.append(nearest)
        codes.append(coded)
        if trials:
            trials.see(found, embeddings)
    watch("indexing embeddings", len(ids), len(ids))
    return in_lists(index, np.concatenate(lists), np.concatenate(rows), np.concatenate(codes))


def keep_rows(index: RowIndex, ids: Integers) -> RowIndex:
    """Return the index without the rows that are not among ``ids``."""
    kept = np.isin(index.rows, ids)
    lists = np.repeat(np.arange(len(index.sizes)), index.sizes)
    return in_lists(index, lists[kept], index.rows[kept], index.codes[:][kept])


def in_lists(index: RowIndex, lists: Integers, rows: Integers, codes: NDArray[np.uint8]) -> RowIndex:
    """Return the index with these rows instead of its own, in the order of their lists."""
    order = np.lexsort((rows, lists))
    sizes = np.bincount(lists, minlength=len(index.sizes)).astype(np.int64)
    return replace(index, sizes=sizes, rows=rows[order], codes=codes[order])


def code(index: RowIndex, rows: Embeddings) -> tuple[Integers, NDArray[np.uint8]]:
    """Return the nearest list (N,) of each row (N, P), and the codes (N, M/2) of what the centroid leaves."""
    import faiss

    quantiser = faiss.ProductQuantizer(rows.shape[1], len(index.codebooks), 4)
    faiss.copy_array_to_vector(index.codebooks.ravel(), quantiser.centroids)
    nearest = (rows @ index.centroids.T).argmax(axis=1)
    return nearest, quantiser.compute_codes(rows - index.centroids[nearest])


def tune(index: RowIndex, trials: Trials) -> RowIndex:
    """Choose how many lists to scan, and how many candidates to propose, by the recall of the trials' neighbours."""
    queries = padded(trials.queries, index.centroids.shape[1])
    by_similarity = np.argsort(-(queries @ index.centroids.T), axis=1)
    order = np.argsort(by_similarity, axis=1)  # of each list, for each trial
    by_row = np.argsort(index.rows)
    lists = np.repeat(np.arange(len(index.sizes)), index.sizes)[by_row]
    holding = lists[np.searchsorted(index.rows[by_row], trials.nearest)]
    needed = 1 + np.take_along_axis(order, holding, axis=1)
    probes = min(len(index.sizes), int(np.quantile(needed, PROBES_RECALL, method="higher")))

    count = min(NEAREST * LARGEST_DEPTH, len(index.rows))
    similarities, proposed = CandidateSearch(index).ranked(trials.queries, count, probes=probes)
    tenth = similarities[:, [min(NEAREST, count - 1)]]  # of the others: a trial finds itself, too
    holds = trials.nearest[:, :, None] == proposed[:, None, :]
    theirs = np.take_along_axis(similarities, holds.argmax(axis=2), axis=1)
    short = np.where(holds.any(axis=2), tenth - theirs, WIDEST_MARGIN)
    margin = float(np.clip(np.quantile(short, RECALL, method="higher"), 0, WIDEST_MARGIN))
    most = int((similarities >= tenth - margin).sum(axis=1).max())
    return replace(index, probes=probes, depth=-(-most // NEAREST), margin=margin, measured=len(index.rows))


def is_current(rows: Integers, ids: Integers) -> bool:
    """Say whether the rows of an index, ascending, are all of the photos but for a few that were added last."""
    old = ids[: np.searchsorted(ids, rows[-1], side="right")]
    return len(ids) - len(old) <= LONGEST_TAIL and (np.array_equal(rows, old) or bool(is_among(rows, old).all()))


def is_among(rows: Integers, asked: Integers) -> NDArray[np.bool_]:
    """Say of each row asked for whether it is among the ascending rows."""
    if not len(rows):
        return np.zeros(asked.shape, dtype=bool)
    return np.asarray(rows[np.minimum(np.searchsorted(rows, asked), len(rows) - 1)] == asked)
