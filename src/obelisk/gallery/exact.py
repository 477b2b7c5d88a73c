"""Exact search over reference embeddings, the same on every machine and for every batch size.

The nearest rows are found in float32, whose last digits depend on the number of queries and on the
processor. That must decide nothing: the rows found so, and everything within its rounding
error of them, are measured again in float64, and equal similarities keep the order of the rows.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Embeddings, Integers, l2_normalize, parts_of
from obelisk.errors import GalleryError, UsageError

# The float32 dot product of two unit rows is off by less than D·2⁻²⁴ (D = 1600 gives 1e-4), in practice by far less.
ROUNDING = 1e-4
SPARE_ROWS = 8
PAIRS_AT_ONCE = 1 << 24  # similarities that are computed at once: 64 MiB


class SearchEngine(Protocol):
    """Finds the nearest of N rows of length 1 and D dimensions; place n is the same row in every answer."""

    def __len__(self) -> int:
        """Return N."""

    @property
    def dimensions(self) -> int:
        """Return D."""

    def nearest(self, queries: Embeddings, k: int) -> tuple[Integers, Embeddings]:
        """Find the k rows most similar to each of Q unit queries (Q, D).

        Returns their places (Q, k) and cosine similarities (Q, k), best first; equal ones in the order of
        their places. Raises :class:`GalleryError` when k is larger than N.
        """

    def rows(self, places: Integers) -> Embeddings:
        """Return the rows (M, D) in M places, as float32 of length 1."""


class ExactSearch:
    """The search engine of embeddings (N, D) in memory: every row is looked at."""

    def __init__(self, embeddings: Embeddings) -> None:
        self.embeddings = check_normalized(embeddings, dimensions=embeddings.shape[-1])

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def dimensions(self) -> int:
        """D, the number of values in a row."""
        return int(self.embeddings.shape[1])

    def nearest(self, queries: Embeddings, k: int) -> tuple[Integers, Embeddings]:
        """Find the k rows most similar to each query; see :func:`nearest_rows`."""
        return nearest_rows(queries, self.embeddings, k)

    def rows(self, places: Integers) -> Embeddings:
        """Return the rows in these places."""
        return self.embeddings[places]


def nearest_rows(queries: Embeddings, references: Embeddings, k: int) -> tuple[Integers, Embeddings]:
    """Find the k reference rows most similar to each query.

    ``queries`` (Q, D) and ``references`` (N, D) are unit rows. Returns the row numbers (Q, k) and the
    cosine similarities (Q, k), best first; equal similarities are in row order. Raises
    :class:`GalleryError` when k is larger than N.
    """
    check_fits(k, len(references))
    rows = np.empty((len(queries), k), dtype=np.int64)
    similarities = np.empty((len(queries), k), dtype=np.float32)
    unsettled = np.arange(len(queries))
    proposed = min(len(references), k + SPARE_ROWS)
    while unsettled.size:
        part = queries[unsettled]
        found, lowest = propose_rows(part, references, proposed)
        exact = dot_products(part, references, found)
        best = np.lexsort((found, -exact))[:, :k]
        rows[unsettled] = np.take_along_axis(found, best, axis=1)
        similarities[unsettled] = np.take_along_axis(exact, best, axis=1)
        # A row that was left out may belong here if it is within rounding of the k-th: then look at more of them.
        doubtful = lowest >= similarities[unsettled, -1] - ROUNDING
        unsettled = unsettled[doubtful] if proposed < len(references) else unsettled[:0]
        proposed = min(len(references), 4 * proposed)
    return rows, similarities


def propose_rows(queries: Embeddings, references: Embeddings, count: int) -> tuple[Integers, Embeddings]:
    """Return ``count`` rows (Q, count) most similar to each query, in any order, and the least similarity (Q,) of them.

    The similarities are rounded as float32 products of many values are.
    """
    rows = np.empty((len(queries), count), dtype=np.int64)
    lowest = np.empty(len(queries), dtype=np.float32)
    first = len(references) - count
    step = max(1, PAIRS_AT_ONCE // len(references))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        # The longer side first, of which both cores take a half each.
        rough = np.ascontiguousarray((references @ queries[part].T).T)
        rows[part] = np.argpartition(rough, first, axis=1)[:, first:]
        lowest[part] = np.take_along_axis(rough, rows[part, :1], axis=1)[:, 0]
    return rows, lowest


def dot_products(queries: Embeddings, references: Embeddings, rows: Integers) -> Embeddings:
    """Return the dot product (Q, M) of each query with its own reference rows (Q, M), as :func:`cosines` sums it."""
    products = np.empty(rows.shape, dtype=np.float32)
    for query, wanted, row in zip(queries, rows, products, strict=True):
        for part in parts_of(len(wanted)):
            row[part] = cosines(query, references[wanted[part]])
    return products


def cosines(query: Embeddings, rows: Embeddings) -> Embeddings:
    """Return the dot product (N,) of a unit row (D,) with each of N unit rows (N, D), summed in float64."""
    products = np.empty(len(rows), dtype=np.float32)
    precise = query.astype(np.float64)
    for part in parts_of(len(rows)):
        products[part] = np.vecdot(rows[part].astype(np.float64), precise)
    return np.clip(products, -1.0, 1.0)


def check_normalized(embeddings: NDArray[np.floating], *, dimensions: int) -> Embeddings:
    """Return embeddings (N, D) as they are if they are rows of length 1; raise :class:`UsageError` if not."""
    rows = np.ascontiguousarray(embeddings, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != dimensions:
        raise UsageError(f"embeddings of shape {rows.shape}", fix=f"give an array of shape (N, {dimensions})")
    squares = np.einsum("nd,nd->n", rows, rows)
    longer = np.flatnonzero(~(np.abs(squares - 1.0) < 0.01))
    if longer.size:
        length = float(np.sqrt(squares[longer[0]]))
        fix = "make it of length 1, as `obelisk.arrays.l2_normalize` does"
        raise UsageError(f"an embedding of length {length:.4g}", where=f"row {longer[0]}", fix=fix)
    return rows


def as_stored(embeddings: NDArray[np.floating]) -> Embeddings:
    """Return unit embeddings (N, D) as a gallery gives them back: rounded to float16, then float32 of length 1."""
    return l2_normalize(embeddings.astype(np.float16), dimensions=embeddings.shape[1])


def check_fits(k: int, size: int) -> None:
    """Refuse a number of neighbours that the references cannot give."""
    if k < 1:
        raise UsageError(f"k = {k} neighbours", fix="k must be at least 1")
    if k > size:
        what = f"k = {k} neighbours asked of {size} reference photo{'' if size == 1 else 's'}"
        raise GalleryError(what, fix=f"give k of at most {size}" if size else "add reference photos first")
