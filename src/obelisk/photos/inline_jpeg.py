"""Small JPEGs that travel inside a page."""

from __future__ import annotations

import base64
import io

from PIL import Image

QUALITY = 76
LOWER_QUALITIES = ((0.8, 58), (0.7, 40), (0.0, 25))  # with the share of the bytes that they leave at most


def encode_thumbnail(photo: Image.Image, *, width: int, height: int, largest: int) -> tuple[bytes, tuple[int, int]]:
    """Shrink an RGB photo to fit into a box; return it as a JPEG of at most ``largest`` bytes, and its size in pixels.

    A photo with much detail loses quality, or failing that of its size, until it is small enough.
    """
    scale = min(1.0, width / photo.width, height / photo.height)
    size = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    small = photo if size == photo.size else photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    written = encode_jpeg(small, QUALITY)
    if len(written) > largest:
        quality = next(quality for share, quality in LOWER_QUALITIES if largest >= share * len(written))
        written = encode_jpeg(small, quality)
    if len(written) <= largest or max(size) == 1:
        return written, size
    return encode_thumbnail(small, width=max(1, size[0] * 2 // 3), height=max(1, size[1] * 2 // 3), largest=largest)


def encode_jpeg(photo: Image.Image, quality: int) -> bytes:
    """Return an RGB photo as a JPEG."""
    written = io.BytesIO()
    photo.save(written, "JPEG", quality=quality)
    return written.getvalue()


def data_uri(jpeg: bytes) -> str:
    """Return a JPEG as an address that holds it."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
