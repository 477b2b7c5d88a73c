"""Similarities corrected by a background: photos that show no landmark of any gallery.

Some photos resemble everything: a hazy skyline, a crowd, a plain wall. Their similarity to a query says little. The
winners of the public landmark challenges take off what each photo has in common with photos of no landmark
(Henkel & Singer, *Supporting large-scale image recognition with out-of-domain samples*, 2020). For a query q, a
reference r and a background of B photos::

    s'(q, r) = s(q, r) − β · B(r) − γ · C(q)

    B(r)   mean of the 5 largest similarities of r to the background, at least 0
    C(q)   mean of the 10 largest similarities of q to the background

β decides between landmarks, γ only whether there is one. Corrected similarities vote; the plain ones stay what people
are shown.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Embeddings, Integers, l2_normalize
from obelisk.embedding import Bundle
from obelisk.errors import ModelError, UsageError
from obelisk.gallery import SearchEngine
from obelisk.recognition.rerank.reranker import Shortlist

BACKGROUND = "background.npy"  # the attachment of a bundle: (B, D) float16
NEAREST_TO_REFERENCE = 5
NEAREST_TO_QUERY = 10
REFERENCE_WEIGHT = 0.25  # β: larger values cost right answers
QUERY_WEIGHT = 1.0  # γ
ROWS_AT_ONCE = 1 << 12


class Background:
    """Embeddings (B, D) of photos of no landmark, made by the network whose similarities they correct.

    It takes both ordinary photos (things, animals, people) and landmarks of no gallery: a background of one kind
    lets the other kind pass. Raises UsageError for rows that are no embeddings.
    """

    def __init__(self, rows: NDArray[np.floating]) -> None:
        if rows.ndim != 2 or not len(rows):
            raise UsageError(f"a background of shape {rows.shape}", fix="give the embeddings (B, D) of some photos")
        self.rows = l2_normalize(rows, dimensions=rows.shape[1])
        self._columns = self.rows.T.astype(np.float64)

    def __len__(self) -> int:
        return len(self.rows)

    def of_references(self, references: Embeddings) -> NDArray[np.float32]:
        """Return B(r), (N,) from 0 to 1, for unit rows (N, D)."""
        resemblance: NDArray[np.float32] = np.maximum(self._resemblance(references, NEAREST_TO_REFERENCE), 0.0)
        return resemblance

    def of_queries(self, queries: Embeddings) -> NDArray[np.float32]:
        """Return C(q), (Q,) from -1 to 1, for unit rows (Q, D)."""
        return self._resemblance(queries, NEAREST_TO_QUERY)

    def _resemblance(self, rows: Embeddings, nearest: int) -> NDArray[np.float32]:
        """Return the mean (N,) of each row's largest similarities, summed in float64: batches change nothing."""
        nearest = min(nearest, len(self.rows))
        means = np.empty(len(rows), dtype=np.float32)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            similarities = rows[part].astype(np.float64) @ self._columns
            means[part] = np.partition(similarities, -nearest, axis=1)[:, -nearest:].mean(axis=1)
        return means


class Correction:
    """The layer of corrected similarity.

    What a row has in common with the background is computed when it is first met, and kept.
    """

    def __init__(self, references: SearchEngine, background: Background) -> None:
        if background.rows.shape[1] != references.dimensions:
            shapes = f"a background of {background.rows.shape[1]} dimensions for {references.dimensions}"
            raise UsageError(shapes, fix="give a background that was made by the same network")
        self._references = references
        self._background = background
        self._common = np.full(len(references), np.nan, dtype=np.float32)

    def reorder(self, queries: Embeddings, listed: Shortlist) -> Shortlist:
        """Order the rows by corrected similarity, cut to [-1, 1]."""
        of_queries = QUERY_WEIGHT * self._background.of_queries(queries)
        lowered = listed.similarities - REFERENCE_WEIGHT * self._find_common(listed.places)
        best = np.argsort(-lowered, axis=1, kind="stable")
        corrected = np.take_along_axis(lowered, best, axis=1) - of_queries[:, None]
        # The correction only lowers rows, those that are not listed, too, but none below -1.
        bound = np.where(np.isneginf(listed.bound), listed.bound, np.maximum(listed.bound - of_queries, -1.0))
        return Shortlist(
            places=np.take_along_axis(listed.places, best, axis=1),
            similarities=np.clip(corrected, -1.0, 1.0),
            bound=bound,
        )

    def _find_common(self, places: Integers) -> NDArray[np.float32]:
        """Return B(r) of the rows in these places, of any shape."""
        new = np.unique(places[np.isnan(self._common[places])])
        for start in range(0, len(new), ROWS_AT_ONCE):
            part = new[start : start + ROWS_AT_ONCE]
            self._common[part] = self._background.of_references(self._references.rows(part))
        return self._common[places]


def read_background(bundle: Bundle) -> Background | None:
    """Return the background that a bundle carries, None where it carries none.

    Raises ModelError for one that cannot be read, or that its network did not make.
    """
    content = bundle.read_attachment(BACKGROUND)
    if content is None:
        return None
    try:
        rows = np.load(io.BytesIO(content), allow_pickle=False)
        if rows.dtype not in (np.float16, np.float32) or rows.shape[1:] != (bundle.dimensions,):
            raise ValueError(f"{rows.dtype} of shape {rows.shape}, not float16 (B, {bundle.dimensions})")
        return Background(rows)
    except (ValueError, EOFError, UsageError) as error:
        where, fix = bundle.folder / BACKGROUND, "export or copy the bundle again"
        raise ModelError(f"unreadable background: {error}", where=where, fix=fix) from None


def pack_background(rows: NDArray[np.floating]) -> bytes:
    """Return the attachment ``background.npy`` for embeddings (B, D)."""
    file = io.BytesIO()
    np.save(file, rows.astype(np.float16), allow_pickle=False)
    return file.getvalue()
