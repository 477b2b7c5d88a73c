"""Near-duplicates: copies of one picture that were re-encoded, resized, recolored, mirrored or slightly cropped.

Each photo is reduced to a small gray picture and hashed as a whole, mirrored, and in slightly smaller windows, so that
a flipped or cropped copy matches a hash of the original. The hash is dHash: of a picture shrunk to 8 rows of 9 cells it
keeps one bit per pair of neighboring cells, 1 where the right one is brighter.

Candidates are pairs whose hashes differ in few bits. Within a landmark every pair is compared. Across landmarks only
pairs that share one of the eight bytes of the hash are, which finds every pair that differs in at most 7 of 64 bits. A
candidate is a near-duplicate if the brightness gradients of the two pictures agree as well. Near-duplicates of
near-duplicates form one group.

Pixels stay integers until they are hashed, so every machine computes the same hashes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from obelisk.arrays import Floats, Integers, Pixels
from obelisk.errors import PhotoError
from obelisk.photos import map_in_order, read_photo
from obelisk.records import Progress, no_progress

# Chosen on photos of Google Landmarks v2 (224 px). Of the copies of 250 of them, at least 99 % are found when they are
# re-encoded, resized, squashed, grayed, mirrored, or cropped by up to 5 % at an edge, a corner or all around; 73 % when
# 8 % is cut off a corner. 5,517 such photos hold 25 groups: by eye, 24 are one shot or series, 1 is one view on two
# days.
NEAR_BITS = 10
FAR_BITS = 7
MIN_COSINE = 0.85
HASH_BYTES = 8
# Dark, white or hazy photos have hashes with nearly all bits alike, which collide with thousands of others.
INFORMATIVE_BITS = range(8, 57)
BLOCK_CELLS = 4_000_000
CACHED_GRADIENTS = 4096

GRAY_SIDE = 48
HASH_SIDE = 8
GRADIENT_SIDE = 16
# (x, y, side) as fractions: a crop leaves a little less of a side, at any corner or edge or in the center.
WINDOWS = (
    (0.0, 0.0, 1.0),
    *((x, y, side) for side in (0.97, 0.94, 0.9) for y in (0.0, 0.5, 1.0) for x in (0.0, 0.5, 1.0)),
)
# View 0 is the whole photo, the last one the whole photo mirrored.
VIEWS = len(WINDOWS) + 1


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """The groups of photos that are copies of one picture.

    ``groups`` maps the image id of every photo that has a near-duplicate to the smallest image id of its group; a photo
    without one is not listed. ``unreadable`` maps the image id of each photo that could not be compared to the reason.
    """

    groups: Mapping[str, str]
    unreadable: Mapping[str, str]


def find_near_duplicates(root: Path, photos: pl.DataFrame, *, progress: Progress = no_progress) -> NearDuplicates:
    """Group the near-duplicates among photos: a frame (image_id, path, landmark_id), landmark_id null if unknown.

    Photos of one landmark are all compared with each other. Photos of different or unknown landmarks are matched only
    as whole or mirrored copies. Unreadable photos are reported and skipped. The result depends neither on the order of
    the photos nor on the machine.
    """
    photos = photos.select("image_id", "path", "landmark_id").sort("image_id")
    grays, unreadable = read_grays(root, photos, progress)
    photos = photos.filter(~pl.col("image_id").is_in(list(unreadable)))
    hashes = np.stack([hash_views(gray) for gray in grays]) if len(grays) else np.zeros((0, VIEWS), dtype=np.uint64)
    candidates = [*pair_inside_landmarks(hashes, photos["landmark_id"]), *pair_everywhere(hashes)]
    pairs = confirm_pairs(grays, np.concatenate([np.zeros((0, 2), dtype=np.int64), *candidates]))
    ids = photos["image_id"].to_list()
    return NearDuplicates(groups=join_pairs((ids[a], ids[b]) for a, b in pairs.tolist()), unreadable=unreadable)


def read_grays(root: Path, photos: pl.DataFrame, progress: Progress) -> tuple[Pixels, dict[str, str]]:
    """Read the photos as gray pictures (N, 48, 48); return the unreadable ones with their reason, by image id."""

    def read(path: str) -> Pixels | PhotoError:
        try:
            return read_gray(root / path)
        except PhotoError as error:
            return error

    grays = np.empty((photos.height, GRAY_SIDE, GRAY_SIDE), dtype=np.uint8)
    unreadable: dict[str, str] = {}
    results = map_in_order(read, photos["path"].to_list())
    for done, (image_id, gray) in enumerate(zip(photos["image_id"].to_list(), results, strict=True), start=1):
        if isinstance(gray, PhotoError):
            unreadable[image_id] = str(gray)
        else:
            grays[done - 1 - len(unreadable)] = gray
        progress("comparing photos", done, photos.height)
    return grays[: photos.height - len(unreadable)], unreadable


def read_gray(path: Path) -> Pixels:
    """Read a photo and squash it to a gray picture (48, 48). Raises PhotoError if it can't be read."""
    image = read_photo(path, min_side=2 * GRAY_SIDE).convert("L")
    return np.asarray(image.resize((GRAY_SIDE, GRAY_SIDE), Image.Resampling.BOX))


