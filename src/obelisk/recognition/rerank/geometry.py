"""Geometric verification: whether two photos can be two views of one scene.

Keypoints of both photos (SIFT: Lowe, IJCV 2004; descriptors compared as RootSIFT: Arandjelović & Zisserman, CVPR
2012) are matched, and one homography is fitted to as many matches as possible (MAGSAC: Barath, Noskova & Matas, CVPR
2019). The matches that it explains, the *inliers*, are evidence that no embedding sees. Those of the first candidate
enter the confidence (:mod:`obelisk.recognition.calibration`), and those of the second may bring it to the front::

    v      = 0.9 · clip((inliers − 7) / 13, 0, 1)      of the best photo of a landmark
    score' = score + (1 − score) · v

Most pairs of unlike photos have five or six inliers by accident; one pair in a hundred has eight. A homography that
rests on few matches, most of them at the same place of both photos, is that of a watermark, a date or a frame: it does
not count. A score never falls and stays in [0, 1]. Verification needs the files of the reference photos, and OpenCV
(the extra ``verify``): a landmark without files at hand is judged as if nobody had asked.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from obelisk.arrays import Booleans, Embeddings, Floats, Integers
from obelisk.errors import MissingExtraError, PhotoError
from obelisk.gallery import ReferenceFiles, ReferencePhoto, References
from obelisk.photos import GivenPhoto, PhotoLike, map_in_order, read_query
from obelisk.recognition.calibration import find_margins
from obelisk.recognition.ranking import Ranking

COMPARED = (5, 3)  # nearest photos of the first and the second candidate that are compared with a query
LISTED = 100  # nearest reference photos among which these are looked for
SIDE = 320  # pixels of the longer side: more cost time, and the numbers above were measured on small photos
THINNEST_SIDE = 16  # pixels of the shorter side: a thinner photo has no keypoints
MOST_KEYPOINTS = 1000  # of a photo
RATIO = 0.85  # of the distances to the nearest and second nearest descriptor; a larger ratio is no match
TOLERANCE = 4.0  # pixels that an inlier may be off
FEWEST_MATCHES = 5
OVERLAY_SHARE = 0.25  # of the keypoints: more of them at the same place of both photos are a copy of the photo
ITERATIONS = 2000  # of MAGSAC, at most
BY_ACCIDENT, WEIGHT = 7, 0.9  # of the first equation above
FEW, ENOUGH = 5, 20  # inliers: fewer than FEW say no less; ENOUGH prove a landmark, and no further photo is compared
TELLING = 450  # keypoints; photos with fewer are no evidence to fit a calibration to
CACHED_PAIRS = 2**16  # whose inliers a counter keeps
CACHED = 512  # photos whose keypoints are kept, at most 140 KiB each


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Keypoints:
    """The keypoints of a photo: positions (n, 2), x and y in pixels, and SIFT descriptors (n, 128), 0 to 255."""

    positions: NDArray[np.float32]
    descriptors: NDArray[np.uint8]


NO_KEYPOINTS = Keypoints(positions=np.empty((0, 2), np.float32), descriptors=np.empty((0, 128), np.uint8))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Verified:
    """A ranking by verified scores, and what a calibration needs to know of its first candidates.

    ================  ======  ================================================================
    ``ranking``               the ranking, by verified scores
    ``scores``        (Q,)    the score of each first candidate before verification
    ``margins``       (Q,)    its margin then; negative if geometry brought it to the front
    ``inliers``       (Q,)    its inliers, from :data:`FEW` to :data:`ENOUGH`; NaN if no file was at hand
    ================  ======  ================================================================
    """

    ranking: Ranking
    scores: Floats
    margins: Floats
    inliers: Floats


class KeypointCache:
    """Finds keypoints, and keeps those of the :data:`CACHED` reference photos that were compared last.

    ``queries`` is the number of queries whose keypoints are kept, too. That pays where the same files are asked again
    and again; they must not change meanwhile.
    """

    def __init__(self, files: ReferenceFiles, *, queries: int = 0) -> None:
        self._files = files
        self._of_file = lru_cache(maxsize=queries)(find_keypoints)
        self.find_of_reference = lru_cache(maxsize=CACHED)(self._read_reference)

    def find_of_query(self, photo: PhotoLike | GivenPhoto) -> Keypoints:
        """Return the keypoints of a photo to name."""
        source = photo.source if isinstance(photo, GivenPhoto) else photo
        return self._of_file(source) if isinstance(source, Path) else find_keypoints(photo)

    def _read_reference(self, photo: ReferencePhoto) -> Keypoints | None:
        """Return the keypoints of a reference photo; None if its file is gone."""
        data = self._files.read(photo)
        return None if data is None else find_keypoints(data)


class GeometricVerifier:
    """Compares queries with the reference photos of their first candidates.

    Raises :class:`~obelisk.errors.MissingExtraError` without OpenCV.
    """

    def __init__(self, references: References, keypoints: KeypointCache) -> None:
        if not has_opencv():
            raise MissingExtraError("verify", needed_for="geometric verification")
        self._references = references
        self._keypoints = keypoints

    def verify(self, ranking: Ranking, queries: Embeddings, photos: Sequence[PhotoLike | GivenPhoto]) -> Verified:
        """Verify the first candidates of Q queries, unit-norm rows (Q, D) with the photos they come from."""
        compared = self._choose_references(ranking.candidates[:, : len(COMPARED)], queries)
        found = list(map_in_order(self._compare, zip(photos, compared, strict=True)))
        inliers = np.full(ranking.scores.shape, np.nan)
        for query, counts in enumerate(found):
            inliers[query, : len(counts)] = counts
        return rank_verified(ranking, inliers)

    def _choose_references(self, candidates: Integers, queries: Embeddings) -> list[list[list[ReferencePhoto]]]:
        """Return the photos to compare with each query, for each of its candidates (Q, T), nearest first."""
        nearest, _ = self._references.nearest(queries, min(LISTED, len(self._references)))
        shown = self._references.labels.of(nearest)
        chosen = [
            [indices[landmarks == landmark][:most] for landmark, most in zip(listed, COMPARED, strict=False)]
            for indices, landmarks, listed in zip(nearest, shown, candidates, strict=True)
        ]
        flat = [indices for of_query in chosen for indices in of_query]
        photos = iter(self._references.photos(np.concatenate([*flat, np.empty(0, np.int64)])))
        return [[list(islice(photos, len(indices))) for indices in of_query] for of_query in chosen]

    def _compare(self, task: tuple[PhotoLike | GivenPhoto, Sequence[Sequence[ReferencePhoto]]]) -> list[float]:
        """Return the inliers of a query with each candidate's photos, until one has :data:`ENOUGH`."""
        photo, candidates = task
        query = self._keypoints.find_of_query(photo)
        counts: list[float] = []
        for references in candidates:
            counts.append(most_inliers(query, map(self._keypoints.find_of_reference, references)))
            if counts[-1] == ENOUGH:
                break
        return counts


