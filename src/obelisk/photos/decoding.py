"""Decode bytes to an upright RGB photo.

The header is read first: it gives the format and the number of pixels. Then Pillow gets one decoder, chosen by
content, and the file without its metadata. Pillow's process-wide switches (pixel limit, tolerance of truncated files,
warning filters) are neither needed nor changed, so photos decode alike in any thread of any program.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from obelisk.errors import PhotoError, PhotoFormatError, PhotoTooLargeError, PhotoTruncatedError, install_command
from obelisk.photos.headers import Header, PhotoFormat, find_format, read_photo_header
from obelisk.photos.limits import LARGE_PIXELS, MAX_PIXELS
from obelisk.photos.reading import read_bytes

LARGEST_FACTOR = 8  # by which a photo is shrunk while it is decoded, as far as libjpeg goes
ROWS_AT_ONCE = 256
FORMATS = "JPEG, PNG, WebP, GIF or HEIC"

_large_photos = threading.Lock()
_DECODERS: dict[PhotoFormat, Callable[[BytesIO], Image.Image]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
}
_FOREIGN = (
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"BM", "BMP"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\1\0", "an icon"),
    (b"<", "HTML or SVG"),
)
# Exif orientation → the transposition that turns the photo upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_photo(source: Path | bytes, *, min_side: int | None = None) -> Image.Image:
    """Decode a photo, given as a path or as encoded bytes, to upright RGB.

    The content decides the format, not the suffix: JPEG, PNG, WebP or GIF, or HEIC with the extra ``heic``. An
    animation gives its first frame. Transparent pixels are blended with white; 16-bit values keep their upper 8 bits.

    With ``min_side``, the photo is shrunk to 1/2, 1/4 or 1/8 of its size, as far as its shorter side keeps at least
    that many pixels; a JPEG is decoded at that size right away. A photo that needs more than ``MAX_PIXELS`` pixels
    decoded (a WebP: half as many) is refused before decoding, by its header.

    Raises PhotoMissingError, PhotoFormatError, PhotoTooLargeError or PhotoTruncatedError; each names the path.
    """
    if isinstance(source, bytes):
        return decode(source, "a photo given as bytes", min_side)
    return decode(read_bytes(source), source, min_side)


def decode(data: bytes, where: object, min_side: int | None) -> Image.Image:
    """Decode an encoded photo; errors call it ``where``."""
    found = find_format(data)
    if found is None:
        raise PhotoFormatError(describe_foreign(data), where=where, fix=f"save it as {FORMATS}")
    header = read_photo_header(data, found)
    drafted = found == "JPEG" and min_side is not None
    if header.size is not None and (header.buffered or not drafted):
        refuse_too_many_pixels(header.size, found, where)
    try:
        image = open_image(header, where)
        if drafted:
            image.draft(None, (min_side or 1, min_side or 1))
        refuse_too_many_pixels(image.size, found, where, full_size=header.size)
        held = header.size if header.buffered and header.size else image.size
        with _large_photos if held[0] * held[1] > LARGE_PIXELS else nullcontext():
            image.load()
            # Rebinding one name frees the pixels of each stage once the next is made.
            image = convert_to_rgb(image)
            if not drafted and min_side is not None:
                image = shrink(image, min_side)
            return turn_upright(image, header.orientation)
    except (PhotoError, MemoryError):
        raise
    except Exception as error:
        # On damaged bytes the decoders raise nearly anything; they share no exception class.
        raise PhotoTruncatedError(f"a damaged or incomplete {found} photo: {error}", where=where) from error


def open_image(header: Header, where: object) -> Image.Image:
    """Open the photo with the decoder of its format, which does not read any pixel yet."""
    if header.format != "HEIC":
        return _DECODERS[header.format](BytesIO(header.pixels))
    if importlib.util.find_spec("pillow_heif") is None:
        fix = f"{install_command('heic')}, or save the photo as JPEG"
        raise PhotoFormatError("HEIC needs the extra `heic`", where=where, fix=fix)
    import pillow_heif

    photo = pillow_heif.open_heif(BytesIO(header.pixels), convert_hdr_to_8bit=True)
    refuse_too_many_pixels(photo.size, header.format, where)
    image: Image.Image = photo.to_pillow()
    return image


def refuse_too_many_pixels(
    size: tuple[int, int],
    format: PhotoFormat,  # noqa: A002
    where: object,
    *,
    full_size: tuple[int, int] | None = None,
) -> None:
    """Raise PhotoTooLargeError if ``size``, the pixels to decode, exceeds the limit; it reports ``full_size``."""
    width, height = size
    # libwebp keeps two canvases and Pillow two copies: 20 bytes per pixel, where other formats need 8.
    limit = MAX_PIXELS // 2 if format == "WebP" else MAX_PIXELS
    if width * height > limit:
        width, height = full_size or size
        raise PhotoTooLargeError(
            f"{width:,} × {height:,} pixels, more than {limit:,} in all", where=where, fix="scale the photo down"
        )


def convert_to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded photo of any mode to RGB, blending transparent pixels with white."""
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit gray at 255 instead of scaling it.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        canvas = Image.new("RGB", image.size, "white")
        for top in range(0, image.height, ROWS_AT_ONCE):
            band = image.crop((0, top, image.width, min(top + ROWS_AT_ONCE, image.height))).convert("RGBA")
            canvas.paste(band, (0, top), mask=band)
        return canvas
    return image if image.mode == "RGB" else image.convert("RGB")


def shrink(image: Image.Image, min_side: int) -> Image.Image:
    """Shrink a photo, by averaging, to the size at which a JPEG would have been decoded for this ``min_side``."""
    spare = max(1, min(image.size) // max(1, min_side))
    factor = min(LARGEST_FACTOR, 1 << (spare.bit_length() - 1))
    return image.reduce(factor) if factor > 1 else image


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn a photo upright; ``orientation`` is Exif's, 1 to 8."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def describe_foreign(data: bytes) -> str:
    """Say what a file is, given that it is not a photo of an accepted format."""
    if not data:
        return "an empty file"
    name = next((name for signature, name in _FOREIGN if data.startswith(signature)), None)
    if name is None and data[4:8] == b"ftyp":
        name = "AVIF" if b"avif" in data[8:32] else "a video"
    return f"{name} is not an accepted photo format" if name else f"not a photo: it begins with {data[:8]!r}"
