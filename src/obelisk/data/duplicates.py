"""Near-duplicates: copies of one picture that were encoded again, resized, recoloured, mirrored or cut a little.

Candidates are pairs whose hashes differ in few bits: all pairs inside a landmark, and everywhere those that agree
in one of eight bytes of the hash (two hashes that differ in at most 7 of their 64 bits must). A candidate is a
near-duplicate when the brightness steps of the two pictures agree too. Near-duplicates of near-duplicates are
one group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from obelisk.data.fingerprints import (
    GREY_SIDE,
    VIEWS,
    Grey,
    Hashes,
    Steps,
    compare_steps,
    hash_views,
    shrink_photo,
    step_views,
)
from obelisk.data.progress import Progress, keep_silent
from obelisk.errors import PhotoError
from obelisk.photos import map_in_order

# Chosen on photos of Google Landmarks v2 (224 px). Of the copies of 250 of them, at least 99 % are found when encoded
# again, resized, squashed, greyed, mirrored, or cut by up to 5 % at an edge, a corner or all around; 73 % when 8 % is
# cut off a corner. Among 5,517 such photos are 25 groups: by eye, 24 are one shot or series, 1 is one view on two days.
NEAR_BITS = 10
FAR_BITS = 7
SAME_DETAIL = 0.85
HASH_BYTES = 8
# A hash with nearly all bits alike is that of a dark, white or hazy photo: it meets thousands of others.
TELLING_BITS = range(8, 57)
BLOCK_CELLS = 4_000_000
STEPS_KEPT = 4096

Pairs = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Which photos are copies of one picture.

    ``groups`` maps the image id of every photo that has a near-duplicate to the smallest image id of its group;
    a photo that is not in it stands alone. ``unreadable`` maps the image ids that could not be compared to why.
    """

    groups: Mapping[str, str]
    unreadable: Mapping[str, str]


def find_near_duplicates(root: Path, photos: pl.DataFrame, *, progress: Progress = keep_silent) -> NearDuplicates:
    """Group the near-duplicates among photos: a frame (image_id, path, landmark_id), landmark_id null if unknown.

    Photos of one landmark are compared each with each; photos of different or unknown landmarks are found when they
    are whole or mirrored copies. Photos that cannot be read are named and skipped. The result does not depend on the
    order of the photos, nor on the machine.
    """
    photos = photos.select("image_id", "path", "landmark_id").sort("image_id")
    greys, unreadable = shrink_photos(root, photos, progress)
    photos = photos.filter(~pl.col("image_id").is_in(list(unreadable)))
    hashes = np.stack([hash_views(grey) for grey in greys]) if len(greys) else np.zeros((0, VIEWS), dtype=np.uint64)
    candidates = [*pair_inside_landmarks(hashes, photos["landmark_id"]), *pair_everywhere(hashes)]
    pairs = confirm_pairs(greys, np.concatenate([np.zeros((0, 2), dtype=np.int64), *candidates]))
    ids = photos["image_id"].to_list()
    return NearDuplicates(groups=join_pairs((ids[a], ids[b]) for a, b in pairs.tolist()), unreadable=unreadable)


def shrink_photos(root: Path, photos: pl.DataFrame, progress: Progress) -> tuple[npt.NDArray[np.uint8], dict[str, str]]:
    """Shrink the photos that can be read, (N, 48, 48), and say why the others cannot, by image id."""

    def shrink(path: str) -> Grey | PhotoError:
        try:
            return shrink_photo(root / path)
        except PhotoError as error:
            return error

    greys = np.empty((photos.height, GREY_SIDE, GREY_SIDE), dtype=np.uint8)
    unreadable: dict[str, str] = {}
    filled = 0
    paths = progress(photos["path"].to_list(), what="comparing photos")
    for image_id, grey in zip(photos["image_id"].to_list(), map_in_order(shrink, paths), strict=True):
        if isinstance(grey, PhotoError):
            unreadable[image_id] = str(grey)
        else:
            greys[filled] = grey
            filled += 1
    return greys[:filled], unreadable


