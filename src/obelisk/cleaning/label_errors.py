"""Finding reference photos that disagree with their label. Arrays in, arrays out.

Each photo is judged only by photos of other folds, so its near-duplicates, which share its fold, don't vouch for it.
With the label y of a photo x, the landmarks L of its k nearest photos in other folds, and the cosine s::

    f(x, l)   mean of the m largest s(x, r) over the photos r of l in other folds     fit of a landmark
    m         min(3, photos of y, photos of l in other folds)                         compares like with like
    z         argmax {f(x, l) : l ∈ L, l ≠ y}                                         the rival landmark
    margin    f(x, z) − f(x, y), in [−2, 2]

A photo whose margin exceeds a threshold is a *suspect*.

This is the editing rule of Wilson, *Asymptotic properties of nearest neighbor rules using edited data*, IEEE
Transactions on Systems, Man, and Cybernetics, 1972: drop the photos that their k neighbors misclassify. The fit
replaces the count of votes, with which a landmark of few photos would always be outnumbered. Judging out of sample, by
folds, follows Northcutt, Jiang & Chuang, *Confident learning: estimating uncertainty in dataset labels*, JAIR, 2021.
Its threshold, the mean fit of each landmark's own photos, finds half as many errors here (docs/lab_log.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from obelisk.arrays import Booleans, Embeddings, Floats, Integers
from obelisk.errors import UsageError
from obelisk.gallery import nearest_rows

NEIGHBORS = 20  # k: how many neighbors propose rival landmarks
FIT_PHOTOS = 3  # the fit of a landmark is a mean over at most this many photos
NO_RIVAL = -2.0  # the lowest possible margin
DIGITS = 6  # of a fit; further digits depend on the processor and must not decide anything


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelIssues:
    """How well N labels fit, judged by the photos of other folds.

    ================  ====  ===================================================================================
    ``margins``       (N,)  fit of the rival minus fit of the label, in [−2, 2]; −2 if there is no rival, or no
                            photo of the label in another fold
    ``rivals``        (N,)  the best-fitting other landmark; the label itself if there is none
    ``label_fits``    (N,)  fit of the label; nan if no photo of it is in another fold
    ``rival_fits``    (N,)  fit of the rival; nan if there is none
    ``label_best``    (N,)  row of the most similar photo of the label in another fold; −1 if there is none
    ``rival_best``    (N,)  the same for the rival
    ``agreement``     (N,)  share of the k nearest photos in other folds that have the label, in [0, 1]
    ================  ====  ===================================================================================
    """

    margins: Floats
    rivals: Integers
    label_fits: Floats
    rival_fits: Floats
    label_best: Integers
    rival_best: Integers
    agreement: Floats

    @property
    def judged(self) -> Booleans:
        """Whether each photo (N,) has a photo of its label in another fold; the others can't be judged."""
        return self.label_best >= 0


def find_label_issues(
    embeddings: Embeddings, landmark_ids: Integers, folds: Integers, *, k: int = NEIGHBORS
) -> LabelIssues:
    """Judge the labels (N,) of photos by their unit embeddings (N, D) and folds (N,).

    The order of the photos matters only between equal similarities. Raises UsageError for k < 1.
    """
    check_bounds(k=k)
    near = search_other_folds(embeddings, folds, k)
    near_landmarks = np.where(near >= 0, landmark_ids[near], -1)
    has_label = (near >= 0) & (near_landmarks == landmark_ids[:, None])
    agreement = has_label.sum(axis=1) / np.maximum(1, (near >= 0).sum(axis=1))
    rows_of = group_rows(landmark_ids)
    own = most_similar_of_label(embeddings, rows_of, folds)
    count = len(landmark_ids)
    margins, rivals = np.full(count, NO_RIVAL), landmark_ids.copy()
    label_fits, rival_fits = own.mean_of(own.counts), np.full(count, np.nan)
    rival_best = np.full(count, -1)
    for landmark, photos in photos_by_rival(near_landmarks, landmark_ids).items():
        photos = photos[own.counts[photos] > 0]
        rival = most_similar(embeddings, photos, rows_of[landmark], folds)
        shared = np.minimum(own.counts[photos], rival.counts)
        fits, label_shared = rival.mean_of(shared), own.take(photos).mean_of(shared)
        # Landmarks come in ascending order, so the smallest id wins a tie.
        better = np.isnan(rival_fits[photos]) | (fits > rival_fits[photos])
        chosen = photos[better]
        rivals[chosen], rival_fits[chosen], label_fits[chosen] = landmark, fits[better], label_shared[better]
        margins[chosen] = (fits - label_shared)[better]
        rival_best[chosen] = rival.best[better]
    return LabelIssues(
        margins=np.round(margins, DIGITS),
        rivals=rivals,
        label_fits=label_fits,
        rival_fits=rival_fits,
        label_best=own.best,
        rival_best=rival_best,
        agreement=agreement,
    )


