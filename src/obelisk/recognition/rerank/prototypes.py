"""Neighbours and prototypes together: a photo counts the more, the better its whole landmark fits.

A prototype is the mean embedding of a landmark's photos (Snell, Swersky & Zemel, *Prototypical networks for few-shot
learning*, NeurIPS 2017). Alone it blurs a landmark that has several faces; one near photo alone may be a mislabelled
one. For a query q and a reference r of landmark l with the prototype p(l), of length 1, the M nearest references are
ranked again by ::

    s'(q, r) = (s(q, r) + λ · s(q, p(l))) / (1 + λ)

The other references follow in their order.
"""

from __future__ import annotations

import numpy as np

from obelisk.arrays import Embeddings, Integers
from obelisk.gallery import SearchEngine
from obelisk.recognition.rerank.reranker import Shortlist
from obelisk.recognition.votes import landmark_means

PROTOTYPE_WEIGHT = 0.35  # λ, from validation photos (docs/lab_log.md)
RANKED_AGAIN = 100  # M; a bound, so that a query costs the same in a large gallery


class Blend:
    """The layer of blended similarity. The prototype of a landmark is computed when it is first met, and kept.

    A shortlist must hold the M nearest rows, or all.
    """

    def __init__(self, references: SearchEngine, landmark_ids: Integers) -> None:
        self._references = references
        landmarks, self._landmark = np.unique(landmark_ids, return_inverse=True)
        self._by_landmark = np.argsort(self._landmark, kind="stable")
        self._ends = np.cumsum(np.bincount(self._landmark, minlength=len(landmarks)))
        self._prototypes = np.empty((len(landmarks), references.dimensions), dtype=np.float32)
        self._made = np.zeros(len(landmarks), dtype=bool)

    def reorder(self, queries: Embeddings, listed: Shortlist) -> Shortlist:
        """Order the M nearest rows by blended similarity."""
        places, similarities = listed.places.copy(), listed.similarities.copy()
        again = min(places.shape[1], RANKED_AGAIN)
        blended = (similarities[:, :again] + PROTOTYPE_WEIGHT * self._fit(queries, places[:, :again])) / (
            1 + PROTOTYPE_WEIGHT
        )
        best = np.argsort(-blended, axis=1, kind="stable")
        places[:, :again] = np.take_along_axis(places[:, :again], best, axis=1)
        similarities[:, :again] = np.take_along_axis(blended, best, axis=1)
        least = similarities[:, again - 1]
        similarities[:, again:] = np.minimum(similarities[:, again:], least[:, None])
        return Shortlist(places=places, similarities=similarities, bound=np.minimum(listed.bound, least))

    def _fit(self, queries: Embeddings, places: Integers) -> Embeddings:
        """Return the similarity (Q, M) of each query to the prototypes of the landmarks in its places (Q, M)."""
        landmarks = self._landmark[places]
        self._make_prototypes(np.unique(landmarks))
        fits = np.empty(places.shape, dtype=np.float32)
        for query, row in enumerate(landmarks):
            met, inverse = np.unique(row, return_inverse=True)
            fits[query] = (self._prototypes[met] @ queries[query])[inverse]
        return fits

    def _make_prototypes(self, landmarks: Integers) -> None:
        for landmark in landmarks[~self._made[landmarks]].tolist():
            start = self._ends[landmark - 1] if landmark else 0
            rows = self._references.rows(self._by_landmark[start : self._ends[landmark]])
            self._prototypes[landmark] = landmark_means(rows, np.zeros(len(rows), dtype=np.int64))[0][0]
            self._made[landmark] = True
