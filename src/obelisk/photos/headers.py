"""Read a photo's header before any decoder sees the file.

Pillow's decoders parse metadata that Obelisk has no use for, and may warn, allocate or fail on it. So the few facts
that matter are parsed here, within bounds and without trust, and JPEG and PNG files are stripped down to what holds
pixels. Layouts: JPEG ISO/IEC 10918-1 annex B, PNG (W3C) §5 and §11, GIF89a, RIFF WebP, TIFF 6 for Exif.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

PhotoFormat = Literal["JPEG", "PNG", "WebP", "GIF", "HEIC"]

HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
ORIENTATION_TAG = 0x0112
SHORT = 3

# JPEG markers. Start-of-frame markers are C0…CF without DHT (C4), JPG (C8) and DAC (CC).
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
ALONE = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
END, SCAN, EXIF_SEGMENT, JFIF, ADOBE, COMMENT = 0xD9, 0xDA, 0xE1, 0xE0, 0xEE, 0xFE
APPLICATION = frozenset(range(0xE0, 0xF0))

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a header says about a photo.

    ``pixels`` is the file without the metadata that no decoder needs. ``size`` is (width, height) before the
    ``orientation`` (Exif, 1 to 8) is applied, or None if the header is damaged. ``buffered`` marks a JPEG whose
    coefficients libjpeg keeps in memory at full size, however small it decodes the photo.
    """

    format: PhotoFormat
    pixels: bytes
    size: tuple[int, int] | None = None
    orientation: int = 1
    buffered: bool = False


def find_format(data: bytes) -> PhotoFormat | None:
    """Return the photo format that the first bytes announce, or None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(PNG_SIGNATURE):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp" and data[8:12] in HEIC_BRANDS and b"avif" not in data[12:32]:
        return "HEIC"
    return None


def read_photo_header(data: bytes, format: PhotoFormat) -> Header:  # noqa: A002
    """Read the header of a photo of a known format; damaged parts are left out, and nothing is raised."""
    readers = {"JPEG": read_jpeg_header, "PNG": read_png_header, "WebP": read_webp_header, "GIF": read_gif_header}
    if format not in readers:
        return Header(format=format, pixels=data)
    try:
        return readers[format](data)
    except (struct.error, IndexError):
        return Header(format=format, pixels=data)


def read_jpeg_header(data: bytes) -> Header:
    """Read a JPEG's segments up to the first scan; drop comments and application data."""
    kept: list[bytes | memoryview] = [data[:2]]
    size: tuple[int, int] | None = None
    orientation, components, progressive, buffered = 1, 0, False, False
    position = 2
    while (position := data.find(b"\xff", position)) >= 0 and position + 1 < len(data):
        marker = data[position + 1]
        if marker in (0x00, 0xFF):
            position += 1
            continue
        if marker in ALONE:
            position += 2
            continue
        if marker == END or position + 4 > len(data):
            break
        (length,) = struct.unpack_from(">H", data, position + 2)
        segment = data[position + 4 : position + 2 + length]
        if marker in FRAMES and len(segment) >= 6:
            height, width, components = struct.unpack_from(">HHB", segment, 1)
            size, progressive = (width, height), marker in PROGRESSIVE
        if marker == SCAN:
            buffered = progressive or (segment[:1] != b"" and segment[0] < components)
            break
        if marker == EXIF_SEGMENT and segment.startswith(b"Exif\0\0"):
            orientation = read_orientation(segment[6:])
        if marker in (JFIF, ADOBE) or (marker not in APPLICATION and marker != COMMENT):
            kept.append(data[position : position + 2 + length])
        position += 2 + max(length, 2)
    kept.append(memoryview(data)[position:] if position >= 0 else b"")
    return Header(format="JPEG", pixels=b"".join(kept), size=size, orientation=orientation, buffered=buffered)


def read_png_header(data: bytes) -> Header:
    """Read a PNG's chunks and keep those with pixels: of an animated PNG, those of the first picture."""
    size = struct.unpack_from(">II", data, 16) if data[12:16] == b"IHDR" else None
    view = memoryview(data)
    kept: list[bytes | memoryview] = [PNG_SIGNATURE]
    orientation = 1
    position = len(PNG_SIGNATURE)
    while position + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        name = data[position + 4 : position + 8]
        end = position + 12 + length
        if name in PNG_PIXELS:
            kept.append(view[position:end])
        elif name == b"eXIf":
            orientation = read_orientation(data[position + 8 : end - 4])
        position = end
    return Header(format="PNG", pixels=b"".join(kept), size=size, orientation=orientation)


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
    orientation = 1
    position = 12
    while position + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, position + 4)
        if data[position : position + 4] == b"EXIF":
            orientation = read_orientation(data[position + 8 : position + 8 + length].removeprefix(b"Exif\0\0"))
        position += 8 + length + length % 2
    return Header(format="WebP", pixels=data, size=size, orientation=orientation)


def read_gif_header(data: bytes) -> Header:
    """Read the size of a GIF's screen, enlarged to hold the first frame, as decoders do."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
    while data[position : position + 1] == b"!":
        position += 2
        while data[position]:
            position += 1 + data[position]
        position += 1
    if data[position : position + 1] == b",":
        left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, position + 1)
        width, height = max(width, left + frame_width), max(height, top + frame_height)
    return Header(format="GIF", pixels=data, size=(width, height))


def read_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, of an Exif block; 1 if it has none or is damaged."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, directory)
        for entry in range(entries):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, directory + 2 + 12 * entry)
            if tag == ORIENTATION_TAG:
                return value if kind == SHORT and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
