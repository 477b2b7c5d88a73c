"""Prototype reranking: a reference photo counts for more when its whole landmark fits the query.

A prototype is the mean embedding of a landmark's photos (Snell, Swersky & Zemel, *Prototypical networks for few-shot
learning*, NeurIPS 2017). Alone it blurs a landmark with several sides; a single near photo may carry a wrong label.
For a query q and a reference r of landmark l with unit-norm prototype p(l), the M nearest references are reranked by ::

    s'(q, r) = (s(q, r) + λ · s(q, p(l))) / (1 + λ)

The other references follow in their order.
"""

from __future__ import annotations

import numpy as np

from obelisk.arrays import Embeddings, Integers, l2_normalize, row_norms
from obelisk.gallery import SearchEngine
from obelisk.recognition.rerank.reranker import Shortlist

PROTOTYPE_WEIGHT = 0.35  # λ, chosen on validation photos (docs/lab_log.md)
RERANKED = 100  # M; fixed, so that a query costs the same in a large gallery


class PrototypeReranker:
    """Blends each similarity with that of the landmark's prototype.

    ``references`` searches N rows, ``landmark_ids`` (N,) is the landmark of each. A prototype is computed
    once, when first needed. A shortlist must hold the M nearest rows, or all of them.
    """

    def __init__(self, references: SearchEngine, landmark_ids: Integers) -> None:
        self._references = references
        landmarks, self._landmark = np.unique(landmark_ids, return_inverse=True)
        self._by_landmark = np.argsort(self._landmark, kind="stable")
        self._ends = np.cumsum(np.bincount(self._landmark, minlength=len(landmarks)))
        self._prototypes = np.empty((len(landmarks), references.dimensions), dtype=np.float32)
        self._computed = np.zeros(len(landmarks), dtype=bool)

    def rerank(self, queries: Embeddings, shortlist: Shortlist) -> Shortlist:
        """Sort the M nearest rows by blended similarity."""
        indices, similarities = shortlist.indices.copy(), shortlist.similarities.copy()
        M = min(indices.shape[1], RERANKED)
        fit = self.prototype_similarities(queries, indices[:, :M])
        blended = (similarities[:, :M] + PROTOTYPE_WEIGHT * fit) / (1 + PROTOTYPE_WEIGHT)
        order = np.argsort(-blended, axis=1, kind="stable")
        indices[:, :M] = np.take_along_axis(indices[:, :M], order, axis=1)
        similarities[:, :M] = np.take_along_axis(blended, order, axis=1)
        # Rows beyond the M nearest keep their place behind them: none may be more similar than the last of the M.
        least = similarities[:, M - 1]
        similarities[:, M:] = np.minimum(similarities[:, M:], least[:, None])
        return Shortlist(indices=indices, similarities=similarities, bound=np.minimum(shortlist.bound, least))

    def prototype_similarities(self, queries: Embeddings, indices: Integers) -> Embeddings:
        """Return the similarity (Q, M) of each query to the prototypes of the landmarks at its indices (Q, M)."""
        landmarks = self._landmark[indices]
        self._ensure_prototypes(np.unique(landmarks))
        similarities = np.empty(indices.shape, dtype=np.float32)
        for query, row in enumerate(landmarks):
            met, inverse = np.unique(row, return_inverse=True)
            similarities[query] = (self._prototypes[met] @ queries[query])[inverse]
        return similarities

    def _ensure_prototypes(self, landmarks: Integers) -> None:
        for landmark in landmarks[~self._computed[landmarks]].tolist():
            start = self._ends[landmark - 1] if landmark else 0
            rows = self._references.rows(self._by_landmark[start : self._ends[landmark]])
            self._prototypes[landmark] = compute_prototypes(rows, np.zeros(len(rows), dtype=np.int64))[0][0]
            self._computed[landmark] = True


def compute_prototypes(references: Embeddings, landmark_ids: Integers) -> tuple[Embeddings, Integers]:
    """Return the prototypes (C, D), unit-norm means of each landmark's rows, and their landmark ids (C,), ascending.

    ``references`` (N, D) are unit-norm, ``landmark_ids`` (N,). A landmark whose rows cancel out has no direction; its
    first row stands for it.
    """
    by_landmark = np.argsort(landmark_ids, kind="stable")
    references = references[by_landmark]
    landmarks, first = np.unique(landmark_ids[by_landmark], return_index=True)
    sums = np.add.reduceat(references.astype(np.float64), first, axis=0)
    cancelled = row_norms(sums) < 1e-9
    sums[cancelled] = references[first[cancelled]]
    return l2_normalize(sums), landmarks
