"""Read files up to a limit, write them atomically, and lock out other processes meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

FULL = (errno.ENOSPC, errno.EDQUOT)
# The second form is that of earlier versions, which put the number of their process there.
PARTIAL = re.compile(r"\..+\.([0-9a-f]{16}\.partial|[0-9]+)")
SYSTEM_ERROR = re.compile(r"\(os error ([0-9]+)\)")  # how libraries written in Rust report one


def read_limited(path: Path, largest: int) -> bytes:
    """Return the content of a file that somebody else may have made; raises OSError as :func:`open_limited` does."""
    with open_limited(path, largest) as file:
        return file.read(largest)


@contextlib.contextmanager
def open_limited(path: Path, largest: int) -> Iterator[BinaryIO]:
    """Open a file that somebody else may have made.

    Raises OSError, whose ``strerror`` is the reason: also for more than ``largest`` bytes, and for what is no file,
    since a pipe or a device may have no end.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))
    if found.st_size > largest:
        raise OSError(errno.EFBIG, f"it has more than {largest:,} bytes", str(path))
    with path.open("rb") as file:
        yield file


def replace_file(path: Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a temporary file, sync it, and rename it to ``path``; return ``path``.

    A reader sees either the old file or the new one. If writing fails, the old file stays and the temporary one is
    deleted. The new file has the old one's permissions. A link stays, and the file that it leads to is replaced; a
    device or pipe is written to directly.
    """
    target = Path(os.path.realpath(path))
    with naming_full_disk(path):
        mode = path.stat().st_mode if path.exists() else None
        if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            write(path)
            return path
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_path(target)
        try:
            # Exclusive: a link that somebody put there is not followed. What was private is private from the start.
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if mode else 0o666))
        except OSError as error:
            error.filename = str(path)
            raise
        try:
            write(partial)
            with partial.open("rb+") as written:  # Windows syncs only what is open for writing
                os.fsync(written.fileno())
            if mode:
                partial.chmod(mode & 0o777)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    return path


def move_folder(made: Path, target: Path) -> None:
    """Sync a finished folder to disk and rename it; the target may be an empty folder."""
    for part in [*made.rglob("*"), made]:
        sync_to_disk(part)
    if os.name == "nt" and target.is_dir():  # there, no folder is renamed to one that exists
        target.rmdir()
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
    except Exception as error:
        found = system_error(error)
        if found is None or found.errno not in FULL:
            raise
        raise OSError(found.errno, os.strerror(found.errno), str(path)) from error


def system_error(error: BaseException) -> OSError | None:
    """Return the system's error behind an exception, also where a library reports it as one of its own."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    if not (number := SYSTEM_ERROR.search(str(error))):
        return None
    if os.name == "nt":
        return OSError(0, str(error), None, int(number[1]))  # Python derives errno from Windows' own number
    return OSError(int(number[1]), os.strerror(int(number[1])))


def without_links(path: str, flags: int) -> int:
    """Open a file as ``open`` does, but not through a link: an ``opener`` for names that others can foresee."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def partial_path(path: Path) -> Path:
    """Return a new temporary name, which nobody can foresee, for a file or folder until it is complete."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.partial")


def remove_partials(folder: Path) -> None:
    """Delete the incomplete files that killed processes left in a folder."""
    for path in folder.glob(".*"):
        if PARTIAL.fullmatch(path.name) and path.is_file():
            path.unlink()


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
