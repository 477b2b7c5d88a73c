"""Where a photo was taken, as its Exif says: CIPA DC-008 §4.6.6, the GPS attributes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from obelisk.errors import PhotoError, PhotoFormatError
from obelisk.photos.accepted import find_format, read_photo_header
from obelisk.photos.exif import NUMERIC, Entry, ExifBlock, open_exif, walk_entries
from obelisk.photos.reading import held_bytes
from obelisk.positions import Position

GPS_DIRECTORY = 0x8825
LATITUDE_LETTER, LATITUDE, LONGITUDE_LETTER, LONGITUDE = 1, 2, 3, 4  # tags
TEXT, OFFSETS, RATIONALS = 2, (4, 13), (5, 10)  # types
HEAD = 2**18  # bytes
PARTS = 3  # degrees, minutes, seconds


@dataclass(frozen=True, kw_only=True)
class StatedPosition:
    """The position that a photo states, or why that can't be used; neither if it states none."""

    position: Position | None = None
    fault: str | None = None


NOWHERE = StatedPosition()


def read_position(source: Path | bytes) -> StatedPosition:
    """Return the position that a photo states, given as a path or as encoded bytes.

    A photo that can't be read states none; reading its pixels says why.
    """
    try:
        if isinstance(source, bytes):
            return find_position(read_exif(source))
        try:
            head = read_head(source)
            return find_position(read_exif(head if find_format(head) == "JPEG" else b""))
        except PhotoError:  # there is more before the pixels
            with held_bytes(source) as data:
                return find_position(read_exif(data))
    except PhotoError:
        return NOWHERE


def read_exif(data: bytes) -> tuple[bytes | memoryview, ...]:
    """Return the Exif blocks of an encoded photo; raises PhotoError."""
    if (kind := find_format(data)) is None:
        raise PhotoFormatError("not a photo")
    return read_photo_header(data, kind).exif


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file, as far as a JPEG's header goes; none of anything but a regular file."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(HEAD)
    except (OSError, ValueError):
        return b""


def find_position(exif: Sequence[bytes | memoryview]) -> StatedPosition:
    """Return the position that a photo's Exif blocks state; the first one that states any decides."""
    for one in exif:
        block = open_exif(one)
        if block and (fields := read_gps_fields(block)):
            return interpret_fields(fields, block.order)
    return NOWHERE


def read_gps_fields(block: ExifBlock) -> dict[int, Entry]:
    """Return tag → entry for what a block's GPS directory says about latitude and longitude."""
    pointer = next((entry for entry in walk_entries(block) if entry.tag == GPS_DIRECTORY), None)
    if pointer is None or pointer.kind not in OFFSETS:
        return {}
    (directory,) = struct.unpack_from(f"{block.order}I", pointer.value)
    wanted = (LATITUDE_LETTER, LATITUDE, LONGITUDE_LETTER, LONGITUDE)
    return {entry.tag: entry for entry in walk_entries(block, directory) if entry.tag in wanted}


def interpret_fields(fields: dict[int, Entry], order: str) -> StatedPosition:
    """Return the position of a GPS directory.

    Without its letter a number has no hemisphere, and 0, 0 is what devices write that don't know where they are.
    """
    latitude = read_angle(fields.get(LATITUDE), order)
    longitude = read_angle(fields.get(LONGITUDE), order)
    if latitude is None or longitude is None:
        return StatedPosition(fault="its GPS position is incomplete, or no number")
    signs = read_sign(fields.get(LATITUDE_LETTER), b"NS"), read_sign(fields.get(LONGITUDE_LETTER), b"EW")
    if 0 in signs:
        return StatedPosition(fault="its GPS position lacks a hemisphere: the letter N or S, E or W")
    position = Position(signs[0] * latitude, signs[1] * longitude)
    if not position.is_sound or min(latitude, longitude) < 0:
        return StatedPosition(fault=f"its GPS position lies outside the Earth: {position}")
    if position == (0, 0):
        return StatedPosition(fault="its GPS position is 0, 0, which means unknown")
    return StatedPosition(position=position)


def read_angle(entry: Entry | None, order: str) -> float | None:
    """Return the degrees, minutes and seconds of an entry as degrees; None if they are no numbers."""
    if entry is None or entry.kind not in RATIONALS:
        return None
    code = NUMERIC[entry.kind][0]
    numbers = struct.unpack(f"{order}{len(entry.value) // 4}{code}", entry.value)
    parts = list(zip(numbers[::2], numbers[1::2], strict=True))
    if len(parts) != PARTS or any(denominator == 0 for _, denominator in parts):
        return None
    degrees, minutes, seconds = (numerator / denominator for numerator, denominator in parts)
    return float(degrees + minutes / 60 + seconds / 3600)


def read_sign(entry: Entry | None, letters: bytes) -> int:
    """Return 1 or -1 for the first or second of two letters, and 0 for anything else."""
    if entry is None or entry.kind != TEXT:
        return 0
    letter = bytes(entry.value).rstrip(b"\0 ").upper()
    return (1 if letter == letters[:1] else -1) if letter and letter in (letters[:1], letters[1:]) else 0
