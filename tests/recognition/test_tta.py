"""Test-time augmentation: which views, and their mean."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from obelisk.errors import PhotoMissingError
from obelisk.recognition.tta import augment_photo, embed_augmented

D = 3


class CornerEmbedder:
    """Embeds a photo by the color of its left upper corner, of any length."""

    gives_logits = False
    bundle = SimpleNamespace(dimensions=D, members=[SimpleNamespace(size=8)])

    def embed_image(self, image: Image.Image) -> np.ndarray:
        return np.array(image.getpixel((0, 0)), dtype=np.float32)


def draw(folder: Path, name: str, *, left: tuple[int, int, int], right: tuple[int, int, int]) -> Path:
    photo = Image.new("RGB", (40, 20), left)
    photo.paste(right, (20, 0, 40, 20))
    photo.save(folder / name)
    return folder / name


def test_the_views_are_the_photo_its_mirror_image_and_its_middle() -> None:
    photo = Image.linear_gradient("L").resize((50, 20)).convert("RGB")
    plain, mirrored, middle = augment_photo(photo)
    np.testing.assert_array_equal(np.asarray(mirrored), np.asarray(plain)[:, ::-1])
    np.testing.assert_array_equal(np.asarray(middle), np.asarray(plain)[2:18, 5:45])


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (9, 2)])
def test_every_photo_has_views(size: tuple[int, int]) -> None:
    assert all(min(view.size) > 0 for view in augment_photo(Image.new("RGB", size)))


def test_each_view_counts_alike(tmp_path: Path) -> None:
    photo = draw(tmp_path, "a.png", left=(200, 0, 0), right=(0, 50, 0))
    (found,) = embed_augmented(CornerEmbedder(), [photo])
    np.testing.assert_allclose(found.embedding, np.array([2, 1, 0]) / np.sqrt(5), atol=1e-6)


def test_order_is_kept_and_the_bad_ones_fail_alone(tmp_path: Path) -> None:
    red = draw(tmp_path, "red.png", left=(9, 0, 0), right=(9, 0, 0))
    black = draw(tmp_path, "black.png", left=(0, 0, 0), right=(0, 0, 0))
    gone, seen, nothing = embed_augmented(CornerEmbedder(), [tmp_path / "gone.png", red, black])
    assert isinstance(gone.error, PhotoMissingError)
    assert gone.embedding is None
    np.testing.assert_allclose(seen.embedding, [1, 0, 0])
    np.testing.assert_array_equal(nothing.embedding, [0, 0, 0])
