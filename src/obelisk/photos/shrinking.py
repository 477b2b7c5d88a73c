"""Shrink photos for storage, as large downloads do."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from obelisk.photos.accepted import find_format, read_photo_header
from obelisk.photos.decoding import read_photo

QUALITY = 90


def shrink_photo(data: bytes, max_side: int) -> bytes:
    """Shrink an encoded photo to at most ``max_side`` pixels on its longer side; return an upright JPEG.

    A photo that is small enough comes back byte for byte. Raises the errors of ``read_photo``.
    """
    found = find_format(data)
    size = read_photo_header(data, found).size if found else None
    if size is not None and max(size) <= max_side:
        return data
    photo = read_photo(data, min_side=max_side)
    photo.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    written = BytesIO()
    photo.save(written, "JPEG", quality=QUALITY, optimize=True)
    return written.getvalue()
