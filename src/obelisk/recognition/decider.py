"""What decides which landmark a photo shows: neighbors that vote or the model's layer, verification, calibration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from obelisk.arrays import Embeddings
from obelisk.defaults import VOTE, K
from obelisk.embedding import BundleClassifier, Embedded, LayerLandmarks
from obelisk.errors import ModelError
from obelisk.gallery import ReferenceFiles, References
from obelisk.photos import GivenPhoto
from obelisk.positions import Position
from obelisk.recognition.calibration import Calibration, find_margins
from obelisk.recognition.classifier import KNNClassifier
from obelisk.recognition.nearness import (
    NEARBY,
    LandmarkPositions,
    Nearness,
    choose_weight,
)
from obelisk.recognition.ranking import Ranking, keep_top
from obelisk.recognition.rerank.background import Background
from obelisk.recognition.rerank.geometry import COMPARED, GeometricVerifier, KeypointCache
from obelisk.recognition.softmax_classifier import SoftmaxClassifier, find_unknown

Rank = Callable[[Embeddings, Sequence[Embedded], Sequence[GivenPhoto], Nearness | None], Ranking]
"""Ranks the landmarks of unit-norm query embeddings (Q, D), given their photos, and where these were taken."""


class Decider:
    """Ranks the landmarks of a gallery for photos by the options of a call.

    What it prepares for the references of a gallery is kept until the gallery changes.
    """

    def __init__(
        self,
        background: Background | None,
        calibration: Calibration | None,
        classifier: BundleClassifier,
        layer: LayerLandmarks | None,
        files: ReferenceFiles,
    ) -> None:
        self._background = background
        self._calibration = calibration
        self._classifier = classifier
        self._layer = layer
        self._files = files
        self._knn: tuple[References, tuple[object, ...], KNNClassifier] | None = None
        self._softmax: tuple[References, SoftmaxClassifier | None] | None = None
        self._verifier: tuple[References, GeometricVerifier] | None = None
        self._positions: tuple[References, LandmarkPositions] | None = None

    def make_rank(
        self,
        references: References,
        *,
        top: int,
        k: int | None,
        vote: str | None,
        exponent: float | None,
        expand: str,
        verify: bool = False,
        keypoints: KeypointCache | None = None,
    ) -> Rank:
        """Check the options and return the function that ranks by them; ``keypoints`` are kept for verification."""
        layer = self.find_layer(references) if vote is None else None
        calibration = self.find_calibration(references, vote)
        vote = vote or self._vote
        k = min(self._k, len(references)) if k is None else k
        classifier = self._prepare_classifier(references, vote=vote, exponent=exponent, expand=expand)
        classifier.check(k=k, top=top)
        verifier = self._prepare_verifier(references, keypoints) if verify else None

        def rank(
            queries: Embeddings, photos: Sequence[Embedded], given: Sequence[GivenPhoto], nearness: Nearness | None
        ) -> Ranking:
            listed = max(top, len(COMPARED) if verifier else 2)  # the margin needs the second candidate, too
            listed = max(listed, NEARBY) if nearness else listed
            if layer:
                ranking = layer.classify(queries, gather_logits(photos), k=k, top=listed)
            else:
                ranking = classifier.classify(queries, k=k, top=listed)
            if nearness:
                ranking = nearness.rank(ranking, choose_weight(calibration, probabilities=layer is not None))
            scores, margins, inliers = ranking.scores[:, 0], find_margins(ranking.scores), None
            if verifier:
                verified = verifier.verify(ranking, queries, given)
                ranking, scores = verified.ranking, verified.scores
                margins, inliers = verified.margins, verified.inliers
            if calibration:
                confidence = calibration.confidence(
                    scores, margins, len(references), landmarks=len(references.landmarks), inliers=inliers
                )
                verified_rows = None if inliers is None else ~np.isnan(inliers)
                ranking = replace(ranking, confidence=confidence, verified=verified_rows)
            return keep_top(ranking, top)

        return rank

    def _prepare_classifier(
        self, references: References, *, vote: str, exponent: float | None, expand: str
    ) -> KNNClassifier:
        """Return a classifier of these references; the previous one, with its cache, if nothing has changed."""
        options = (vote, exponent, expand)
        if self._knn and self._knn[0] is references and self._knn[1] == options:
            return self._knn[2]
        classifier = KNNClassifier(
            references,
            references.labels,
            vote=vote,
            exponent=exponent,
            background=self._background,
            expand=expand,
        )
        self._knn = references, options, classifier
        return classifier

    def _prepare_verifier(self, references: References, keypoints: KeypointCache | None) -> GeometricVerifier:
        """Return a verifier of these references; the previous one, with its keypoints, if nothing has changed."""
        if self._verifier is None or self._verifier[0] is not references:
            self._verifier = references, GeometricVerifier(references, keypoints or KeypointCache(self._files))
        return self._verifier[1]

    @property
    def _vote(self) -> str:
        """The vote if a call names none; the default one replaces a softmax layer that can't answer."""
        return self._classifier.vote if self._classifier.kind == "knn" else VOTE

    @property
    def _k(self) -> int:
        return self._classifier.k if self._classifier.kind == "knn" else K

    def find_layer(self, references: References) -> SoftmaxClassifier | None:
        """Return the classifier of the model's softmax layer; None if neighbors decide."""
        if self._layer is None:
            return None
        if self._softmax is None or self._softmax[0] is not references:
            unknown = find_unknown(references, self._layer)
            found = None if unknown else SoftmaxClassifier(references, references.labels, self._layer.ids)
            self._softmax = references, found
        return self._softmax[1]

    def find_calibration(self, references: References, vote: str | None) -> Calibration | None:
        """Return the calibration if it holds for what decides: for neighbors that vote as when it was made."""
        if self._calibration is None or (vote is None and self.find_layer(references)):
            return None
        return self._calibration if (vote or self._vote) == self._calibration.vote else None

    def locate(self, positions: Sequence[Position | None], references: References) -> Nearness | None:
        """Return the positions of photos beside those of the landmarks; None if no position is known."""
        if all(position is None for position in positions):
            return None
        if self._positions is None or self._positions[0] is not references:
            self._positions = references, LandmarkPositions(references.landmarks)
        return Nearness(landmarks=self._positions[1], positions=positions)


def gather_logits(photos: Sequence[Embedded]) -> Embeddings:
    """Return the logits (Q, C) of embedded photos; raise ModelError if an embedder gave none."""
    rows = [photo.logits for photo in photos if photo.logits is not None]
    if len(rows) < len(photos):
        raise ModelError("photos were embedded without logits", fix="give Embedder(bundle, logits=True)")
    return np.stack(rows) if rows else np.empty((0, 0), dtype=np.float32)
