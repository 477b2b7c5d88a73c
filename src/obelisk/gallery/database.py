"""Connections to ``gallery.sqlite``: transactions that read or write, and what the file system says about it.

A connection serves one transaction and is closed again: threads share nothing, and when the last connection closes,
SQLite folds its write-ahead log into the file, so that the folder is complete. What the tables hold is the business
of :mod:`obelisk.gallery.schema`.
"""

from __future__ import annotations

import errno
import functools
import os
import shlex
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from obelisk.bundled import is_bundled
from obelisk.errors import GalleryError, GalleryLockedError
from obelisk.files import grants_locks
from obelisk.gallery import schema
from obelisk.gallery.connections import open_hardened, primary_code, raising_interruptions
from obelisk.gallery.first_look import database_files, refuse_strange_files
from obelisk.gallery.open_files import count_connection
from obelisk.gallery.schema import DATABASE, About, rebuild_advice
from obelisk.gallery.sqlite_tables import SqliteTables

BUSY_SECONDS = 60.0  # how long one process waits for the others
TIME_STEP = 50_000_000  # ns; the resolution of file times, with a reserve
IMMUTABLE = "mode=ro&immutable=1"
ELSEWHERE = "keep the gallery on a local disk, or `obelisk gallery push` it to a database server"
NO_LOCKS = (  # what a file system says that has none, or no memory that processes share
    sqlite3.SQLITE_IOERR_LOCK,
    sqlite3.SQLITE_IOERR_RDLOCK,
    sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK,
    sqlite3.SQLITE_IOERR_SHMLOCK,
    sqlite3.SQLITE_IOERR_SHMMAP,
)
LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)  # by other processes


