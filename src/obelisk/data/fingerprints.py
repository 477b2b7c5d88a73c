"""What near-duplicate detection keeps of a photo: a small grey picture and difference hashes of it.

A difference hash (dHash) of a picture shrunk to 8 rows of 9 cells has one bit a pair of neighbouring cells: 1 where
the right one is brighter. Each photo is hashed whole, mirrored, and in slightly smaller windows, so that a flipped
copy or one with its margin cut off meets a hash of the original. Pixels stay integers until the hash is made, so
that every machine makes the same one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from obelisk.photos import read_photo

GREY_SIDE = 48
HASH_SIDE = 8
DETAIL_SIDE = 16
# A cut margin leaves a little less of a side, and what is left may touch any corner or edge, or be the centre.
WINDOWS = (
    (0.0, 0.0, 1.0),
    *((x, y, side) for side in (0.97, 0.94, 0.9) for y in (0.0, 0.5, 1.0) for x in (0.0, 0.5, 1.0)),
)
# The views of a photo: view 0 is the whole, the last one the whole mirrored.
VIEWS = len(WINDOWS) + 1

Grey = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]
Steps = npt.NDArray[np.int16]


def shrink_photo(path: Path) -> Grey:
    """Read a photo and shrink it, squashed, to a grey picture (48, 48).

    Raises PhotoError when it cannot be read.
    """
    image = read_photo(path, min_side=2 * GREY_SIDE).convert("L")
    return np.asarray(image.resize((GREY_SIDE, GREY_SIDE), Image.Resampling.BOX))


def shrink_views(grey: Grey, *, rows: int, columns: int) -> npt.NDArray[np.int16]:
    """Shrink every view of a grey picture to cells: (VIEWS, rows, columns)."""
    image = Image.fromarray(grey)
    views = []
    for x, y, side in WINDOWS:
        left, top, kept = x * (1 - side) * GREY_SIDE, y * (1 - side) * GREY_SIDE, side * GREY_SIDE
        box = (left, top, left + kept, top + kept)
        views.append(np.asarray(image.resize((columns, rows), Image.Resampling.BOX, box=box), dtype=np.int16))
    return np.stack([*views, views[0][:, ::-1]])


def hash_views(grey: Grey) -> Hashes:
    """Return the 64-bit difference hash of every view: (VIEWS,)."""
    cells = shrink_views(grey, rows=HASH_SIDE, columns=HASH_SIDE + 1)
    bits = (cells[:, :, 1:] > cells[:, :, :-1]).reshape(VIEWS, -1)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).ravel()


def step_views(grey: Grey) -> Steps:
    """Return the brightness steps between neighbouring cells of every view, in grey levels: (VIEWS, 512)."""
    cells = shrink_views(grey, rows=DETAIL_SIDE + 1, columns=DETAIL_SIDE + 1)
    across = cells[:, :-1, 1:] - cells[:, :-1, :-1]
    down = cells[:, 1:, :-1] - cells[:, :-1, :-1]
    return np.concatenate([across.reshape(VIEWS, -1), down.reshape(VIEWS, -1)], axis=1)


def compare_steps(a: Steps, b: Steps) -> float:
    """Return how far two photos agree: the highest cosine of any view of one with the whole of the other.

    Sums of products of grey levels are whole numbers that float64 holds exactly, in whatever order they are added.
    Two pictures of one flat colour have no step to compare, and do not agree.
    """
    first, second = a.astype(np.float64), b.astype(np.float64)
    return float(max(highest_cosine(first, second[0]), highest_cosine(second, first[0])))


def highest_cosine(views: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]) -> float:
    """Return the highest cosine of one row with any of the views, 0 for rows of zeros."""
    norms = np.sqrt((views * views).sum(axis=1) * (whole @ whole))
    return float(((views @ whole) / np.maximum(norms, 1.0)).max())
