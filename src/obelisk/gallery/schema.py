"""``gallery.sqlite``: what a gallery says about itself, and the records of its photos. See docs/gallery-format.md.

Its tables and their formats are in :mod:`obelisk.gallery.columns`.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from obelisk.errors import GalleryError
from obelisk.gallery.columns import (
    APPLICATION_ID,
    FORMAT,
    MAX_DIMENSIONS,
    MAX_ID,
    TABLES,
    create_statements,
    migration_statements,
)

DATABASE = "gallery.sqlite"
STORED = np.dtype("<f2")  # embeddings on disk: float16, little-endian

SET_ENTRY = "INSERT INTO about VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


@dataclass(frozen=True, kw_only=True)
class ReferencePhoto:
    """A labelled photo of a gallery: one row of the table ``photos``.

    ``landmark_id`` is set when a photo is read from a gallery. ``content_hash`` is that of the file's bytes.
    ``source`` says where the photo came from: the URL it was published at, or the path of its file. ``path`` is the
    path of its file in ``folder``, the absolute path of a data folder, or an absolute path if ``folder`` is empty. All
    of these may be empty for an embedding that was added without its photo. ``author`` and ``licence`` say who made the
    photo, and under which terms it may be shown; empty if the data doesn't say.
    """

    id: str
    landmark_id: int | None = None
    content_hash: str = ""
    source: str = ""
    path: str = ""
    folder: str = ""
    author: str = ""
    licence: str = ""

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
    """Return all columns of a table for a SELECT, with the ``missing`` values of those that an older format lacks."""
    format_number = read_format(connection)
    given = (
        name if column.since <= format_number else f"{column.missing} AS {name}"
        for name, column in TABLES[table].items()
    )
    return ", ".join(given)


def has_column(connection: sqlite3.Connection, table: str, column: str) -> bool:
    """Return whether the format of a gallery has a column."""
    return TABLES[table][column].since <= read_format(connection)


def read_format(connection: sqlite3.Connection) -> int:
    """Return the format number that the database states."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check_format(application_id: int, found: int, folder: Path) -> int:
    """Return the format of a database; refuse another program's file, and a format newer than ours."""
    if application_id != APPLICATION_ID:
        raise not_ours_error(folder)
    if found > FORMAT:
        what = f"gallery format {found} is newer than {FORMAT}, the newest this version reads"
        raise GalleryError(what, where=folder, fix="install a newer version of Obelisk")
    if found < 1:
        what = f"the gallery is damaged: it states format {found}"
        raise GalleryError(what, where=folder / DATABASE, fix=rebuild_advice(folder))
    return found


def create_tables(connection: sqlite3.Connection) -> None:
    """Make the tables of a new database."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    for statement in create_statements(FORMAT).values():
        connection.execute(statement)


def migrate(connection: sqlite3.Connection, folder: Path) -> None:
    """Bring a database of an older format up to the current one."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    for version in range(check_format(application_id, read_format(connection), folder), FORMAT):
        for statement in migration_statements(version):
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
        "state": secrets.token_hex(16),
    }
    connection.executemany("INSERT INTO about VALUES (?, ?)", [(key, str(value)) for key, value in entries.items()])


def about_of(connection: sqlite3.Connection, folder: Path) -> About:
    """Read the table ``about``; raise :class:`GalleryError` if the gallery cannot be used."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    found = check_format(application_id, read_format(connection), folder)
    return parse_about(dict(connection.execute("SELECT key, value FROM about")), found, folder)


def parse_about(entries: Mapping[str, object], format_number: int, folder: Path) -> About:
    """Return what the entries of ``about`` say; raise :class:`GalleryError` if they say nothing usable."""
    try:
        texts = {key: value for key, value in entries.items() if isinstance(value, str)}
        about = About(
            model=texts["model"],
            fingerprint=texts["fingerprint"],
            dimensions=int(texts["dimensions"]),
            complete=texts["complete"] == "1",
            format=format_number,
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


def sign_change(connection: sqlite3.Connection) -> None:
    """Count the current change, and give the state that it leads to a random name, beside that of the state before.

    By these names :mod:`obelisk.gallery.first_look` knows whether a log continues the database that it lies beside.
    """
    connection.execute(SET_ENTRY, ("revision", str(read_revision(connection) + 1)))
    before = connection.execute("SELECT value FROM about WHERE key = 'state'").fetchone()
    connection.execute(SET_ENTRY, ("state_before", before[0] if before else ""))
    connection.execute(SET_ENTRY, ("state", secrets.token_hex(16)))


def read_edited(connection: sqlite3.Connection) -> int:
    """Return the revision of the last change that did more than add new photos, or 0 if there was none."""
    return read_number(connection, "edited")


def mark_edited(connection: sqlite3.Connection) -> None:
    """Note that the current change does more than add new photos."""
    connection.execute(SET_ENTRY, ("edited", str(read_revision(connection) + 1)))


def read_number(connection: sqlite3.Connection, key: str) -> int:
    """Return a number of the table ``about``, or 0 if it has no such key, or no usable number there."""
    row = connection.execute("SELECT CAST(value AS INTEGER) FROM about WHERE key = ?", (key,)).fetchone()
    return int(row[0]) if row and 0 <= row[0] <= MAX_ID else 0


def read_identity(connection: sqlite3.Connection) -> str:
    """Return the random identity of the gallery, which its copies share; "" if its format has none."""
    return read_entry(connection, "identity")


def read_state_name(connection: sqlite3.Connection) -> str:
    """Return the random name that the last change gave to the gallery's state; "" if its format has none."""
    return read_entry(connection, "state")


def read_entry(connection: sqlite3.Connection, key: str) -> str:
    """Return a text of the table ``about``, or "" if it has no such key."""
    row = connection.execute("SELECT value FROM about WHERE key = ?", (key,)).fetchone()
    return str(row[0]) if row else ""


def read_own_calibration(connection: sqlite3.Connection) -> tuple[str, int] | None:
    """Return the gallery's own calibration as JSON, and the revision it was made at; None if there is none.

    It is up to date if :func:`read_revision` returns the same revision.
    """
    if not has_column(connection, "calibration", "content"):
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


def not_ours_error(folder: Path) -> GalleryError:
    """Return the error for a file that is no gallery's."""
    what = "not a gallery: the file is empty, or belongs to another program"
    return GalleryError(what, where=folder / DATABASE, fix=rebuild_advice(folder))


def rebuild_advice(folder: Path) -> str:
    """Say what to do about a gallery that cannot be repaired."""
    return f"move the folder away and build a new one: `obelisk gallery build {folder} --data DIR`"
