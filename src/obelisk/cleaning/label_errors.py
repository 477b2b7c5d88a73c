"""Which reference photos disagree with their label. Arrays in, arrays out.

A photo is judged by photos of other folds only: what shares its fold (its near-duplicates among it) does not vouch
for it. With the label y of a photo x, the landmarks L among its k nearest photos of other folds, and s the cosine::

    f(x, l)   mean of the m greatest s(x, r) over the photos r of l in other folds    fit of a landmark
    m         min(3, photos of y, photos of l in other folds): like is compared with like
    z         argmax {f(x, l) : l ∈ L, l ≠ y}                                         the landmark its neighbours name
    margin    f(x, z) − f(x, y), in [−2, 2]

A photo whose margin exceeds a threshold is a *suspect*. This is Wilson's editing rule (Wilson, *Asymptotic properties
of nearest neighbor rules using edited data*, IEEE Transactions on Systems, Man, and Cybernetics, 1972: drop what its k
neighbours misclassify), with a fit in place of the count of votes, in which a landmark of few photos is always
outnumbered. Out-of-sample judgement by folds is that of Northcutt, Jiang & Chuang, *Confident learning* (JAIR, 2021);
its threshold, the mean fit of each landmark's own photos, finds half as many here (docs/lab_log.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from obelisk.arrays import Booleans, Embeddings, Floats, Integers
from obelisk.errors import UsageError
from obelisk.gallery import nearest_rows

NEIGHBOURS = 20  # k: how far the search for landmarks that might be meant goes
BEST_PHOTOS = 3  # at most so many photos make a landmark's fit
UNOPPOSED = -2.0  # the margin that no photo can fall below
DIGITS = 6  # of a fit: what lies beyond depends on the processor, and must decide nothing


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """What the photos of other folds say about the labels of N photos.

    ==============  ====  =====================================================================================
    ``margins``     (N,)  by how much the named landmark fits better than the label, in [−2, 2]; −2 where no other
                          landmark is near, or where no photo of the label's is in another fold
    ``named``       (N,)  the landmark that fits best of the others; the label itself where none is near
    ``own_fits``    (N,)  fit of the label; nan where no photo of it is in another fold
    ``named_fits``  (N,)  fit of the named landmark; nan where none is near
    ``own_best``    (N,)  row of the most similar photo of the label in another fold, −1 where there is none
    ``named_best``  (N,)  the same of the named landmark
    ``agreement``   (N,)  share of the k nearest photos of other folds that bear the label, in [0, 1]
    ==============  ====  =====================================================================================
    """

    margins: Floats
    named: Integers
    own_fits: Floats
    named_fits: Floats
    own_best: Integers
    named_best: Integers
    agreement: Floats

    @property
    def judged(self) -> Booleans:
        """Which photos (N,) have a photo of their label in another fold: of the others nothing can be said."""
        return self.own_best >= 0


def judge_labels(embeddings: Embeddings, landmark_ids: Integers, folds: Integers, *, k: int = NEIGHBOURS) -> Judgement:
    """Judge the labels (N,) of photos by their unit embeddings (N, D) and folds (N,).

    The order of the photos decides nothing but equal similarities. Raises UsageError for k < 1.
    """
    check_bounds(k=k)
    near = search_other_folds(embeddings, folds, k)
    near_landmarks = np.where(near >= 0, landmark_ids[near], -1)
    bears_label = (near >= 0) & (near_landmarks == landmark_ids[:, None])
    agreement = bears_label.sum(axis=1) / np.maximum(1, (near >= 0).sum(axis=1))
    members_of = group_rows(landmark_ids)
    own = measure_own(embeddings, members_of, folds)
    count = len(landmark_ids)
    margins, named = np.full(count, UNOPPOSED), landmark_ids.copy()
    own_fits, named_fits = own.mean_of(own.counts), np.full(count, np.nan)
    named_best = np.full(count, -1)
    for landmark, photos in pair_rivals(near_landmarks, landmark_ids).items():
        photos = photos[own.counts[photos] > 0]
        rival = measure(embeddings, photos, members_of[landmark], folds)
        shared = np.minimum(own.counts[photos], rival.counts)
        fits, own_shared = rival.mean_of(shared), own.take(photos).mean_of(shared)
        # Landmarks come in ascending order: of equal fits the smallest id is named.
        better = np.isnan(named_fits[photos]) | (fits > named_fits[photos])
        chosen = photos[better]
        named[chosen], named_fits[chosen], own_fits[chosen] = landmark, fits[better], own_shared[better]
        margins[chosen] = (fits - own_shared)[better]
        named_best[chosen] = rival.best[better]
    return Judgement(
        margins=np.round(margins, DIGITS),
        named=named,
        own_fits=own_fits,
        named_fits=named_fits,
        own_best=own.best,
        named_best=named_best,
        agreement=agreement,
    )


def check_bounds(*, k: int = 1, threshold: float = 0.0, keep_at_least: int = 1) -> None:
    """Refuse numbers that make no rule."""
    if k < 1:
        raise UsageError(f"k = {k} neighbours", where="--neighbours", fix="give at least 1")
    if not 0 <= threshold <= 2:
        what = f"a margin of {threshold}"
        raise UsageError(what, where="--margin", fix="give one from 0 (drops most) to 2 (drops none)")
    if keep_at_least < 1:
        fix = "give at least 1: a landmark without photos is none"
        raise UsageError(f"{keep_at_least} photos to keep", where="--keep-at-least", fix=fix)


def search_other_folds(embeddings: Embeddings, folds: Integers, k: int) -> Integers:
    """Return the rows (N, k) of the photos of other folds nearest to each photo, filled up with −1."""
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

    ``similarities`` (P, 3) descend, and mean nothing from ``counts`` (P,) on; ``best`` (P,) is the row of the first.
    """

    similarities: Floats
    counts: Integers
    best: Integers

    def mean_of(self, first: Integers) -> Floats:
        """Return the mean (P,) of the ``first`` similarities of each photo, nan of none."""
        sums = np.concatenate([np.full((len(first), 1), np.nan), np.cumsum(self.similarities, axis=1)], axis=1)
        return np.round(sums[np.arange(len(first)), first] / np.maximum(1, first), DIGITS)

    def take(self, photos: Integers) -> BestPhotos:
        """Return those of some of the photos."""
        return BestPhotos(similarities=self.similarities[photos], counts=self.counts[photos], best=self.best[photos])


