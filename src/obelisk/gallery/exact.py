"""Exact nearest-neighbor search over normalized embeddings, the same on every machine and for every batch size.

Candidates come from a float32 matrix product, whose last digits depend on the number of queries and on the processor.
These digits must not decide anything, so the similarities of the candidates, and of all rows within rounding error of
them, are computed again in float64. Equal similarities keep the order of the rows.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Embeddings, Integers, l2_normalize, parts_of
from obelisk.errors import GalleryError, UsageError

# The error of a float32 dot product of two unit vectors is below D·2⁻²⁴ (1e-4 for D = 1600), in practice far below.
ROUNDING = 1e-4
SPARE_ROWS = 8
PAIRS_AT_ONCE = 1 << 24  # similarities computed at once: 64 MiB


class SearchEngine(Protocol):
    """Finds the nearest of N normalized embeddings of D dimensions; index n is the same row in every answer."""

    def __len__(self) -> int:
        """Return N."""

    @property
    def dimensions(self) -> int:
        """Return D."""

    def nearest(self, queries: Embeddings, k: int) -> tuple[Integers, Embeddings]:
        """Find the k rows most similar to each normalized query (Q, D).

        Returns row indices (Q, k) and cosine similarities (Q, k), best first; equal similarities in the order of the
        indices. Raises :class:`GalleryError` if k is larger than N.
        """

    def rows(self, indices: Integers) -> Embeddings:
        """Return the unit-norm float32 embeddings (M, D) at M indices."""


class ExactSearch:
    """The search engine of normalized embeddings (N, D) in memory: it compares a query with every row.

    Raises :class:`UsageError` for a row that does not have unit norm.
    """

    def __init__(self, embeddings: Embeddings) -> None:
        self.embeddings = check_normalized(embeddings, dimensions=embeddings.shape[-1])

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def dimensions(self) -> int:
        """D, the length of an embedding."""
        return int(self.embeddings.shape[1])

    def nearest(self, queries: Embeddings, k: int) -> tuple[Integers, Embeddings]:
        """Find the k rows most similar to each query; see :func:`nearest_rows`."""
        return nearest_rows(queries, self.embeddings, k)

    def rows(self, indices: Integers) -> Embeddings:
        """Return the embeddings (M, D) at M indices."""
        return self.embeddings[indices]


def nearest_rows(queries: Embeddings, references: Embeddings, k: int) -> tuple[Integers, Embeddings]:
    """Find the k reference rows most similar to each query.

    ``queries`` (Q, D) and ``references`` (N, D) are normalized. Returns row indices (Q, k) and cosine similarities
    (Q, k) in [-1, 1], best first; equal similarities in the order of the rows. Raises :class:`GalleryError` if k is
    larger than N.
    """
    check_fits(k, len(references))
    rows = np.empty((len(queries), k), dtype=np.int64)
    similarities = np.empty((len(queries), k), dtype=np.float32)
    pending = np.arange(len(queries))
    proposed = min(len(references), k + SPARE_ROWS)
    while pending.size:
        part = queries[pending]
        found, lowest = propose_rows(part, references, proposed)
        exact = dot_products(part, references, found)
        best = np.lexsort((found, -exact))[:, :k]
        rows[pending] = np.take_along_axis(found, best, axis=1)
        similarities[pending] = np.take_along_axis(exact, best, axis=1)
        # A row that was left out may belong here if it is within rounding error of the k-th: then take in more rows.
        doubtful = lowest >= similarities[pending, -1] - ROUNDING
        pending = pending[doubtful] if proposed < len(references) else pending[:0]
        proposed = min(len(references), 4 * proposed)
    return rows, similarities


def propose_rows(queries: Embeddings, references: Embeddings, count: int) -> tuple[Integers, Embeddings]:
    """Return the ``count`` rows (Q, count) most similar to each query, in any order, and the least similarity (Q,).

    The similarities carry the rounding error of float32 products.
    """
    rows = np.empty((len(queries), count), dtype=np.int64)
    lowest = np.empty(len(queries), dtype=np.float32)
    first = len(references) - count
    step = max(1, PAIRS_AT_ONCE // len(references))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        # References first: BLAS shares out the longer side among the cores.
        rough = np.ascontiguousarray((references @ queries[part].T).T)
        rows[part] = np.argpartition(rough, first, axis=1)[:, first:]
        lowest[part] = np.take_along_axis(rough, rows[part, :1], axis=1)[:, 0]
    return rows, lowest


def dot_products(queries: Embeddings, references: Embeddings, rows: Integers) -> Embeddings:
    """Return the similarities (Q, M) of each query to its own reference rows (Q, M), as :func:`cosines` sums them."""
    products = np.empty(rows.shape, dtype=np.float32)
    for query, wanted, row in zip(queries, rows, products, strict=True):
        for part in parts_of(len(wanted)):
            row[part] = cosines(query, references[wanted[part]])
    return products


def cosines(query: Embeddings, embeddings: Embeddings) -> Embeddings:
    """Return the cosine similarity (N,) of a normalized query (D,) to each embedding (N, D), summed in float64."""
    products = np.empty(len(embeddings), dtype=np.float32)
    precise = query.astype(np.float64)
    for part in parts_of(len(embeddings)):
        products[part] = np.vecdot(embeddings[part].astype(np.float64), precise)
    return np.clip(products, -1.0, 1.0)


def check_normalized(embeddings: NDArray[np.floating], *, dimensions: int) -> Embeddings:
    """Return embeddings (N, D) as float32; raise :class:`UsageError` if a row does not have unit norm."""
    rows = np.ascontiguousarray(embeddings, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != dimensions:
        raise UsageError(f"embeddings of shape {rows.shape}", fix=f"give an array of shape (N, {dimensions})")
    squares = np.einsum("nd,nd->n", rows, rows)
    wrong = np.flatnonzero(~(np.abs(squares - 1.0) < 0.01))
    if wrong.size:
        length = float(np.sqrt(squares[wrong[0]]))
        fix = "make it of length 1, as `obelisk.arrays.l2_normalize` does"
        raise UsageError(f"an embedding of length {length:.4g}", where=f"row {wrong[0]}", fix=fix)
    return rows


def as_stored(embeddings: NDArray[np.floating]) -> Embeddings:
    """Return embeddings (N, D) as a gallery returns them: rounded to float16, then unit-norm float32."""
    return l2_normalize(embeddings.astype(np.float16), dimensions=embeddings.shape[1])


def check_fits(k: int, size: int) -> None:
    """Raise :class:`UsageError` for k < 1, :class:`GalleryError` for more neighbors than there are references."""
    if not size:
        fix = "add some: `obelisk gallery add GALLERY PHOTO … --landmark NAME`"
        raise GalleryError("the gallery has no reference photos", fix=fix)
    if k < 1:
        raise UsageError(f"k = {k} neighbors", fix="k must be at least 1")
    if k > size:
        what = f"k = {k} neighbors, but only {size} reference photo{'' if size == 1 else 's'}"
        raise GalleryError(what, fix=f"give k of at most {size}")
