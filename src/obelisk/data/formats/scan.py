"""Scanning a folder for photos in one walk, without opening files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from obelisk.errors import DataError
from obelisk.photos import PhotoFilter, walk_photos

CHUNK = 100_000


@dataclass(frozen=True, kw_only=True)
class PhotoScan:
    """Sorted photo paths relative to a root, and a sentence on each file that was skipped.

    ``folders`` are the folders at the first two levels below the root that were listed, with photos or without.
    """

    paths: pl.Series
    folders: frozenset[str]
    skipped: tuple[str, ...] = ()


def refuse_unlistable(error: OSError) -> None:
    """Raise DataError for a folder that can't be listed."""
    raise DataError(f"the folder cannot be listed: {error.strerror}", where=error.filename)


def scan_photos(
    folder: Path,
    *,
    root: Path,
    onerror: Callable[[OSError], None] = refuse_unlistable,
    photo_filter: PhotoFilter | None = None,
) -> PhotoScan:
    """List the files below a folder that are named like photos, as paths relative to ``root``.

    ``photo_filter`` decides what is passed over, and counts it. No file is opened or queried, so the millions of files
    of a whole dataset are listed in seconds. A folder that does not exist has no photos.

    ``onerror`` is called for a folder that can't be listed; by default DataError is raised.
    """

    def ignore_missing(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            onerror(error)

    chunks: list[pl.Series] = []
    names: list[str] = []
    folders: set[str] = set()
    skipped: list[str] = []
    for parent, files in walk_photos(folder, ignore_missing, photo_filter, root=root):
        prefix = parent.relative_to(root).as_posix()
        folders.add("/".join(prefix.split("/")[:2]))
        for name in files:
            path = name if prefix == "." else f"{prefix}/{name}"
            if is_encodable(path):
                names.append(path)
            else:
                skipped.append(f"{path!a}: the name is not UTF-8")
        if len(names) >= CHUNK:
            chunks.append(pl.Series("path", names, dtype=pl.String))
            names = []
    chunks.append(pl.Series("path", names, dtype=pl.String))
    return PhotoScan(paths=pl.concat(chunks).sort(), folders=frozenset(folders - {"."}), skipped=tuple(skipped))


def is_encodable(name: str) -> bool:
    """Return whether a name is valid UTF-8, as a table requires."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
