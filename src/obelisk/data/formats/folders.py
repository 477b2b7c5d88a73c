"""A folder per landmark: the layout of people who bring their own places."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import polars as pl

from obelisk.data.catalog import LANDMARKS, QUERIES, Catalog
from obelisk.data.listing import list_photos, refuse_locked
from obelisk.photos.reading import is_hidden


def list_landmark_folders(directory: Path) -> list[Path]:
    """Return the folders directly inside the directory, hidden ones left out, sorted by name."""
    return sorted(place for place in directory.iterdir() if place.is_dir() and not is_hidden(place.name))


def read_folders(directory: Path, refuse: Callable[[OSError], None] = refuse_locked) -> Catalog:
    """Read a folder per landmark; photos may lie deeper inside.

    A landmark is named by its folder, verbatim, and has an id of its own: 1 to C in the order of the names. A photo's
    id is its path. Empty folders are no landmarks, photos beside the folders belong to none: notes tell of both.
    There are no queries. ``refuse`` is called for a folder that may not be listed; without it, DataError is raised.
    """
    listing = list_photos(directory, root=directory, refuse=refuse)
    photos = pl.DataFrame({"image_id": listing.paths, "path": listing.paths})
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
        notes=describe_omissions(directory, names, loose, listing.passed_over),
    )


def complete_landmarks(landmarks: pl.DataFrame) -> pl.DataFrame:
    """Return the landmarks with every column of a catalog, null where nothing is known."""
    absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in LANDMARKS.items() if name not in landmarks.columns]
    return landmarks.with_columns(absent).select(list(LANDMARKS)).sort("landmark_id")


def describe_omissions(
    directory: Path, names: pl.Series, loose: pl.DataFrame, passed_over: tuple[str, ...]
) -> tuple[str, ...]:
    """Say in words which files, and which folders that may be listed, are in no landmark."""
    used = set(names.to_list())
    folders = [place for place in list_landmark_folders(directory) if os.access(place, os.R_OK)]
    empty = [place.name for place in folders if place.name not in used]
    notes = list(passed_over)
    if empty:
        notes.append(f"folders without a photo, left out: {', '.join(map(repr, empty))}")
    if loose.height:
        notes.append(f"photos in no landmark's folder, left out: {loose.height}, the first is {loose['path'][0]}")
    return tuple(notes)
