"""Which photos make a background, and how."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
from PIL.Image import Image

from obelisk.data import Catalog
from obelisk.embedding import Embedded
from obelisk.errors import PhotoMissingError
from obelisk.recognition import Background
from obelisk.recognition.background_photos import choose_background, embed_background

D = 4


class MeanColor:
    """Embeds a photo by its color; a file by its name."""

    bundle = SimpleNamespace(dimensions=D)

    def embed(self, sources, *, hashed):
        for path in sources:
            gone = PhotoMissingError("no such photo", where=path) if "gone" in path.name else None
            yield Embedded(path=path, content_hash="", embedding=None if gone else np.eye(D)[0], error=gone)

    def embed_image(self, image: Image):
        return np.append(np.asarray(image).reshape(-1, 3).mean(axis=0) / 255, 1.0).astype(np.float32)


def test_half_of_the_distractors_are_chosen_by_their_ids() -> None:
    queries = pl.DataFrame(
        {
            "image_id": ["00a", "00b", "010", "011", "01f"],
            "path": [f"test/{n}.jpg" for n in range(5)],
            "landmark_ids": [[], [], [7], [], []],
        }
    )
    photos = pl.DataFrame({"image_id": ["0"], "path": ["0.jpg"], "landmark_id": [7], "split": ["train"]})
    catalog = Catalog(root=Path("data"), references=photos, queries=queries, landmarks=pl.DataFrame())
    assert choose_background(catalog) == [Path("data/test/0.jpg")]


def test_a_background_holds_photos_and_rendered_ones() -> None:
    photos = [Path("sea.jpg"), Path("gone.jpg"), Path("cat.jpg")]
    rows = embed_background(MeanColor(), photos, rendered=6)
    assert rows.shape == (8, D)
    assert rows.dtype == np.float32
    assert len(np.unique(rows[2:], axis=0)) == 6
    np.testing.assert_array_equal(rows, embed_background(MeanColor(), photos, rendered=6))
    assert len(Background(rows)) == 8


def test_nothing_asked_for_is_nothing() -> None:
    assert embed_background(MeanColor(), [], rendered=0).shape == (0, D)
