"""JPEGs without an end marker: some lack nothing else, others were cut off.

libjpeg decodes either, if the marker is put back, and gives gray for what is missing. Whether anything is missing shows
when other bits are put between: they change the picture only where its own bits have ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from PIL import Image, ImageChops

from obelisk.errors import PhotoTruncatedError
from obelisk.photos.headers import Header
from obelisk.photos.jpeg_header import Scans

END_MARKER = b"\xff\xd9"
OTHER_BITS = bytes.fromhex("5aa5c33c") * 1024
PADDING = 64  # zero bytes at the end; more of them are no photo, but room that was never filled
COMPARED_PIXELS = 8_000_000
COMPARED_BYTES = 3 * 4 * COMPARED_PIXELS
AGAIN = "fetch or copy it again"

Decode = Callable[[Header, int], Image.Image]
"""Decodes a JPEG at a fraction of its size."""


def put_end(header: Header, between: bytes = b"") -> Header:
    """Return a header whose file ends as a JPEG must."""
    head, scans = header.pieces
    end = len(bytes(scans).rstrip(b"\0"))
    if len(scans) - end <= PADDING:
        end = len(scans)
    if end and scans[end - 1] == 0xFF:
        end -= 1  # half a marker
    return replace(header, pieces=(head, scans[:end], between + END_MARKER))


def find_missing(header: Header, scans: Scans, decode: Decode) -> str | None:
    """Say what a JPEG without an end marker lacks; None if it is whole.

    Raises PhotoTruncatedError if not one row of pixels is there.
    """
    width, height = header.size or (1, 1)
    factor = next((factor for factor in (2, 4) if width * height / factor**2 <= COMPARED_PIXELS), 8)
    found, other = (decode(put_end(header, between), factor) for between in (b"", OTHER_BITS))
    changed = ImageChops.difference(found, other).getbbox()
    if changed is None and scans.complete:
        return None
    if changed is None or scans.count > 1:
        return "finer detail is missing"
    if changed[1] == 0:
        raise PhotoTruncatedError("an incomplete JPEG photo: none of its rows is whole", fix=AGAIN)
    return f"the lowest {max(1, round(100 * (1 - changed[1] / found.height)))} % of its rows are missing"
