"""Read files up to a limit, write them atomically, and lock out other processes meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

FULL = (errno.ENOSPC, errno.EDQUOT)
# Of a rename to a mount point, as containers have for their volumes, or between disks that are joined into one.
NO_RENAME = (errno.EBUSY, errno.EXDEV)
LOST_AND_FOUND = "lost+found"
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


def replace_file(path: Path, write: Callable[[Path], object], *, synced: bool = True) -> Path:
    """Let ``write`` fill a temporary file, sync it, and rename it to ``path``; return ``path``.

    What can be made again need not be ``synced``, which saves the wait for the disk: a power failure may lose it.
    A reader sees either the old file or the new one. If writing fails, the old file stays and the temporary one is
    deleted. The new file has the old one's permissions. A link stays, and the file that it leads to is replaced; a
    device or pipe is written to directly. A file that is mounted alone can't be replaced: it is overwritten.
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
            if synced:
                with partial.open("rb+") as written:  # Windows syncs only what is open for writing
                    os.fsync(written.fileno())
            if mode:
                partial.chmod(mode & 0o777)
            try:
                partial.replace(target)
            except OSError as error:
                if error.errno not in NO_RENAME:
                    raise
                shutil.copyfile(partial, target)
                sync_to_disk(target)
        finally:
            partial.unlink(missing_ok=True)
    return path


def is_occupied(path: Path) -> bool:
    """Return whether there is anything at a path other than an empty folder.

    A disk of its own is empty although it holds ``lost+found``, or what an interrupted command began there.
    """
    if not path.is_dir():
        return path.exists()
    names = {part.name for part in path.iterdir()}
    if os.path.ismount(path):
        names -= {LOST_AND_FOUND, *(name for name in names if name.strip(".").startswith(f"{path.name}."))}
    return bool(names)


def growing_beside(target: Path) -> Path:
    """Return the folder in which to make what becomes the folder ``target``: its parent, or a mount point itself.

    Nothing can be renamed to a mount point, and the place around it may be another disk, or read-only.
    """
    return target if os.path.ismount(target) else target.parent


def move_folder(made: Path, target: Path) -> None:
    """Sync a finished folder to disk and rename it; the target may be an empty folder.

    Into a mount point, its parts are moved one by one, files last.
    """
    for part in [*made.rglob("*"), made]:
        sync_to_disk(part)
    if target in made.parents:
        move_parts(made, target)
    else:
        if os.name == "nt" and target.is_dir():  # there, no folder is renamed to one that exists
            target.rmdir()
        try:
            made.rename(target)
        except OSError as error:
            if error.errno not in NO_RENAME:
                raise
            target.mkdir(exist_ok=True)
            move_parts(made, target)
    sync_to_disk(target.parent)


def move_parts(made: Path, target: Path) -> None:
    """Move what a folder holds into another one, perhaps on another disk; files come last."""
    for part in sorted(made.iterdir(), key=lambda part: (part.is_file(), part.name)):
        shutil.move(part, target / part.name)
    made.rmdir()
    sync_to_disk(target)


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
    with contextlib.ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite's locks work on every operating system.
            database = held.enter_context(contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)))
            acquired = begin_exclusive(database) or not grants_locks(path.parent)
            if not acquired and wait:
                database.execute(f"PRAGMA busy_timeout = {int(1000 * wait)}")
                acquired = begin_exclusive(database)
        except (OSError, sqlite3.Error):
            acquired = True
        yield acquired


def begin_exclusive(database: sqlite3.Connection) -> bool:
    """Lock a database; return False if others hold it."""
    try:
        database.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True


def grants_locks(folder: Path) -> bool:
    """Return whether a new file in a folder can be locked, which nobody else has.

    A network share that refuses says ENOLCK or EACCES, which SQLite takes for a database in use.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    with contextlib.ExitStack() as opened:
        try:
            file = opened.enter_context(tempfile.TemporaryFile(dir=folder))
        except OSError:
            return True  # nothing can be said
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True
