"""The accepted formats: how each is told by its first bytes, and which reader knows its header."""

from __future__ import annotations

import struct
from collections.abc import Callable

from obelisk.errors import PhotoTruncatedError
from obelisk.photos.headers import Header, PhotoFormat
from obelisk.photos.heif_header import read_avif_header, read_heic_header
from obelisk.photos.jpeg_header import read_jpeg_header
from obelisk.photos.png_header import SIGNATURE, read_png_header
from obelisk.photos.simple_headers import read_bmp_header, read_gif_header, read_webp_header
from obelisk.photos.tiff_header import read_tiff_header

HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
AVIF_BRANDS = frozenset({b"avif", b"avis"})
_READERS: dict[PhotoFormat, Callable[[bytes], Header]] = {
    "JPEG": read_jpeg_header,
    "PNG": read_png_header,
    "WebP": read_webp_header,
    "GIF": read_gif_header,
    "TIFF": read_tiff_header,
    "BMP": read_bmp_header,
    "AVIF": read_avif_header,
    "HEIC": read_heic_header,
}
_FOREIGN = (
    (b"II+\0", "BigTIFF"),
    (b"MM\0+", "BigTIFF"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\1\0", "an icon"),
    (b"<", "HTML or SVG"),
)


def find_format(data: bytes) -> PhotoFormat | None:
    """Return the photo format that the first bytes announce, or None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(SIGNATURE):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    if data.startswith(b"BM"):
        return "BMP"
    if data[4:8] == b"ftyp":
        brands = {data[at : at + 4] for at in (8, *range(16, min(int.from_bytes(data[:4], "big"), 64), 4))}
        if brands & AVIF_BRANDS:
            return "AVIF"
        if data[8:12] in HEIC_BRANDS:
            return "HEIC"
    return None


def read_photo_header(data: bytes, format: PhotoFormat) -> Header:  # noqa: A002
    """Read the header of a photo of a known format.

    Raises PhotoTooLargeError for too many parts, PhotoFormatError for a kind of the format that is not accepted, and
    PhotoTruncatedError for a header that says nothing about the size.
    """
    try:
        header = _READERS[format](data)
    except (struct.error, IndexError) as error:
        raise PhotoTruncatedError(f"a damaged or incomplete {format} photo: its header is cut off") from error
    if header.size is None or min(header.size) < 1:
        raise PhotoTruncatedError(f"a damaged or incomplete {format} photo: its header states no size")
    return header


def describe_foreign(data: bytes) -> str:
    """Say what a file is, given that it is not a photo of an accepted format."""
    name = next((name for signature, name in _FOREIGN if data.startswith(signature)), None)
    if name is None and data[4:8] == b"ftyp":
        name = "a video"
    return f"{name} is not an accepted photo format" if name else f"not a photo: it begins with {data[:8]!r}"
