from __future__ import annotations

import io
import itertools
import random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from obelisk.data import find_near_duplicates
from obelisk.data.duplicates import (
    FAR_BITS,
    NEAR_BITS,
    VIEWS,
    compare_gradients,
    hash_views,
    join_pairs,
    pair_everywhere,
    pair_inside_landmarks,
    view_gradients,
)


def encode_again(image: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Image.open(data)


def cut(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Cut shares of the width and height off each edge."""
    width, height = image.size
    return image.crop((int(left * width), int(top * height), int((1 - right) * width), int((1 - bottom) * height)))


COPIES = {
    "as it is": lambda image: image,
    "encoded again, much smaller file": lambda image: encode_again(image, 30),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "squashed to another aspect": lambda image: image.resize((200, 90)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "gray": lambda image: ImageOps.grayscale(image),
    "mirrored": ImageOps.mirror,
    "mirrored and encoded again": lambda image: encode_again(ImageOps.mirror(image), 40),
    "3 % off every edge": lambda image: cut(image, 0.03, 0.03, 0.03, 0.03),
    "6 % off the left and the top": lambda image: cut(image, 0.06, 0.06, 0, 0),
    "6 % off the right and the bottom": lambda image: cut(image, 0, 0, 0.06, 0.06),
    "5 % off the top": lambda image: cut(image, 0, 0.05, 0, 0),
}


def frame(landmarks: dict[str, int | None]) -> pl.DataFrame:
    """Photos whose id is their path, and their landmarks."""
    names = list(landmarks)
    return pl.DataFrame(
        {"image_id": names, "path": names, "landmark_id": list(landmarks.values())},
        schema_overrides={"landmark_id": pl.Int64},
    )


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES.keys())
def test_copies_of_one_picture_are_a_group(copy, tmp_path, draw_photo):
    original = draw_photo(3, size=(320, 240))
    original.save(tmp_path / "a.jpg", quality=90)
    copy(original).save(tmp_path / "b.png")
    draw_photo(4, size=(320, 240)).save(tmp_path / "c.jpg")
    found = find_near_duplicates(tmp_path, frame({"a.jpg": 1, "b.png": 1, "c.jpg": 1}))
    assert found.groups == {"a.jpg": "a.jpg", "b.png": "a.jpg"}


def test_distinct_pictures_stay_apart(tmp_path, draw_photo):
    for seed in range(40):
        draw_photo(seed).save(tmp_path / f"{seed:02}.jpg")
    found = find_near_duplicates(tmp_path, frame({f"{seed:02}.jpg": 1 for seed in range(40)}))
    assert found.groups == {}


def test_copies_across_landmarks_and_unknown_photos_are_found(tmp_path, draw_photo):
    original = draw_photo(3, size=(320, 240))
    original.save(tmp_path / "a.jpg")
    encode_again(original, 50).save(tmp_path / "b.jpg")
    ImageOps.mirror(original).save(tmp_path / "c.jpg")
    found = find_near_duplicates(tmp_path, frame({"a.jpg": 1, "b.jpg": 2, "c.jpg": None}))
    assert found.groups == dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), "a.jpg")


def test_order_of_the_photos_does_not_matter(tmp_path, draw_photo):
    landmarks: dict[str, int | None] = {}
    for seed in range(8):
        for kind, copy in (("a", draw_photo(seed)), ("b", encode_again(draw_photo(seed), 60))):
            copy.save(tmp_path / f"{kind}{seed}.jpg")
            landmarks[f"{kind}{seed}.jpg"] = seed % 3
    shuffled = list(landmarks)
    random.Random(1).shuffle(shuffled)
    first = find_near_duplicates(tmp_path, frame(landmarks))
    second = find_near_duplicates(tmp_path, frame({name: landmarks[name] for name in shuffled}))
    assert len(first.groups) == 16
    assert list(first.groups.items()) == list(second.groups.items())


def test_unreadable_photos_are_named_and_the_others_compared(tmp_path, draw_photo):
    draw_photo(1).save(tmp_path / "a.jpg")
    draw_photo(1).save(tmp_path / "c.jpg")
    (tmp_path / "b.jpg").write_text("no photo")
    found = find_near_duplicates(tmp_path, frame({"a.jpg": 1, "b.jpg": 1, "c.jpg": 1, "d.jpg": 1}))
    assert found.groups == {"a.jpg": "a.jpg", "c.jpg": "a.jpg"}
    assert list(found.unreadable) == ["b.jpg", "d.jpg"]
    assert str(tmp_path / "b.jpg") in found.unreadable["b.jpg"]


def test_flat_pictures_are_copies_only_when_they_are_the_same(tmp_path):
    for name, color in (("a.png", "white"), ("b.png", "white"), ("c.png", "black")):
        Image.new("RGB", (50, 50), color).save(tmp_path / name)
    found = find_near_duplicates(tmp_path, frame({"a.png": 1, "b.png": 1, "c.png": 1}))
    assert found.groups == {"a.png": "a.png", "b.png": "a.png"}


def test_no_photo_gives_no_group(tmp_path):
    assert find_near_duplicates(tmp_path, frame({})).groups == {}


def test_hash_bits_say_where_a_picture_grows_brighter():
    ramp = np.tile(np.arange(0, 240, 5, dtype=np.uint8), (48, 1))
    hashes = hash_views(ramp)
    assert hashes[0] == np.uint64(2**64 - 1)
    assert hashes[-1] == np.uint64(0)


def test_gradients_agree_with_themselves_and_not_with_their_negative(draw_photo):
    gray = np.asarray(draw_photo(1).convert("L").resize((48, 48)))
    assert compare_gradients(view_gradients(gray), view_gradients(gray)) == pytest.approx(1.0)
    assert compare_gradients(view_gradients(gray), view_gradients(255 - gray)) < 0.5


def make_hashes(seed: int, photos: int) -> np.ndarray:
    """Make random hashes, half of them a few bits from an earlier one, so that near pairs exist."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, (photos, VIEWS), dtype=np.uint64)
    for place in range(photos // 2, photos):
        flipped = rng.choice(64, rng.integers(0, 14), replace=False).astype(np.uint64)
        source = hashes[rng.integers(0, photos // 2), rng.choice([0, VIEWS - 1])]
        hashes[place, 0] = source ^ np.bitwise_or.reduce(np.uint64(1) << flipped, initial=np.uint64(0))
    return hashes


def count_bits(a: np.uint64, b: np.uint64) -> int:
    return int(a ^ b).bit_count()


@pytest.mark.parametrize("seed", range(3))
def test_pairs_everywhere_are_all_pairs_within_the_limit(seed: int):
    hashes = make_hashes(seed, 80)
    expected = {
        (a, b)
        for a, b in itertools.combinations(range(80), 2)
        if count_bits(hashes[a, 0], hashes[b, 0]) <= FAR_BITS
        or count_bits(hashes[a, 0], hashes[b, -1]) <= FAR_BITS
        or count_bits(hashes[b, 0], hashes[a, -1]) <= FAR_BITS
    }
    assert len(expected) > 10
    assert {tuple(pair) for pairs in pair_everywhere(hashes) for pair in pairs.tolist()} == expected


@pytest.mark.parametrize("seed", range(3))
def test_pairs_inside_landmarks_are_all_pairs_of_a_landmark_within_the_limit(seed: int):
    hashes = make_hashes(seed, 60)
    landmarks = pl.Series([None if place % 7 == 0 else place % 2 for place in range(60)], dtype=pl.Int64)
    expected = {
        (a, b)
        for a, b in itertools.combinations(range(60), 2)
        if landmarks[a] is not None
        and landmarks[a] == landmarks[b]
        and min(
            min(count_bits(view, hashes[b, 0]) for view in hashes[a]),
            min(count_bits(view, hashes[a, 0]) for view in hashes[b]),
        )
        <= NEAR_BITS
    }
    assert len(expected) > 3
    found = {tuple(pair) for pairs in pair_inside_landmarks(hashes, landmarks) for pair in pairs.tolist()}
    assert found == expected


@given(st.lists(st.tuples(st.sampled_from("abcdefghij"), st.sampled_from("abcdefghij")), max_size=12))
@settings(max_examples=200, deadline=None)
def test_joined_pairs_are_the_connected_parts(pairs: list[tuple[str, str]]):
    parts = [{member} for member in sorted({member for pair in pairs for member in pair})]
    for a, b in pairs:
        touched = [part for part in parts if a in part or b in part]
        parts = [part for part in parts if part not in touched] + [set().union(*touched)]
    assert join_pairs(pairs) == {member: min(part) for part in parts for member in part}
