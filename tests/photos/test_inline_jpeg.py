"""Thumbnails in pages: they fit into their box and their bytes, whatever the photo."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from obelisk.photos import data_uri, encode_thumbnail

LARGEST = 12_000


@pytest.mark.parametrize(
    ("size", "expected"),
    [((4000, 3000), (320, 240)), ((3000, 4000), (180, 240)), ((2000, 500), (400, 100)), ((60, 40), (60, 40))],
)
def test_a_photo_fits_into_its_box_and_is_not_enlarged(size: tuple[int, int], expected: tuple[int, int]) -> None:
    jpeg, found = encode_thumbnail(Image.new("RGB", size, "teal"), width=400, height=240, largest=LARGEST)
    assert found == expected
    with Image.open(io.BytesIO(base64.b64decode(data_uri(jpeg).partition(",")[2]))) as read:
        assert (read.format, read.size) == ("JPEG", expected)


@pytest.mark.parametrize("size", [(400, 240), (4000, 3), (1, 5000), (1, 1)])
def test_noise_loses_quality_and_size_until_it_is_small(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    jpeg, found = encode_thumbnail(Image.fromarray(noise), width=400, height=240, largest=LARGEST)
    assert len(jpeg) <= LARGEST
    assert min(found) >= 1


def test_a_limit_that_no_jpeg_keeps_ends_at_one_pixel() -> None:
    assert encode_thumbnail(Image.new("RGB", (90, 60)), width=90, height=60, largest=10)[1] == (1, 1)
