"""Database files that are read beside SQLite, and stay open as long as SQLite has a connection to them.

On POSIX systems, a process that closes a file lets go of all its locks on it, those that SQLite took as well; see "How
To Corrupt An SQLite Database File", 2.2. Another process could then delete the log that a transaction is writing to.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from obelisk.errors import GalleryError

FileKey = tuple[int, int]
"""Device and inode."""

_lock = threading.RLock()
_connections: Counter[FileKey] = Counter()
_files: dict[FileKey, BinaryIO] = {}


def open_to_read(path: Path) -> BinaryIO:
    """Open one of a gallery's files; raise :class:`GalleryError` if the user may not read it."""
    try:
        return path.open("rb", buffering=0)  # what a buffer holds would be of an earlier look
    except PermissionError as error:
        what, fix = "no permission to read the gallery", "as its owner, run `chmod u+r` on the file"
        raise GalleryError(what, where=path, fix=fix) from error


@contextmanager
def open_beside_sqlite(path: Path) -> Iterator[BinaryIO]:
    """Open a database file to read it; one thread at a time does."""
    with _lock:
        file = _files.get(key_of(path.stat())) or open_to_read(path)
        key = key_of(os.fstat(file.fileno()))
        _files[key] = file
        file.seek(0)
        try:
            yield file
        finally:
            close_unneeded(key)


def count_connection(connection: object, path: Path) -> None:
    """Keep the file open, if it is, until the connection is gone."""
    key = key_of(path.stat())
    with _lock:
        _connections[key] += 1
    weakref.finalize(connection, forget_connection, key)


def forget_connection(key: FileKey) -> None:
    """Count one connection less."""
    with _lock:
        _connections[key] -= 1
        close_unneeded(key)


def close_unneeded(key: FileKey) -> None:
    """Close the file unless there is a connection to it."""
    if _connections[key] <= 0:
        del _connections[key]
        if key in _files:
            _files.pop(key).close()


def key_of(status: os.stat_result) -> FileKey:
    """Return the key of a file."""
    return status.st_dev, status.st_ino
