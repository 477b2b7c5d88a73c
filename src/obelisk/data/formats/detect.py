"""Telling apart the layouts a dataset can have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from obelisk.data.catalog import Catalog
from obelisk.data.formats.folders import read_folders
from obelisk.data.formats.gldv2 import looks_like_gldv2, read_gldv2
from obelisk.data.formats.subset_manifest import is_subset, read_subset
from obelisk.data.listing import refuse_locked
from obelisk.errors import DataError

LAYOUTS = (
    "give a GLDv2 dataset (train.csv in it or in its folder `metadata`, photos in train/a/b/c) "
    "or a folder per landmark (DIR/Space Needle/photo.jpg)"
)


def read_catalog(
    directory: Path,
    *,
    clean: bool = False,
    present_only: bool = True,
    refuse: Callable[[OSError], None] = refuse_locked,
) -> Catalog:
    """Read a dataset: GLDv2's layout, whole or in part, a subset's manifest folder, or a folder per landmark.

    ``clean`` (GLDv2 only) keeps the reference photos of train_clean.csv and nothing else; ``present_only`` leaves
    out the photos that are not on disk. ``refuse`` is called for a folder below a landmark's that may not be listed;
    without it, and in other layouts, DataError is raised. No photo is opened.

    Raises DataError when the folder is missing, is none of these, or its tables cannot be used.
    """
    check_directory(directory)
    if is_subset(directory):
        return read_subset(directory, present_only=present_only)
    if looks_like_gldv2(directory):
        return read_gldv2(directory, clean=clean, present_only=present_only)
    catalog = read_folders(directory, refuse)
    if catalog.references.is_empty():
        raise DataError("no photo found in a landmark's folder", where=directory, fix=LAYOUTS)
    return catalog


def check_directory(directory: Path) -> None:
    """Refuse a path that is no folder."""
    if not directory.exists():
        raise DataError("no such folder", where=directory, fix=LAYOUTS)
    if not directory.is_dir():
        raise DataError("this is a file, not a dataset's folder", where=directory, fix=LAYOUTS)
