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
from obelisk.errors import GalleryChangedError
from obelisk.gallery import KeptValues, Labels, SearchEngine, as_labels
from obelisk.recognition.rerank.reranker import Shortlist

PROTOTYPE_WEIGHT = 0.35  # λ, chosen on validation photos (docs/lab_log.md)
RERANKED = 100  # M; fixed, so that a query costs the same in a large gallery
KEPT = 1 << 17  # prototypes of landmarks met last: 256 MiB with 512 values
ROWS_AT_ONCE = 1 << 14


class PrototypeReranker:
    """Blends each similarity with that of the landmark's prototype.

    ``references`` searches N rows, ``labels`` tells the landmark of each. A prototype is computed when first needed,
    and kept: that of the last :data:`KEPT`. A shortlist must hold the M nearest rows, or all of them.
    """

    def __init__(self, references: SearchEngine, labels: Labels | Integers) -> None:
        self._references = references
        self._labels = as_labels(labels)
        slots, shape = min(len(self._labels.landmarks), KEPT), (references.dimensions,)
        self._prototypes = KeptValues(self._compute, slots, shape, np.float32)

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
        """Return the similarity (Q, M) of each query to the prototypes of the landmarks of its photos (Q, M)."""
        places = np.searchsorted(self._labels.landmarks, self._labels.of(indices))
        met, inverse = np.unique(places, return_inverse=True)
        prototypes = self._prototypes.look_up(met)
        similarities = np.empty(indices.shape, dtype=np.float32)
        for query, row in enumerate(inverse.reshape(indices.shape)):
            own, inverse_own = np.unique(row, return_inverse=True)
            similarities[query] = (prototypes[own] @ queries[query])[inverse_own]
        return similarities

    def _compute(self, places: Integers) -> Embeddings:
        """Return the prototypes of landmarks, given by their places among all."""
        return prototypes_of(self._references, self._labels, self._labels.landmarks[places])


def prototypes_of(references: SearchEngine, labels: Labels, landmarks: Integers) -> Embeddings:
    """Return the prototypes (M, D) of landmarks (M,); their photos are read some thousand at a time."""
    photos = labels.photos_of(landmarks)
    if not all(map(len, photos)):
        raise GalleryChangedError("a landmark was removed while it was used", fix="try again")
    prototypes = np.empty((len(landmarks), references.dimensions), dtype=np.float32)
    counts = np.array([len(numbers) for numbers in photos])
    for part in np.split(np.arange(len(landmarks)), np.flatnonzero(np.diff(np.cumsum(counts) // ROWS_AT_ONCE)) + 1):
        rows = references.rows(np.concatenate([photos[place] for place in part]))
        prototypes[part], _ = compute_prototypes(rows, np.repeat(part, counts[part]))
    return prototypes


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
