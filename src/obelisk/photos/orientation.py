"""Find out how a photo must be turned: from Exif (TIFF 6, CIPA DC-008), XMP, or the text chunks of a PNG.

Statements are read as widely as Pillow's ``exif_transpose`` reads them, and two kinds that it overlooks: XMP with
blanks or apostrophes around the value, and a later Exif block where the first says nothing. The first Exif block that
states an orientation decides; XMP counts only if none does.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Sequence

from obelisk.photos.exif import NUMERIC, open_exif, walk_entries

ORIENTATION_TAG = 0x0112
UPRIGHT = 1
MAX_TEXT = 2**20  # bytes of a text chunk, packed or unpacked
XMP_TEXT = b"XML:com.adobe.xmp"
PNG_KEYWORDS = frozenset({XMP_TEXT, b"Raw profile type exif", b"Raw profile type APP1"})
"""of a PNG's text chunks: those that may state an orientation"""

_XMP = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([0-9])""")


def find_orientation(exif: Sequence[bytes | memoryview], xmp: Sequence[bytes | memoryview] = ()) -> int:
    """Return the orientation, 1 to 8, that a photo's Exif blocks and XMP packets state; 1 if none does."""
    stated = [read_orientation(block) for block in exif]
    if all(value is None for value in stated):
        stated = [int(found[1]) for packet in xmp if (found := _XMP.search(packet[:MAX_TEXT]))]
    first = next((value for value in stated if value is not None), UPRIGHT)
    return first if 1 <= first <= 8 else UPRIGHT


def read_orientation(exif: bytes | memoryview) -> int | None:
    """Return the orientation that an Exif block states, 0 if the value makes no sense, None if it states none."""
    block = open_exif(exif)
    if block is None:
        return None
    stated = (entry for entry in walk_entries(block) if entry.tag == ORIENTATION_TAG)
    return next((first_number(entry.value, block.order, entry.kind) for entry in stated), None)


def first_number(value: memoryview, order: str, kind: int) -> int:
    """Return the first number of a TIFF value; 0 if it isn't a whole number, or no number at all."""
    if kind not in NUMERIC:
        return 0
    number, *denominator = struct.unpack_from(order + NUMERIC[kind], value)
    if denominator:
        number = number / denominator[0] if denominator[0] else 0
    return int(number) if number in range(1, 9) else 0


def read_png_text(name: bytes, chunk: bytes) -> bytes:
    """Return the text of a PNG's tEXt, zTXt or iTXt chunk; empty if it is damaged."""
    text = chunk.partition(b"\0")[2]
    packed = name == b"zTXt"
    if name == b"iTXt":
        packed = text[:1] == b"\1"
        text = text[2:].split(b"\0", 2)[-1]
    elif packed:
        text = text[1:]
    try:
        return zlib.decompressobj().decompress(text, MAX_TEXT) if packed else text
    except zlib.error:
        return b""


def read_profile(text: bytes) -> bytes:
    """Return the Exif block that a PNG's text spells in hexadecimal digits; empty if it is none."""
    try:
        return bytes.fromhex("".join(text.decode("ascii").split("\n")[3:]))
    except ValueError:
        return b""
