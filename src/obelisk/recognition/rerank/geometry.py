"""Geometric verification: whether two photos can be two views of one scene.

Keypoints of both photos (SIFT: Lowe, IJCV 2004; descriptors compared as RootSIFT: Arandjelović & Zisserman, CVPR
2012) are matched, and one homography is fitted to as many matches as possible (MAGSAC: Barath, Noskova & Matas, CVPR
2019). The matches that it explains, the *inliers*, are evidence that no embedding sees::

    v      = 0.9 · clip((inliers − 5) / 15, 0, 1)      of the best photo of a landmark
    score' = score + (1 − score) · v

Most pairs of unlike photos have five inliers by accident; one pair in a hundred has seven. A score never falls and
stays in [0, 1]. Verification needs the files of the reference photos, and OpenCV (the extra ``verify``).
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from obelisk.arrays import Embeddings, Floats, Integers
from obelisk.errors import MissingExtraError, PhotoError
from obelisk.gallery import ReferenceFiles, ReferencePhoto, References
from obelisk.photos import map_in_order, read_query
from obelisk.recognition.ranking import Ranking

VERIFIED = 20  # nearest reference photos that are compared with a query
SIDE = 320  # pixels of the longer side: more cost time, and the numbers above were measured on small photos
THINNEST_SIDE = 16  # pixels of the shorter side: a thinner photo has no keypoints
MOST_KEYPOINTS = 1000  # of a photo
RATIO = 0.85  # of the distances to the nearest and second nearest descriptor; a larger ratio is no match
TOLERANCE = 4.0  # pixels that an inlier may be off
FEWEST_MATCHES = 5
ITERATIONS = 2000  # of MAGSAC, at most
BY_ACCIDENT, FULL, WEIGHT = 5, 15, 0.9  # of the first equation above
CACHED = 512  # reference photos whose keypoints are kept, at most 140 KiB each


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Keypoints:
    """The keypoints of a photo: positions (n, 2), x and y in pixels, and SIFT descriptors (n, 128), 0 to 255."""

    positions: NDArray[np.float32]
    descriptors: NDArray[np.uint8]


NO_KEYPOINTS = Keypoints(positions=np.empty((0, 2), np.float32), descriptors=np.empty((0, 128), np.uint8))


class GeometricVerifier:
    """Raises the scores of candidates whose reference photos fit the query geometrically.

    The keypoints of recently compared reference photos are kept. Raises
    :class:`~obelisk.errors.MissingExtraError` without OpenCV.
    """

    def __init__(self, references: References, files: ReferenceFiles) -> None:
        if importlib.util.find_spec("cv2") is None:
            raise MissingExtraError("verify", needed_for="geometric verification")
        self._references = references
        self._files = files
        self._keypoints_of = lru_cache(maxsize=CACHED)(self._find_reference_keypoints)

    def verify(self, ranking: Ranking, queries: Embeddings, photos: Sequence[Path], *, top: int) -> Ranking:
        """Return the ranking of Q queries by verified scores, cut to the ``top`` best candidates.

        ``queries`` (Q, D) are unit-norm, ``photos`` their files. Only candidates in ``ranking`` are verified, so it
        should list the landmarks of the ``VERIFIED`` nearest reference photos.
        """
        nearest, _ = self._references.nearest(queries, min(VERIFIED, len(self._references)))
        found = list(map_in_order(self._compare, zip(photos, nearest, strict=True)))
        inliers = np.array(found, dtype=np.int64).reshape(nearest.shape)
        most = most_inliers(ranking.candidates, self._references.landmark_ids[nearest], inliers)
        return rank_by(raise_scores(ranking.scores, most), ranking, top=top)

    def _compare(self, pair: tuple[Path, Integers]) -> Integers:
        """Return the number of inliers of a query with each of its nearest references."""
        photo, indices = pair
        query = find_keypoints(photo)
        references = self._references.photos(indices)
        return np.array([count_inliers(query, self._keypoints_of(reference)) for reference in references])

    def _find_reference_keypoints(self, photo: ReferencePhoto) -> Keypoints:
        """Return the keypoints of a reference photo; none if its file is gone."""
        data = self._files.read(photo)
        return NO_KEYPOINTS if data is None else find_keypoints(data)


def most_inliers(candidates: Integers, landmarks: Integers, inliers: Integers) -> Integers:
    """Return the most inliers (Q, T) that any photo of each candidate (Q, T) has.

    ``landmarks`` and ``inliers``, both (Q, M), are those of the photos compared.
    """
    shown = candidates[:, :, None] == landmarks[:, None, :]
    most: Integers = np.where(shown, inliers[:, None, :], 0).max(axis=2, initial=0)
    return most


def raise_scores(scores: Floats, inliers: Integers) -> Floats:
    """Raise scores (Q, T) in [0, 1] by inliers (Q, T), as the equations at the top of this file say."""
    verified = WEIGHT * np.clip((inliers - BY_ACCIDENT) / FULL, 0.0, 1.0)
    raised: Floats = scores + (1.0 - scores) * verified
    return raised


def rank_by(scores: Floats, ranking: Ranking, *, top: int) -> Ranking:
    """Rank the candidates of a ranking by new scores (Q, T), cut to the ``top`` best; equal ones keep their order."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    ranked = np.take_along_axis(scores, order, axis=1)
    return dataclasses.replace(
        ranking,
        candidates=np.take_along_axis(ranking.candidates, order, axis=1),
        scores=ranked,
        confidence=ranked[:, 0],
    )


def find_keypoints(source: Path | bytes) -> Keypoints:
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
    import cv2

    pairs = match_descriptors(query.descriptors, reference.descriptors)
    if len(pairs) < FEWEST_MATCHES:
        return 0
    there, here = query.positions[pairs[:, 0]].astype(np.float64), reference.positions[pairs[:, 1]].astype(np.float64)
    try:
        _, inliers = cv2.findHomography(there, here, cv2.USAC_MAGSAC, TOLERANCE, maxIters=ITERATIONS, confidence=0.999)
    except cv2.error:
        # Raised for degenerate matches, such as points that all lie on a line.
        return 0
    return 0 if inliers is None else int(np.count_nonzero(inliers))


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
