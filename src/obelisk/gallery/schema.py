"""``gallery.sqlite``: its tables, its formats, and what it says about itself. See docs/gallery-format.md.

A new column of ``photos`` or ``landmarks`` is a line of :data:`TABLES`, an entry of :data:`COLUMNS` and a step of
:data:`MIGRATIONS`, all of them here: what reads and checks the tables follows.
"""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from obelisk.errors import GalleryError

FORMAT = 3
APPLICATION_ID = 0x4F42454C  # "OBEL": tells the file from other SQLite files
DATABASE = "gallery.sqlite"
LOG = f"{DATABASE}-wal"
STORED = np.dtype("<f2")  # embeddings on disk: float16, little-endian
MAX_DIMENSIONS = 1 << 16
CALIBRATED_SINCE = 3  # the first format with a table `calibration`

FOLDERS = """CREATE TABLE folders (
    id     INTEGER PRIMARY KEY,
    path   TEXT NOT NULL,
    beside TEXT NOT NULL
)"""
CALIBRATION = """CREATE TABLE calibration (
    revision INTEGER PRIMARY KEY,
    content  TEXT NOT NULL
)"""
TABLES = f"""
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
    longitude REAL,
    links     TEXT NOT NULL DEFAULT '[]',
    origins   TEXT NOT NULL DEFAULT '[]'
);
CREATE INDEX landmarks_by_name ON landmarks (name);
CREATE TABLE photos (
    row          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT NOT NULL UNIQUE,
    landmark_id  INTEGER NOT NULL REFERENCES landmarks (id),
    content_hash TEXT NOT NULL,
    source       TEXT NOT NULL,
    path         TEXT NOT NULL DEFAULT '',
    folder_id    INTEGER REFERENCES folders (id)
);
CREATE INDEX photos_by_landmark ON photos (landmark_id);
CREATE INDEX photos_by_content ON photos (content_hash);
CREATE TABLE embeddings (
    row    INTEGER PRIMARY KEY REFERENCES photos (row) ON DELETE CASCADE,
    vector BLOB NOT NULL
);
{FOLDERS};
{CALIBRATION};
"""

# Each entry turns its format into the next one. The first change that a newer version makes to a gallery runs it.
MIGRATIONS = {
    1: (
        "ALTER TABLE photos ADD COLUMN path TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX photos_by_content ON photos (content_hash)",
    ),
    2: (
        FOLDERS,
        CALIBRATION,
        "ALTER TABLE landmarks ADD COLUMN links TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE landmarks ADD COLUMN origins TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE photos ADD COLUMN folder_id INTEGER REFERENCES folders (id)",
        "INSERT INTO about VALUES ('identity', lower(hex(randomblob(16))))",
    ),
}
COLUMNS = {
    "landmarks": {"id": 1, "name": 1, "latitude": 1, "longitude": 1, "links": 3, "origins": 3},
    "photos": {"row": 1, "id": 1, "landmark_id": 1, "content_hash": 1, "source": 1, "path": 2, "folder_id": 3},
}
"""table → column → the first format that has it"""
MISSING = {"links": "'[]'", "origins": "'[]'", "path": "''", "folder_id": "NULL"}
"""column → what a gallery of a format without it is read as having there, in SQL"""

SET_ENTRY = "INSERT INTO about VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


@dataclass(frozen=True, kw_only=True)
class ReferencePhoto:
    """A labelled photo of a gallery: one row of the table ``photos``.

    ``landmark_id`` is set when a photo is read from a gallery. ``content_hash`` is that of the file's bytes.
    ``source`` says where the photo came from: the URL it was published at, or the path of its file. ``path`` is the
    path of its file in ``folder``, the absolute path of a data folder, or an absolute path if ``folder`` is empty. All
    of these may be empty for an embedding that was added without its photo.
    """

    id: str
    landmark_id: int | None = None
    content_hash: str = ""
    source: str = ""
    path: str = ""
    folder: str = ""

    @property
    def file(self) -> Path | None:
        """The photo's file when it was added, or None if unknown; it may be gone or changed since."""
        path = self.path or ("" if "://" in self.source else self.source)
        return Path(self.folder, path) if path else None


@dataclass(frozen=True, kw_only=True)
class About:
    """What a gallery says about itself: its model, and whether its first build was finished."""

    model: str
    fingerprint: str
    dimensions: int
    complete: bool
    format: int = FORMAT


def select_columns(connection: sqlite3.Connection, table: str) -> str:
    """Return the :data:`COLUMNS` of a table for a SELECT, with the :data:`MISSING` values of an older format."""
    format_number = read_format(connection)
    given = (name if since <= format_number else f"{MISSING[name]} AS {name}" for name, since in COLUMNS[table].items())
    return ", ".join(given)


