"""Looking for what is wrong with a dataset: in its tables first, then in each of its photos."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from obelisk.data.catalog import Catalog
from obelisk.data.findings import Finding, Kind, report
from obelisk.data.formats.detect import check_directory, read_catalog
from obelisk.data.formats.folders import list_landmark_folders
from obelisk.data.formats.gldv2 import looks_like_gldv2
from obelisk.data.formats.gldv2_check import check_gldv2
from obelisk.data.formats.subset_manifest import is_subset
from obelisk.data.listing import list_photos
from obelisk.data.progress import Progress, keep_silent
from obelisk.errors import PhotoError
from obelisk.photos import content_hash, map_in_order, read_bytes, read_photo
from obelisk.photos.reading import is_there

# Truncated and damaged photos show at any size, and the smallest decodes fastest.
CHECKED_SIDE = 64


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """A photo that was opened: the hash of its bytes, or what is wrong with it."""

    path: str
    content_hash: str = ""
    finding: Finding | None = None


def check_dataset(directory: Path, *, progress: Progress = keep_silent) -> Iterator[Finding]:
    """Yield what is wrong with a dataset, as it is found: with its tables, then with each photo.

    Every photo is opened once. Of photos with the same content, all but the first are named: as a duplicate under one
    landmark, as mislabelled under two, as leaked where one is a reference and the other a query.

    Raises DataError for a folder that is no dataset, or whose tables cannot be read at all.
    """
    check_directory(directory)
    if is_subset(directory):
        catalog = read_catalog(directory, present_only=False)
    elif looks_like_gldv2(directory):
        yield from check_gldv2(directory)
        catalog = read_catalog(directory)
    else:
        yield from find_bad_folders(directory)
        catalog = read_catalog(directory, refuse=lambda found: None)
    yield from check_photos(catalog, progress)


def find_bad_folders(directory: Path) -> Iterator[Finding]:
    """Yield the folders that may not be listed, and the landmark folders that hold no photo."""
    for place in list_landmark_folders(directory):
        locked: list[OSError] = []
        photos = list_photos(place, root=directory, refuse=locked.append).paths
        for error in locked:
            where = Path(error.filename).relative_to(directory).as_posix()
            yield report("unreadable", where=where, what=f"the folder cannot be listed: {error.strerror}")
        if photos.is_empty() and not locked:
            yield report("empty", where=place.name, what="the folder holds no photo")


def check_photos(catalog: Catalog, progress: Progress) -> Iterator[Finding]:
    """Yield what is wrong with the photos of a catalog: unreadable ones, and copies."""
    shown = list_shown(catalog)
    paths = progress(list(shown), what="checking photos")
    first: dict[str, str] = {}
    for photo in map_in_order(partial(inspect_photo, catalog.root), paths):
        if photo.finding is not None:
            yield photo.finding
        elif photo.content_hash in first:
            original = first[photo.content_hash]
            yield describe_copy(photo.path, shown[photo.path], original, shown[original])
        else:
            first[photo.content_hash] = photo.path


def list_shown(catalog: Catalog) -> dict[str, int | None]:
    """Return the landmark of every photo by its path, references first; None for a query."""
    references = catalog.references.select("path", "landmark_id")
    queries = catalog.queries.select("path", pl.lit(None, dtype=pl.Int64).alias("landmark_id"))
    return dict(pl.concat([references, queries]).iter_rows())


def inspect_photo(root: Path, path: str) -> Inspected:
    """Open a photo: hash its bytes and decode it whole."""
    try:
        data = read_bytes(root / path)
        if not data:
            return Inspected(path=path, finding=report("empty", where=path, what="the file is empty"))
        read_photo(data, min_side=CHECKED_SIDE)
    except PhotoError as error:
        kind: Kind = "unreadable" if is_there(root / path) else "missing"
        return Inspected(path=path, finding=report(kind, where=path, what=error.what))
    return Inspected(path=path, content_hash=content_hash(data))


def describe_copy(path: str, landmark: int | None, original: str, shown: int | None) -> Finding:
    """Return the finding of a photo with the same content as an earlier one."""
    if landmark == shown:
        return report("duplicate", where=path, what=f"the same content as {original}")
    if landmark is None or shown is None:
        return report("leaked", where=path, what=f"the same content as {original}, one a query, one a reference")
    what = f"the same content as {original}, under landmark {landmark} here and {shown} there"
    return report("mislabelled", where=path, what=what)
