"""The photos that make up a model's background.

A background needs two kinds. The distractors of a dataset are often landmarks of other places; a background of these
alone lets ordinary photos pass, because normalization then favors whatever resembles no landmark. Rendered ordinary
photos (landscapes, streets, rooms, still lifes) are the other kind, and anybody can render them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from obelisk.arrays import Embeddings
from obelisk.data import Catalog
from obelisk.embedding import Embedder
from obelisk.gallery import refuse_directionless
from obelisk.photos import map_in_order
from obelisk.synthetic import render_distractor

RENDERED = 160  # ordinary photos in a background
SEED = 1  # of the rendered photos
CHOSEN_DIGITS = frozenset("02468ace")


def choose_background(catalog: Catalog) -> list[Path]:
    """Return half of a dataset's distractors: those whose id ends in an even hexadecimal digit.

    The other half is left for evaluation.
    """
    distractors = catalog.select_distractors()
    chosen = [image_id[-1:] in CHOSEN_DIGITS for image_id in distractors["image_id"].to_list()]
    return [path for path, is_chosen in zip(catalog.locate_photos(distractors), chosen, strict=True) if is_chosen]


def embed_background(
    embedder: Embedder, photos: Sequence[Path], *, rendered: int = RENDERED, seed: int = SEED
) -> Embeddings:
    """Embed photos of no landmark and ``rendered`` ordinary ones; return the embeddings (B, D), not unit-norm.

    Photos that can't be read are left out.
    """

    def embed_rendered(number: int) -> Embeddings:
        return embedder.embed_image(render_distractor(seed, number))

    found = [photo.embedding for photo in refuse_directionless(embedder.embed(photos, hashed=False))]
    rows = [row for row in found if row is not None]
    rows.extend(map_in_order(embed_rendered, range(rendered)))
    return np.array(rows, dtype=np.float32).reshape(-1, embedder.bundle.dimensions)
