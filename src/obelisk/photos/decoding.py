"""Decode bytes to an upright RGB photo.

The header is read first: it gives the format and the number of pixels. Then Pillow gets one decoder, chosen by
content, and the file without its metadata. Pillow's process-wide switches (pixel limit, tolerance of truncated files,
warning filters) are neither needed nor changed, so photos decode alike in any thread of any program.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import IO

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from obelisk.errors import PhotoError, PhotoFormatError, PhotoTooLargeError, PhotoTruncatedError, install_command
from obelisk.photos.accepted import describe_foreign, find_format, read_photo_header
from obelisk.photos.cut_jpeg import AGAIN, COMPARED_BYTES, PADDING, find_missing, put_end
from obelisk.photos.given_photos import GivenPhoto, PhotoLike, take_photo
from obelisk.photos.headers import Header, PhotoFormat
from obelisk.photos.jpeg_header import survey_scans
from obelisk.photos.limits import DECODING_BYTES, MAX_JPEG_PIXELS, MAX_PIXELS, refuse_above
from obelisk.photos.memory import DECODING

LARGEST_FACTOR = 8  # by which a photo is shrunk while it is decoded, as far as libjpeg goes
ROWS_AT_ONCE = 256
FORMATS = "JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF or HEIC"
ALPHA = ("LA", "PA", "RGBA", "La", "RGBa")

_DECODERS: dict[PhotoFormat, Callable[[IO[bytes]], Image.Image]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}
# Bytes that decoders need a pixel, measured (2026-11-30, Pillow 13): most make Pillow's 4, libwebp and libavif make
# two copies first.
_BYTES_A_PIXEL: dict[PhotoFormat, int] = {"WebP": 15, "AVIF": 15, "HEIC": 7}
_COPIES: dict[PhotoFormat, int] = {"WebP": 2, "AVIF": 1, "TIFF": 1, "HEIC": 1}  # of the file
_HALF_THE_PIXELS = ("WebP", "AVIF")
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


def read_photo(source: PhotoLike | GivenPhoto, *, min_side: int | None = None, name: object = None) -> Image.Image:
    """Decode a photo to upright RGB: a path, encoded bytes, or anything else that :func:`take_photos` takes.

    The content decides the format, not the suffix: JPEG, PNG, WebP, GIF, TIFF, BMP or AVIF, or HEIC with the extra
    ``heic``. An animation gives its first frame, a TIFF its first page. Transparent pixels are blended with white;
    16-bit values keep their upper 8 bits. A JPEG that lacks only its end marker is whole.

    With ``min_side``, the photo is shrunk to 1/2, 1/4 or 1/8 of its size, as far as its shorter side keeps at least
    that many pixels; a JPEG is decoded at that size right away. A photo that needs more than ``MAX_PIXELS`` pixels
    decoded (a WebP or AVIF: half as many) is refused before decoding, by its header, and so is a JPEG of more than
    ``MAX_JPEG_PIXELS``.

    Raises PhotoMissingError, PhotoFormatError, PhotoTooLargeError or PhotoTruncatedError; each names the path, or the
    ``name`` of a photo that is no file.
    """
    photo, warning = read_query(source, min_side=min_side, name=name)
    if warning:
        raise PhotoTruncatedError(warning, where=name or take_photo(source).where, fix=AGAIN)
    return photo


def read_query(
    source: PhotoLike | GivenPhoto, *, min_side: int | None = None, name: object = None
) -> tuple[Image.Image, str | None]:
    """Decode a photo as :func:`read_photo` does, but take a JPEG that was cut off, too.

    Returns the photo, what is missing being gray, and a warning that says how much is; None if the photo is whole.
    """
    photo = take_photo(source)
    try:
        with photo.opened() as found:
            if isinstance(found, Image.Image):
                return convert_pixels(found, photo.orientation, min_side), None
            return decode(found, min_side)
    except PhotoError as error:
        raise type(error)(error.what, where=error.where or name or photo.where, fix=error.fix) from error


def is_full_size(photo: Image.Image, data: bytes) -> bool:
    """Return whether a photo was decoded from ``data`` without being shrunk."""
    kind = find_format(data)
    size = read_photo_header(data, kind).size if kind else None
    return size is not None and sorted(size) == sorted(photo.size)


def decode(data: bytes, min_side: int | None) -> tuple[Image.Image, str | None]:
    """Decode an encoded photo; return it, and a warning if it was cut off. Errors name no path."""
    if not data:
        raise PhotoFormatError("an empty file", fix=AGAIN)
    found = find_format(data)
    if found is None:
        raise PhotoFormatError(describe_foreign(data), fix=f"save it as {FORMATS}")
    if found == "HEIC" and importlib.util.find_spec("pillow_heif") is None:
        fix = f"{install_command('heic')}, or save the photo as JPEG"
        raise PhotoFormatError("HEIC needs the extra `heic`", fix=fix)
    header = read_photo_header(data, found)
    factor = shrinking_factor(header, min_side)
    needed = bytes_to_decode(header, factor, len(data))
    try:
        if not (found == "JPEG" and data.endswith(bytes(PADDING)) and not survey_scans(data).ended):
            with DECODING.take(needed):
                try:
                    return load_upright(header, factor), None
                except OSError:
                    if found != "JPEG" or survey_scans(data).ended:
                        raise
        with DECODING.take(needed + COMPARED_BYTES):
            missing = find_missing(header, survey_scans(data), load_pixels)
            photo = load_upright(put_end(header), factor)
            return photo, f"the JPEG was cut off: {missing}" if missing else None
    except (PhotoError, MemoryError):
        raise
    except Exception as error:
        # On damaged bytes the decoders raise nearly anything; they share no exception class.
        raise PhotoTruncatedError(f"a damaged or incomplete {found} photo: {error}", fix=AGAIN) from error


def convert_pixels(image: Image.Image, orientation: int, min_side: int | None) -> Image.Image:
    """Convert pixels of any mode as those of a file are converted: to RGB, shrunk, and upright."""
    factor = spare_factor(image.size, min_side)
    with DECODING.take(8 * image.width * image.height // factor**2):
        try:
            return turn_upright(flatten(image, factor), orientation)
        except (ValueError, OSError) as error:
            raise PhotoFormatError(f"pixels of mode {image.mode} are not converted to RGB: {error}") from error


def shrinking_factor(header: Header, min_side: int | None) -> int:
    """Return the factor, 1, 2, 4 or 8, by which a photo shrinks; raise PhotoTooLargeError for too many pixels."""
    width, height = header.size or (0, 0)
    factor = spare_factor((width, height), min_side)
    if header.format == "JPEG":
        refuse_above((width, height), MAX_JPEG_PIXELS)
        refuse_above((width // factor, height // factor), pixel_limit("JPEG"), full_size=(width, height))
    else:
        refuse_above((width, height), pixel_limit(header.format))
    return factor


def spare_factor(size: tuple[int, int], min_side: int | None) -> int:
    """Return the factor, 1, 2, 4 or 8, by which a photo may shrink so that its shorter side keeps ``min_side``."""
    spare = max(1, min(size) // max(1, min_side)) if min_side is not None else 1
    return min(LARGEST_FACTOR, 1 << (spare.bit_length() - 1))


def pixel_limit(format: PhotoFormat) -> int:  # noqa: A002
    """Return the number of pixels that may be decoded of a photo."""
    return MAX_PIXELS // 2 if format in _HALF_THE_PIXELS else MAX_PIXELS


def bytes_to_decode(header: Header, factor: int, file_bytes: int) -> int:
    """Estimate the memory that a photo takes while it is decoded, shrunk and turned, beside its file.

    Raises PhotoTooLargeError if decoding alone exceeds what all photos may take.
    """
    width, height = header.size or (0, 0)
    small = width * height // factor**2
    if header.format == "JPEG":
        return header.held + 8 * small
    pixels = _BYTES_A_PIXEL.get(header.format, 4) * width * height
    needed = header.held + pixels + _COPIES.get(header.format, 0) * file_bytes
    if needed > DECODING_BYTES:
        what = f"a {header.format} photo that takes {needed // 10**6} MB to decode, more than {DECODING_BYTES // 10**6}"
        raise PhotoTooLargeError(what, fix="scale the photo down")
    return needed + (4 if factor == 1 else 8) * small


def load_upright(header: Header, factor: int) -> Image.Image:
    """Decode a photo, shrink it by a factor, and turn it upright."""
    image = load_pixels(header, factor)
    drafted = header.format == "JPEG"
    # Rebinding one name frees the pixels of each stage once the next is made.
    image = flatten(image, 1 if drafted else factor)
    return turn_upright(image, header.orientation)


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn pixels as an Exif orientation, 1 to 8, says."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def load_pixels(header: Header, factor: int) -> Image.Image:
    """Decode a photo; a JPEG at a fraction of its size."""
    image = open_image(header)
    if header.format == "JPEG":
        width, height = image.size
        image.draft(None, (width // factor, height // factor))
        refuse_above(image.size, pixel_limit("JPEG"), full_size=(width, height))
    else:
        refuse_above(image.size, pixel_limit(header.format))
    image.load()
    return image


def open_image(header: Header) -> Image.Image:
    """Open the photo with the decoder of its format, which does not read any pixel yet."""
    if header.format != "HEIC":
        return _DECODERS[header.format](header.open())
    import pillow_heif

    photo = pillow_heif.open_heif(header.open(), convert_hdr_to_8bit=True)
    refuse_above(photo.size, MAX_PIXELS)
    image: Image.Image = photo.to_pillow()
    return image


def flatten(image: Image.Image, factor: int) -> Image.Image:
    """Convert a photo of any mode to RGB, and shrink it by averaging: to the size at which a JPEG is decoded.

    What needs converting is converted a few rows at a time, so that it never stands in memory twice.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.reduce(factor) if factor > 1 else image
    canvas = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    for top in range(0, image.height, ROWS_AT_ONCE):
        band = convert_to_rgb(image.crop((0, top, image.width, min(top + ROWS_AT_ONCE, image.height))))
        canvas.paste(band.reduce(factor) if factor > 1 else band, (0, top // factor))
    return canvas


def convert_to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded photo of any mode to RGB, blending transparent pixels with white."""
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit gray at 255 instead of scaling it.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ALPHA or "transparency" in image.info:
        colored = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(colored, mask=colored)
        return canvas
    return image if image.mode == "RGB" else image.convert("RGB")