def pair_inside_landmarks(hashes: Hashes, landmarks: pl.Series) -> Iterator[Pairs]:
    """Yield the candidates among the photos of each landmark, any view of one against the whole of the other."""
    places = pl.DataFrame({"place": pl.int_range(landmarks.len(), eager=True), "landmark": landmarks}).drop_nulls()
    for (_,), group in places.group_by(["landmark"], maintain_order=True):
        rows = group["place"].to_numpy()
        views = hashes[rows]
        block = max(1, BLOCK_CELLS // (len(rows) * VIEWS))
        for start in range(0, len(rows), block):
            bits = np.bitwise_count(views[start : start + block, None, :] ^ views[None, :, :1]).min(axis=2)
            near, other = np.nonzero(bits <= NEAR_BITS)
            near += start
            # Either photo may be the cut one, so both orders are looked at, and a pair is kept once.
            apart = near != other
            yield np.sort(np.stack([rows[near[apart]], rows[other[apart]]], axis=1), axis=1).astype(np.int64)


def pair_everywhere(hashes: Hashes) -> Iterator[Pairs]:
    """Yield the candidates among all photos, whole against whole and whole against mirrored.

    Only photos that share a byte of the hash are compared, so the work grows far slower than with all pairs; photos
    whose hash says nothing are left out.
    """
    set_bits = np.bitwise_count(hashes[:, 0])
    places = np.nonzero((set_bits >= TELLING_BITS.start) & (set_bits < TELLING_BITS.stop))[0]
    whole, mirrored = hashes[places, 0], hashes[places, -1]
    for shift in range(0, 8 * HASH_BYTES, 8):
        for other in (whole, mirrored):
            for pairs in pair_equal_bytes(whole, other, shift=shift):
                yield places[pairs]


def pair_equal_bytes(whole: Hashes, other: Hashes, *, shift: int) -> Iterator[Pairs]:
    """Yield the candidates whose hashes agree in the byte at ``shift`` bits."""
    keys = (whole >> np.uint64(shift)) & np.uint64(255)
    other_keys = (other >> np.uint64(shift)) & np.uint64(255)
    for key in range(256):
        rows, columns = np.nonzero(keys == key)[0], np.nonzero(other_keys == key)[0]
        block = max(1, BLOCK_CELLS // max(1, len(columns)))
        for start in range(0, len(rows), block):
            part = rows[start : start + block]
            bits = np.bitwise_count(whole[part, None] ^ other[None, columns])
            near, far = np.nonzero(bits <= FAR_BITS)
            pairs = np.sort(np.stack([part[near], columns[far]], axis=1), axis=1).astype(np.int64)
            yield pairs[pairs[:, 0] != pairs[:, 1]]


def confirm_pairs(greys: npt.NDArray[np.uint8], candidates: Pairs) -> Pairs:
    """Keep the candidates whose brightness steps agree: a cosine of at least SAME_DETAIL in the best view."""

    @lru_cache(maxsize=STEPS_KEPT)
    def step(place: int) -> Steps:
        return step_views(greys[place])

    def agree(a: int, b: int) -> bool:
        # Pictures of one flat colour have no steps to compare: they must be the same to the pixel.
        return compare_steps(step(a), step(b)) >= SAME_DETAIL or np.array_equal(greys[a], greys[b])

    pairs = np.unique(candidates, axis=0)
    return pairs[[agree(a, b) for a, b in pairs.tolist()]] if len(pairs) else pairs


def join_pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Join pairs into groups: each member mapped to the smallest member of its group (union-find)."""
    leaders: dict[str, str] = {}

    def find(member: str) -> str:
        leaders.setdefault(member, member)
        while leaders[member] != member:
            leaders[member] = leaders[leaders[member]]
            member = leaders[member]
        return member

    for a, b in pairs:
        low, high = sorted((find(a), find(b)))
        leaders[high] = low
    return {member: find(member) for member in sorted(leaders)}
