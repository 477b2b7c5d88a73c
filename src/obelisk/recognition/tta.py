"""Test-time augmentation: embed a photo together with its mirror image and its middle.

The unit-norm mean of the three embeddings stands for the photo. This takes three times the computation; on validation
photos it named as many landmarks right, and was slightly better at rejecting photos without one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from PIL import ImageOps
from PIL.Image import Image

from obelisk.arrays import Embeddings, l2_normalize
from obelisk.embedding import Embedded, Embedder
from obelisk.errors import PhotoError
from obelisk.photos import (
    GivenPhoto,
    PhotosLike,
    detach_error,
    map_in_order,
    read_query,
    take_photos,
    weigh_photo,
)

CUT = 0.1  # of width and height, cut off at each side: the middle keeps 80 % of both


def embed_augmented(embedder: Embedder, photos: PhotosLike, *, located: bool = False) -> Iterator[Embedded]:
    """Yield the mean embedding of each photo's views, in input order; a bad photo fails alone.

    ``located`` is that of :meth:`~obelisk.embedding.Embedder.embed`.
    """

    def embed_one(given: GivenPhoto) -> Embedded:
        try:
            side = max(member.size for member in embedder.bundle.members)
            photo, warning = read_query(given, min_side=round(side / (1 - 2 * CUT)))
        except PhotoError as error:
            return Embedded(path=given.path, content_hash="", embedding=None, error=detach_error(error))
        views = augment_photo(photo)
        stated = given.state_position() if located else None
        about = partial(Embedded, path=given.path, content_hash="", warning=warning, stated=stated)
        if not embedder.gives_logits:
            return about(embedding=mean_direction([embedder.embed_image(view) for view in views]))
        rows, logits = zip(*(embedder.classify_image(view) for view in views), strict=True)
        scores = np.stack(logits).mean(axis=0, dtype=np.float64).astype(np.float32)
        return about(embedding=mean_direction(rows), logits=scores)

    return map_in_order(embed_one, take_photos(photos), weigh_photo)


def augment_photo(photo: Image) -> list[Image]:
    """Return an upright photo, its mirror image, and its middle."""
    x, y = int(photo.width * CUT), int(photo.height * CUT)
    middle = photo.crop((x, y, photo.width - x, photo.height - y))
    return [photo, ImageOps.mirror(photo), middle]


def mean_direction(rows: Sequence[Embeddings]) -> Embeddings:
    """Return the unit-norm mean (D,) of the views' embeddings, each scaled to length 1; zero if they cancel out."""
    total = l2_normalize(np.stack(rows), strict=False).sum(axis=0, dtype=np.float64)
    mean: Embeddings = l2_normalize(total[np.newaxis], strict=False)[0]
    return mean
