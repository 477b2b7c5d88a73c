"""Write files atomically, and lock out other processes meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a temporary file, sync it, and rename it to ``path``; return ``path``.

    A reader sees either the old file or the new one. If writing fails, the old file stays and the temporary one is
    deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path)
    with naming_full_disk(path):
        try:
            write(partial)
            with partial.open("rb+") as written:  # Windows syncs only what is open for writing
                os.fsync(written.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return path


def move_folder(made: Path, target: Path) -> None:
    """Sync a finished folder to disk and rename it; the target may be an empty folder."""
    for part in [*made.rglob("*"), made]:
        sync_to_disk(part)
    made.rename(target)
    sync_to_disk(target.parent)


def sync_to_disk(path: Path) -> None:
    """Flush a file, or the list of names in a folder, to the disk."""
    if os.name == "nt":  # neither a folder nor a file that was opened for reading can be synced there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def naming_full_disk(path: Path | str) -> Iterator[None]:
    """Make a disk-full error name ``path``, the file or folder being written, rather than a temporary file."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def partial_path(path: Path) -> Path:
    """Return the temporary name under which this process writes a file or folder until it is complete."""
    return path.with_name(f".{path.name}.{os.getpid()}")


@contextlib.contextmanager
def exclusive_lock(path: Path, *, wait: float) -> Iterator[bool]:
    """Hold a lock on ``path`` for the block; yield False if another process still holds it after ``wait`` seconds.

    The lock is released when its process ends, however that happens. Where no lock file can be made (a read-only
    folder, a full disk, something else of that name), nothing is locked and the block runs anyway.
    """
    acquired = True
    with contextlib.ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite's locks work on every operating system.
            database = sqlite3.connect(path, timeout=wait, isolation_level=None)
            held.enter_context(contextlib.closing(database)).execute("BEGIN EXCLUSIVE")
        except OSError:
            pass
        except sqlite3.Error as error:
            acquired = getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_BUSY
        yield acquired
