from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from obelisk.photos import ModelInput, prepare, read_photo

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def test_channels_are_normalized_each_by_its_own_mean_and_std() -> None:
    rule = ModelInput(size=8, resize="squash", **IMAGENET)
    prepared = prepare(Image.new("RGB", (20, 10), (255, 128, 0)), rule)
    assert prepared.shape == (3, 8, 8)
    assert prepared.dtype == np.float32
    expected = [(1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (0 - 0.406) / 0.225]
    np.testing.assert_allclose(prepared, np.broadcast_to(np.reshape(expected, (3, 1, 1)), (3, 8, 8)), rtol=1e-5)


def test_squash_shows_the_whole_photo_and_crop_its_centre() -> None:
    # Left third red, middle third green, right third blue.
    photo = Image.new("RGB", (90, 30), (0, 255, 0))
    photo.paste((255, 0, 0), (0, 0, 30, 30))
    photo.paste((0, 0, 255), (60, 0, 90, 30))
    squashed = prepare(photo, ModelInput(size=30, resize="squash", **PLAIN))
    assert [int(squashed[:, 15, column].argmax()) for column in (2, 15, 27)] == [0, 1, 2]
    cropped = prepare(photo, ModelInput(size=30, resize="crop", **PLAIN))
    np.testing.assert_array_equal(cropped[1], 1)
    np.testing.assert_array_equal(cropped[[0, 2]], 0)


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (640, 480), (224, 224)])
def test_crop_is_resizing_the_shorter_side_then_cutting_the_centre(size: tuple[int, int]) -> None:
    # Oracle: the two steps one after the other. They see other pixels at the cut only, where the filter ends.
    noise = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    scale = 96 / min(size)
    whole = photo.resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling.BICUBIC)
    left, top = (whole.width - 96) // 2, (whole.height - 96) // 2
    expected = np.asarray(whole.crop((left, top, left + 96, top + 96)), dtype=float) / 255
    found = prepare(photo, ModelInput(size=96, resize="crop", **PLAIN)).transpose(1, 2, 0)
    assert np.abs(found - expected).mean() < 0.006


def test_shrinking_is_antialiased() -> None:
    # Columns one pixel wide, black and white in turn, must blend to gray; a filter that skips pixels keeps them.
    stripes = np.zeros((800, 800, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    prepared = prepare(Image.fromarray(stripes), ModelInput(size=100, resize="squash", **PLAIN))
    assert np.abs(prepared[:, 5:-5, 5:-5] - 0.5).max() < 0.02


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    size=st.integers(1, 64),
    resize=st.sampled_from(["squash", "crop"]),
)
def test_any_photo_gives_a_finite_square(width: int, height: int, size: int, resize: str) -> None:
    prepared = prepare(
        Image.new("RGB", (width, height), (250, 120, 3)), ModelInput(size=size, resize=resize, **IMAGENET)
    )
    assert prepared.shape == (3, size, size)
    assert prepared.flags.c_contiguous
    assert np.ptp(prepared.reshape(3, -1), axis=1).max() < 1e-5


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("size", [(65_000, 1), (1, 65_000)])
def test_a_strip_does_not_explode(size: tuple[int, int], resize: str) -> None:
    prepared = prepare(Image.new("RGB", size, "white"), ModelInput(size=224, resize=resize, **PLAIN))
    np.testing.assert_allclose(prepared, 1)


def test_drafting_hardly_moves_the_model_input(fifty_photos: list[Path]) -> None:
    rule = ModelInput(size=96, resize="squash", **PLAIN)
    for path in fifty_photos[:20]:
        moved = np.abs(prepare(read_photo(path, min_side=96), rule) - prepare(read_photo(path), rule))
        assert moved.mean() < 0.02
