"""Classification by the softmax layer of a model: its probabilities rank the landmarks; neighbors are only shown.

With z (C,) the logits of the layer's landmarks, computed in float64::

    p(l) = exp(z_l − max z) / Σ_m exp(z_m − max z)

over all C landmarks. For a gallery that holds only some of them, the same probabilities rank those.
"""

from __future__ import annotations

import numpy as np

from obelisk.arrays import Embeddings, Floats, Integers
from obelisk.embedding import Bundle, LayerLandmarks, read_classifier, read_layer
from obelisk.errors import ModelError
from obelisk.gallery import Gallery, Labels, References, SearchEngine, as_labels
from obelisk.recognition.ranking import Ranking


class SoftmaxClassifier:
    """Ranks the landmarks of a gallery by the probabilities of a layer that knows all of them.

    ``labels`` tells the landmarks of the ``references``, ``layer`` (C,) are those of the layer's columns.
    """

    def __init__(self, references: SearchEngine, labels: Labels | Integers, layer: Integers) -> None:
        self._references = references
        self._landmarks = as_labels(labels).landmarks
        order = np.argsort(layer)
        self._columns = order[np.searchsorted(layer[order], self._landmarks)]
        self._width = len(layer)

    def classify(self, queries: Embeddings, logits: Embeddings, *, k: int, top: int) -> Ranking:
        """Rank by logits (Q, C), and find the k nearest reference photos of the query embeddings (Q, D).

        Equal probabilities are ordered by landmark id. Raises :class:`~obelisk.errors.ModelError` for logits of another
        width.
        """
        if len(queries) and logits.shape != (len(queries), self._width):
            what = f"the network gives logits of shape {logits.shape} for a softmax layer of {self._width} landmarks"
            raise ModelError(what, fix="export the bundle again")
        neighbors, similarities = self._references.nearest(queries, k)
        top = min(top, len(self._landmarks))
        candidates, scores = np.empty((len(queries), top), dtype=np.int64), np.empty((len(queries), top))
        for query, row in enumerate(logits):
            probabilities = softmax(row)[self._columns]
            best = np.argsort(-probabilities, kind="stable")[:top]
            candidates[query], scores[query] = self._landmarks[best], probabilities[best]
        return Ranking(
            candidates=candidates,
            scores=scores,
            confidence=scores[:, 0].copy(),
            neighbors=neighbors,
            similarities=similarities,
        )


def softmax(logits: Embeddings) -> Floats:
    """Return the probabilities (C,) of logits (C,), in float64."""
    precise = logits.astype(np.float64)
    powers = np.exp(precise - precise.max())
    return np.asarray(powers / powers.sum())


def find_layer_remark(gallery: Gallery, bundle: Bundle) -> str | None:
    """Return why a gallery can't be answered by its model's softmax layer; None if it can, or doesn't have to."""
    classifier = read_classifier(bundle)
    if classifier is None or classifier.kind != "softmax":
        return None
    return describe_layer(read_layer(bundle), gallery.references())


def describe_layer(layer: LayerLandmarks | None, references: References) -> str | None:
    """Return why a softmax layer can't answer for the landmarks of a gallery; None if it can."""
    if layer is None:
        return "the model carries no softmax layer, so the nearest reference photos decide"
    unknown = find_unknown(references, layer)
    if not unknown:
        return None
    first = f"`{references.landmarks[unknown[0]].name}` (id {unknown[0]})"
    what = f"the model's softmax layer does not know {len(unknown)} of the gallery's landmarks, first {first}"
    return f"{what}, so the nearest reference photos decide"


def find_unknown(references: References, layer: LayerLandmarks) -> list[int]:
    """Return the ids of the landmarks with reference photos that a layer does not know under their id and name."""
    names = references.landmarks
    shown = references.labels.landmarks.tolist()
    return [landmark_id for landmark_id in shown if not layer.knows(landmark_id, names[landmark_id].name)]
