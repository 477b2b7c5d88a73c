"""Rendered photos: what depends on their numbers and what doesn't, that all kinds look like something."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from obelisk.synthetic import render_camera_photo, render_distractor, render_photo
from obelisk.synthetic.scene import LANDMARKS, kind_of, landmark_scene

# The mean colors of 4 × 4 fields of some photos, by what they show.
PHOTOS = {
    0: "e0e0e0f1f1f1f1f1f1e0e0e0f1f1f1fdfdfdfdfdfdf1f1f1b4b0b2c0bcbdbfbbbdb5b1b37568668677748579787d7271",  # country
    1: "1a275b1c2a621d2a621a275b40467f444a874148863e447f544b6561547261516b4e465d312d2a38322e3832311e2222",  # landmark
    2: "b79e96b79e96b89c94b79d95dbbeb5cebc9dd1b393dbb8ada79d73ad9976c1af7fae9a7885835a88825ca39363918063",  # still life
    10: "a4cafbb4d4fcb9d7fca3cafbbedeffc0dfffbfdfffbedeffeef4f7dbd9d1e2e1dbf0f5f7dedadccfc6bfd4cdc7e3dfe0",  # street
}


@pytest.mark.parametrize("number", PHOTOS)
def test_ordinary_photos_stay_as_they_are(number: int) -> None:
    # Not to the bit: other versions of NumPy and Pillow may round differently.
    fields = np.asarray(render_distractor(1, number).resize((4, 4), Image.Resampling.BOX)).reshape(-1)
    expected = np.frombuffer(bytes.fromhex(PHOTOS[number]), dtype=np.uint8)
    assert np.abs(fields.astype(int) - expected.astype(int)).max() <= 2


def test_ordinary_photos_are_as_bright_and_as_varied_as_those_of_the_bundled_background() -> None:
    photos = np.stack([np.asarray(render_distractor(0, number, 64), dtype=float) for number in range(160)])
    assert np.abs(photos.mean(axis=(0, 1, 2)) - (146, 149, 151)).max() < 15
    assert np.abs(photos.std(axis=(0, 1, 2)) - (60, 59, 67)).max() < 10


def test_a_photo_depends_on_nothing_but_its_numbers() -> None:
    before = render_photo(3, 5, 64)
    landmark_scene.cache_clear()
    for seed in range(4):
        render_photo(seed, 0, 64)
        render_distractor(seed, 0, 64)
    assert np.array_equal(np.asarray(render_photo(3, 5, 64)), np.asarray(before))


@pytest.mark.parametrize("size", [16, 48, 100, 224, 321])
def test_photos_are_rgb_squares_of_the_wanted_size(size: int) -> None:
    for photo in (render_photo(1, 0, size), render_distractor(1, 0, size)):
        assert photo.mode == "RGB"
        assert photo.size == (size, size)


def test_the_kinds_of_landmarks_take_turns() -> None:
    assert [kind_of(seed) for seed in range(10)] == [*LANDMARKS, *LANDMARKS]


@pytest.mark.parametrize("first", range(len(LANDMARKS)))
def test_every_kind_renders_a_picture_with_something_in_it(first: int) -> None:
    for seed in (first, first + len(LANDMARKS)):
        scene = landmark_scene(seed)
        assert 0.3 < scene.mesh.height < 4
        for index in range(8):
            assert np.asarray(render_photo(seed, index, 64)).std() > 4


def test_a_landmark_stays_itself_while_its_photos_differ() -> None:
    photos = [np.asarray(render_photo(7, index, 64)).astype(int) for index in range(6)]
    for i in range(6):
        for j in range(i):
            assert np.abs(photos[i] - photos[j]).mean() > 3
    assert landmark_scene(7) is landmark_scene(7)


@pytest.mark.parametrize("first", range(len(LANDMARKS)))
def test_landmarks_of_one_kind_differ(first: int) -> None:
    meshes = [landmark_scene(first + len(LANDMARKS) * turn).mesh for turn in range(40)]
    shapes = {(len(mesh.points), round(mesh.height, 4), round(mesh.radius, 4)) for mesh in meshes}
    assert len(shapes) == len(meshes) == 40


def test_a_camera_photo_shows_the_landmark_at_the_wanted_size() -> None:
    photo = render_camera_photo(1, 0, width=600, height=450)
    assert (photo.mode, photo.size) == ("RGB", (600, 450))
    shown, plain = (np.asarray(p.resize((8, 8), Image.Resampling.BOX)).astype(int) for p in (photo, render_photo(1, 0)))
    assert np.abs(shown - plain).mean() < 6


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**40), index=st.integers(0, 10**6))
def test_any_numbers_render(seed: int, index: int) -> None:
    assert render_photo(seed, index, 32).size == (32, 32)
    assert render_distractor(seed % 10**6, index, 32).size == (32, 32)


def test_landmarks_can_be_told_apart_by_their_pixels() -> None:
    # The nearest neighbor of small color pictures: far above chance (1 in 13), and far from perfect.
    views = {seed: [thumbnail(seed, index) for index in range(12)] for seed in range(13)}
    gallery = [(seed, view) for seed, shown in views.items() for view in shown[:9]]
    asked = [(seed, view) for seed, shown in views.items() for view in shown[9:]]
    random.Random(0).shuffle(gallery)
    right = sum(
        min(gallery, key=lambda other: float(np.abs(other[1] - view).mean()))[0] == seed for seed, view in asked
    )
    assert 0.2 < right / len(asked) < 0.95


def thumbnail(seed: int, index: int) -> np.ndarray:
    """A tiny picture, its brightness and contrast taken out."""
    pixels = np.asarray(render_photo(seed, index, 96).resize((12, 12), Image.Resampling.BOX), dtype=float)
    return (pixels - pixels.mean()) / (pixels.std() + 1)
