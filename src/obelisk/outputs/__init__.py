"""What people take home: answers as a table, an album to look at, tags in sidecars.

Each name is loaded when it is first used: only tables need Polars.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obelisk.outputs.album_page import AlbumContents, describe_contents, write_album
    from obelisk.outputs.album_photos import AlbumPhoto, recognize_album
    from obelisk.outputs.album_state import AlbumState, Thumbnail
    from obelisk.outputs.parquet_file import ParquetFile
    from obelisk.outputs.photo_tags import SidecarChange, tag_photo, untag_photo
    from obelisk.outputs.spreadsheet import CSV_COLUMNS, csv_header, csv_line
    from obelisk.outputs.table import ANSWER_SCHEMA, to_polars
    from obelisk.outputs.world_map import MapPlace, draw_map, world_outline

__all__ = [
    "ANSWER_SCHEMA",
    "CSV_COLUMNS",
    "AlbumContents",
    "AlbumPhoto",
    "AlbumState",
    "MapPlace",
    "ParquetFile",
    "SidecarChange",
    "Thumbnail",
    "csv_header",
    "csv_line",
    "describe_contents",
    "draw_map",
    "recognize_album",
    "tag_photo",
    "to_polars",
    "untag_photo",
    "world_outline",
    "write_album",
]

_HOMES = {
    "ANSWER_SCHEMA": "table",
    "AlbumContents": "album_page",
    "AlbumPhoto": "album_photos",
    "AlbumState": "album_state",
    "CSV_COLUMNS": "spreadsheet",
    "MapPlace": "world_map",
    "ParquetFile": "parquet_file",
    "SidecarChange": "photo_tags",
    "Thumbnail": "album_state",
    "csv_header": "spreadsheet",
    "csv_line": "spreadsheet",
    "describe_contents": "album_page",
    "draw_map": "world_map",
    "recognize_album": "album_photos",
    "tag_photo": "photo_tags",
    "to_polars": "table",
    "untag_photo": "photo_tags",
    "world_outline": "world_map",
    "write_album": "album_page",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'obelisk.outputs' has no attribute {name!r}")
    return getattr(importlib.import_module(f"obelisk.outputs.{_HOMES[name]}"), name)
