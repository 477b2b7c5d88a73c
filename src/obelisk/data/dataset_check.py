"""Checking a dataset: first its tables, then each of its photos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import polars as pl

from obelisk.data.catalog import Catalog
from obelisk.data.formats.detect import check_directory, read_catalog, refuse_without_photo
from obelisk.data.formats.folders import list_empty_folders, make_catalog
from obelisk.data.formats.gldv2 import looks_like_gldv2, no_photo_error, place_gldv2, read_gldv2_rows
from obelisk.data.formats.gldv2_check import check_gldv2
from obelisk.data.formats.scan import PhotoScan, scan_photos
from obelisk.data.formats.subset_manifest import is_subset
from obelisk.data.issues import Issue, IssueKind, make_issue
from obelisk.errors import PhotoError, PhotoMissingError, PhotoTooLargeError
from obelisk.photos import (
    PhotoFilter,
    advise_unlistable,
    content_hash,
    map_in_order,
    photo_exists,
    read_bytes,
    read_photo,
)
from obelisk.records import Progress, no_progress

# Truncated and damaged photos fail at any size, and the smallest decodes fastest.
CHECKED_SIDE = 64
# A photo that is there and can't be read may be sound all the same.
SOUND_FIXES: Final[dict[type[PhotoError], str]] = {
    PhotoMissingError: "change its permissions",
    PhotoTooLargeError: "save it with fewer pixels",
}


@dataclass(frozen=True, kw_only=True)
class CheckedPhoto:
    """The result of opening a photo: the hash of its bytes, or its issue."""

    path: str
    content_hash: str = ""
    issue: Issue | None = None


def check_dataset(
    directory: Path,
    *,
    progress: Progress = no_progress,
    photo_filter: PhotoFilter | None = None,
    remark: Callable[[str], object] = lambda sentence: None,
) -> Iterator[Issue]:
    """Yield the issues of a dataset as they are found: those of its tables, then those of its photos.

    Every photo is opened once. Of several photos with the same content, all but the first are reported: as a duplicate
    under one landmark, as mislabelled under two, as leaked if one is a reference and the other a query.
    ``photo_filter`` decides which files are passed over, and counts them. ``remark`` is called for what is no fault and
    yet may surprise, such as photos outside the landmarks' folders.

    Raises DataError if the folder isn't a dataset, or if its tables can't be read at all.
    """
    for issues in find_issues(directory, progress=progress, photo_filter=photo_filter, remark=remark):
        yield from issues


def find_issues(
    directory: Path,
    *,
    progress: Progress = no_progress,
    photo_filter: PhotoFilter | None = None,
    remark: Callable[[str], object] = lambda sentence: None,
) -> Iterator[Sequence[Issue]]:
    """Yield the issues that :func:`check_dataset` yields, in sequences of one kind; none is empty.

    Those of a table, of which there may be millions, are made when they are asked for.
    """
    check_directory(directory)
    chosen = PhotoFilter() if photo_filter is None else photo_filter
    if is_subset(directory):
        catalog = read_catalog(directory, present_only=False, photo_filter=chosen)
    elif looks_like_gldv2(directory):
        rows = read_gldv2_rows(directory)
        sound = True
        for issues in check_gldv2(directory, rows, chosen):
            if issues:
                sound = False
                yield issues
        # A second walk, with a filter of its own, so that nothing is counted twice.
        catalog, placed = place_gldv2(directory, rows, photo_filter=PhotoFilter(chosen.exclude))
        if sound and catalog.references.is_empty():
            raise no_photo_error(directory, rows.labels, placed)
    else:
        unlistable: list[OSError] = []
        scan = scan_photos(directory, root=directory, onerror=unlistable.append, photo_filter=chosen)
        yield from ([issue] for issue in check_folders(directory, scan, unlistable))
        catalog = make_catalog(directory, scan)
        refuse_without_photo(catalog, chosen)
        for sentence in catalog.notes:
            remark(sentence)
    yield from ([issue] for issue in check_photos(catalog, progress))


def check_folders(directory: Path, scan: PhotoScan, unlistable: Sequence[OSError]) -> Iterator[Issue]:
    """Yield the folders that can't be listed, and the landmark folders without a photo."""
    locked = [Path(error.filename).relative_to(directory) for error in unlistable]
    for path, error in zip(locked, unlistable, strict=True):
        what = f"the folder cannot be listed: {error.strerror}"
        yield make_issue("unreadable", where=path.as_posix(), what=what, fix=advise_unlistable(error))
    for name in list_empty_folders(directory, scan):
        if not any(Path(name) in (path, *path.parents) for path in locked):
            yield make_issue("empty", where=name, what="the folder holds no photo")


def check_photos(catalog: Catalog, progress: Progress) -> Iterator[Issue]:
    """Yield the unreadable photos of a catalog, and the copies."""
    landmarks = landmark_by_path(catalog)
    first: dict[str, str] = {}
    checked = map_in_order(partial(check_photo, catalog.root), landmarks)
    for done, photo in enumerate(checked, start=1):
        if photo.issue is not None:
            yield photo.issue
        elif photo.content_hash in first:
            original = first[photo.content_hash]
            yield copy_issue(photo.path, landmarks[photo.path], original, landmarks[original])
        else:
            first[photo.content_hash] = photo.path
        progress("checking photos", done, len(landmarks))


def landmark_by_path(catalog: Catalog) -> dict[str, int | None]:
    """Map each photo's path to its landmark, references first; None for a query."""
    references = catalog.references.select("path", "landmark_id")
    queries = catalog.queries.select("path", pl.lit(None, dtype=pl.Int64).alias("landmark_id"))
    return dict(pl.concat([references, queries]).iter_rows())


def check_photo(root: Path, path: str) -> CheckedPhoto:
    """Open a photo: hash its bytes and decode all of it."""
    try:
        data = read_bytes(root / path)
        if not data:
            return CheckedPhoto(path=path, issue=make_issue("empty", where=path, what="the file is empty"))
        read_photo(data, min_side=CHECKED_SIDE)
    except PhotoError as error:
        kind: IssueKind = "unreadable" if photo_exists(root / path) else "missing"
        fix = error.fix or (SOUND_FIXES.get(type(error), "") if kind == "unreadable" else "")
        return CheckedPhoto(path=path, issue=make_issue(kind, where=path, what=error.what, fix=fix))
    return CheckedPhoto(path=path, content_hash=content_hash(data))


def copy_issue(path: str, landmark: int | None, original: str, original_landmark: int | None) -> Issue:
    """Return the issue of a photo with the same content as an earlier one; a query's landmark is None."""
    if landmark == original_landmark:
        return make_issue("duplicate", where=path, what=f"the same content as {original}")
    if landmark is None or original_landmark is None:
        what = f"the same content as {original}, one a query, one a reference"
        return make_issue("leaked", where=path, what=what)
    what = f"the same content as {original}, under landmark {landmark} here and {original_landmark} there"
    return make_issue("mislabelled", where=path, what=what)
