"""Walk the directories of an Exif block: TIFF 6, CIPA DC-008."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

# TIFF's numeric types. BYTE is missing: Pillow takes it for text, so such a statement turns no photo.
NUMERIC = {3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I", 16: "Q"}
_SIZES = {1: 1, 2: 1, 7: 1, **{kind: struct.calcsize(f"={code}") for kind, code in NUMERIC.items()}}
_PREFIX = re.compile(rb"(?:Exif\0\0){1,2}")
_ORDERS = {b"II*\0": "<", b"MM\0*": ">", b"MM*\0": ">"}


class Entry(NamedTuple):
    """An entry of a directory: its tag, its type, and its value, of at least one number or letter."""

    tag: int
    kind: int
    value: memoryview


class ExifBlock(NamedTuple):
    """An Exif block from its TIFF header on, and the byte order of its numbers."""

    tiff: memoryview
    order: str


def open_exif(block: bytes | memoryview) -> ExifBlock | None:
    """Find the TIFF header of an Exif block; None if there is none."""
    start = found.end() if (found := _PREFIX.match(block)) else 0
    tiff = memoryview(block)[start:]
    order = _ORDERS.get(bytes(tiff[:4]))
    return ExifBlock(tiff, order) if order else None


def walk_entries(block: ExifBlock, directory: int | None = None) -> Iterator[Entry]:
    """Yield the whole entries of the directory at an offset, by default the first one, up to where it is cut off."""
    tiff, order = block
    try:
        if directory is None:
            (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for at in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind, count, offset = struct.unpack_from(f"{order}HHII", tiff, at)
            size = count * _SIZES.get(kind, 0)
            if 0 < size <= len(tiff):
                value = tiff[at + 8 : at + 8 + size] if size <= 4 else tiff[offset : offset + size]
                if len(value) == size:
                    yield Entry(tag, kind, value)
    except struct.error:
        return  # the block is cut off
