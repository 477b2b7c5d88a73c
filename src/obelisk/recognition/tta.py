"""Test-time augmentation: a photo is embedded together with its mirror image and its middle.

The mean of the embeddings, of length 1, stands for the photo. It costs three times the computing; on validation
photos it named as many landmarks right and told a little better which photos show none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps
from PIL.Image import Image

from obelisk.embedding import Embedded, Embedder
from obelisk.errors import PhotoError
from obelisk.photos import map_in_order, read_photo

MARGIN = 0.1  # cut off at each side, so that 80 % of width and height are left


def embed_views(embedder: Embedder, paths: Iterable[Path]) -> Iterator[Embedded]:
    """Yield one :class:`Embedded` a photo, in input order: the unit mean of its views; a bad photo fails alone."""

    def embed(path: Path) -> Embedded:
        try:
            side = max(member.size for member in embedder.bundle.members)
            photo = read_photo(path, min_side=round(side / (1 - 2 * MARGIN)))
        except PhotoError as error:
            return Embedded(path=path, content_hash="", embedding=None, error=error)
        return Embedded(path=path, content_hash="", embedding=mean_direction(embedder, list_views(photo)))

    return map_in_order(embed, paths)


def list_views(photo: Image) -> list[Image]:
    """Return an upright photo, its mirror image, and its middle."""
    x, y = int(photo.width * MARGIN), int(photo.height * MARGIN)
    middle = photo.crop((x, y, photo.width - x, photo.height - y))
    return [photo, ImageOps.mirror(photo), middle]


def mean_direction(embedder: Embedder, views: Iterable[Image]) -> NDArray[np.float32]:
    """Return the mean (D,) of the views' unit embeddings, of length 1; zero where they have no direction."""
    total = np.zeros(embedder.bundle.dimensions)
    for view in views:
        row = embedder.embed_image(view).astype(np.float64)
        length = np.linalg.norm(row)
        total += row / length if length > 0 else row
    length = np.linalg.norm(total)
    mean: NDArray[np.float32] = (total / length if length > 0 else total).astype(np.float32)
    return mean
