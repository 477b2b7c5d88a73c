"""The arguments PHOTO|FOLDER|- of a command: which photos they stand for."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from obelisk.cli.console import SkippedFolders
from obelisk.errors import UsageError

Photos = Annotated[
    list[str],
    typer.Argument(
        metavar="PHOTO|FOLDER|-",
        help="Photos, folders (searched at any depth, in sorted order), or - for paths from stdin, one per line.",
        show_default=False,
    ),
]

Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="GLOB",
        help="Pass over files and folders in a folder: by name, or by path if GLOB has a slash; may be repeated.",
        show_default=False,
    ),
]


def expand_arguments(arguments: Sequence[str], skipped: SkippedFolders) -> Iterator[str]:
    """Return the paths of photos that the arguments stand for; lines of stdin are read only when needed.

    Folders without a photo, and those that may not be searched, go to ``skipped``. Raises :class:`UsageError` for a
    path that does not exist, before anything is recognized.
    """
    missing = [argument for argument in arguments if argument != "-" and is_missing(argument)]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UsageError(f"no such photo or folder: `{missing[0]}`{more}", fix="check the path")
    found = [None if argument == "-" else list_argument(argument, skipped) for argument in arguments]
    if not skipped.locked and not any(paths is None or paths for paths in found):
        passed_over = skipped.photo_filter.describe()
        what = "no photo found" + (f" ({passed_over})" if passed_over else "")
        raise UsageError(what, where=", ".join(arguments), fix="give photos, or folders that hold some")
    return (path for paths in found for path in (read_lines() if paths is None else paths))


def is_missing(path: str) -> bool:
    """Return whether nothing is at a path; False if we may not look, as reading it will then say why."""
    try:
        os.lstat(path)
    except PermissionError:
        return False
    except (OSError, ValueError):
        return True
    return False


def list_argument(argument: str, skipped: SkippedFolders) -> list[str]:
    """Return the photos in a folder, or the path itself if it isn't a folder."""
    from obelisk.photos import find_photos

    if not os.path.isdir(argument):  # noqa: PTH112 - Path.is_dir raises where we may not look
        return [argument]
    locked = skipped.locked
    paths = [str(path) for path in find_photos(Path(argument), skipped, skipped.photo_filter)]
    if not paths and skipped.locked == locked:
        skipped.note_empty(argument)
    return paths


def read_lines() -> Iterator[str]:
    """Yield the lines of stdin that are not empty."""
    for line in sys.stdin:
        if path := line.rstrip("\r\n"):
            yield path


def pass_odd_names() -> None:
    """Let file names through that are not UTF-8; JSON escapes them so that they read back as the same names."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