def shrink_views(gray: Pixels, *, rows: int, columns: int) -> NDArray[np.int16]:
    """Shrink every view of a gray picture to cells (VIEWS, rows, columns)."""
    image = Image.fromarray(gray)
    views = []
    for x, y, side in WINDOWS:
        left, top, kept = x * (1 - side) * GRAY_SIDE, y * (1 - side) * GRAY_SIDE, side * GRAY_SIDE
        box = (left, top, left + kept, top + kept)
        views.append(np.asarray(image.resize((columns, rows), Image.Resampling.BOX, box=box), dtype=np.int16))
    return np.stack([*views, views[0][:, ::-1]])


def hash_views(gray: Pixels) -> NDArray[np.uint64]:
    """Return the 64-bit difference hash of every view (VIEWS,)."""
    cells = shrink_views(gray, rows=HASH_SIDE, columns=HASH_SIDE + 1)
    bits = (cells[:, :, 1:] > cells[:, :, :-1]).reshape(VIEWS, -1)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).ravel()


def view_gradients(gray: Pixels) -> NDArray[np.int16]:
    """Return the brightness gradients of every view, across then down, in gray levels (VIEWS, 512)."""
    cells = shrink_views(gray, rows=GRADIENT_SIDE + 1, columns=GRADIENT_SIDE + 1)
    across = cells[:, :-1, 1:] - cells[:, :-1, :-1]
    down = cells[:, 1:, :-1] - cells[:, :-1, :-1]
    return np.concatenate([across.reshape(VIEWS, -1), down.reshape(VIEWS, -1)], axis=1)


def compare_gradients(a: NDArray[np.int16], b: NDArray[np.int16]) -> float:
    """Return the highest cosine between any view of one photo and the whole of the other; 0 for flat pictures.

    The sums of products are whole numbers that float64 holds exactly, whatever the order of addition.
    """
    first, second = a.astype(np.float64), b.astype(np.float64)
    return max(highest_cosine(first, second[0]), highest_cosine(second, first[0]))


def highest_cosine(views: Floats, whole: Floats) -> float:
    """Return the highest cosine between one row and any of the views; 0 for rows of zeros."""
    norms = np.sqrt((views * views).sum(axis=1) * (whole @ whole))
    return float(((views @ whole) / np.maximum(norms, 1.0)).max())


def pair_inside_landmarks(hashes: NDArray[np.uint64], landmarks: pl.Series) -> Iterator[Integers]:
    """Yield the candidates (P, 2) among the photos of each landmark: any view of one against the whole of the other."""
    rows_of = pl.DataFrame({"row": pl.int_range(landmarks.len(), eager=True), "landmark": landmarks}).drop_nulls()
    for (_,), group in rows_of.group_by(["landmark"], maintain_order=True):
        rows = group["row"].to_numpy()
        views = hashes[rows]
        block = max(1, BLOCK_CELLS // (len(rows) * VIEWS))
        for start in range(0, len(rows), block):
            bits = np.bitwise_count(views[start : start + block, None, :] ^ views[None, :, :1]).min(axis=2)
            near, other = np.nonzero(bits <= NEAR_BITS)
            near += start
            # Either photo may be the cropped one, so both orders are compared; sorting makes their pairs equal.
            apart = near != other
            yield np.sort(np.stack([rows[near[apart]], rows[other[apart]]], axis=1), axis=1).astype(np.int64)


def pair_everywhere(hashes: NDArray[np.uint64]) -> Iterator[Integers]:
    """Yield the candidates (P, 2) among all photos: whole against whole and whole against mirrored.

    Only photos that share a byte of the hash are compared, so the work grows far slower than the number of pairs.
    Photos with an uninformative hash are skipped.
    """
    set_bits = np.bitwise_count(hashes[:, 0])
    rows = np.nonzero((set_bits >= INFORMATIVE_BITS.start) & (set_bits < INFORMATIVE_BITS.stop))[0]
    whole, mirrored = hashes[rows, 0], hashes[rows, -1]
    for shift in range(0, 8 * HASH_BYTES, 8):
        for other in (whole, mirrored):
            for pairs in pair_equal_bytes(whole, other, shift=shift):
                yield rows[pairs]


def pair_equal_bytes(whole: NDArray[np.uint64], other: NDArray[np.uint64], *, shift: int) -> Iterator[Integers]:
    """Yield the candidates whose hashes share the byte at ``shift`` bits."""
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


def confirm_pairs(grays: Pixels, candidates: Integers) -> Integers:
    """Keep the candidates whose gradients agree: a cosine of at least MIN_COSINE in the best view."""

    @lru_cache(maxsize=CACHED_GRADIENTS)
    def gradients(row: int) -> NDArray[np.int16]:
        return view_gradients(grays[row])

    def agree(a: int, b: int) -> bool:
        # Flat pictures have no gradients to compare, so they must be equal pixel by pixel.
        return compare_gradients(gradients(a), gradients(b)) >= MIN_COSINE or np.array_equal(grays[a], grays[b])

    pairs = np.unique(candidates, axis=0)
    return pairs[[agree(a, b) for a, b in pairs.tolist()]] if len(pairs) else pairs


def join_pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Join pairs into groups: map each member to the smallest member of its group (union-find)."""
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