def create_database(folder: Path, about: About) -> None:
    """Write an empty database into the folder."""
    with translating_errors(folder), closing(connect(folder, "mode=rwc")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN")
        schema.create_tables(connection)
        schema.write_about(connection, about)
        connection.execute("COMMIT")


def read_about(folder: Path) -> About:
    """Return what a gallery says about itself; raise :class:`GalleryError` if there is none, or one we can't read.

    It is read without SQLite where that is possible, so that a log is still there if the gallery is refused for what
    it says, or for its model.
    """
    if not (folder / DATABASE).is_file():
        raise missing_error(folder)
    with translating_errors(folder):
        about = refuse_strange_files(folder)
    if about is not None:
        return about
    with reading(folder) as connection:
        return schema.about_of(connection)


def missing_error(folder: Path) -> GalleryError:
    """Return the error for a path at which there is no gallery."""
    quoted = shlex.quote(str(folder))
    gallery = next((parent for parent in folder.parents if (parent / DATABASE).is_file()), None)
    if not folder.exists():
        what, fix = "no such gallery", f"build it with `obelisk gallery build {quoted} --data DIR`"
    elif gallery:
        what, fix = "not a gallery, but something inside of one", f"name the gallery's folder: {gallery}"
    elif not folder.is_dir():
        what, fix = "not a gallery, which is a folder, but a file", "name the folder of a gallery"
    elif (folder / "model").is_dir():
        what, fix = f"not a gallery: `{DATABASE}` is missing", rebuild_advice(folder)
    else:
        what = f"not a gallery: `{DATABASE}` is missing"
        fix = f"if these are photos, build a gallery of them: `obelisk gallery build GALLERY --data {quoted}`"
    return GalleryError(what, where=folder, fix=fix)


@contextmanager
def reading(folder: Path) -> Iterator[SqliteTables]:
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
def writing(folder: Path) -> Iterator[SqliteTables]:
    """Open the database for one write transaction: when the block ends, all of it is on the disk, or none of it.

    An older format is migrated first. Raises :class:`GalleryError` if the gallery cannot be changed, its subclass
    :class:`GalleryLockedError` if others kept it locked too long, and OSError (ENOSPC) if the disk is full.
    """
    if not may_write(folder):
        raise refused_change(folder)
    with translating_errors(folder), closing(admitted(folder, "mode=rw")) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        begin(connection, "BEGIN IMMEDIATE")
        connection.migrate()
        yield connection
        schema.sign_change(connection)
        connection.execute("COMMIT")
        touch_database(folder)


def touch_database(folder: Path) -> None:
    """Make a change show in :func:`stat_database` once it can be read.

    SQLite writes a change to the log, waits for the disk, and only then lets others see it: whoever looked meanwhile
    has the later state of the files, and read the gallery of before.
    """
    with suppress(OSError):  # the change was made
        os.utime(folder / DATABASE)


@functools.lru_cache(maxsize=64)
def admit(folder: Path, state: tuple[int, ...]) -> None:
    """Raise :class:`GalleryError` unless SQLite may open the database; ``state`` is that of :func:`stat_database`.

    What was admitted is not looked at again in the same state.
    """
    refuse_strange_files(folder)


def open_snapshot(folder: Path) -> tuple[SqliteTables, str]:
    """Begin a read transaction in the first mode that the disk has room and locks for; return it with the mode."""
    *better, last = reading_modes(folder)
    for mode in better:
        try:
            return begin_snapshot(admitted(folder, mode)), mode
        except sqlite3.DatabaseError as error:
            if not (is_disk_full(error) or lacks_inodes(error, folder) or lacks_locks(error, folder)):
                raise
    return begin_snapshot(admitted(folder, last)), last


def begin_snapshot(connection: SqliteTables) -> SqliteTables:
    """Begin a transaction that sees the database as it is now; SQLite fixes that moment at the first read."""
    try:
        begin(connection, "BEGIN", "SELECT count(*) FROM sqlite_schema")
    except BaseException:
        connection.close()
        raise
    return connection


def begin(connection: SqliteTables, *statements: str) -> None:
    """Execute the first statements of a transaction; wait up to :data:`BUSY_SECONDS` for other processes."""
    started, waiting = time.monotonic(), False
    while True:
        try:
            for statement in statements:
                connection.execute(statement).fetchall()
            return
        except sqlite3.OperationalError as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if primary_code(error) not in LOCKED or time.monotonic() - started >= BUSY_SECONDS:
                raise
            if not waiting and lacks_locks(error, connection.place):
                raise
            waiting = True


def reading_modes(folder: Path) -> list[str]:
    """List the SQLite URI modes in which the database may be read, best first.

    A reader needs a lock file and an index of the log beside the database. If they cannot be made, because the folder
    is read-only, the disk is full or a network share has no locks, the database is opened as immutable. That overlooks
    an unfinished log, so it is no option where there is one.
    """
    log_is_empty = stat_log(folder) == (0, 0)
    if not may_write(folder):
        return [IMMUTABLE if log_is_empty else "mode=ro"]
    return ["mode=rw", IMMUTABLE] if log_is_empty else ["mode=rw"]


def admitted(folder: Path, mode: str) -> SqliteTables:
    """Open the database if it is one that SQLite may open."""
    admit(folder, stat_database(folder))
    return connect(folder, mode)


def connect(folder: Path, mode: str) -> SqliteTables:
    """Open the database in an SQLite URI mode."""
    connection = open_hardened(folder / DATABASE, mode, SqliteTables)
    connection.place = folder
    count_connection(connection, folder / DATABASE)
    return connection


def may_write(folder: Path) -> bool:
    """Return whether the database may be changed; the bundled gallery never may."""
    return not is_bundled(folder) and os.access(folder, os.W_OK) and os.access(folder / DATABASE, os.W_OK)


def refused_change(folder: Path) -> GalleryError:
    """Return the error for a gallery that may not be changed."""
    if is_bundled(folder):
        copied = "`obelisk gallery export bundled FILE` and `obelisk gallery import FILE MYCITY`"
        fix = f"build your own with `obelisk gallery build MYCITY --data DIR`, or copy this one with {copied}"
        return GalleryError("the bundled gallery cannot be written to: it belongs to the installation", fix=fix)
    return GalleryError("the gallery cannot be written to", where=folder, fix="copy it to a folder of your own")


def stat_database(folder: Path) -> tuple[int, ...]:
    """Return (inode, time, size, log size, log time): it changes when the database is written to or replaced."""
    try:
        found = os.stat(f"{folder}/{DATABASE}")  # noqa: PTH116 - every search calls this; Path.stat takes twice as long
    except FileNotFoundError as error:
        raise GalleryError("the gallery is no longer there", where=folder, fix="open it where it is now") from error
    return found.st_ino, found.st_mtime_ns, found.st_size, *stat_log(folder)


def stat_log(folder: Path) -> tuple[int, int]:
    """Return (size, time) of the write-ahead log, or (0, 0) if all of it was folded into the database."""
    path = f"{folder}/{DATABASE}"
    if os.path.islink(path):  # noqa: PTH114 - as above
        path = str(database_files(folder)[0])
    try:
        found = os.stat(f"{path}-wal")  # noqa: PTH116 - as above
    except FileNotFoundError:
        return 0, 0
    return (found.st_size, found.st_mtime_ns) if found.st_size else (0, 0)


def shows_later_changes(state: tuple[int, ...]) -> bool:
    """Return whether any later change will show in :func:`stat_database`: the times of files advance in steps."""
    return time.time_ns() - max(state[1], state[4]) > TIME_STEP


@contextmanager
def translating_errors(folder: Path) -> Iterator[None]:
    """Turn SQLite's errors into errors that a user can act on."""
    try:
        with raising_interruptions():
            yield
    except MemoryError as error:
        what, fix = "the gallery asks for more memory than there is", "if you trust it, free some memory and try again"
        refused = GalleryError(what, where=folder / DATABASE, fix=fix)
        refused.exit_code = 1  # the machine's limit
        raise refused from error
    except sqlite3.DatabaseError as error:
        if is_disk_full(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        if lacks_inodes(error, folder):
            refused = GalleryError(
                "the disk has room, but takes no more files: its inodes are used up",
                where=folder,
                fix="delete files that you don't need on that disk, or copy the gallery to another",
            )
            refused.exit_code = 1  # the machine's fault
            raise refused from error
        if primary_code(error) in LOCKED and not lacks_locks(error, folder):
            what = f"other processes kept the gallery locked for {BUSY_SECONDS:.0f} s"
            fix = f"try again when they are done; if there are none, and this is a network share, {ELSEWHERE}"
            raise GalleryLockedError(what, where=folder, fix=fix) from error
        if lacks_locks(error, folder):
            what = "the file system has no locks, so that the gallery cannot be changed safely"
            refused = GalleryError(what, where=folder, fix=f"if it is a network share, {ELSEWHERE}")
            refused.exit_code = 1  # the machine's fault
            raise refused from error
        if primary_code(error) == sqlite3.SQLITE_CANTOPEN and any(stat_log(folder)) and not may_write(folder):
            what = f"the gallery has changes in `{DATABASE}-wal` that cannot be read where nothing can be written"
            raise GalleryError(what, where=folder, fix="copy it to a folder of your own") from error
        if primary_code(error) == sqlite3.SQLITE_CANTOPEN and not os.access(folder / DATABASE, os.R_OK):
            what, fix = "no permission to read the gallery", "as its owner, run `chmod u+r` on the file"
            raise GalleryError(what, where=folder / DATABASE, fix=fix) from error
        if primary_code(error) == sqlite3.SQLITE_IOERR:
            what = "the disk, or the connection to it, failed while the gallery was used"
            refused = GalleryError(what, where=folder, fix="check the disk and your quota on it, and try again")
            refused.exit_code = 1  # the machine's fault
            raise refused from error
        fix = f"if it is damaged, {rebuild_advice(folder)}"
        raise GalleryError(f"the gallery cannot be used: {error}", where=folder / DATABASE, fix=fix) from error


def is_disk_full(error: sqlite3.DatabaseError) -> bool:
    """Return whether the disk is full; SQLite has a code of its own where only its lock file finds no room."""
    code = getattr(error, "sqlite_errorcode", 0)
    return primary_code(error) == sqlite3.SQLITE_FULL or code in (
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_SHMOPEN,
    )


def lacks_locks(error: sqlite3.DatabaseError, folder: Path) -> bool:
    """Return whether the file system has no locks, or no memory that processes share."""
    locked = primary_code(error) in LOCKED
    return getattr(error, "sqlite_errorcode", 0) in NO_LOCKS or (locked and not grants_locks(folder))


def lacks_inodes(error: sqlite3.DatabaseError, folder: Path) -> bool:
    """Return whether SQLite could not make a file because the file system has no inode left."""
    if primary_code(error) != sqlite3.SQLITE_CANTOPEN or not hasattr(os, "statvfs"):
        return False
    found = os.statvfs(folder)
    return found.f_files > 0 and found.f_favail == 0
