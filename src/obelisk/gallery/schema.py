"""``gallery.sqlite``: its tables, its formats, and what it says about itself. See docs/gallery-format.md.

A new column of ``photos`` is a field of :class:`ReferencePhoto`, a line of :data:`TABLES`, an entry of :data:`SINCE`
and a step of :data:`MIGRATIONS`, all of them here: what reads, writes and checks photos follows.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from obelisk.errors import GalleryError

FORMAT = 2
APPLICATION_ID = 0x4F42454C  # "OBEL": tells the file from other SQLite files
DATABASE = "gallery.sqlite"
LOG = f"{DATABASE}-wal"
STORED = np.dtype("<f2")  # embeddings on disk: float16, little-endian
MAX_DIMENSIONS = 1 << 16

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

# Each entry turns its format into the next one. The first change that a newer version makes to a gallery runs it.
MIGRATIONS = {
    1: (
        "ALTER TABLE photos ADD COLUMN path TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX photos_by_content ON photos (content_hash)",
    ),
}
SINCE = {"path": 2}
"""column of ``photos`` → the first format that has it; the others were there from the start"""

LANDMARK_COLUMNS = "id, name, latitude, longitude"
SET_NUMBER = "INSERT INTO about VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


@dataclass(frozen=True, kw_only=True)
class ReferencePhoto:
    """A labelled photo of a gallery: one row of the table ``photos``.

    ``landmark_id`` is set when a photo is read from a gallery. ``content_hash`` is that of the file's bytes.
    ``source`` says where the photo came from: the URL it was published at, or the path of its file; if it is a URL,
    ``path`` may hold the path. All three may be empty for an embedding that was added without its photo.
    """

    id: str
    landmark_id: int | None = None
    content_hash: str = ""
    source: str = ""
    path: str = ""

    @property
    def file(self) -> Path | None:
        """The photo's file when it was added, or None if unknown; it may be gone or changed since."""
        path = self.path or ("" if "://" in self.source else self.source)
        return Path(path) if path else None


PHOTO_COLUMNS = tuple(field.name for field in fields(ReferencePhoto))
INSERT_PHOTO = f"INSERT INTO photos ({', '.join(PHOTO_COLUMNS)}) VALUES ({', '.join('?' * len(PHOTO_COLUMNS))})"


@dataclass(frozen=True, kw_only=True)
class About:
    """What a gallery says about itself: its model, and whether its first build was finished."""

    model: str
    fingerprint: str
    dimensions: int
    complete: bool
    format: int = FORMAT


def photo_columns(connection: sqlite3.Connection) -> str:
    """Return ``row`` and :data:`PHOTO_COLUMNS` for a SELECT; columns that an older format lacks are empty texts."""
    format_number = read_format(connection)
    given = (name if SINCE.get(name, 1) <= format_number else f"'' AS {name}" for name in PHOTO_COLUMNS)
    return ", ".join(("row", *given))


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
    connection.execute(SET_NUMBER, ("revision", str(read_revision(connection) + 1)))


def read_edited(connection: sqlite3.Connection) -> int:
    """Return the revision of the last change that did more than add new photos, or 0 if there was none."""
    return read_number(connection, "edited")


def mark_edited(connection: sqlite3.Connection) -> None:
    """Note that the current change does more than add new photos."""
    connection.execute(SET_NUMBER, ("edited", str(read_revision(connection) + 1)))


def read_number(connection: sqlite3.Connection, key: str) -> int:
    """Return a number of the table ``about``, or 0 if it has no such key."""
    row = connection.execute("SELECT CAST(value AS INTEGER) FROM about WHERE key = ?", (key,)).fetchone()
    return int(row[0]) if row else 0


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
