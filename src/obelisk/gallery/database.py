"""``gallery.sqlite``: the truth of a gallery. The format is described in docs/gallery-format.md.

Connections are opened for one reading or one change and closed again: nothing is shared between threads,
and when the last one closes, SQLite folds its write-ahead log into the file, so that the folder is whole.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from obelisk.bundled import is_bundled
from obelisk.errors import GalleryError, GalleryLockedError

FORMAT = 2
APPLICATION_ID = 0x4F42454C  # "OBEL", so that the file can be told from other SQLite files
DATABASE = "gallery.sqlite"
LOG = f"{DATABASE}-wal"
STORED = np.dtype("<f2")  # embeddings on disk: float16, little-endian
MAX_DIMENSIONS = 1 << 16
BUSY_SECONDS = 60.0  # how long one waits for the others
TIME_STEP = 50_000_000  # ns
ROWS_AT_ONCE = 4096
VALUES_AT_ONCE = 500  # in one SQL statement
IMMUTABLE = "mode=ro&immutable=1"

SCHEMA = f"""
PRAGMA journal_mode = WAL;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
CREATE TABLE about (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE landmarks (
    id        INTEGER PRIMARY KEY,
    name      TEXT NOT NULL,
    latitude  REAL,
    longitude REAL
);
CREATE INDEX landmarks_by_name ON landmarks (name);
CREATE TABLE photos (
    row          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT NOT NULL UNIQUE,
    landmark_id  INTEGER NOT NULL REFERENCES landmarks (id),
    content_hash TEXT NOT NULL,
    source       TEXT NOT NULL,
    path         TEXT NOT NULL DEFAULT ''
);
CREATE INDEX photos_by_landmark ON photos (landmark_id);
CREATE INDEX photos_by_content ON photos (content_hash);
CREATE TABLE embeddings (
    row    INTEGER PRIMARY KEY REFERENCES photos (row) ON DELETE CASCADE,
    vector BLOB NOT NULL
);
"""

# What makes the next format of a gallery; run by the first change that a newer version makes to it.
MIGRATIONS = {
    1: (
        "ALTER TABLE photos ADD COLUMN path TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX photos_by_content ON photos (content_hash)",
    ),
}

SET_NUMBER = "INSERT INTO about VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


@dataclass(frozen=True, kw_only=True)
class About:
    """Which model a gallery belongs to, and whether its building was finished."""

    model: str
    fingerprint: str
    dimensions: int
    complete: bool
    format: int = FORMAT


def create_database(folder: Path, about: About) -> None:
    """Write an empty database into the folder."""
    with translated(folder), closing(sqlite3.connect(folder / DATABASE)) as connection:
        connection.executescript(SCHEMA)
        rows = {"model": about.model, "fingerprint": about.fingerprint, "dimensions": about.dimensions}
        with connection:
            connection.executemany("INSERT INTO about VALUES (?, ?)", [(key, str(rows[key])) for key in rows])
            connection.execute("INSERT INTO about VALUES ('complete', ?)", (str(int(about.complete)),))


def settle(made: Path, place: Path) -> None:
    """Give a finished folder its place; it is there after a power cut, too. An empty folder may be in its place."""
    for part in [*made.rglob("*"), made]:
        sync(part)
    made.rename(place)
    sync(place.parent)


def sync(path: Path) -> None:
    """Have the system write a file, or the list of names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the database of a folder for one consistent reading, also where nothing can be written.

    Raises :class:`GalleryError` when it cannot be read, or was changed in a way that such a reading does not see.
    """
    with translated(folder):
        before = look_at(folder)
        connection, mode = begin_reading(folder)
        with closing(connection):
            yield connection
            connection.execute("COMMIT")
        if mode == IMMUTABLE and look_at(folder) != before:
            raise GalleryError("the gallery was changed while it was read", where=folder, fix="do the same again")


def begin_reading(folder: Path) -> tuple[sqlite3.Connection, str]:
    """Open a connection in the first mode that there is room for, and fix the moment that it sees."""
    *better, last = reading_modes(folder)
    for mode in better:
        try:
            return take_snapshot(connect(folder, mode)), mode
        except sqlite3.DatabaseError as error:
            if not leaves_no_room(error):
                raise
    return take_snapshot(connect(folder, last)), last


def take_snapshot(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Begin a transaction that sees the database as it is now."""
    try:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def reading_modes(folder: Path) -> list[str]:
    """Say in which SQLite URI modes the database may be read, the best first.

    Reading needs a lock file and an index of the log beside the database. Where these cannot be made, because
    nobody may write there or the disk is full, the database is read as a file that nobody changes: only an
    unfinished log would be overlooked, and where there is one, that is no way.
    """
    whole = look_at_log(folder) == (0, 0)
    if not may_write(folder):
        return [IMMUTABLE if whole else "mode=ro"]
    return ["mode=rw", IMMUTABLE] if whole else ["mode=rw"]


def may_write(folder: Path) -> bool:
    """Say whether the database of a folder may be changed; that of the installation never is."""
    return not is_bundled(folder) and os.access(folder, os.W_OK) and os.access(folder / DATABASE, os.W_OK)


def look_at(folder: Path) -> tuple[int, ...]:
    """Return what changes when somebody writes to the database, or puts another one in its place."""
    try:
        found = os.stat(f"{folder}/{DATABASE}")  # noqa: PTH116 - every search looks; Path.stat takes twice as long
    except FileNotFoundError as error:
        raise GalleryError("the gallery is no longer there", where=folder, fix="open it where it is now") from error
    return found.st_ino, found.st_mtime_ns, found.st_size, *look_at_log(folder)


def is_settled(seen: tuple[int, ...]) -> bool:
    """Say whether every change after a look at the database will show: the times of files move in steps."""
    return time.time_ns() - max(seen[1], seen[4]) > TIME_STEP


def look_at_log(folder: Path) -> tuple[int, int]:
    """Return the size of the changes that have not been folded into the database, and when the last was made."""
    try:
        found = os.stat(f"{folder}/{LOG}")  # noqa: PTH116 - as above
    except FileNotFoundError:
        return 0, 0
    return (found.st_size, found.st_mtime_ns) if found.st_size else (0, 0)


@contextmanager
def writing(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the database for one change: all of it is on the disk when the block ends, or none of it.

    An older format becomes the present one. Raises :class:`GalleryError` when it cannot be changed, its subclass
    :class:`GalleryLockedError` when others kept it too long, and OSError (ENOSPC) when the disk is full.
    """
    if not may_write(folder):
        raise GalleryError("the gallery cannot be written to", where=folder, fix="copy it to a folder of your own")
    with translated(folder), closing(connect(folder, "mode=rw")) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")
        refuse_cut(connection, folder)
        migrate(connection, folder)
        yield connection
        connection.execute(SET_NUMBER, ("revision", str(read_revision(connection) + 1)))
        connection.execute("COMMIT")


def migrate(connection: sqlite3.Connection, folder: Path) -> None:
    """Bring a database of an older format up to the present one."""
    found = check_format(connection, folder)
    for version in range(found, FORMAT):
        for statement in MIGRATIONS[version]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version + 1}")


def connect(folder: Path, mode: str) -> sqlite3.Connection:
    """Open the database in an SQLite URI mode."""
    address = f"{(folder / DATABASE).resolve().as_uri()}?{mode}"
    # A thread may use the connection that another has opened, if they take turns.
    return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


@contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Turn what SQLite says of a gallery into what a user can act on."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if leaves_no_room(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        if primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
            what = f"other processes kept the gallery locked for {BUSY_SECONDS:.0f} s"
            raise GalleryLockedError(what, where=folder, fix="do the same again when they are done") from error
        if primary_code(error) == sqlite3.SQLITE_CANTOPEN and any(look_at_log(folder)) and not may_write(folder):
            what = f"the gallery has changes in `{LOG}` that cannot be read where nothing can be written"
            raise GalleryError(what, where=folder, fix="copy it to a folder of your own") from error
        if primary_code(error) == sqlite3.SQLITE_CANTOPEN and not os.access(folder / DATABASE, os.R_OK):
            what, fix = "no permission to read the gallery", "as its owner, say `chmod u+r` of the file"
            raise GalleryError(what, where=folder / DATABASE, fix=fix) from error
        fix = f"if it is damaged, {rebuild(folder)}"
        raise GalleryError(f"the gallery cannot be used: {error}", where=folder / DATABASE, fix=fix) from error


def damaged(what: str, folder: Path) -> GalleryError:
    """Return the error of a gallery whose tables hold what no gallery does."""
    fix = f"see `obelisk gallery check {folder}`"
    return GalleryError(f"the gallery is damaged: {what}", where=folder / DATABASE, fix=fix)


def rebuild(folder: Path) -> str:
    """Say what to do about a gallery that cannot be mended."""
    return f"move the folder away and build a new one: `obelisk gallery build {folder} --data DIR`"


def primary_code(error: sqlite3.DatabaseError) -> int:
    """Return SQLite's result code without its details, 0 if the error did not come from SQLite itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def leaves_no_room(error: sqlite3.DatabaseError) -> bool:
    """Say whether an error means that the disk is full; SQLite tells so of its database, but not of its lock file."""
    code = getattr(error, "sqlite_errorcode", 0)
    return primary_code(error) == sqlite3.SQLITE_FULL or code in (
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_SHMOPEN,
    )


def read_about(folder: Path) -> About:
    """Return what a gallery says of itself; raise :class:`GalleryError` if there is none, or one we cannot read."""
    if not (folder / DATABASE).is_file():
        if folder.exists():
            raise GalleryError(f"not a gallery: `{DATABASE}` is missing", where=folder, fix=rebuild(folder))
        fix = f"build it with `obelisk gallery build {folder} --data DIR`"
        raise GalleryError("no such gallery", where=folder, fix=fix)
    with reading(folder) as connection:
        refuse_cut(connection, folder)
        return about_of(connection, folder)


def about_of(connection: sqlite3.Connection, folder: Path) -> About:
    """Return the identity that the database states, after checking its format."""
    found = check_format(connection, folder)
    rows = dict(connection.execute("SELECT key, value FROM about"))
    try:
        about = About(
            model=rows["model"],
            fingerprint=rows["fingerprint"],
            dimensions=int(rows["dimensions"]),
            complete=rows["complete"] == "1",
            format=found,
        )
        if not 0 < about.dimensions <= MAX_DIMENSIONS:
            raise ValueError(f"{about.dimensions} dimensions")
    except (KeyError, ValueError) as error:
        what = f"the gallery is damaged: its table `about` has no usable entry: {error}"
        raise GalleryError(what, where=folder / DATABASE, fix=rebuild(folder)) from error
    return about


def check_format(connection: sqlite3.Connection, folder: Path) -> int:
    """Return the format of the database; refuse the file of another program, and a format from the future."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        what = "not a gallery: the file is empty, or of another program"
        raise GalleryError(what, where=folder / DATABASE, fix=rebuild(folder))
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > FORMAT:
        what = f"gallery format {found} is newer than {FORMAT}, the newest this version reads"
        raise GalleryError(what, where=folder, fix="upgrade with `pip install -U obelisk-landmarks`")
    if found < 1:
        what = f"the gallery is damaged: it states format {found}"
        raise GalleryError(what, where=folder / DATABASE, fix=rebuild(folder))
    return found


def refuse_cut(connection: sqlite3.Connection, folder: Path) -> None:
    """Raise :class:`GalleryError` if the file ends before its last page, which SQLite would take for zeros.

    Pages that are not in the file yet are in the log, each with more bytes than its own: with those of the log, a
    whole database never has too few.
    """
    pages, size = (connection.execute(f"PRAGMA {of}").fetchone()[0] for of in ("page_count", "page_size"))
    found = look_at(folder)[2] + look_at_log(folder)[0]
    if found < pages * size:
        what = f"the gallery is damaged: of {pages * size} bytes {found} are there"
        raise GalleryError(what, where=folder / DATABASE, fix=rebuild(folder))


def read_revision(connection: sqlite3.Connection) -> int:
    """Return the number of changes that were made to a gallery: what was derived at another number is stale."""
    return read_number(connection, "revision")


def read_edited(connection: sqlite3.Connection) -> int:
    """Return the revision of the last change that did more than add new photos, 0 if there was none."""
    return read_number(connection, "edited")


def mark_edited(connection: sqlite3.Connection) -> None:
    """Note that the present change does more than add new photos."""
    connection.execute(SET_NUMBER, ("edited", str(read_revision(connection) + 1)))


def read_number(connection: sqlite3.Connection, key: str) -> int:
    """Return a number that the gallery keeps of itself, 0 if it has none."""
    row = connection.execute("SELECT CAST(value AS INTEGER) FROM about WHERE key = ?", (key,)).fetchone()
    return int(row[0]) if row else 0


def mark_complete(connection: sqlite3.Connection) -> None:
    """Note that the gallery's building was finished."""
    connection.execute("UPDATE about SET value = '1' WHERE key = 'complete'")


def photo_columns(connection: sqlite3.Connection) -> str:
    """Return the columns row, id, landmark_id, content_hash, source, path of ``photos`` for a SELECT, in any format."""
    with_path = connection.execute("PRAGMA user_version").fetchone()[0] > 1
    return "row, id, landmark_id, content_hash, source, " + ("path" if with_path else "'' AS path")
