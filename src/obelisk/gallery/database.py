"""Connections to ``gallery.sqlite``: transactions that read or write, and what the file system says about it.

A connection serves one transaction and is closed again: threads share nothing, and when the last connection closes,
SQLite folds its write-ahead log into the file, so that the folder is complete. What the tables hold is the business
of :mod:`obelisk.gallery.schema`.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from obelisk.bundled import is_bundled
from obelisk.errors import GalleryError, GalleryLockedError
from obelisk.gallery import schema
from obelisk.gallery.schema import DATABASE, LOG, About, rebuild_advice

BUSY_SECONDS = 60.0  # how long one process waits for the others
TIME_STEP = 50_000_000  # ns; the resolution of file times, with a reserve
ROWS_AT_ONCE = 4096
VALUES_AT_ONCE = 500  # in one SQL statement
IMMUTABLE = "mode=ro&immutable=1"


def create_database(folder: Path, about: About) -> None:
    """Write an empty database into the folder."""
    with translating_errors(folder), closing(sqlite3.connect(folder / DATABASE)) as connection:
        connection.executescript(schema.TABLES)
        with connection:
            schema.write_about(connection, about)


def read_about(folder: Path) -> About:
    """Return what a gallery says about itself; raise :class:`GalleryError` if there is none, or one we can't read."""
    if not (folder / DATABASE).is_file():
        if folder.exists():
            raise GalleryError(f"not a gallery: `{DATABASE}` is missing", where=folder, fix=rebuild_advice(folder))
        fix = f"build it with `obelisk gallery build {folder} --data DIR`"
        raise GalleryError("no such gallery", where=folder, fix=fix)
    with reading(folder) as connection:
        refuse_truncated(connection, folder)
        return schema.about_of(connection, folder)


@contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the database for one read transaction, which sees one moment; works on read-only folders, too.

    Raises :class:`GalleryError` if it cannot be read, or was changed in a way that such a transaction does not see.
    """
    with translating_errors(folder):
        before = stat_database(folder)
        connection, mode = open_snapshot(folder)
        with closing(connection):
            yield connection
            connection.execute("COMMIT")
        if mode == IMMUTABLE and stat_database(folder) != before:
            raise GalleryError("the gallery was changed while it was read", where=folder, fix="try again")


@contextmanager
def writing(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the database for one write transaction: when the block ends, all of it is on the disk, or none of it.

    An older format is migrated first. Raises :class:`GalleryError` if the gallery cannot be changed, its subclass
    :class:`GalleryLockedError` if others kept it locked too long, and OSError (ENOSPC) if the disk is full.
    """
    if not may_write(folder):
        raise GalleryError("the gallery cannot be written to", where=folder, fix="copy it to a folder of your own")
    with translating_errors(folder), closing(connect(folder, "mode=rw")) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")
        refuse_truncated(connection, folder)
        schema.migrate(connection, folder)
        yield connection
        schema.count_revision(connection)
        connection.execute("COMMIT")


def open_snapshot(folder: Path) -> tuple[sqlite3.Connection, str]:
    """Begin a read transaction in the first mode for which the disk has room; return the connection and the mode."""
    *better, last = reading_modes(folder)
    for mode in better:
        try:
            return begin_snapshot(connect(folder, mode)), mode
        except sqlite3.DatabaseError as error:
            if not is_disk_full(error):
                raise
    return begin_snapshot(connect(folder, last)), last


