"""Augmented views: the same picture in every run, different by number, within their ranges."""

import numpy as np
import pytest
from PIL import Image

from obelisk.config import ViewsSection
from obelisk.training.augmentation import AugmentedView, augmented_views

CONTENT = "0123456789abcdef0123456789abcdef"
STILL = {name: 0.0 for name in ViewsSection.model_fields if name != "count"}


@pytest.fixture
def photo() -> Image.Image:
    rows, columns = np.mgrid[0:60, 0:90]
    return Image.fromarray(np.stack([rows * 4, columns * 2, (rows + columns) % 256], axis=2).astype(np.uint8))


def test_a_view_depends_on_photo_number_and_seed_alone(photo: Image.Image) -> None:
    ranges = ViewsSection(count=2)
    first, second = augmented_views(ranges, seed=0)
    assert np.array_equal(first(photo, CONTENT), first(photo, CONTENT))
    others = [
        second(photo, CONTENT),
        augmented_views(ranges, seed=1)[0](photo, CONTENT),
        first(photo, "f" + CONTENT[1:]),
    ]
    assert all(not np.array_equal(first(photo, CONTENT), other) for other in others)


def test_a_view_keeps_the_size_and_ranges_of_zero_keep_the_photo(photo: Image.Image) -> None:
    still = AugmentedView(number=1, seed=0, ranges=ViewsSection.model_validate(STILL))
    assert np.abs(np.asarray(still(photo, CONTENT), float) - np.asarray(photo, float)).max() <= 1
    assert AugmentedView(number=1, seed=0, ranges=ViewsSection())(photo, CONTENT).size == photo.size


def test_a_flip_alone_mirrors_the_photo(photo: Image.Image) -> None:
    flip = AugmentedView(number=1, seed=0, ranges=ViewsSection.model_validate(STILL | {"flip": 1.0}))
    mirrored = np.asarray(photo, float)[:, ::-1]
    assert np.abs(np.asarray(flip(photo, CONTENT), float) - mirrored).max() <= 1


@pytest.mark.parametrize("change", ["width_shift", "height_shift", "zoom", "brightness", "rotation", "shear", "aspect"])
def test_each_change_of_the_reference_comparison_changes_the_photo(photo: Image.Image, change: str) -> None:
    ranges = ViewsSection.model_validate(STILL | {change: 0.3 if change not in ("rotation", "shear") else 20.0})
    view = AugmentedView(number=1, seed=0, ranges=ranges)
    assert np.abs(np.asarray(view(photo, CONTENT), float) - np.asarray(photo, float)).mean() > 0.5


def test_the_name_changes_with_whatever_the_view_depends_on() -> None:
    names = {
        AugmentedView(number=number, seed=seed, ranges=ViewsSection(zoom=zoom)).name
        for number in (1, 2)
        for seed in (0, 1)
        for zoom in (0.1, 0.3)
    }
    assert len(names) == 8
