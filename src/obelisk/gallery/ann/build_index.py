"""Build an :class:`IvfPqIndex`: learn its centroids and codebooks, encode the rows, choose the search parameters.

``probes``, ``depth`` and ``margin`` are chosen by recall: some reference photos are searched for among the others,
and compared with their exact nearest neighbors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Embeddings, Integers
from obelisk.gallery.ann.ivfpq import CODES, NEAREST, CandidateSearch, IvfPqIndex, faiss_on_one_thread, pad_columns
from obelisk.gallery.exact import dot_products, propose_rows
from obelisk.records import Progress

ReadRows = Callable[[Integers], tuple[Integers, Embeddings]]
"""Returns those of the rows that still exist, ascending, and their unit-norm embeddings (M, D)."""

ROWS_PER_CENTROID = 48  # in the training sample
ITERATIONS = 8  # of k-means
MOST_CODES = 512  # of an embedding: 256 bytes per row; fine codes cost memory, but save reading candidates
ROWS_AT_ONCE = 1 << 14
VALUES_AT_ONCE = 256  # rows whose values are compared at once: they stay in the processor's cache
SEED = 0

TRIALS = 256  # reference photos by which the recall is measured
PROBES_RECALL = 0.996  # share of the true neighbors that the probed lists hold
RECALL = 0.995  # share of the true neighbors among the candidates
LARGEST_DEPTH = 64  # candidates for each neighbor
WIDEST_MARGIN = 2.0  # between two cosine similarities


def make_index(ids: Integers, dimensions: int, read: ReadRows, progress: Progress) -> IvfPqIndex:
    """Learn centroids and codebooks from a sample of the rows ``ids`` (N,), encode all rows, measure the recall."""
    rng = np.random.default_rng(SEED)
    lists = list_count(len(ids))
    sample = rng.choice(ids, min(len(ids), ROWS_PER_CENTROID * lists), replace=False)
    _, embeddings = read(np.sort(sample))
    empty = learn_codes(pad_columns(embeddings, coded_width(dimensions)), lists, dimensions, progress)
    trials = RecallTrials(*read(np.sort(rng.choice(ids, min(len(ids), TRIALS), replace=False))))
    return choose_parameters(add_rows(empty, ids, read, progress, trials), trials)


def list_count(count: int) -> int:
    """Return L, the number of lists for so many rows: the power of two next to its square root."""
    return 1 << max(0, round(math.log2(count) / 2))


def coded_width(dimensions: int) -> int:
    """Return P, the least width from D on that divides into an even number of equal sub-vectors."""
    each = values_per_code(dimensions)
    return -(-dimensions // (2 * each)) * 2 * each


def values_per_code(dimensions: int) -> int:
    """Return how many values of an embedding one code stands for."""
    return -(-dimensions // MOST_CODES)


def learn_codes(embeddings: Embeddings, lists: int, dimensions: int, progress: Progress) -> IvfPqIndex:
    """Learn L centroids and the codebooks of the residuals from embeddings (N, P); return an index without rows."""
    import faiss

    width = embeddings.shape[1]
    M = width // values_per_code(dimensions)
    step = "learning a search index"
    progress(step, 0, 2)
    clusters = faiss.Kmeans(width, lists, niter=ITERATIONS, spherical=True, seed=SEED + 1, min_points_per_centroid=1)
    clusters.train(embeddings)
    progress(step, 1, 2)
    coarse = faiss.IndexFlatIP(width)
    centroids = np.array(clusters.centroids, dtype=np.float32)
    coarse.add(centroids)
    plain = faiss.IndexIVFPQ(coarse, width, lists, M, 4, faiss.METRIC_INNER_PRODUCT)
    plain.pq.cp.min_points_per_centroid = 1
    # The codebooks are small, and learned one after the other: threads wait for each other most of the time.
    with faiss_on_one_thread():
        plain.train(embeddings)
    progress(step, 2, 2)
    return IvfPqIndex(
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
        fingerprint_rows=np.empty(0, dtype=np.int64),
        fingerprint_vectors=np.empty((0, dimensions), dtype=np.float16),
    )


class RecallTrials:
    """T reference photos used as queries, and their nearest rows (T, ≤ 10) among the other rows seen so far."""

    def __init__(self, rows: Integers, queries: Embeddings) -> None:
        self.rows, self.queries = rows, queries
        self.nearest = np.empty((len(rows), 0), dtype=np.int64)
        self._similarities = np.empty((len(rows), 0), dtype=np.float32)

    def update(self, rows: Integers, embeddings: Embeddings) -> None:
        """Take more rows into account."""
        found, _ = propose_rows(self.queries, embeddings, min(len(rows), NEAREST + 1))
        similarities = dot_products(self.queries, embeddings, found)
        others = rows[found] != self.rows[:, None]
        self.nearest = np.hstack([self.nearest, rows[found]])
        self._similarities = np.hstack([self._similarities, np.where(others, similarities, -np.inf)])
        best = np.argsort(-self._similarities, axis=1, kind="stable")[:, :NEAREST]
        self.nearest = np.take_along_axis(self.nearest, best, axis=1)
        self._similarities = np.take_along_axis(self._similarities, best, axis=1)


def add_rows(
    index: IvfPqIndex, ids: Integers, read: ReadRows, progress: Progress, trials: RecallTrials | None = None
) -> IvfPqIndex:
    """Return the index with the rows ``ids`` added, none of which it may hold; ``trials`` are updated on the way."""
    lists, rows = [np.repeat(np.arange(len(index.sizes)), index.sizes)], [index.rows]
    held = len(index.rows)
    codes = np.empty((held + len(ids), len(index.codebooks) // 2), dtype=np.uint8)  # by far the largest: not joined
    codes[:held] = index.codes[:]
    for start in range(0, len(ids), ROWS_AT_ONCE):
        progress("indexing embeddings", start, len(ids))
        found, embeddings = read(ids[start : start + ROWS_AT_ONCE])
        if not len(found):
            continue
        nearest, encoded = encode_rows(index, pad_columns(embeddings, index.centroids.shape[1]))
        lists.append(nearest)
        rows.append(found)
        codes[held : held + len(found)] = encoded
        held += len(found)
        if trials:
            trials.update(found, embeddings)
    progress("indexing embeddings", len(ids), len(ids))
    return sort_into_lists(index, np.concatenate(lists), np.concatenate(rows), codes[:held])


def drop_other_rows(index: IvfPqIndex, ids: Integers) -> IvfPqIndex:
    """Return the index without the rows that are not among ``ids``."""
    kept = np.isin(index.rows, ids)
    lists = np.repeat(np.arange(len(index.sizes)), index.sizes)
    return sort_into_lists(index, lists[kept], index.rows[kept], index.codes[:][kept])


def sort_into_lists(index: IvfPqIndex, lists: Integers, rows: Integers, codes: NDArray[np.uint8]) -> IvfPqIndex:
    """Return the index with these rows instead of its own, ordered by list and row."""
    order = np.lexsort((rows, lists))
    sizes = np.bincount(lists, minlength=len(index.sizes)).astype(np.int64)
    return replace(index, sizes=sizes, rows=rows[order], codes=codes[order])


def encode_rows(index: IvfPqIndex, embeddings: Embeddings) -> tuple[Integers, NDArray[np.uint8]]:
    """Return the nearest list (N,) of each embedding (N, P), and the codes (N, M/2) of its residual."""
    nearest = (embeddings @ index.centroids.T).argmax(axis=1)
    residuals = embeddings - index.centroids[nearest]
    subvectors, _, values = index.codebooks.shape
    if values == 1:
        return nearest, encode_values(residuals, index.codebooks[:, :, 0])
    import faiss

    quantizer = faiss.ProductQuantizer(embeddings.shape[1], subvectors, 4)
    faiss.copy_array_to_vector(index.codebooks.ravel(), quantizer.centroids)
    return nearest, quantizer.compute_codes(residuals)


def encode_values(residuals: Embeddings, codebooks: Embeddings) -> NDArray[np.uint8]:
    """Return the codes (N, M/2) of residuals (N, M) by codebooks (M, 16) of single values, as faiss packs them.

    The nearest of 16 numbers follows from how many of the 15 middles between them are smaller, which takes a
    twentieth of the time that faiss takes to compute all distances.
    """
    order = np.argsort(codebooks, axis=1)
    ascending = np.take_along_axis(codebooks.astype(np.float64), order, axis=1)
    middles = ((ascending[:, 1:] + ascending[:, :-1]) / 2).astype(np.float32)
    least, steps = order[:, 0].astype(np.uint8), np.diff(order.astype(np.uint8), axis=1)  # modulo 256
    packed = np.empty((len(residuals), len(codebooks) // 2), dtype=np.uint8)
    for start in range(0, len(residuals), VALUES_AT_ONCE):
        part = slice(start, start + VALUES_AT_ONCE)
        codes = np.tile(least, (len(residuals[part]), 1))
        for middle, step in zip(np.ascontiguousarray(middles.T), np.ascontiguousarray(steps.T), strict=True):
            codes += (residuals[part] > middle) * step
        packed[part] = codes[:, ::2] | codes[:, 1::2] << 4
    return packed


def choose_parameters(index: IvfPqIndex, trials: RecallTrials) -> IvfPqIndex:
    """Choose how many lists to scan and how many candidates to propose, by the recall of the trials."""
    probes = choose_probes(index, trials)
    count = min(NEAREST * LARGEST_DEPTH, len(index.rows))
    similarities, proposed = CandidateSearch(index).search_codes(trials.queries, count, probes=probes)
    tenth = similarities[:, [min(NEAREST, count - 1)]]  # of the others: a trial finds itself, too
    holds = trials.nearest[:, :, None] == proposed[:, None, :]
    theirs = np.take_along_axis(similarities, holds.argmax(axis=2), axis=1)
    short = np.where(holds.any(axis=2), tenth - theirs, WIDEST_MARGIN)
    margin = float(np.clip(np.quantile(short, RECALL, method="higher"), 0, WIDEST_MARGIN))
    most = int((similarities >= tenth - margin).sum(axis=1).max())
    return replace(index, probes=probes, depth=-(-most // NEAREST), margin=margin, measured=len(index.rows))


def choose_probes(index: IvfPqIndex, trials: RecallTrials) -> int:
    """Return the fewest lists that hold :data:`PROBES_RECALL` of the trials' neighbors."""
    queries = pad_columns(trials.queries, index.centroids.shape[1])
    by_similarity = np.argsort(-(queries @ index.centroids.T), axis=1)
    ranks = np.argsort(by_similarity, axis=1)  # of each list, for each trial
    by_row = np.argsort(index.rows)
    lists = np.repeat(np.arange(len(index.sizes)), index.sizes)[by_row]
    holding = lists[np.searchsorted(index.rows[by_row], trials.nearest)]
    needed = 1 + np.take_along_axis(ranks, holding, axis=1)
    return min(len(index.sizes), int(np.quantile(needed, PROBES_RECALL, method="higher")))
