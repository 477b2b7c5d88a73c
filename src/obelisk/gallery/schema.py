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

from obelisk.embedding import Bundle
from obelisk.errors import GalleryError
from obelisk.gallery.columns import (
    APPLICATION_ID,
    FORMAT,
    MAX_DIMENSIONS,
    MAX_ID,
    TABLES,
    create_statements,
)
from obelisk.gallery.truth import Asked, Tables

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

    @classmethod
    def of(cls, bundle: Bundle, *, complete: bool) -> About:
        """Return what a new gallery for the embeddings of a bundle says."""
        return cls(model=bundle.name, fingerprint=bundle.fingerprint, dimensions=bundle.dimensions, complete=complete)


def select_columns(connection: Tables, table: str) -> str:
    """Return all columns of a table for a SELECT, with the ``missing`` values of those that an older format lacks."""
    format_number = connection.format
    given = (
        name if column.since <= format_number else f"{column.missing} AS {name}"
        for name, column in TABLES[table].items()
    )
    return ", ".join(given)


def has_column(connection: Tables, table: str, column: str) -> bool:
    """Return whether the format of a gallery has a column."""
    return TABLES[table][column].since <= connection.format


def check_format(application_id: int, found: int, place: Path | str) -> int:
    """Return the format of a database; refuse another program's file, and a format newer than ours."""
    if application_id != APPLICATION_ID:
        raise not_ours_error(Path(place))
    if found > FORMAT:
        what = f"gallery format {found} is newer than {FORMAT}, the newest this version reads"
        raise GalleryError(what, where=place, fix="install a newer version of Obelisk")
    if found < 1:
        what = f"the gallery is damaged: it states format {found}"
        raise GalleryError(what, where=file_at(place), fix=rebuild_advice(place))
    return found


def create_tables(connection: sqlite3.Connection) -> None:
    """Make the tables of a new database."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    for statement in create_statements(FORMAT).values():
        connection.execute(statement)


def write_about(connection: Tables, about: About) -> None:
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


def about_of(connection: Tables) -> About:
    """Read the table ``about``; raise :class:`GalleryError` if the gallery cannot be used."""
    connection.refuse_foreign()
    entries = dict(connection.execute("SELECT key, value FROM about").fetchall())
    return parse_about(entries, connection.format, connection.place)


def parse_about(entries: Mapping[str, object], format_number: int, place: Path | str) -> About:
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
        raise GalleryError(what, where=file_at(place), fix=rebuild_advice(place)) from error
    return about


def read_revision(connection: Tables) -> int:
    """Return the number of changes made to the gallery so far; what was derived at another number is stale."""
    return read_number(connection, "revision")


def sign_change(connection: Tables) -> None:
    """Count the current change, and give the state that it leads to a random name, beside that of the state before.

    By these names :mod:`obelisk.gallery.first_look` knows whether a log continues the database that it lies beside.
    """
    connection.execute(SET_ENTRY, ("revision", str(read_revision(connection) + 1)))
    before = connection.execute("SELECT value FROM about WHERE key = 'state'").fetchone()
    connection.execute(SET_ENTRY, ("state_before", before[0] if before else ""))
    connection.execute(SET_ENTRY, ("state", secrets.token_hex(16)))


def read_edited(connection: Asked) -> int:
    """Return the revision of the last change that did more than add new photos, or 0 if there was none."""
    return read_number(connection, "edited")


def mark_edited(connection: Tables) -> None:
    """Note that the current change does more than add new photos."""
    connection.execute(SET_ENTRY, ("edited", str(read_revision(connection) + 1)))


def read_number(connection: Asked, key: str) -> int:
    """Return a number of the table ``about``, or 0 if it has no such key, or no usable number there."""
    value = read_entry(connection, key)
    usable = value.isascii() and value.isdigit() and len(value) <= len(str(MAX_ID)) and int(value) <= MAX_ID
    return int(value) if usable else 0


def read_identity(connection: Tables) -> str:
    """Return the random identity of the gallery, which its copies share; "" if its format has none."""
    return read_entry(connection, "identity")


def read_state_name(connection: Tables) -> str:
    """Return the random name that the last change gave to the gallery's state; "" if its format has none."""
    return read_entry(connection, "state")


def read_engine(connection: Tables) -> str:
    """Return what proposes the gallery's candidates: ``own``, ``pgvector``, or Milvus and the last row it covers."""
    return read_entry(connection, "engine") or "own"


def write_engine(connection: Tables, setting: str) -> None:
    """Note what proposes the gallery's candidates."""
    connection.execute(SET_ENTRY, ("engine", setting))


def read_entry(connection: Asked, key: str) -> str:
    """Return a text of the table ``about``, or "" if it has no such key."""
    row = next(iter(connection.execute("SELECT value FROM about WHERE key = ?", (key,))), None)
    return str(row[0]) if row else ""


def read_own_calibration(connection: Tables) -> tuple[str, int] | None:
    """Return the gallery's own calibration as JSON, and the revision it was made at; None if there is none.

    It is up to date if :func:`read_revision` returns the same revision.
    """
    if not has_column(connection, "calibration", "content"):
        return None
    row = connection.execute("SELECT content, revision FROM calibration ORDER BY revision DESC LIMIT 1").fetchone()
    return (row[0], row[1]) if row else None


def keep_own_calibration(connection: Tables, content: str) -> None:
    """Keep a calibration as JSON, in place of the former one; its revision is that of the current change.

    Whoever measured it checks in the same transaction that the gallery's revision is still the one it was measured at.
    """
    connection.execute("DELETE FROM calibration")
    connection.execute("INSERT INTO calibration VALUES (?, ?)", (read_revision(connection) + 1, content))


def mark_complete(connection: Tables) -> None:
    """Note that the first build of the gallery was finished."""
    connection.execute("UPDATE about SET value = '1' WHERE key = 'complete'")


def damage_error(what: str, place: Path | str) -> GalleryError:
    """Return the error for a gallery whose tables hold what no sound gallery does."""
    fix = f"see `obelisk gallery check {place}`"
    return GalleryError(f"the gallery is damaged: {what}", where=file_at(place), fix=fix)


def not_ours_error(folder: Path) -> GalleryError:
    """Return the error for a file that is no gallery's."""
    what = "not a gallery: the file is empty, or belongs to another program"
    return GalleryError(what, where=folder / DATABASE, fix=rebuild_advice(folder))


def rebuild_advice(place: Path | str) -> str:
    """Say what to do about a gallery that cannot be repaired."""
    if isinstance(place, Path):
        return f"move the folder away and build a new one: `obelisk gallery build {place} --data DIR`"
    return f"put back a backup of the database, or build a gallery in another one; {place} stays as it is"


def file_at(place: Path | str) -> Path | str:
    """Return the file of a gallery's folder, or the address of its database."""
    return place / DATABASE if isinstance(place, Path) else place
