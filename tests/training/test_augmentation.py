"""Augmented views: the same picture in every run, different by number, within their ranges."""

import numpy as np
import pytest
from PIL import Image

from obelisk.config import ViewsSection
from obelisk.training.loading.augmentation import AugmentedView, augmented_views

CONTENT = "0123456789abcdef0123456789abcdef"
STILL = {name: 0.0 for name in ViewsSection.model_fields if name != "count"} | {"crop": 1.0}


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


def still_views(photo: Image.Image, count: int, **ranges: float) -> list[np.ndarray]:
    """Return so many views that change nothing but what the ranges say."""
    section = ViewsSection.model_validate(STILL | ranges)
    views = (AugmentedView(number=number, seed=0, ranges=section) for number in range(1, count + 1))
    return [np.asarray(view(photo, CONTENT), float) for view in views]


def test_a_crop_is_a_part_of_the_photo_as_large_as_was_asked_for_and_anywhere_in_it(photo: Image.Image) -> None:
    areas, places = [], []
    for view in still_views(photo, 60, crop=0.25):
        # Red counts rows by 4, green columns by 2: both rise all the way where nothing is mirrored at a border.
        rows, columns = view[:, 45, 0], view[30, :, 1]
        assert (np.diff(rows) >= -1).all()
        assert (np.diff(columns) >= -1).all()
        areas.append(np.ptp(rows) / 4 / 60 * np.ptp(columns) / 2 / 90)
        places.append((rows.mean(), columns.mean()))
    assert 0.2 < min(areas) < 0.4
    assert 0.85 < max(areas) < 1.0
    assert np.std(places, axis=0).min() > 5


def test_a_crop_stretches_as_the_aspect_says(photo: Image.Image) -> None:
    views = still_views(photo, 60, crop=0.25, aspect=0.288)
    ratios = [(np.ptp(view[30, :, 1]) / 2 / 90) / (np.ptp(view[:, 45, 0]) / 4 / 60) for view in views]
    assert 0.7 < min(ratios) < 0.85
    assert 1.18 < max(ratios) < 1.4


def test_blur_smooths_by_its_share_of_the_shorter_side() -> None:
    spike = np.zeros((100, 150, 3), np.uint8)
    spike[50, 75] = 255
    widths = []
    for view in still_views(Image.fromarray(spike), 40, blur=0.04):
        weights = view[:, :, 0] / view[:, :, 0].sum()
        widths.append(np.sqrt((weights * (np.arange(100) - 50)[:, None] ** 2).sum()))
    # Bicubic resampling and rounding to whole levels leave little of a pixel of difference.
    assert min(widths) < 1.0
    assert 3.0 < max(widths) < 4.5


def test_erasing_replaces_a_rectangle_and_leaves_the_rest(photo: Image.Image) -> None:
    areas = []
    for view in still_views(photo, 60, erasing=1.0):
        changed = (np.abs(view - np.asarray(photo, float)) > 1).any(axis=2)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        box = np.zeros_like(changed)
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        assert changed[box].mean() > 0.95
        areas.append(box.mean())
    assert 0.01 < min(areas) < 0.08
    assert 0.33 < max(areas) < 0.41


def test_erasing_happens_as_often_as_was_asked_for(photo: Image.Image) -> None:
    erased = [np.abs(view - np.asarray(photo, float)).max() > 1 for view in still_views(photo, 200, erasing=0.25)]
    assert 30 < sum(erased) < 70


def test_the_name_changes_with_whatever_the_view_depends_on() -> None:
    names = {
        AugmentedView(number=number, seed=seed, ranges=ViewsSection(**{key: value})).name
        for number in (1, 2)
        for seed in (0, 1)
        for key, value in (("zoom", 0.1), ("zoom", 0.3), ("crop", 0.3), ("blur", 0.02), ("erasing", 1.0))
    }
    assert len(names) == 20


def test_what_comes_from_outside_is_the_photo_mirrored_however_far(photo: Image.Image) -> None:
    bright = Image.fromarray(np.maximum(np.asarray(photo), 40))
    for view in still_views(bright, 20, width_shift=1.0, height_shift=1.0, rotation=180.0):
        assert view.min() >= 30
