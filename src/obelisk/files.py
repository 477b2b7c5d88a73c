"""Writing a file whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a file beside ``path``, then put it in its place at once; return ``path``.

    A reader sees the old file or the new one. When writing fails, the old one stays and nothing else is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = beside(path)
    with naming(path):
        try:
            write(partial)
            with partial.open("rb") as written:
                os.fsync(written.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return path


@contextmanager
def naming(place: Path | str) -> Iterator[None]:
    """Let the error of a full disk name the place that was to be filled, not a passing file, the source or nothing."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(error.errno, error.strerror, str(place)) from error


def beside(path: Path) -> Path:
    """Return where this process lets a file or folder grow until it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}")