def make_inlier_counter(files: Sequence[PhotoLike]) -> Callable[[int, Integers], float] | None:
    """Return what counts the inliers of a photo with those of a candidate, nearest first; None without OpenCV.

    It takes indices of ``files`` and counts as a :class:`GeometricVerifier` does: evidence for a calibration. A photo
    of fewer than :data:`TELLING` keypoints is none, which NaN says: there, right candidates often have no more inliers
    than wrong ones, so that the lack of them would seem to mean little on any photo. It keeps what it has counted, as
    galleries that are drawn at random ask for the same pairs.
    """
    if not has_opencv():
        return None
    keypoints_of = lru_cache(maxsize=4 * CACHED)(lambda index: find_keypoints(files[index]))

    @lru_cache(maxsize=CACHED_PAIRS)
    def count_pair(query: int, reference: int) -> int:
        return count_inliers(keypoints_of(query), keypoints_of(reference))

    def count(query: int, nearest: Integers) -> float:
        if len(keypoints_of(query).positions) < TELLING:
            return math.nan
        return most_counted(count_pair(query, reference) for reference in nearest[: COMPARED[0]].tolist())

    return count


def has_opencv() -> bool:
    """Return whether the extra ``verify`` is installed."""
    return importlib.util.find_spec("cv2") is not None


def most_inliers(query: Keypoints, references: Iterable[Keypoints | None]) -> float:
    """Return the most inliers of a query with any of the references, from FEW to ENOUGH; NaN if all are None."""
    return most_counted(math.nan if one is None else count_inliers(query, one) for one in references)


def most_counted(counts: Iterable[float]) -> float:
    """Return the largest of counted inliers, from FEW to ENOUGH, or NaN if all are; stop where there are ENOUGH."""
    most = math.nan
    for inliers in counts:
        most = np.fmax(most, np.clip(inliers, FEW, ENOUGH))
        if most == ENOUGH:
            break
    return float(most)


def rank_verified(ranking: Ranking, inliers: Floats) -> Verified:
    """Rank candidates (Q, T) by scores raised by their inliers (Q, T), NaN being none; equal ones keep their order."""
    raised = raise_scores(ranking.scores, np.nan_to_num(inliers, nan=0.0))
    order = np.argsort(-raised, axis=1, kind="stable")
    scores, raised = (np.take_along_axis(columns, order, axis=1) for columns in (ranking.scores, raised))
    # What geometry brings to the front has its strongest rival anywhere behind it.
    best_first = np.concatenate([scores[:, :1], -np.sort(-scores[:, 1:], axis=1)], axis=1)
    return Verified(
        ranking=dataclasses.replace(
            ranking,
            candidates=np.take_along_axis(ranking.candidates, order, axis=1),
            scores=raised,
            confidence=raised[:, 0],
        ),
        scores=scores[:, 0],
        margins=find_margins(best_first),
        inliers=np.take_along_axis(inliers, order, axis=1)[:, 0],
    )


