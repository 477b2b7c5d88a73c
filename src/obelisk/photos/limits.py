"""Limits on photos: what exceeds them is refused before it is read or decoded."""

from __future__ import annotations

MAX_BYTES = 128 * 2**20
"""of a photo's file; no photo below the pixel limit needs more"""
MAX_PIXELS = 50_000_000
"""to decode; of a WebP half as many"""
LARGE_PIXELS = 16_000_000
"""larger photos are decoded one at a time, however many threads there are: each takes up to 400 MB"""
