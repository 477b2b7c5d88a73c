"""Calibrating a model with photos that a held-out model never saw.

The held-out model is trained with the model's own recipe, on some of the landmarks and some of their photos. Photos it
has not seen then act as queries: held-out photos of a gallery's landmarks should be named, photos of other landmarks
and of none should not. This gives two calibrations: one for galleries of landmarks that were in no training data, as
people build them, and one for the gallery of the training landmarks themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from obelisk.arrays import Booleans, Embeddings, Floats, Integers, join_columns
from obelisk.embedding import BundleClassifier
from obelisk.errors import UsageError
from obelisk.gallery import ExactSearch
from obelisk.photos import map_in_order
from obelisk.recognition.calibration import Calibration, Evidence, find_margins, fit_calibration
from obelisk.recognition.classifier import KNNClassifier
from obelisk.recognition.rerank.background import Background
from obelisk.recognition.rerank.prototypes import compute_prototypes
from obelisk.recognition.rivals import find_rival

UNKNOWN_SHARE = 0.4  # of the queries, whose landmark the gallery does not have: a cautious guess of what people ask
ORDINARY_SHARE = 0.5  # of the unknown ones, which show no landmark at all
GALLERY_SIZES = (5, 8, 12, 16, 24)  # landmarks in each gallery of new landmarks
DRAWS = 12  # galleries of each size
OWN_SHARES = (0.25, 0.5, 1.0)  # of the training landmarks, in each gallery of these
LOOK_ALIKES = 1 / 3  # of the landmarks outside a gallery: the nearest ones play strangers
FEWEST_STRANGERS = 4
# m / a: what is fitted to so few landmarks varies from draw to draw
MARGIN_RATIO = 1.0
TRAINED_MARGIN_RATIO = 0.5
MOST_UNKNOWN = 400  # queries of other landmarks, for each gallery


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutPhotos:
    """N labelled photos and M ordinary ones, as a held-out model embeds them; rows are unit-norm.

    ==============  ======  =====================================================================
    ``embeddings``  (N, D)  of the labelled photos
    ``landmarks``   (N,)    their landmark ids
    ``trained``     (N,)    whether the held-out model was trained on the photo
    ``known``       (N,)    whether it was trained on the landmark
    ``ordinary``    (M, D)  of photos that show no landmark and are not in ``background``
    ``background``          the background of the held-out model
    ==============  ======  =====================================================================

    ``count_inliers`` counts those of a labelled photo with others, row indices all of them
    (:func:`~obelisk.recognition.rerank.geometry.make_inlier_counter`); without it, verified geometry is no evidence.
    """

    embeddings: Embeddings
    landmarks: Integers
    trained: Booleans
    known: Booleans
    ordinary: Embeddings
    background: Background
    count_inliers: Callable[[int, Integers], float] | None = None


def calibrate_new_landmarks(
    photos: HeldOutPhotos,
    queries: Booleans,
    classifier: BundleClassifier | None = None,
    *,
    sharpness: float = 1.0,
    seed: int = 0,
) -> Calibration:
    """Calibrate for galleries of landmarks that were in no training data.

    Galleries are drawn at random from the landmarks that the held-out model does not know. Strangers are the
    look-alikes among the others: on people's own places, what a gallery lacks is of the same kind as what it has.
    ``queries`` (N,) marks photos to be asked, kept out of all galleries. ``classifier`` says how the neighbors vote, by
    default as :mod:`obelisk.defaults` does; ``sharpness`` is that of
    :func:`~obelisk.recognition.calibration.fit_calibration`.

    Raises :class:`~obelisk.errors.UsageError` if there are fewer such landmarks than the smallest gallery needs.
    """
    rng = np.random.default_rng(seed)
    unseen = np.unique(photos.landmarks[~photos.known])
    if len(unseen) < GALLERY_SIZES[0]:
        what = f"only {len(unseen)} landmarks are unknown to the held-out model"
        raise UsageError(what, fix=f"hold out {GALLERY_SIZES[0]} or more")
    vote = classifier or BundleClassifier()
    evidence, strangers_best = [], []
    centers = compute_prototypes(photos.embeddings, photos.landmarks)
    for size in (size for size in GALLERY_SIZES if size < len(unseen)):
        for _ in range(DRAWS):
            chosen = rng.choice(unseen, size, replace=False)
            inside = np.isin(photos.landmarks, chosen)
            strangers = find_look_alikes(*centers, chosen, np.setdiff1d(unseen, chosen))
            others = np.flatnonzero(np.isin(photos.landmarks, strangers) & queries)
            others = rng.choice(others, min(len(others), MOST_UNKNOWN), replace=False)
            answers = ask_gallery(photos, inside & ~queries, inside & queries, others, vote, verify=True)
            asked = int((inside & queries).sum())
            best = answers.scores[asked : asked + len(others)]
            strangers_best.append(np.stack([best, np.full(len(best), float(size))]))
            evidence.append(answers)
    fitted = fit_calibration(join_columns(evidence), margin_ratio=MARGIN_RATIO, sharpness=sharpness)
    rival = find_rival(*np.concatenate(strangers_best, axis=1))
    return fitted.model_copy(update={"vote": vote.vote, "k": vote.k, "rival": rival})


def find_look_alikes(centers: Embeddings, landmark_ids: Integers, inside: Integers, others: Integers) -> Integers:
    """Return those of the ``others`` that are nearest to the landmarks ``inside``, ids all of them.

    They are the share LOOK_ALIKES of the others, at least FEWEST_STRANGERS. ``centers`` (C, D) are the prototypes of
    the landmarks ``landmark_ids`` (C,).
    """
    similarities = centers[np.isin(landmark_ids, others)] @ centers[np.isin(landmark_ids, inside)].T
    kept = max(FEWEST_STRANGERS, round(LOOK_ALIKES * len(others)))
    nearest: Integers = np.sort(others)[np.argsort(-similarities.max(axis=1), kind="stable")[:kept]]
    return nearest


def calibrate_trained_landmarks(photos: HeldOutPhotos, *, sharpness: float = 1.0, seed: int = 0) -> Calibration:
    """Calibrate for the gallery of the training landmarks, whole and in part; ``sharpness`` as for new landmarks."""
    rng = np.random.default_rng(seed)
    known = np.unique(photos.landmarks[photos.known])
    evidence = []
    for share in OWN_SHARES:
        inside = np.isin(photos.landmarks, rng.choice(known, max(2, int(share * len(known))), replace=False))
        gallery, queries = inside & photos.trained, inside & ~photos.trained
        evidence.append(ask_gallery(photos, gallery, queries, np.flatnonzero(~photos.known), BundleClassifier()))
    return fit_calibration(join_columns(evidence), margin_ratio=TRAINED_MARGIN_RATIO, sharpness=sharpness)


def ask_gallery(
    photos: HeldOutPhotos,
    gallery: Booleans,
    queries: Booleans,
    others: Integers,
    vote: BundleClassifier,
    *,
    verify: bool = False,
) -> Evidence:
    """Recognize the queries (N,), the others (O,) and the ordinary photos from a gallery, a mask (N,) of photos.

    ``others`` are row indices of photos of other landmarks. Ordinary photos are never verified.
    """
    references, labels = photos.embeddings[gallery], photos.landmarks[gallery]
    classifier = KNNClassifier(ExactSearch(references), labels, vote=vote.vote, background=photos.background)
    k = min(vote.k, len(references))
    parts = (
        (photos.embeddings[queries], np.flatnonzero(queries), photos.landmarks[queries], 1 - UNKNOWN_SHARE),
        (photos.embeddings[others], others, None, UNKNOWN_SHARE * (1 - ORDINARY_SHARE)),
        (photos.ordinary, None, None, UNKNOWN_SHARE * ORDINARY_SHARE),
    )
    evidence = []
    for rows, indices, truth, share in parts:
        if not len(rows):
            continue
        ranking = classifier.classify(rows, k=k, top=2)
        first, inliers = ranking.candidates[:, 0], np.full(len(rows), np.nan)
        right = np.zeros(len(rows), dtype=bool) if truth is None else first == truth
        if verify and indices is not None:
            inliers = count_first_inliers(photos, indices, first, gallery)
        evidence.append(
            Evidence(
                scores=ranking.scores[:, 0],
                margins=find_margins(ranking.scores),
                references=np.full(len(rows), float(len(references))),
                inliers=inliers,
                right=right,
                weights=np.full(len(rows), share / len(rows)),
            )
        )
    return join_columns(evidence)


def count_first_inliers(photos: HeldOutPhotos, asked: Integers, first: Integers, gallery: Booleans) -> Floats:
    """Return the inliers (n,) of photos at row indices ``asked`` (n,) with those of their first candidates (n,)."""
    if photos.count_inliers is None:
        return np.full(len(asked), np.nan)
    count, rows = photos.count_inliers, np.flatnonzero(gallery)

    def compare(query: int, landmark: int) -> float:
        shown = rows[photos.landmarks[rows] == landmark]
        similarities = photos.embeddings[shown] @ photos.embeddings[query]
        return count(query, shown[np.argsort(-similarities, kind="stable")])

    return np.array(list(map_in_order(lambda pair: compare(*pair), zip(asked.tolist(), first.tolist(), strict=True))))
