"""Geometric verification: whether local structures lie as they would in two views of one thing.

Keypoints of both photos (SIFT: Lowe, IJCV 2004; descriptors compared as RootSIFT: Arandjelović & Zisserman, CVPR
2012) are matched, and as many matches as possible explained by one homography (MAGSAC: Barath, Noskova & Matas, CVPR
2019). Those explained, the *inliers*, are evidence that no embedding sees::

    v      = 0.9 · clip((inliers − 5) / 15, 0, 1)      of the best photo of a landmark
    score' = score + (1 − score) · v

Five matches agree by chance in most pairs of unlike photos; seven in one of a hundred. A score never falls and stays
in [0, 1]. It takes the files of the reference photos, and OpenCV (the extra ``verify``).
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

from obelisk.errors import MissingExtraError, PhotoError
from obelisk.gallery import ReferencePhoto, References
from obelisk.photos import map_in_order, read_photo
from obelisk.recognition.classifier import Votes
from obelisk.recognition.originals import read_original

VERIFIED = 20  # nearest reference photos of a query that are compared with it
SIDE = 320  # pixels of the longer side: more cost time, and the figures above were found on small photos
SHORTEST = 16  # pixels of the shorter side: nothing to find in less
MOST_KEYPOINTS = 1000
RATIO = 0.85  # a match is kept if the second nearest descriptor is farther away than this
TOLERANCE = 4.0  # pixels that an inlier may be off
FEWEST_MATCHES = 5
ITERATIONS = 2000
BY_CHANCE, FULL, WEIGHT = 5, 15, 0.9
CACHED = 512  # reference photos whose keypoints are kept, at most 140 KiB each


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Keypoints:
    """The keypoints of a photo: places (n, 2), x and y in pixels, and SIFT descriptors (n, 128), 0 to 255."""

    places: NDArray[np.float32]
    descriptors: NDArray[np.uint8]


NO_KEYPOINTS = Keypoints(places=np.empty((0, 2), np.float32), descriptors=np.empty((0, 128), np.uint8))


class Verifier:
    """Adds to the scores of candidates what the geometry of their reference photos says.

    Raises MissingExtraError without OpenCV.
    """

    def __init__(self, references: References) -> None:
        if importlib.util.find_spec("cv2") is None:
            raise MissingExtraError("verify", needed_for="geometric verification")
        self._references = references
        self._keypoints_of = lru_cache(maxsize=CACHED)(find_reference_keypoints)

    def verify(self, votes: Votes, queries: NDArray[np.float32], photos: Sequence[Path], *, top: int) -> Votes:
        """Return the votes for Q queries with verified scores, the ``top`` best candidates of each.

        ``queries`` (Q, D) are unit rows, ``photos`` their files. ``votes`` should list the landmarks of the
        ``VERIFIED`` nearest references: candidates that it does not list are not looked for.
        """
        nearest, _ = self._references.nearest(queries, min(VERIFIED, len(self._references)))
        found = list(map_in_order(self._compare, zip(photos, nearest, strict=True)))
        inliers = np.array(found, dtype=np.int64).reshape(nearest.shape)
        evidence = gather_evidence(votes.candidates, self._references.landmark_ids[nearest], inliers)
        return reorder(votes, add_evidence(votes.scores, evidence), top)

    def _compare(self, pair: tuple[Path, NDArray[np.int64]]) -> NDArray[np.int64]:
        """Return the inliers of a query with each of its nearest references."""
        photo, places = pair
        query = find_keypoints(photo)
        references = self._references.photos(places)
        return np.array([count_inliers(query, self._keypoints_of(reference)) for reference in references])


def gather_evidence(
    candidates: NDArray[np.int64], landmarks: NDArray[np.int64], inliers: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the most inliers (Q, T) that a photo of each candidate (Q, T) has.

    ``landmarks`` (Q, M) are those of the photos compared, ``inliers`` (Q, M) what was found.
    """
    shown = candidates[:, :, None] == landmarks[:, None, :]
    most: NDArray[np.int64] = np.where(shown, inliers[:, None, :], 0).max(axis=2, initial=0)
    return most


