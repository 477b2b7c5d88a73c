"""Limits on photos: what exceeds them is refused before it is read or decoded.

A few bytes can ask for a lot of pixels, of passes over them, or of tiny parts, each of which costs time and memory.
"""

from __future__ import annotations

from obelisk.errors import PhotoTooLargeError

MAX_BYTES = 100 * 10**6
"""of a photo's file; no photo below the pixel limits needs more"""
MAX_PIXELS = 50_000_000
"""to decode; decoders of WebP and AVIF need twice the memory a pixel, so of these half as many"""
MAX_JPEG_PIXELS = 200_000_000
"""of a JPEG that is decoded at a fraction of its size"""
MAX_SIDE = 100_000
"""of a photo in pixels; decoders keep some memory for each row"""
MAX_SCANS = 100
"""of a progressive JPEG; encoders write about ten"""
MAX_SCANNED_PIXELS = 2_000_000_000
"""of a progressive JPEG, each counted once a scan"""
DECODING_BYTES = 370 * 10**6
"""that one photo may take while it is decoded"""
SHARED_DECODING_BYTES = 200 * 10**6
"""that photos may take while they are decoded, all together; one that takes more is decoded alone"""
SHARED_FILE_BYTES = 16 * 10**6
"""of files that are being decoded, or wait for that; a larger file waits alone"""
IN_FLIGHT_BYTES = 200 * 10**6
"""of photos that programs give as bytes, files, images or arrays, from when they are taken until they are embedded"""
MAX_PARTS = 4096
"""of a file, or more if they hold 1 KiB each"""


def refuse_above(size: tuple[int, int], limit: int, *, full_size: tuple[int, int] | None = None) -> None:
    """Raise PhotoTooLargeError if ``size``, the pixels to decode, exceeds a limit; it reports ``full_size``."""
    width, height = full_size or size
    pixels = f"{width:,} × {height:,} pixels"
    if size[0] * size[1] > limit:
        raise PhotoTooLargeError(f"{pixels}, more than {limit:,} in all", fix="scale the photo down")
    if max(size) > MAX_SIDE:
        raise PhotoTooLargeError(f"{pixels}, more than {MAX_SIDE:,} on a side", fix="crop the photo")


class PartCounter:
    """Counts the parts of a file (segments, chunks, blocks, boxes), and refuses files that consist of tiny ones."""

    def __init__(self, data: bytes, called: str) -> None:
        self._limit = MAX_PARTS + len(data) // 1024
        self._called = called
        self._count = 0

    def count(self, more: int = 1) -> None:
        """Count parts; raise PhotoTooLargeError if they are too many."""
        self._count += more
        if self._count > self._limit:
            raise PhotoTooLargeError(
                f"more than {self._limit:,} {self._called}", fix="open the photo and save it again"
            )
