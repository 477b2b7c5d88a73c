"""From bytes to an upright RGB photo.

Pillow is given one decoder, chosen by content, and a file stripped of metadata, after the pixels have been
counted from the header. Its process-wide switches (the pixel limit, the tolerance of truncated files, the
warning filters) are neither needed nor touched, so that photos decode alike in any thread of any program.
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
from obelisk.photos.reading import read_bytes

MAX_PIXELS = 50_000_000
# Decoding such a photo holds up to 400 MB; those above this size take turns, however many threads there are.
LARGE_PIXELS = 16_000_000
MOST_SHRUNK = 8
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
# What turns a photo upright, by Exif orientation.
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
    """Return a photo as upright RGB pixels.

    JPEG, PNG, WebP and GIF are read, HEIC with the extra ``heic``; of an animation the first frame. The content
    decides, not the suffix. Transparency is laid over white, 16-bit values keep their upper 8 bits.

    With ``min_side`` the photo comes at 1/2, 1/4 or 1/8 of its size, as small as leaves the shorter side at least
    that many pixels; a JPEG is not even decoded any larger. More than ``MAX_PIXELS`` pixels to decode (of a WebP,
    half as many) are refused from the header.

    Raises PhotoMissingError, PhotoFormatError, PhotoTooLargeError or PhotoTruncatedError, which names the path.
    """
    if isinstance(source, bytes):
        return decode(source, "a photo given as bytes", min_side)
    return decode(read_bytes(source), source, min_side)


def decode(data: bytes, where: object, min_side: int | None) -> Image.Image:
    """Decode an encoded photo; ``where`` is what errors call it."""
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
        refuse_too_many_pixels(image.size, found, where, told=header.size)
        held = header.size if header.buffered and header.size else image.size
        with _large_photos if held[0] * held[1] > LARGE_PIXELS else nullcontext():
            image.load()
            # One name for every stage: what a stage was made from is let go.
            image = convert_to_rgb(image)
            if not drafted and min_side is not None:
                image = shrink(image, min_side)
            return turn_upright(image, header.orientation)
    except (PhotoError, MemoryError):
        raise
    except Exception as error:
        # The decoders raise nearly anything on damaged bytes, and share no exception of their own.
        raise PhotoTruncatedError(f"a damaged or incomplete {found} photo: {error}", where=where) from error


def open_image(header: Header, where: object) -> Image.Image:
    """Open the photo with the decoder of its format, which reads its header and no pixel yet."""
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
    told: tuple[int, int] | None = None,
) -> None:
    """Raise PhotoTooLargeError for more pixels to decode than the cap of the format; ``told`` is the photo's size."""
    width, height = size
    # libwebp holds two canvases and Pillow two copies: 20 bytes a pixel, where other formats need 8.
    cap = MAX_PIXELS // 2 if format == "WebP" else MAX_PIXELS
    if width * height > cap:
        width, height = told or size
        raise PhotoTooLargeError(
            f"{width:,} × {height:,} pixels, more than {cap:,} in all", where=where, fix="scale the photo down"
        )


def convert_to_rgb(image: Image.Image) -> Image.Image:
    """Return a decoded photo of any mode as RGB, transparency laid over white."""
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit grey at 255 instead of scaling it.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        canvas = Image.new("RGB", image.size, "white")
        for top in range(0, image.height, ROWS_AT_ONCE):
            band = image.crop((0, top, image.width, min(top + ROWS_AT_ONCE, image.height))).convert("RGBA")
            canvas.paste(band, (0, top), mask=band)
        return canvas
    return image if image.mode == "RGB" else image.convert("RGB")


def shrink(image: Image.Image, min_side: int) -> Image.Image:
    """Return the photo at the size at which a JPEG would have been decoded for this ``min_side``; by averaging."""
    spare = max(1, min(image.size) // max(1, min_side))
    factor = min(MOST_SHRUNK, 1 << (spare.bit_length() - 1))
    return image.reduce(factor) if factor > 1 else image


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return the photo as the photographer saw it; ``orientation`` is Exif's, 1 to 8."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def describe_foreign(data: bytes) -> str:
    """Say what a file is that is not a photo of the accepted formats."""
    if not data:
        return "an empty file"
    name = next((name for signature, name in _FOREIGN if data.startswith(signature)), None)
    if name is None and data[4:8] == b"ftyp":
        name = "AVIF" if b"avif" in data[8:32] else "a video"
    return f"{name} is not an accepted photo format" if name else f"not a photo: it begins with {data[:8]!r}"