def raise_scores(scores: Floats, inliers: Floats) -> Floats:
    """Raise scores (Q, T) in [0, 1] by inliers (Q, T), as the equations at the top of this file say."""
    verified = WEIGHT * np.clip((inliers - BY_ACCIDENT) / (ENOUGH - BY_ACCIDENT), 0.0, 1.0)
    raised: Floats = scores + (1.0 - scores) * verified
    return raised


def find_keypoints(source: PhotoLike | GivenPhoto) -> Keypoints:
    """Return the keypoints of a photo; none if it can't be read or is too thin to have any."""
    import cv2

    try:
        photo = read_query(source, min_side=SIDE)[0].convert("L")
    except PhotoError:
        return NO_KEYPOINTS
    scale = min(1.0, SIDE / max(photo.size))
    size = (round(scale * photo.width), round(scale * photo.height))
    if min(size) < THINNEST_SIDE:
        return NO_KEYPOINTS
    pixels = np.asarray(photo if scale == 1.0 else photo.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))
    found, descriptors = cv2.SIFT.create(nfeatures=MOST_KEYPOINTS).detectAndCompute(pixels, None)
    if descriptors is None:
        return NO_KEYPOINTS
    positions = np.array([keypoint.pt for keypoint in found], dtype=np.float32)
    # SIFT may return a few more than requested if several are equally strong.
    return Keypoints(positions=positions[:MOST_KEYPOINTS], descriptors=descriptors[:MOST_KEYPOINTS].astype(np.uint8))


def count_inliers(query: Keypoints, reference: Keypoints) -> int:
    """Count the matches of two photos that one homography explains; 0 if there are too few to tell."""
    pairs = match_descriptors(query.descriptors, reference.descriptors)
    there, here = query.positions[pairs[:, 0]].astype(np.float64), reference.positions[pairs[:, 1]].astype(np.float64)
    inliers = find_inliers(there, here)
    stayed = np.abs(there - here).max(axis=1, initial=0.0) <= TOLERANCE
    few = np.count_nonzero(stayed) < OVERLAY_SHARE * min(len(query.positions), len(reference.positions))
    if few and np.count_nonzero(inliers & stayed) > np.count_nonzero(inliers & ~stayed):
        inliers = find_inliers(there[~stayed], here[~stayed])
    return int(np.count_nonzero(inliers))


def find_inliers(there: NDArray[np.float64], here: NDArray[np.float64]) -> Booleans:
    """Return which of M matched positions (M, 2) and (M, 2) one homography explains, (M,); none of too few."""
    import cv2

    none = np.zeros(len(there), dtype=bool)
    if len(there) < FEWEST_MATCHES:
        return none
    try:
        _, inliers = cv2.findHomography(there, here, cv2.USAC_MAGSAC, TOLERANCE, maxIters=ITERATIONS, confidence=0.999)
    except cv2.error:
        # Raised for degenerate matches, such as points that all lie on a line.
        return none
    return none if inliers is None else inliers[:, 0].astype(bool)


def match_descriptors(query: NDArray[np.uint8], reference: NDArray[np.uint8]) -> Integers:
    """Return the pairs (M, 2) of descriptors (n, 128) and (m, 128) that are each other's nearest by a clear margin."""
    if not len(query) or len(reference) < 2:
        return np.empty((0, 2), np.int64)
    cosines = root_sift(query) @ root_sift(reference).T
    rows = np.arange(len(query))
    best = cosines.argmax(axis=1)
    mutual = cosines.argmax(axis=0)[best] == rows
    nearest = distances(cosines[rows, best])
    cosines[rows, best] = -1.0
    clear = nearest < RATIO * distances(cosines.max(axis=1))
    kept = np.flatnonzero(mutual & clear)
    return np.stack([kept, best[kept]], axis=1)


def root_sift(descriptors: NDArray[np.uint8]) -> Embeddings:
    """Return RootSIFT (n, 128): the square roots of descriptors scaled to sum 1, and so unit-norm rows."""
    rows = descriptors.astype(np.float32)
    rooted: Embeddings = np.sqrt(rows / np.maximum(rows.sum(axis=1, keepdims=True), 1e-9))
    return rooted


def distances(cosines: Embeddings) -> Embeddings:
    """Turn cosines of unit-norm rows into L2 distances, in the same shape."""
    apart: Embeddings = np.sqrt(np.maximum(2.0 - 2.0 * cosines, 0.0))
    return apart