def begin_snapshot(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Begin a transaction that sees the database as it is now; SQLite fixes that moment at the first read."""
    try:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def reading_modes(folder: Path) -> list[str]:
    """List the SQLite URI modes in which the database may be read, best first.

    A reader needs a lock file and an index of the log beside the database. If they cannot be made, because the folder
    is read-only or the disk is full, the database is opened as immutable. That overlooks an unfinished log, so it is
    no option where there is one.
    """
    log_is_empty = stat_log(folder) == (0, 0)
    if not may_write(folder):
        return [IMMUTABLE if log_is_empty else "mode=ro"]
    return ["mode=rw", IMMUTABLE] if log_is_empty else ["mode=rw"]


def connect(folder: Path, mode: str) -> sqlite3.Connection:
    """Open the database in an SQLite URI mode."""
    address = f"{(folder / DATABASE).resolve().as_uri()}?{mode}"
    # Threads may share a connection as long as they take turns.
    return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def may_write(folder: Path) -> bool:
    """Return whether the database may be changed; the bundled gallery never may."""
    return not is_bundled(folder) and os.access(folder, os.W_OK) and os.access(folder / DATABASE, os.W_OK)


def stat_database(folder: Path) -> tuple[int, ...]:
    """Return (inode, time, size, log size, log time): it changes when the database is written to or replaced."""
    try:
        found = os.stat(f"{folder}/{DATABASE}")  # noqa: PTH116 - every search calls this; Path.stat takes twice as long
    except FileNotFoundError as error:
        raise GalleryError("the gallery is no longer there", where=folder, fix="open it where it is now") from error
    return found.st_ino, found.st_mtime_ns, found.st_size, *stat_log(folder)


def stat_log(folder: Path) -> tuple[int, int]:
    """Return (size, time) of the write-ahead log, or (0, 0) if all of it was folded into the database."""
    try:
        found = os.stat(f"{folder}/{LOG}")  # noqa: PTH116 - as above
    except FileNotFoundError:
        return 0, 0
    return (found.st_size, found.st_mtime_ns) if found.st_size else (0, 0)


def shows_later_changes(state: tuple[int, ...]) -> bool:
    """Return whether any later change will show in :func:`stat_database`: the times of files advance in steps."""
    return time.time_ns() - max(state[1], state[4]) > TIME_STEP


def refuse_truncated(connection: sqlite3.Connection, folder: Path) -> None:
    """Raise :class:`GalleryError` if the file ends before its last page: SQLite would read zeros there.

    Pages that are not in the file yet are in the log, which stores each with more bytes than its own. So the two
    files together never have fewer bytes than a complete database.
    """
    pages, size = (connection.execute(f"PRAGMA {of}").fetchone()[0] for of in ("page_count", "page_size"))
    found = stat_database(folder)[2] + stat_log(folder)[0]
    if found < pages * size:
        what = f"the gallery is damaged: it has {found} of {pages * size} bytes"
        raise GalleryError(what, where=folder / DATABASE, fix=rebuild_advice(folder))


@contextmanager
def translating_errors(folder: Path) -> Iterator[None]:
    """Turn SQLite's errors into errors that a user can act on."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if is_disk_full(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        if primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
            what = f"other processes kept the gallery locked for {BUSY_SECONDS:.0f} s"
            raise GalleryLockedError(what, where=folder, fix="try again when they are done") from error
        if primary_code(error) == sqlite3.SQLITE_CANTOPEN and any(stat_log(folder)) and not may_write(folder):
            what = f"the gallery has changes in `{LOG}` that cannot be read where nothing can be written"
            raise GalleryError(what, where=folder, fix="copy it to a folder of your own") from error
        if primary_code(error) == sqlite3.SQLITE_CANTOPEN and not os.access(folder / DATABASE, os.R_OK):
            what, fix = "no permission to read the gallery", "as its owner, run `chmod u+r` on the file"
            raise GalleryError(what, where=folder / DATABASE, fix=fix) from error
        fix = f"if it is damaged, {rebuild_advice(folder)}"
        raise GalleryError(f"the gallery cannot be used: {error}", where=folder / DATABASE, fix=fix) from error


def primary_code(error: sqlite3.DatabaseError) -> int:
    """Return SQLite's result code without its details, or 0 if the error did not come from SQLite itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_disk_full(error: sqlite3.DatabaseError) -> bool:
    """Return whether the disk is full; SQLite has a code of its own where only its lock file finds no room."""
    code = getattr(error, "sqlite_errorcode", 0)
    return primary_code(error) == sqlite3.SQLITE_FULL or code in (
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_SHMOPEN,
    )