def add_evidence(scores: NDArray[np.float64], inliers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the scores (Q, T), in [0, 1], raised by the inliers (Q, T): the equation at the top of this file."""
    verified = WEIGHT * np.clip((inliers - BY_CHANCE) / FULL, 0.0, 1.0)
    raised: NDArray[np.float64] = scores + (1.0 - scores) * verified
    return raised


def reorder(votes: Votes, scores: NDArray[np.float64], top: int) -> Votes:
    """Return the votes with these scores (Q, T), the ``top`` best candidates first; equal ones keep their order."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    ranked = np.take_along_axis(scores, order, axis=1)
    return dataclasses.replace(
        votes,
        candidates=np.take_along_axis(votes.candidates, order, axis=1),
        scores=ranked,
        confidence=ranked[:, 0],
    )


def find_reference_keypoints(photo: ReferencePhoto) -> Keypoints:
    """Return the keypoints of a reference photo; none where its file is not at hand."""
    data = read_original(photo)
    return NO_KEYPOINTS if data is None else find_keypoints(data)


def find_keypoints(source: Path | bytes) -> Keypoints:
    """Return the keypoints of a photo; none for one that cannot be read, or is too thin to have any."""
    import cv2

    try:
        photo = read_photo(source, min_side=SIDE).convert("L")
    except PhotoError:
        return NO_KEYPOINTS
    scale = min(1.0, SIDE / max(photo.size))
    size = (round(scale * photo.width), round(scale * photo.height))
    if min(size) < SHORTEST:
        return NO_KEYPOINTS
    pixels = np.asarray(photo if scale == 1.0 else photo.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))
    found, descriptors = cv2.SIFT.create(nfeatures=MOST_KEYPOINTS).detectAndCompute(pixels, None)
    if descriptors is None:
        return NO_KEYPOINTS
    places = np.array([keypoint.pt for keypoint in found], dtype=np.float32)
    # SIFT may give a few more than were asked for, where several are equally strong.
    return Keypoints(places=places[:MOST_KEYPOINTS], descriptors=descriptors[:MOST_KEYPOINTS].astype(np.uint8))


def count_inliers(query: Keypoints, reference: Keypoints) -> int:
    """Return how many matches of two photos one homography explains; 0 where there are too few to tell."""
    import cv2

    pairs = match_descriptors(query.descriptors, reference.descriptors)
    if len(pairs) < FEWEST_MATCHES:
        return 0
    there, here = query.places[pairs[:, 0]].astype(np.float64), reference.places[pairs[:, 1]].astype(np.float64)
    try:
        _, inliers = cv2.findHomography(there, here, cv2.USAC_MAGSAC, TOLERANCE, maxIters=ITERATIONS, confidence=0.999)
    except cv2.error:
        # Raised for degenerate matches, such as points that all lie on a line.
        return 0
    return 0 if inliers is None else int(np.count_nonzero(inliers))


def match_descriptors(query: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the pairs (M, 2) of descriptors (n, 128) and (m, 128) that are each other's nearest, clearly so."""
    if not len(query) or len(reference) < 2:
        return np.empty((0, 2), np.int64)
    cosines = root(query) @ root(reference).T
    places = np.arange(len(query))
    best = cosines.argmax(axis=1)
    mutual = cosines.argmax(axis=0)[best] == places
    nearest = distances(cosines[places, best])
    cosines[places, best] = -1.0
    clear = nearest < RATIO * distances(cosines.max(axis=1))
    kept = np.flatnonzero(mutual & clear)
    return np.stack([kept, best[kept]], axis=1)


def root(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return RootSIFT: the square roots of descriptors that sum to 1, which are rows of length 1."""
    rows = descriptors.astype(np.float32)
    rooted: NDArray[np.float32] = np.sqrt(rows / np.maximum(rows.sum(axis=1, keepdims=True), 1e-9))
    return rooted


def distances(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the distances of unit rows from their cosines."""
    apart: NDArray[np.float32] = np.sqrt(np.maximum(2.0 - 2.0 * cosines, 0.0))
    return apart
