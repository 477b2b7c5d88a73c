"""Score normalization by a background: photos that show no landmark of any gallery.

Some photos resemble everything: a hazy skyline, a crowd, a plain wall. Their similarity to a query says little. The
winners of the public landmark challenges subtract what a photo has in common with photos of no landmark (Henkel &
Singer, *Supporting large-scale image recognition with out-of-domain samples*, 2020). For a query q, a reference r and
a background of B photos::

    s'(q, r) = s(q, r) − β · B(r) − γ · C(q)

    B(r)   mean of the 5 largest similarities of r to the background, at least 0
    C(q)   mean of the 10 largest similarities of q to the background

β helps to tell landmarks apart; γ only helps to tell whether there is one. Normalized similarities vote; people are
shown the plain ones.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Embeddings, Integers, l2_normalize
from obelisk.embedding import Bundle
from obelisk.errors import ModelError, UsageError
from obelisk.gallery import KeptValues, SearchEngine
from obelisk.npy import parse_npy
from obelisk.recognition.rerank.reranker import Shortlist

BACKGROUND = "background.npy"
"""Name of the attachment of a bundle that holds the embeddings (B, D) of a background, float16."""

NEAREST_TO_REFERENCE = 5
NEAREST_TO_QUERY = 10
REFERENCE_WEIGHT = 0.25  # β; larger values cost correct answers
QUERY_WEIGHT = 1.0  # γ
ROWS_AT_ONCE = 1 << 12
KEPT = 1 << 20  # B(r) of references met last: 12 MiB


class Background:
    """The background of a model: embeddings (B, D) of photos of no landmark, by the model's own network.

    It needs both ordinary photos (things, animals, people) and landmarks of no gallery: a background of one kind lets
    the other kind pass. ``rows`` need not be unit-norm; the attribute ``rows`` is.

    Raises :class:`~obelisk.errors.UsageError` for another shape, no row, or a row that is zero or not finite.
    """

    def __init__(self, rows: NDArray[np.floating]) -> None:
        if rows.ndim != 2 or not len(rows):
            raise UsageError(f"a background of shape {rows.shape}", fix="give the embeddings (B, D) of some photos")
        self.rows = l2_normalize(rows, dimensions=rows.shape[1])
        self._columns = self.rows.T.astype(np.float64)

    def __len__(self) -> int:
        return len(self.rows)

    def of_references(self, references: Embeddings) -> NDArray[np.float32]:
        """Return B(r), (N,) in [0, 1], of unit-norm references (N, D)."""
        return np.maximum(self._mean_similarity(references, NEAREST_TO_REFERENCE), np.float32(0))

    def of_queries(self, queries: Embeddings) -> NDArray[np.float32]:
        """Return C(q), (Q,) in [-1, 1], of unit-norm queries (Q, D)."""
        return self._mean_similarity(queries, NEAREST_TO_QUERY)

    def _mean_similarity(self, rows: Embeddings, nearest: int) -> NDArray[np.float32]:
        """Return the mean (N,) of each row's largest similarities, in float64 so that batching changes nothing."""
        nearest = min(nearest, len(self.rows))
        means = np.empty(len(rows), dtype=np.float32)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            similarities = rows[part].astype(np.float64) @ self._columns
            means[part] = np.partition(similarities, -nearest, axis=1)[:, -nearest:].mean(axis=1)
        return means


class BackgroundReranker:
    """Normalizes the similarities of ``references`` by a background.

    B(r) of a reference is computed when first needed, and kept: that of the last :data:`KEPT`. Raises
    :class:`~obelisk.errors.UsageError` for a background of other dimensions.
    """

    def __init__(self, references: SearchEngine, background: Background) -> None:
        if background.rows.shape[1] != references.dimensions:
            shapes = f"a background of {background.rows.shape[1]} dimensions for {references.dimensions}"
            raise UsageError(shapes, fix="give a background made by the same network")
        self._references = references
        self._background = background
        self._of_references = KeptValues(self._compute, min(len(references), KEPT), (), np.float32)

    def rerank(self, queries: Embeddings, shortlist: Shortlist) -> Shortlist:
        """Sort the rows by normalized similarity, clipped to [-1, 1]."""
        of_queries = QUERY_WEIGHT * self._background.of_queries(queries)
        lowered = shortlist.similarities - REFERENCE_WEIGHT * self._look_up(shortlist.indices)
        order = np.argsort(-lowered, axis=1, kind="stable")
        normalized = np.take_along_axis(lowered, order, axis=1) - of_queries[:, None]
        # B(r) ≥ 0 only lowers an unlisted row, so its bound need only fall by C(q); clipping lifts it to -1 at least.
        bound = np.where(np.isneginf(shortlist.bound), shortlist.bound, np.maximum(shortlist.bound - of_queries, -1.0))
        return Shortlist(
            indices=np.take_along_axis(shortlist.indices, order, axis=1),
            similarities=np.clip(normalized, -1.0, 1.0),
            bound=bound,
        )

    def _look_up(self, numbers: Integers) -> NDArray[np.float32]:
        """Return B(r) of the references with these numbers, in their shape."""
        met, places = np.unique(numbers, return_inverse=True)
        return self._of_references.look_up(met)[places].reshape(numbers.shape)

    def _compute(self, numbers: Integers) -> NDArray[np.float32]:
        return self._background.of_references(self._references.rows(numbers))


def read_background(bundle: Bundle) -> Background | None:
    """Read the background that a bundle carries; return None if it carries none.

    Raises :class:`~obelisk.errors.ModelError` if the attachment can't be read or has other dimensions.
    """
    content = bundle.read_attachment(BACKGROUND)
    if content is None:
        return None
    try:
        rows = parse_npy(content)
        if rows.dtype not in (np.float16, np.float32) or rows.shape[1:] != (bundle.dimensions,):
            raise ValueError(f"{rows.dtype} of shape {rows.shape}, not float16 (B, {bundle.dimensions})")
        return Background(rows)
    except (ValueError, UsageError) as error:
        where, fix = bundle.folder / BACKGROUND, "export or copy the bundle again"
        raise ModelError(f"unreadable background: {error}", where=where, fix=fix) from None


def pack_background(rows: NDArray[np.floating]) -> bytes:
    """Return the bytes of the attachment ``background.npy``: the embeddings (B, D) as float16."""
    file = io.BytesIO()
    np.save(file, rows.astype(np.float16), allow_pickle=False)
    return file.getvalue()
