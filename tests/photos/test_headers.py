from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from obelisk.errors import PhotoError
from obelisk.photos import read_photo
from obelisk.photos.accepted import find_format, read_photo_header
from obelisk.photos.orientation import find_orientation

Encode = Callable[..., bytes]
FORMATS = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "GIF": "GIF"}


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (640, 480)])
@pytest.mark.parametrize(
    "options", [{}, {"lossless": True}, {"exif": b"Exif\0\0"}], ids=["plain", "lossless", "extended"]
)
@pytest.mark.parametrize("kind", FORMATS)
def test_the_size_is_the_one_that_pillow_finds(
    kind: str, options: dict[str, object], size: tuple[int, int], encode: Encode
) -> None:
    data = encode(Image.new("RGB", size, "teal"), kind, **options)
    assert find_format(data) == FORMATS[kind]
    assert read_photo_header(data, find_format(data)).size == size


def test_a_gif_frame_outside_its_screen_counts(encode: Encode) -> None:
    data = bytearray(encode(Image.new("P", (10, 10)), "GIF"))
    at = data.index(b",")
    struct.pack_into("<HH", data, at + 1, 300, 200)
    assert read_photo_header(bytes(data), "GIF").size == (310, 210)


def exif_block(order: str, orientation: int, *, kind: int = 3) -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    other = struct.pack(f"{order}HHII", 0x010F, 2, 4, 0)
    wanted = struct.pack(f"{order}HHIHH", 0x0112, kind, 1, orientation, 0)
    return mark + struct.pack(f"{order}IH", 8, 2) + other + wanted


# An Exif block, and the orientation that it asks for.
EXIF_BLOCKS = {
    "little-endian": (exif_block("<", 6), 6),
    "big-endian": (exif_block(">", 8), 8),
    "out of range": (exif_block("<", 9), 1),
    "zero": (exif_block("<", 0), 1),
    "of the wrong type": (exif_block("<", 6, kind=2), 1),
    "cut off": (exif_block("<", 6)[:-6], 1),
    "empty": (b"", 1),
    "not TIFF": (b"JUNK" * 10, 1),
    "directory beyond the end": (b"II*\0\xff\xff\xff\xff" + bytes(20), 1),
}


@pytest.mark.parametrize("name", EXIF_BLOCKS)
def test_orientation(name: str) -> None:
    block, expected = EXIF_BLOCKS[name]
    assert find_orientation([block]) == expected


@settings(max_examples=300, deadline=None)
@given(
    data=st.binary(max_size=200),
    signature=st.sampled_from(
        [
            b"\xff\xd8\xff",
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"RIFF\0\0\0\0WEBPVP8X",
            b"RIFF\0\0\0\0WEBPVP8 ",
            b"RIFF\0\0\0\0WEBPVP8L",
        ]
    ),
)
def test_no_bytes_break_a_header_reader(data: bytes, signature: bytes) -> None:
    found = find_format(signature + data)
    assert found is not None
    try:
        header = read_photo_header(signature + data, found)
    except PhotoError:
        return
    assert 1 <= header.orientation <= 8
    assert sum(map(len, header.pieces)) <= len(signature + data) + 8


def test_stripping_metadata_changes_no_pixel(fifty_photos: list[Path]) -> None:
    for path in fifty_photos:
        np.testing.assert_array_equal(np.asarray(read_photo(path)), np.asarray(Image.open(path)))


def test_metadata_does_not_reach_the_decoder(encode: Encode, picture: Image.Image) -> None:
    plain = encode(picture, "JPEG")
    loaded = encode(
        picture, "JPEG", exif=exif_block("<", 1).join([b"Exif\0\0", b""]), comment="hello", icc_profile=b"x" * 999
    )
    assert len(loaded) > len(plain) + 999
    assert read_photo_header(loaded, "JPEG").open().read() == read_photo_header(plain, "JPEG").open().read()


def test_scans_that_libjpeg_buffers_are_told_apart(encode: Encode, picture: Image.Image) -> None:
    assert read_photo_header(encode(picture, "JPEG"), "JPEG").held == 0
    assert read_photo_header(encode(picture.convert("L"), "JPEG"), "JPEG").held == 0
    # Two bytes a sample; 4:2:0 has one and a half a pixel.
    assert read_photo_header(encode(picture, "JPEG", progressive=True), "JPEG").held == 3 * 48 * 32
    whole = encode(picture, "JPEG", progressive=True, subsampling=0)
    assert read_photo_header(whole, "JPEG").held == 6 * 48 * 32
