"""Photos: the one safe way from bytes to model input. No other room opens an image.

``read_bytes`` → ``read_photo`` (upright RGB) → ``prepare`` (the network's input).
"""

from __future__ import annotations

from obelisk.photos.cores import cgroup_folders, library_on_one_thread, usable_cores
from obelisk.photos.decoding import is_full_size, read_photo, read_query
from obelisk.photos.given_photos import GivenPhoto, PhotoLike, PhotosLike, take_photo, take_photos, weigh_photo
from obelisk.photos.gps import StatedPosition, read_position
from obelisk.photos.inline_jpeg import data_uri, encode_thumbnail
from obelisk.photos.inputs import ModelInput, prepare, resize_photo, source_box
from obelisk.photos.limits import MAX_BYTES, MAX_PIXELS
from obelisk.photos.memory import return_memory, share_arenas
from obelisk.photos.parallel import UntilError, map_in_order
from obelisk.photos.reading import (
    PHOTO_SUFFIXES,
    content_hash,
    detach_error,
    hash_photo,
    held_bytes,
    photo_exists,
    read_bytes,
)
from obelisk.photos.shrinking import shrink_photo
from obelisk.photos.tars import TAR_NAME, TarredPhoto, list_tarred_photos, tarred_photo_table
from obelisk.photos.walk import OWN_PICTURE_SUFFIX, PhotoFilter, advise_unlistable, find_photos, walk_photos

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "OWN_PICTURE_SUFFIX",
    "PHOTO_SUFFIXES",
    "TAR_NAME",
    "GivenPhoto",
    "ModelInput",
    "PhotoFilter",
    "PhotoLike",
    "PhotosLike",
    "StatedPosition",
    "TarredPhoto",
    "UntilError",
    "advise_unlistable",
    "cgroup_folders",
    "content_hash",
    "data_uri",
    "detach_error",
    "encode_thumbnail",
    "find_photos",
    "hash_photo",
    "held_bytes",
    "is_full_size",
    "library_on_one_thread",
    "list_tarred_photos",
    "map_in_order",
    "photo_exists",
    "prepare",
    "read_bytes",
    "read_photo",
    "read_position",
    "read_query",
    "resize_photo",
    "return_memory",
    "share_arenas",
    "shrink_photo",
    "source_box",
    "take_photo",
    "take_photos",
    "tarred_photo_table",
    "usable_cores",
    "walk_photos",
    "weigh_photo",
]
