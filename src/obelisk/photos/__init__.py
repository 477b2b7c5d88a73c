"""Photos: the one safe way from bytes to model input. No other room opens an image.

``read_bytes`` → ``read_photo`` (upright RGB) → ``prepare`` (the network's input).
"""

from __future__ import annotations

from obelisk.photos.decoding import MAX_PIXELS, read_photo
from obelisk.photos.inputs import ModelInput, prepare, resize_photo, source_box
from obelisk.photos.parallel import map_in_order
from obelisk.photos.reading import PHOTO_SUFFIXES, content_hash, find_photos, read_bytes
from obelisk.photos.shrinking import shrink_photo

__all__ = [
    "MAX_PIXELS",
    "PHOTO_SUFFIXES",
    "ModelInput",
    "content_hash",
    "find_photos",
    "map_in_order",
    "prepare",
    "read_bytes",
    "read_photo",
    "resize_photo",
    "shrink_photo",
    "source_box",
]
