"""What a classifier returns: the landmarks that queries may show, ranked."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from obelisk.arrays import Booleans, Embeddings, Floats, Integers


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The landmarks that Q queries may show, with T = ``top`` candidates each (fewer if the gallery has fewer).

    ================  ======  =============================================================
    ``candidates``    (Q, T)  landmark ids, best first
    ``scores``        (Q, T)  their scores in [0, 1], higher is better
    ``confidence``    (Q,)    confidence in the first candidate, in [0, 1]
    ``neighbors``     (Q, k)  row indices of the nearest reference photos, nearest first
    ``similarities``  (Q, k)  their cosine similarities
    ``verified``      (Q,)    whether geometry is part of the confidence; None if of no query
    ================  ======  =============================================================
    """

    candidates: Integers
    scores: Floats
    confidence: Floats
    neighbors: Integers
    similarities: Embeddings
    verified: Booleans | None = None


def allocate_ranking(queries: int, *, k: int, top: int) -> Ranking:
    """Return a ranking whose columns are still to be filled in."""
    return Ranking(
        candidates=np.empty((queries, top), dtype=np.int64),
        scores=np.empty((queries, top)),
        confidence=np.empty(queries),
        neighbors=np.empty((queries, k), dtype=np.int64),
        similarities=np.empty((queries, k), dtype=np.float32),
    )


def fill_rows(ranking: Ranking, rows: Integers, found: Ranking) -> None:
    """Write the M rows of one ranking into another at row indices (M,)."""
    for name, column in vars(ranking).items():
        if column is not None:
            column[rows] = getattr(found, name)


def keep_top(ranking: Ranking, top: int) -> Ranking:
    """Return a ranking with its ``top`` best candidates only."""
    return replace(ranking, candidates=ranking.candidates[:, :top], scores=ranking.scores[:, :top])
