"""Where a photo was taken, against Pillow's writer: every format, and positions that can't be used."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from obelisk.photos import StatedPosition, read_photo, read_position
from obelisk.photos.gps import find_position

PICTURE = Image.frombytes("RGB", (3, 2), bytes(range(0, 180, 10)))
SYDNEY = {1: "S", 2: (33, 51, 24.48), 3: "E", 4: (151, 12, 55.08)}


def stating(fields: dict[int, object]) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825).update(fields)
    exif[0x8825] = exif.get_ifd(0x8825)
    return exif


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_each_format_is_read(kind: str, encode: Callable[..., bytes], tmp_path: Path) -> None:
    data = encode(PICTURE, kind, exif=stating(SYDNEY))
    (tmp_path / "photo").write_bytes(data)
    for source in (data, tmp_path / "photo"):
        stated = read_position(source)
        assert stated.position == pytest.approx((-33.8568, 151.2153), abs=1e-6)
        assert stated.fault is None
    assert read_photo(data).size == (2, 3)  # turned as before
    assert read_position(encode(PICTURE, kind)) == StatedPosition()


def as_heic(avif: bytes) -> bytes:
    """The boxes are the same; only the brands differ."""
    return avif.replace(b"avif", b"heic", 1).replace(b"avif", b"mif1", 1)


def test_a_heic_is_read_without_its_decoder(encode: Callable[..., bytes]) -> None:
    data = as_heic(encode(PICTURE, "AVIF", exif=stating(SYDNEY)))
    assert data[8:12] == b"heic"
    assert read_position(data).position == pytest.approx((-33.8568, 151.2153), abs=1e-6)


OUTSIDE, INCOMPLETE, LETTER = "outside the Earth", "incomplete, or no number", "lacks a hemisphere"
# Changes of a sound position, and what is said about each.
FAULTS: dict[str, tuple[dict[int, object], str]] = {
    "null island": ({2: (0, 0, 0), 4: (0, 0, 0)}, "0, 0, which means unknown"),
    "91 degrees": ({2: (91, 0, 0)}, OUTSIDE),
    "181 degrees": ({4: (180, 60, 0)}, OUTSIDE),
    "no letter": ({1: None}, LETTER),
    "an empty letter": ({3: ""}, LETTER),
    "a letter of the other axis": ({1: "E"}, LETTER),
    "both letters": ({1: "NS"}, LETTER),
    "no longitude": ({4: None}, INCOMPLETE),
    "two parts": ({2: (33, 51)}, INCOMPLETE),
    "only letters": ({2: None, 4: None}, INCOMPLETE),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_position_that_is_none_is_told(name: str, encode: Callable[..., bytes]) -> None:
    change, text = FAULTS[name]
    fields = {tag: value for tag, value in {**SYDNEY, **change}.items() if value is not None}
    stated = read_position(encode(PICTURE, "JPEG", exif=stating(fields)))
    assert stated.position is None
    assert stated.fault
    assert text in stated.fault


SPELLINGS: dict[str, dict[int, object]] = {
    "small letters": {**SYDNEY, 1: "s", 3: "e"},
    "decimal degrees": {**SYDNEY, 2: (33.8568, 0, 0)},
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_other_spellings_are_read(name: str, encode: Callable[..., bytes]) -> None:
    found = read_position(encode(PICTURE, "JPEG", exif=stating(SPELLINGS[name])))
    assert found.position == pytest.approx((-33.8568, 151.2153), abs=1e-5)


def test_a_gps_directory_without_a_position_states_none(encode: Callable[..., bytes]) -> None:
    fields = {0: b"\2\3\0\0", 29: "2026:11:30"}  # version and date
    assert read_position(encode(PICTURE, "JPEG", exif=stating(fields))) == StatedPosition()


def exif_block(denominator: int, *, kind: int = 5) -> bytes:
    """A GPS directory of our own making, with a denominator that no writer lets through."""
    entries = [struct.pack("<HHI4s", 1, 2, 2, b"N"), struct.pack("<HHII", 2, kind, 3, 80)]
    entries += [struct.pack("<HHI4s", 3, 2, 2, b"E"), struct.pack("<HHII", 4, 5, 3, 104)]
    block = struct.pack("<4sIHHHIII", b"II*\0", 8, 1, 0x8825, 4, 1, 26, 0) + struct.pack("<H", 4) + b"".join(entries)
    block = block.ljust(80, b"\0") + struct.pack("<6I", 48, 1, 30, 1, 0, denominator)
    return block + struct.pack("<6I", 2, 1, 15, 1, 0, 1)


def test_a_fraction_over_zero_is_no_number() -> None:
    assert find_position([exif_block(1)]).position == pytest.approx((48.5, 2.25))
    assert INCOMPLETE in str(find_position([exif_block(0)]).fault)
    assert INCOMPLETE in str(find_position([exif_block(1, kind=12)]).fault)


def test_what_is_cut_off_states_nothing(encode: Callable[..., bytes]) -> None:
    block = exif_block(1)
    for length in range(len(block)):
        assert find_position([block[:length]]).position is None
    avif = encode(PICTURE, "AVIF", exif=stating(SYDNEY))
    for length in range(0, len(avif), 7):
        read_position(avif[:length])
        read_position(as_heic(avif[:length]))
    assert read_position(b"a text") == StatedPosition()
    assert read_position(Path("gone.jpg")) == StatedPosition()
