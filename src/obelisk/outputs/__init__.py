"""What people take home: answers as a table, an album to look at."""

from __future__ import annotations

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
