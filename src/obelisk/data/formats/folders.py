"""A folder per landmark: the format for your own photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

from obelisk.data.catalog import LANDMARKS, QUERIES, Catalog
from obelisk.data.formats.scan import PhotoScan, refuse_unlistable, scan_photos
from obelisk.photos import PhotoFilter


def read_folders(
    directory: Path,
    onerror: Callable[[OSError], None] = refuse_unlistable,
    photo_filter: PhotoFilter | None = None,
) -> Catalog:
    """Read a folder per landmark; photos may be at any depth inside it.

    The name of a landmark is that of its folder, verbatim; ids are 1 to C in the order of the names. A photo's id is
    its path. Empty folders and photos outside the folders are left out, with notes. There are no queries. ``onerror``
    is called for a folder that can't be listed; by default DataError is raised.
    """
    return make_catalog(directory, scan_photos(directory, root=directory, onerror=onerror, photo_filter=photo_filter))


def make_catalog(directory: Path, scan: PhotoScan) -> Catalog:
    """Make the catalog of a folder per landmark that was scanned."""
    photos = pl.DataFrame({"image_id": scan.paths, "path": scan.paths})
    loose = photos.filter(~pl.col("path").str.contains("/", literal=True))
    photos = photos.join(loose, on="path", how="anti").with_columns(
        pl.col("path").str.split("/").list.first().alias("name")
    )
    names = photos["name"].unique().sort()
    ids = pl.DataFrame({"name": names}).with_columns(
        pl.int_range(1, names.len() + 1, dtype=pl.Int64).alias("landmark_id")
    )
    references = photos.join(ids, on="name", how="left").sort("image_id")
    return Catalog(
        root=directory,
        references=references.select("image_id", "path", "landmark_id", pl.lit("train").alias("split")),
        queries=pl.DataFrame(schema=QUERIES),
        landmarks=complete_landmarks(ids),
        notes=note_omissions(scan, loose),
    )


def complete_landmarks(landmarks: pl.DataFrame) -> pl.DataFrame:
    """Return the landmarks with every column of a catalog, null if unknown."""
    absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in LANDMARKS.items() if name not in landmarks.columns]
    return landmarks.with_columns(absent).select(list(LANDMARKS)).sort("landmark_id")


def note_omissions(scan: PhotoScan, loose: pl.DataFrame) -> tuple[str, ...]:
    """Return notes on the files and folders that belong to no landmark."""
    notes = list(scan.skipped)
    if empty := list_empty_folders(scan):
        notes.append(f"folders without a photo, left out: {', '.join(map(repr, empty))}")
    if loose.height:
        notes.append(f"photos in no landmark's folder, left out: {loose.height}, the first is {loose['path'][0]}")
    return tuple(notes)


def list_empty_folders(scan: PhotoScan) -> list[str]:
    """Return the names of the folders directly below the root that hold no photo at any depth."""
    used = set(scan.paths.str.split("/").list.first().to_list())
    return sorted(scan.folders - used)
