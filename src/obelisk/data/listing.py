"""Listing the photos below a folder: one walk, no look at single files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from obelisk.errors import DataError
from obelisk.photos.reading import walk_photos

CHUNK = 100_000


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Photo paths relative to a root, sorted; and what was passed over, each in words."""

    paths: pl.Series
    passed_over: tuple[str, ...] = ()


def refuse_locked(error: OSError) -> None:
    """Raise DataError for a folder that may not be listed."""
    raise DataError(f"the folder cannot be listed: {error.strerror}", where=error.filename)


def list_photos(folder: Path, *, root: Path, refuse: Callable[[OSError], None] = refuse_locked) -> Listing:
    """List the files below a folder whose name ends like a photo's, as paths relative to ``root``.

    Hidden files and folders are left out; links to folders are followed, each real folder once. File contents are
    not looked at and single files are not asked for, so that the millions of files of a whole dataset list in
    seconds. A folder that does not exist has no photos.

    ``refuse`` is called for a folder that may not be listed; without it, DataError is raised.
    """

    def refuse_unless_missing(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            refuse(error)

    chunks: list[pl.Series] = []
    names: list[str] = []
    passed_over: list[str] = []
    for place, files in walk_photos(folder, refuse_unless_missing):
        prefix = place.relative_to(root).as_posix()
        for name in files:
            path = name if prefix == "." else f"{prefix}/{name}"
            if is_encodable(path):
                names.append(path)
            else:
                passed_over.append(f"{path!a}: the name is not UTF-8")
        if len(names) >= CHUNK:
            chunks.append(pl.Series("path", names, dtype=pl.String))
            names = []
    chunks.append(pl.Series("path", names, dtype=pl.String))
    return Listing(paths=pl.concat(chunks).sort(), passed_over=tuple(passed_over))


def is_encodable(name: str) -> bool:
    """Say whether a name is whole UTF-8, so that it can stand in a table."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
