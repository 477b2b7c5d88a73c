"""Detecting the format of a dataset, and reading it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from obelisk.data.catalog import Catalog
from obelisk.data.formats.folders import LAYOUTS, read_folders
from obelisk.data.formats.gldv2 import looks_like_gldv2, read_gldv2
from obelisk.data.formats.scan import refuse_unlistable
from obelisk.data.formats.subset_manifest import is_subset, read_subset
from obelisk.errors import DataError, UsageError
from obelisk.photos import PhotoFilter


def read_catalog(
    directory: Path | str,
    *,
    clean: bool = False,
    present_only: bool = True,
    onerror: Callable[[OSError], None] = refuse_unlistable,
    photo_filter: PhotoFilter | None = None,
) -> Catalog:
    """Read a dataset: GLDv2 in whole or in part, the manifests of a subset, or a folder per landmark.

    ``clean`` (GLDv2 only) keeps only the reference photos that train_clean.csv lists; ``present_only`` leaves out the
    photos that are not on disk. ``onerror`` is called for a folder below a landmark's folder that can't be listed; by
    default, and in other formats, DataError is raised. ``photo_filter`` decides which files are passed over and counts
    them; without one, the last of the notes says how many there were. No photo is opened.

    Raises DataError if the folder is missing, has none of these formats, or its tables can't be used; UsageError if the
    filter has globs and the dataset is a subset, which lists its photos.
    """
    directory = Path(directory)
    check_directory(directory)
    chosen = PhotoFilter() if photo_filter is None else photo_filter
    if is_subset(directory):
        refuse_exclusion(directory, chosen)
        return read_subset(directory, present_only=present_only)
    if looks_like_gldv2(directory):
        catalog = read_gldv2(directory, clean=clean, present_only=present_only, photo_filter=chosen)
    else:
        catalog = read_folders(directory, onerror, chosen)
        refuse_without_photo(catalog, chosen)
    if photo_filter is None and (passed_over := chosen.describe()):
        return replace(catalog, notes=(*catalog.notes, passed_over))
    return catalog


def refuse_without_photo(catalog: Catalog, photo_filter: PhotoFilter) -> None:
    """Raise DataError for a folder per landmark without a photo; say what was passed over."""
    if catalog.references.is_empty():
        passed_over = photo_filter.describe()
        what = "no photo found in a landmark's folder" + (f" ({passed_over})" if passed_over else "")
        raise DataError(what, where=catalog.root, fix=LAYOUTS)


def refuse_exclusion(directory: Path, photo_filter: PhotoFilter) -> None:
    """Raise UsageError for globs that would be compared with the photos of a subset."""
    if photo_filter.exclude:
        what = "a subset lists its photos, so none can be excluded by name"
        raise UsageError(what, where=directory, fix="leave --exclude out, or give it when you make the subset")


def check_directory(directory: Path) -> None:
    """Raise DataError unless the path is a folder."""
    if not directory.exists():
        raise DataError("no such folder", where=directory, fix=LAYOUTS)
    if not directory.is_dir():
        raise DataError("this is a file, not a dataset's folder", where=directory, fix=LAYOUTS)
