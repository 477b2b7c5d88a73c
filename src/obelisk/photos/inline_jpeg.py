"""Small JPEGs that travel inside a page."""

from __future__ import annotations

import base64
import io

from PIL import Image

QUALITIES = (76, 60, 45, 30)


def encode_thumbnail(photo: Image.Image, *, width: int, height: int, largest: int) -> tuple[bytes, tuple[int, int]]:
    """Shrink an RGB photo to fit into a box; return it as a JPEG of at most ``largest`` bytes, and its size in pixels.

    A photo with much detail loses quality, or failing that half of its size, until it is small enough.
    """
    scale = min(1.0, width / photo.width, height / photo.height)
    size = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    small = photo if size == photo.size else photo.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    for quality in QUALITIES:
        written = io.BytesIO()
        small.save(written, "JPEG", quality=quality)
        if written.tell() <= largest or max(size) == 1:
            return written.getvalue(), size
    return encode_thumbnail(small, width=-(-size[0] // 2), height=-(-size[1] // 2), largest=largest)


def data_uri(jpeg: bytes) -> str:
    """Return a JPEG as an address that holds it."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
