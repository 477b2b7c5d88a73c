"""Listing the photos below a folder: one walk, no look at single files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from obelisk.errors import DataError
from obelisk.photos.files import is_photo_name

CHUNK = 100_000
MACOS_DEBRIS = "__MACOSX"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Photo paths relative to a root, sorted; and what was passed over, each in words."""

    paths: pl.Series
    passed_over: tuple[str, ...] = ()


def list_photos(folder: Path, *, root: Path) -> Listing:
    """List the files below a folder whose name ends like a photo's, as paths relative to ``root``.

    Hidden files and folders are left out; links to folders are followed, each real folder once. File contents are
    not looked at and single files are not asked for, so that the millions of files of a whole dataset list in
    seconds. A folder that does not exist has no photos.

    Raises DataError for a folder that may not be read.
    """
    chunks: list[pl.Series] = []
    names: list[str] = []
    passed_over: list[str] = []
    for place, files in walk_folders(folder):
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


def walk_folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder from ``folder`` down with the names of its photo files."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise DataError(f"the folder cannot be listed: {error.strerror}", where=error.filename)

    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield Path(place), [name for name in files if is_photo_name(name)]


def is_hidden(name: str) -> bool:
    """Say whether a file or folder name is one that people do not see or did not make."""
    return name.startswith(".") or name == MACOS_DEBRIS


def is_encodable(name: str) -> bool:
    """Say whether a name is whole UTF-8, so that it can stand in a table."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
