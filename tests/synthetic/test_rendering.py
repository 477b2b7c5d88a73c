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

# Photos of seed 1, from whose ordinary ones the background of the bundled model was made: the mean colors of 4 × 4
# fields.
BACKGROUND_PHOTOS = {
    0: "919e9f9aa8a99aa8a9919e9f9ca8a799a49fa7b3b2a1aead7275717f88817a7b788b8c886869626f726c6e6f6a5d605e",  # street
    2: "8d6a8b926e8c86638988658abb7a77a96d6b925451c5867666545f7454596d3735805d5e5a4b5a61474456353f614e5f",  # people
    3: "7498c45f8ac05b88bf648ec19bafc398acbf95abbd95abbdc9bdb1b5ada79b9998bfb5acc2b4a69f958f9f9690b2a69c",  # car
    6: "92c5f78bc0f56aaaed7db7f2afd8f7afd8f7afd8f7afd8f77eaedc7eaedc7bacdb7bacdb5787ba5585b94d80b75384b9",  # lake
    12: "fef6e2f4c0c2fbe3d7fef6e1eeedd8c89599ecd6cefefdea9699a28a8e9cb4b4b4f6ebd3a99984a89986af9c82bea179",  # room
    14: "a2b3b1a8bab8a3b5b59aababb5c6c2baccc7bed0ccb1c2bdbccfcdc4d8d6c5d9d7bbcfcca5b3b1abbbb9b4c6c5a9bab9",  # beach
    15: "020522020523020523020522191a363e31342b25330c1237624f4a826347795c462a2a4841363d3f353c39313a352f39",  # night
    23: "a39080ad9a88ad9a88a39180c4af9acdb8a2ceb8a2c4af9ab39173b66b5fc59d7cc0a47b937540804e387f583c8c7546",  # things
    26: "4e80d35388e15489e16c93da86abef90b5f889b1f992b2ef96add3bacae6a3badd91a9cd4e6fa23d598b4e6fa35072a4",  # boat
    29: "50494a554d4e554d4e50494a4a4234434a43354033363d362d30236e663f605e5b42443ea13c2d66493f93a4444b5f2b",  # garden
    31: "64a4d378b8e472b3e25d9ed18bb1b582acac95b9b794b3adb0b570b4bb73bbc076b2b771999853a9a85ba8a85b9a9a58",  # mountains
}


@pytest.mark.parametrize("number", BACKGROUND_PHOTOS)
def test_the_ordinary_photos_of_the_bundled_background_stay_as_they_are(number: int) -> None:
    # Not to the bit: other versions of NumPy and Pillow may round differently.
    expected = np.frombuffer(bytes.fromhex(BACKGROUND_PHOTOS[number]), dtype=np.uint8)
    assert np.abs(fields(render_distractor(1, number)) - expected.astype(int)).max() <= 2


def test_a_landmark_looks_the_same_on_every_machine() -> None:
    expected = "1b285e1d2a641e2b641c285e41477e51518872648e575384564a635e506b514459594e6a322d2a37312d332e2b342e2a"
    assert np.abs(fields(render_distractor(1, 1)) - list(bytes.fromhex(expected))).max() <= 2


def fields(photo: Image.Image) -> np.ndarray:
    """The mean colors of 4 × 4 fields."""
    return np.asarray(photo.resize((4, 4), Image.Resampling.BOX)).reshape(-1).astype(int)


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
    assert [kind_of(seed) for seed in range(2 * len(LANDMARKS))] == [*LANDMARKS, *LANDMARKS]


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
