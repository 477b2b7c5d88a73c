"""Detecting the format of a dataset, and reading it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from obelisk.data.catalog import Catalog
from obelisk.data.formats.folders import read_folders
from obelisk.data.formats.gldv2 import looks_like_gldv2, read_gldv2
from obelisk.data.formats.scan import refuse_unlistable
from obelisk.data.formats.subset_manifest import is_subset, read_subset
from obelisk.errors import DataError

FORMATS = (
    "give a GLDv2 dataset (train.csv in it or in its folder `metadata`, photos in train/a/b/c) "
    "or a folder per landmark (DIR/Space Needle/photo.jpg)"
)


def read_catalog(
    directory: Path,
    *,
    clean: bool = False,
    present_only: bool = True,
    onerror: Callable[[OSError], None] = refuse_unlistable,
) -> Catalog:
    """Read a dataset: GLDv2 in whole or in part, the manifests of a subset, or a folder per landmark.

    ``clean`` (GLDv2 only) keeps only the reference photos that train_clean.csv lists; ``present_only`` leaves out the
    photos that are not on disk. ``onerror`` is called for a folder below a landmark's folder that can't be listed; by
    default, and in other formats, DataError is raised. No photo is opened.

    Raises DataError if the folder is missing, has none of these formats, or its tables can't be used.
    """
    check_directory(directory)
    if is_subset(directory):
        return read_subset(directory, present_only=present_only)
    if looks_like_gldv2(directory):
        return read_gldv2(directory, clean=clean, present_only=present_only)
    catalog = read_folders(directory, onerror)
    if catalog.references.is_empty():
        raise DataError("no photo found in a landmark's folder", where=directory, fix=FORMATS)
    return catalog


def check_directory(directory: Path) -> None:
    """Raise DataError unless the path is a folder."""
    if not directory.exists():
        raise DataError("no such folder", where=directory, fix=FORMATS)
    if not directory.is_dir():
        raise DataError("this is a file, not a dataset's folder", where=directory, fix=FORMATS)
