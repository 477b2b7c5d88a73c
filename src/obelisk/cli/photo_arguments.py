"""The arguments PHOTO|FOLDER|- of a command: which photos they stand for."""

from __future__ import annotations

import locale
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from obelisk.cli.console import SkippedFolders
from obelisk.errors import UsageError
from obelisk.positions import Position, parse_position

Photos = Annotated[
    list[str],
    typer.Argument(
        metavar="PHOTO|FOLDER|-",
        help="Photos, folders (searched at any depth, in sorted order), or - for paths from stdin, one per line.",
        show_default=False,
    ),
]

# As given: as Paths, `bundled` and `./bundled` would be one, and the address of a database none.
NamedGallery = Annotated[
    str,
    typer.Argument(
        metavar="GALLERY", help="The gallery's folder, `bundled`, or postgresql://HOST/DATABASE.", show_default=False
    ),
]

Galleries = Annotated[
    list[str] | None,
    typer.Option(
        "--gallery",
        metavar="G",
        help="Gallery to recognize from; may be repeated, to ask several of one model at once.",
        show_default="the bundled one",
    ),
]

Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        help="Reject answers below this confidence, 0 to 1; 0 rejects nothing.",
        show_default="what --precision needs",
    ),
]

Precision = Annotated[
    float, typer.Option("--precision", help="Share of the given answers that should be right; sets the threshold.")
]

Near = Annotated[
    str | None,
    typer.Option(
        "--near",
        metavar="exif|LAT,LON|none",
        help="Where the photos were taken: as their Exif says, or at this position for all. Landmarks nearby are "
        "favored, others stay possible.",
        show_default="exif, if the gallery is calibrated",
    ),
]

NullSeparated = Annotated[
    bool,
    typer.Option("-0", "--null", help="The paths on stdin end with NUL, as `find -print0` writes them."),
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


def parse_near(near: str | None) -> Position | str | None:
    """Read the value of --near."""
    return near if near in (None, "exif", "none") else parse_position(near, option="--near", others="exif, none, or")


def expand_arguments(arguments: Sequence[str], skipped: SkippedFolders, *, null: bool = False) -> Iterator[str]:
    """Return the paths of photos that the arguments stand for; stdin is read only when needed.

    With ``null``, the paths on stdin end with NUL. Folders without a photo, and those that may not be searched, go to
    ``skipped``. Raises :class:`UsageError` for a path that does not exist, before anything is recognized.
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
    return (path for paths in found for path in (read_paths(null=null) if paths is None else paths))


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


def read_paths(*, null: bool) -> Iterator[str]:
    """Yield the paths on stdin, which end with NUL or stand one per line; empty ones are left out."""
    if sys.stdin is None:
        raise UsageError("standard input is closed", fix="give it the list of paths, or name the photos as arguments")
    stream = sys.stdin.buffer
    for line in split_at_null(stream) if null else stream:
        path = line if null else line.rstrip(b"\r\n")
        if b"\0" in path:
            raise UsageError("the paths end with NUL, not one per line", where="standard input", fix="add -0")
        if path:
            yield decode_path(path)


def split_at_null(stream: Any) -> Iterator[bytes]:
    """Yield what stands between the NUL bytes of a stream, as soon as it is there."""
    rest = b""
    while block := stream.read1(2**16):
        *parts, rest = (rest + block).split(b"\0")
        yield from parts
    yield rest


def decode_path(path: bytes) -> str:
    """Decode a path as the system names files; on Windows, that is UTF-8, or what its older programs write."""
    try:
        return os.fsdecode(path)
    except UnicodeDecodeError:
        return path.decode(locale.getencoding(), errors="replace")
