"""Read a PNG's chunks: PNG (W3C) §5 and §11."""

from __future__ import annotations

import struct

from obelisk.errors import PhotoTruncatedError
from obelisk.photos.headers import Header, Piece
from obelisk.photos.limits import PartCounter
from obelisk.photos.orientation import MAX_TEXT, PNG_KEYWORDS, XMP_TEXT, find_orientation, read_png_text, read_profile

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})


def read_png_header(data: bytes) -> Header:
    """Read a PNG's chunks and keep those with pixels: of an animated PNG, those of the first picture."""
    size = struct.unpack_from(">II", data, 16) if data[12:16] == b"IHDR" else None
    view = memoryview(data)
    pieces: list[Piece] = [SIGNATURE]
    exif: list[bytes | memoryview] = []
    texts: dict[bytes, bytes] = {}
    parts = PartCounter(data, "chunks")
    position = len(SIGNATURE)
    while position + 8 <= len(data):
        parts.count()
        (length,) = struct.unpack_from(">I", data, position)
        name = data[position + 4 : position + 8]
        end = position + 12 + length
        if name in PIXELS:
            if name == b"IHDR" and len(pieces) > 1:
                raise PhotoTruncatedError("a damaged PNG photo: a second header (IHDR) follows the first")
            pieces.append(view[position:end])
        elif name == b"eXIf":
            exif.append(view[position + 8 : end - 4])
        elif name in TEXTS:
            chunk = bytes(view[position + 8 : min(end - 4, position + 8 + MAX_TEXT)])
            keyword = chunk.partition(b"\0")[0]
            if keyword in PNG_KEYWORDS and keyword not in texts:
                texts[keyword] = read_png_text(name, chunk)
        position = end
    profiles = [read_profile(text) for keyword, text in texts.items() if keyword != XMP_TEXT]
    xmp = [texts[XMP_TEXT]] if XMP_TEXT in texts else []
    blocks = tuple(exif or profiles)
    orientation = find_orientation(blocks, xmp)
    return Header(format="PNG", pieces=tuple(pieces), size=size, orientation=orientation, exif=blocks)