def read_format(connection: sqlite3.Connection) -> int:
    """Return the format number that the database states."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check_format(connection: sqlite3.Connection, folder: Path) -> int:
    """Return the format of the database; refuse another program's file, and a format newer than ours."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        what = "not a gallery: the file is empty, or belongs to another program"
        raise GalleryError(what, where=folder / DATABASE, fix=rebuild_advice(folder))
    found = read_format(connection)
    if found > FORMAT:
        what = f"gallery format {found} is newer than {FORMAT}, the newest this version reads"
        raise GalleryError(what, where=folder, fix="install a newer version of Obelisk")
    if found < 1:
        what = f"the gallery is damaged: it states format {found}"
        raise GalleryError(what, where=folder / DATABASE, fix=rebuild_advice(folder))
    return found


def migrate(connection: sqlite3.Connection, folder: Path) -> None:
    """Bring a database of an older format up to the current one."""
    found = check_format(connection, folder)
    for version in range(found, FORMAT):
        for statement in MIGRATIONS[version]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version + 1}")


def write_about(connection: sqlite3.Connection, about: About) -> None:
    """Fill the table ``about`` of a new database."""
    entries = {
        "model": about.model,
        "fingerprint": about.fingerprint,
        "dimensions": about.dimensions,
        "complete": int(about.complete),
        "identity": secrets.token_hex(16),
    }
    connection.executemany("INSERT INTO about VALUES (?, ?)", [(key, str(value)) for key, value in entries.items()])


def about_of(connection: sqlite3.Connection, folder: Path) -> About:
    """Read the table ``about``, after checking the format; raise :class:`GalleryError` if it cannot be used."""
    found = check_format(connection, folder)
    entries = dict(connection.execute("SELECT key, value FROM about"))
    try:
        about = About(
            model=entries["model"],
            fingerprint=entries["fingerprint"],
            dimensions=int(entries["dimensions"]),
            complete=entries["complete"] == "1",
            format=found,
        )
        if not 0 < about.dimensions <= MAX_DIMENSIONS:
            raise ValueError(f"{about.dimensions} dimensions")
    except (KeyError, ValueError) as error:
        what = f"the gallery is damaged: its table `about` has no usable entry: {error}"
        raise GalleryError(what, where=folder / DATABASE, fix=rebuild_advice(folder)) from error
    return about


def read_revision(connection: sqlite3.Connection) -> int:
    """Return the number of changes made to the gallery so far; what was derived at another number is stale."""
    return read_number(connection, "revision")


def count_revision(connection: sqlite3.Connection) -> None:
    """Count the current change."""
    connection.execute(SET_ENTRY, ("revision", str(read_revision(connection) + 1)))


def read_edited(connection: sqlite3.Connection) -> int:
    """Return the revision of the last change that did more than add new photos, or 0 if there was none."""
    return read_number(connection, "edited")


def mark_edited(connection: sqlite3.Connection) -> None:
    """Note that the current change does more than add new photos."""
    connection.execute(SET_ENTRY, ("edited", str(read_revision(connection) + 1)))


def read_number(connection: sqlite3.Connection, key: str) -> int:
    """Return a number of the table ``about``, or 0 if it has no such key."""
    row = connection.execute("SELECT CAST(value AS INTEGER) FROM about WHERE key = ?", (key,)).fetchone()
    return int(row[0]) if row else 0


def read_identity(connection: sqlite3.Connection) -> str:
    """Return the random identity of the gallery, which its copies share; "" if its format has none."""
    row = connection.execute("SELECT value FROM about WHERE key = 'identity'").fetchone()
    return row[0] if row else ""


def read_own_calibration(connection: sqlite3.Connection) -> tuple[str, int] | None:
    """Return the gallery's own calibration as JSON, and the revision it was made at; None if there is none.

    It is up to date if :func:`read_revision` returns the same revision.
    """
    if read_format(connection) < CALIBRATED_SINCE:
        return None
    row = connection.execute("SELECT content, revision FROM calibration ORDER BY revision DESC LIMIT 1").fetchone()
    return (row[0], row[1]) if row else None


def keep_own_calibration(connection: sqlite3.Connection, content: str) -> None:
    """Keep a calibration as JSON, in place of the former one; its revision is that of the current change.

    Whoever measured it checks in the same transaction that the gallery's revision is still the one it was measured at.
    """
    connection.execute("DELETE FROM calibration")
    connection.execute("INSERT INTO calibration VALUES (?, ?)", (read_revision(connection) + 1, content))


def mark_complete(connection: sqlite3.Connection) -> None:
    """Note that the first build of the gallery was finished."""
    connection.execute("UPDATE about SET value = '1' WHERE key = 'complete'")


def damage_error(what: str, folder: Path) -> GalleryError:
    """Return the error for a gallery whose tables hold what no sound gallery does."""
    fix = f"see `obelisk gallery check {folder}`"
    return GalleryError(f"the gallery is damaged: {what}", where=folder / DATABASE, fix=fix)


def rebuild_advice(folder: Path) -> str:
    """Say what to do about a gallery that cannot be repaired."""
    return f"move the folder away and build a new one: `obelisk gallery build {folder} --data DIR`"