def check_bounds(*, k: int = 1, threshold: float = 0.0, keep_at_least: int = 1) -> None:
    """Raise UsageError for a number out of bounds."""
    if k < 1:
        raise UsageError(f"k = {k} neighbors", where="--neighbours", fix="give at least 1")
    if not 0 <= threshold <= 2:
        what = f"a margin of {threshold}"
        raise UsageError(what, where="--margin", fix="give one from 0 (drops most) to 2 (drops none)")
    if keep_at_least < 1:
        fix = "give at least 1: a landmark needs a photo"
        raise UsageError(f"{keep_at_least} photos to keep", where="--keep-at-least", fix=fix)


def search_other_folds(embeddings: Embeddings, folds: Integers, k: int) -> Integers:
    """Return the rows (N, k) of the nearest photos in other folds, padded with −1."""
    near = np.full((len(folds), k), -1, dtype=np.int64)
    for fold in np.unique(folds).tolist():
        asked, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        width = min(k, len(others))
        if width:
            rows, _ = nearest_rows(embeddings[asked], embeddings[others], width)
            near[asked, :width] = others[rows]
    return near


@dataclass(frozen=True, kw_only=True, eq=False)
class BestPhotos:
    """The most similar photos of one landmark in other folds, for each of P photos.

    ``similarities`` (P, 3) descend, and are undefined from ``counts`` (P,) on; ``best`` (P,) is the row of the first.
    """

    similarities: Floats
    counts: Integers
    best: Integers

    def mean_of(self, first: Integers) -> Floats:
        """Return the mean (P,) of the first ``first`` (P,) similarities; nan for none."""
        sums = np.concatenate([np.full((len(first), 1), np.nan), np.cumsum(self.similarities, axis=1)], axis=1)
        return np.round(sums[np.arange(len(first)), first] / np.maximum(1, first), DIGITS)

    def take(self, photos: Integers) -> BestPhotos:
        """Select some of the P photos."""
        return BestPhotos(similarities=self.similarities[photos], counts=self.counts[photos], best=self.best[photos])


def most_similar(embeddings: Embeddings, photos: Integers, members: Integers, folds: Integers) -> BestPhotos:
    """Compare the photos at P rows with the photos of one landmark, given by the rows ``members``."""
    products = embeddings[photos].astype(np.float64) @ embeddings[members].astype(np.float64).T
    elsewhere = folds[photos][:, None] != folds[members][None]
    ranked = np.where(elsewhere, np.round(products, DIGITS), -np.inf)
    order = np.argsort(-ranked, axis=1, kind="stable")[:, :FIT_PHOTOS]
    counts = np.minimum(FIT_PHOTOS, elsewhere.sum(axis=1))
    found = np.full((len(photos), FIT_PHOTOS), 0.0)
    found[:, : order.shape[1]] = np.take_along_axis(np.where(elsewhere, products, 0.0), order, axis=1)
    return BestPhotos(similarities=found, counts=counts, best=np.where(counts > 0, members[order[:, 0]], -1))


def most_similar_of_label(embeddings: Embeddings, rows_of: Mapping[int, Integers], folds: Integers) -> BestPhotos:
    """Compare each photo with the other photos of its label."""
    count = len(folds)
    similarities, counts = np.zeros((count, FIT_PHOTOS)), np.zeros(count, dtype=np.int64)
    best = np.full(count, -1)
    for members in rows_of.values():
        found = most_similar(embeddings, members, members, folds)
        similarities[members], counts[members], best[members] = found.similarities, found.counts, found.best
    return BestPhotos(similarities=similarities, counts=counts, best=best)


def group_rows(landmark_ids: Integers) -> dict[int, Integers]:
    """Map each landmark, in the order of the ids, to the ascending rows of its photos."""
    order = np.argsort(landmark_ids, kind="stable")
    landmarks, starts = np.unique(landmark_ids[order], return_index=True)
    return dict(zip(landmarks.tolist(), np.split(order, starts[1:]), strict=True))


def photos_by_rival(near_landmarks: Integers, landmark_ids: Integers) -> dict[int, Integers]:
    """Map each landmark to the photos of other labels that have it among their neighbors (N, k; −1: none)."""
    photos = np.broadcast_to(np.arange(len(landmark_ids))[:, None], near_landmarks.shape)
    rival = (near_landmarks >= 0) & (near_landmarks != landmark_ids[:, None])
    met = np.unique(np.stack([near_landmarks[rival], photos[rival]], axis=1), axis=0)
    landmarks, starts = np.unique(met[:, 0], return_index=True)
    return dict(zip(landmarks.tolist(), np.split(met[:, 1], starts[1:]), strict=False))


def choose_dropped(margins: Floats, landmark_ids: Integers, *, threshold: float, keep_at_least: int) -> Booleans:
    """Return which photos (N,) to drop: the suspects, worst first, while ``keep_at_least`` of the landmark remain.

    A landmark with no more photos than that keeps them all: few photos can't tell which of them is wrong. Of equal
    margins the later row is dropped first. Raises UsageError for a threshold below 0, and for ``keep_at_least`` < 1.
    """
    check_bounds(threshold=threshold, keep_at_least=keep_at_least)
    dropped = np.zeros(len(margins), dtype=bool)
    for members in group_rows(landmark_ids).values():
        worst_first = members[::-1][np.argsort(-margins[members[::-1]], kind="stable")]
        may_go = worst_first[: max(0, len(members) - keep_at_least)]
        dropped[may_go[margins[may_go] > threshold]] = True
    return dropped
