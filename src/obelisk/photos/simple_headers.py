"""Read the headers of GIF (GIF89a), WebP (RIFF) and BMP files."""

from __future__ import annotations

import struct

from obelisk.errors import PhotoFormatError
from obelisk.photos.headers import Header, Piece
from obelisk.photos.limits import PartCounter
from obelisk.photos.orientation import find_orientation

GIF_EXTENSION, GIF_FRAME_OR_END = ord("!"), b",;"
GIF_CONTROL = 0xF9  # the extension that gives a frame's transparent color
BMP_CORE = 12  # bytes of the oldest header
BMP_RUN_LENGTHS = frozenset({1, 2})
MAX_RUN_LENGTHS = 2**20  # bytes: Pillow unpacks run lengths byte by byte, in Python


def read_gif_header(data: bytes) -> Header:
    """Read a GIF up to its first frame: the size of its screen, enlarged to hold that frame, as decoders do."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
    pieces: list[Piece] = [data[:position]]
    parts = PartCounter(data, "blocks")
    while position < len(data) and data[position] not in GIF_FRAME_OR_END:
        parts.count()
        start, position = position, position + 1
        if data[start] != GIF_EXTENSION:
            continue  # decoders skip what they don't know
        kind = data[position]
        position += 1
        while data[position]:
            parts.count()
            position += 1 + data[position]
        position += 1
        if kind == GIF_CONTROL:
            pieces[1:] = [data[start:position]]
    if data[position : position + 1] == b",":
        left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, position + 1)
        width, height = max(width, left + frame_width), max(height, top + frame_height)
    pieces.append(memoryview(data)[position:])
    return Header(format="GIF", pieces=tuple(pieces), size=(width, height))


def read_webp_header(data: bytes) -> Header:
    """Read a WebP's canvas size and orientation."""
    kind = data[12:16]
    size: tuple[int, int] | None = None
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        size = (width, height)
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        size = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    elif kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        size = (width & 0x3FFF, height & 0x3FFF)
    view = memoryview(data)
    found: dict[bytes, memoryview] = {}
    parts = PartCounter(data, "chunks")
    position = 12
    while position + 8 <= len(data):
        parts.count()
        (length,) = struct.unpack_from("<I", data, position + 4)
        name = data[position : position + 4]
        if name in (b"EXIF", b"XMP "):
            found.setdefault(name, view[position + 8 : position + 8 + length])
        position += 8 + length + length % 2
    exif, xmp = ((found[name],) if name in found else () for name in (b"EXIF", b"XMP "))
    orientation = find_orientation(exif, xmp)
    return Header(format="WebP", pieces=(data,), size=size, orientation=orientation, exif=exif)


def read_bmp_header(data: bytes) -> Header:
    """Read a BMP's size; raise PhotoFormatError for a long file of run lengths."""
    (header,) = struct.unpack_from("<I", data, 14)
    if header == BMP_CORE:
        width, height = struct.unpack_from("<HH", data, 18)
        return Header(format="BMP", pieces=(data,), size=(width, height))
    width, height = struct.unpack_from("<ii", data, 18)
    (compression,) = struct.unpack_from("<I", data, 30)
    if compression in BMP_RUN_LENGTHS and len(data) > MAX_RUN_LENGTHS:
        raise PhotoFormatError(f"a run-length coded BMP of {len(data):,} bytes", fix="save it as JPEG")
    return Header(format="BMP", pieces=(data,), size=(abs(width), abs(height)))
