"""Test-time augmentation: embed a photo together with its mirror image and its middle.

The unit-norm mean of the three embeddings stands for the photo. This takes three times the computation; on validation
photos it named as many landmarks right, and told photos without a landmark slightly better.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import ImageOps
from PIL.Image import Image

from obelisk.arrays import Embeddings
from obelisk.embedding import Embedded, Embedder
from obelisk.errors import PhotoError
from obelisk.photos import map_in_order, read_photo

CUT = 0.1  # of width and height, cut off at each side: the middle keeps 80 % of both


def embed_augmented(embedder: Embedder, paths: Iterable[Path]) -> Iterator[Embedded]:
    """Yield the mean embedding of each photo's views, in input order; a bad photo fails alone."""

    def embed_one(path: Path) -> Embedded:
        try:
            side = max(member.size for member in embedder.bundle.members)
            photo = read_photo(path, min_side=round(side / (1 - 2 * CUT)))
        except PhotoError as error:
            return Embedded(path=path, content_hash="", embedding=None, error=error)
        return Embedded(path=path, content_hash="", embedding=mean_direction(embedder, augment_photo(photo)))

    return map_in_order(embed_one, paths)


def augment_photo(photo: Image) -> list[Image]:
    """Return an upright photo, its mirror image, and its middle."""
    x, y = int(photo.width * CUT), int(photo.height * CUT)
    middle = photo.crop((x, y, photo.width - x, photo.height - y))
    return [photo, ImageOps.mirror(photo), middle]


def mean_direction(embedder: Embedder, views: Iterable[Image]) -> Embeddings:
    """Return the unit-norm mean (D,) of the views' unit-norm embeddings; zero if they cancel out."""
    total = np.zeros(embedder.bundle.dimensions)
    for view in views:
        row = embedder.embed_image(view).astype(np.float64)
        length = np.linalg.norm(row)
        total += row / length if length > 0 else row
    length = np.linalg.norm(total)
    mean: Embeddings = (total / length if length > 0 else total).astype(np.float32)
    return mean
