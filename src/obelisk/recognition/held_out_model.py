"""Calibrating a model by photos that a twin of it never saw.

The twin is trained by the same recipes on a part of the landmarks, and on a part of their photos. What it has not
seen plays the queries: photos held back of the gallery's landmarks ought to be named, photos of other landmarks and
of no landmark ought not. Two calibrations come of it: one for galleries of places that no training saw, as people
build them, and one for the gallery of the training's own landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Booleans, Embeddings
from obelisk.errors import UsageError
from obelisk.gallery import ExactSearch
from obelisk.recognition.calibration import Calibration, Evidence, fit_calibration
from obelisk.recognition.classifier import NeighbourClassifier
from obelisk.recognition.rerank.background import Background

UNKNOWN_SHARE = 0.4  # of the queries, whose landmark the gallery does not have: a cautious guess of what people ask
ORDINARY_SHARE = 0.5  # of these, that show no landmark at all
PLACES = (5, 8, 12, 16, 24, 48)  # landmarks of the galleries that are drawn
DRAWS = 12  # galleries of each size
NEIGHBOURS = 3
MOST_UNKNOWN = 400


@dataclass(frozen=True, kw_only=True, eq=False)
class TwinPhotos:
    """What a twin makes of N labelled photos and of M ordinary ones.

    ``embeddings`` (N, D) and ``landmarks`` (N,); ``trained`` (N,) marks photos that it was trained on, ``known`` (N,)
    those whose landmark is among the trained ones. ``ordinary`` (M, D) show no landmark, and are not in ``background``.
    """

    embeddings: Embeddings
    landmarks: NDArray[np.int64]
    trained: Booleans
    known: Booleans
    ordinary: Embeddings
    background: Background


def calibrate_places(photos: TwinPhotos, queries: Booleans, seed: int = 0) -> Calibration:
    """Calibrate for galleries of landmarks that no training saw; ``queries`` (N,) are held back from all of them.

    Raises UsageError when there are fewer landmarks than the smallest gallery takes.
    """
    chance = np.random.default_rng(seed)
    unseen = np.unique(photos.landmarks[~photos.known])
    if len(unseen) < PLACES[0]:
        raise UsageError(f"{len(unseen)} landmarks that the twin did not see", fix=f"leave out {PLACES[0]} or more")
    evidence = []
    for places in (size for size in PLACES if size <= len(unseen)):
        for _ in range(DRAWS):
            inside = np.isin(photos.landmarks, chance.choice(unseen, places, replace=False))
            others = np.flatnonzero(~inside & queries)
            others = chance.choice(others, min(len(others), MOST_UNKNOWN), replace=False)
            evidence.append(ask(photos, inside & ~queries, inside & queries, photos.embeddings[others]))
    return fit_calibration(join(evidence))


def calibrate_own(photos: TwinPhotos, seed: int = 0) -> Calibration:
    """Calibrate for the gallery of the training's own landmarks, whole and in part."""
    chance = np.random.default_rng(seed)
    own = np.unique(photos.landmarks[photos.known])
    evidence = []
    for share in (0.25, 0.5, 1.0):
        inside = np.isin(photos.landmarks, chance.choice(own, max(2, int(share * len(own))), replace=False))
        asked = inside & ~photos.trained
        evidence.append(ask(photos, inside & photos.trained, asked, photos.embeddings[~photos.known]))
    return fit_calibration(join(evidence))


def ask(photos: TwinPhotos, gallery: Booleans, asked: Booleans, others: Embeddings) -> Evidence:
    """Name the photos ``asked`` (N,), the ``others``, and the ordinary ones from a gallery (N,)."""
    references, labels = photos.embeddings[gallery], photos.landmarks[gallery]
    classifier = NeighbourClassifier(ExactSearch(references), labels, background=photos.background)
    k = min(NEIGHBOURS, len(references))
    parts = (
        (photos.embeddings[asked], photos.landmarks[asked], 1 - UNKNOWN_SHARE),
        (others, None, UNKNOWN_SHARE * (1 - ORDINARY_SHARE)),
        (photos.ordinary, None, UNKNOWN_SHARE * ORDINARY_SHARE),
    )
    evidence = []
    for rows, truth, share in parts:
        if not len(rows):
            continue
        votes = classifier.classify(rows, k=k, top=1)
        right = np.zeros(len(rows), dtype=bool) if truth is None else votes.candidates[:, 0] == truth
        evidence.append(
            Evidence(
                scores=votes.scores[:, 0],
                references=np.full(len(rows), float(len(references))),
                right=right,
                weights=np.full(len(rows), share / len(rows)),
            )
        )
    return join(evidence)


def join(parts: Sequence[Evidence]) -> Evidence:
    """Put evidence together."""
    return Evidence(
        scores=np.concatenate([part.scores for part in parts]),
        references=np.concatenate([part.references for part in parts]),
        right=np.concatenate([part.right for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
    )