def measure(embeddings: Embeddings, photos: Integers, members: Integers, folds: Integers) -> BestPhotos:
    """Hold photos (P,) against the photos of one landmark, both given by their rows."""
    products = embeddings[photos].astype(np.float64) @ embeddings[members].astype(np.float64).T
    elsewhere = folds[photos][:, None] != folds[members][None]
    ranked = np.where(elsewhere, np.round(products, DIGITS), -np.inf)
    order = np.argsort(-ranked, axis=1, kind="stable")[:, :BEST_PHOTOS]
    counts = np.minimum(BEST_PHOTOS, elsewhere.sum(axis=1))
    found = np.full((len(photos), BEST_PHOTOS), 0.0)
    found[:, : order.shape[1]] = np.take_along_axis(np.where(elsewhere, products, 0.0), order, axis=1)
    return BestPhotos(similarities=found, counts=counts, best=np.where(counts > 0, members[order[:, 0]], -1))


def group_rows(landmark_ids: Integers) -> dict[int, Integers]:
    """Return the rows of each landmark's photos, ascending, landmarks in the order of their ids."""
    order = np.argsort(landmark_ids, kind="stable")
    landmarks, starts = np.unique(landmark_ids[order], return_index=True)
    return dict(zip(landmarks.tolist(), np.split(order, starts[1:]), strict=True))


def pair_rivals(near_landmarks: Integers, landmark_ids: Integers) -> dict[int, Integers]:
    """Return, for each landmark, the photos of other labels that have it among their neighbours (N, k; −1: none)."""
    photos = np.broadcast_to(np.arange(len(landmark_ids))[:, None], near_landmarks.shape)
    rival = (near_landmarks >= 0) & (near_landmarks != landmark_ids[:, None])
    met = np.unique(np.stack([near_landmarks[rival], photos[rival]], axis=1), axis=0)
    landmarks, starts = np.unique(met[:, 0], return_index=True)
    return dict(zip(landmarks.tolist(), np.split(met[:, 1], starts[1:]), strict=False))


def measure_own(embeddings: Embeddings, members_of: Mapping[int, Integers], folds: Integers) -> BestPhotos:
    """Hold each photo against the others of its label."""
    count = len(folds)
    similarities, counts = np.zeros((count, BEST_PHOTOS)), np.zeros(count, dtype=np.int64)
    best = np.full(count, -1)
    for members in members_of.values():
        found = measure(embeddings, members, members, folds)
        similarities[members], counts[members], best[members] = found.similarities, found.counts, found.best
    return BestPhotos(similarities=similarities, counts=counts, best=best)


def choose_dropped(margins: Floats, landmark_ids: Integers, *, threshold: float, keep_at_least: int) -> Booleans:
    """Return which photos (N,) to drop: suspects, worst first, as long as ``keep_at_least`` of the landmark stay.

    A landmark of no more photos than that loses none: few photos cannot tell which of them is wrong. Of equal margins
    the later row is dropped first. Raises UsageError for a threshold below 0, and for ``keep_at_least`` < 1.
    """
    check_bounds(threshold=threshold, keep_at_least=keep_at_least)
    dropped = np.zeros(len(margins), dtype=bool)
    for members in group_rows(landmark_ids).values():
        worst_first = members[::-1][np.argsort(-margins[members[::-1]], kind="stable")]
        may_go = worst_first[: max(0, len(members) - keep_at_least)]
        dropped[may_go[margins[may_go] > threshold]] = True
    return dropped
