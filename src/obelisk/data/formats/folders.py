"""A folder per landmark: the format for your own photos."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import polars as pl

from obelisk.data.catalog import LANDMARKS, QUERIES, Catalog
from obelisk.data.formats.scan import refuse_unlistable, scan_photos
from obelisk.photos import is_hidden


def list_landmark_folders(directory: Path) -> list[Path]:
    """Return the folders directly inside the directory, without hidden ones, sorted by name."""
    return sorted(folder for folder in directory.iterdir() if folder.is_dir() and not is_hidden(folder.name))


def read_folders(directory: Path, onerror: Callable[[OSError], None] = refuse_unlistable) -> Catalog:
    """Read a folder per landmark; photos may be at any depth inside it.

    The name of a landmark is that of its folder, verbatim; ids are 1 to C in the order of the names. A photo's id is
    its path. Empty folders and photos outside the folders are left out, with notes. There are no queries. ``onerror``
    is called for a folder that can't be listed; by default DataError is raised.
    """
    scan = scan_photos(directory, root=directory, onerror=onerror)
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
        notes=note_omissions(directory, names, loose, scan.skipped),
    )


def complete_landmarks(landmarks: pl.DataFrame) -> pl.DataFrame:
    """Return the landmarks with every column of a catalog, null if unknown."""
    absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in LANDMARKS.items() if name not in landmarks.columns]
    return landmarks.with_columns(absent).select(list(LANDMARKS)).sort("landmark_id")


def note_omissions(directory: Path, names: pl.Series, loose: pl.DataFrame, skipped: tuple[str, ...]) -> tuple[str, ...]:
    """Return notes on the files, and the folders that can be listed, that belong to no landmark."""
    used = set(names.to_list())
    folders = [folder for folder in list_landmark_folders(directory) if os.access(folder, os.R_OK)]
    empty = [folder.name for folder in folders if folder.name not in used]
    notes = list(skipped)
    if empty:
        notes.append(f"folders without a photo, left out: {', '.join(map(repr, empty))}")
    if loose.height:
        notes.append(f"photos in no landmark's folder, left out: {loose.height}, the first is {loose['path'][0]}")
    return tuple(notes)
