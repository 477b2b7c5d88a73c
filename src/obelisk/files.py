"""Writing a file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a file beside ``path``, then put it in its place at once; return ``path``.

    A reader sees the old file or the new one. When writing fails, the old one stays and nothing else is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = beside(path)
    try:
        write(partial)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def beside(path: Path) -> Path:
    """Return where this process lets a file or folder grow until it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}")
