"""Look photos and landmarks up in the tables of a gallery, by row, id, name or content.

Every function takes a connection of :func:`obelisk.gallery.database.reading` or ``writing``. None reads a whole
table unless its name says ``all`` or ``count``: what a lookup costs does not depend on the size of the gallery.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from obelisk.gallery.database import VALUES_AT_ONCE
from obelisk.gallery.landmarks import Landmark
from obelisk.gallery.schema import LANDMARK_COLUMNS, PHOTO_COLUMNS, ReferencePhoto, photo_columns


def select_photos(
    connection: sqlite3.Connection, condition: str, values: Sequence[int | str]
) -> Iterator[tuple[int, ReferencePhoto]]:
    """Yield the photos that meet an SQL condition, each with its row."""
    statement = f"SELECT {photo_columns(connection)} FROM photos WHERE {condition}"
    for row, *columns in connection.execute(statement, values):
        yield row, ReferencePhoto(**dict(zip(PHOTO_COLUMNS, columns, strict=True)))


def photos_by_row(connection: sqlite3.Connection, rows: Sequence[int]) -> dict[int, ReferencePhoto]:
    """Return row → photo for those of the rows that the gallery has."""
    found: dict[int, ReferencePhoto] = {}
    for start in range(0, len(rows), VALUES_AT_ONCE):
        part = rows[start : start + VALUES_AT_ONCE]
        found.update(select_photos(connection, f"row IN ({', '.join('?' * len(part))})", part))
    return found


def photo_with_id(connection: sqlite3.Connection, photo_id: str) -> ReferencePhoto | None:
    """Return the photo with an id, or None."""
    return next((photo for _, photo in select_photos(connection, "id = ?", [photo_id])), None)


def photo_with_content(connection: sqlite3.Connection, content_hash: str) -> ReferencePhoto | None:
    """Return the first photo whose file has these bytes, or None."""
    return next(
        (photo for _, photo in select_photos(connection, "content_hash = ? ORDER BY row", [content_hash])), None
    )


def known_photo_ids(connection: sqlite3.Connection, ids: Iterable[str]) -> list[str]:
    """Return those of the photo ids that the gallery has."""
    find = "SELECT EXISTS (SELECT 1 FROM photos WHERE id = ?)"
    return [photo_id for photo_id in ids if connection.execute(find, (photo_id,)).fetchone()[0]]


def count_reference_photos(connection: sqlite3.Connection) -> int:
    """Return the number of photos."""
    return int(connection.execute("SELECT count(*) FROM photos").fetchone()[0])


def all_landmarks(connection: sqlite3.Connection) -> dict[int, Landmark]:
    """Return every landmark, id → landmark, in the order of the ids."""
    return select_landmarks(connection, "TRUE", ())


def select_landmarks(
    connection: sqlite3.Connection, condition: str, values: Sequence[int | str]
) -> dict[int, Landmark]:
    """Return the landmarks that meet an SQL condition, id → landmark, in the order of the ids."""
    select = f"SELECT {LANDMARK_COLUMNS} FROM landmarks WHERE {condition} ORDER BY id"
    rows = connection.execute(select, values)
    return {row[0]: Landmark(id=row[0], name=row[1], latitude=row[2], longitude=row[3]) for row in rows}


def all_landmark_names(connection: sqlite3.Connection) -> dict[int, str]:
    """Return id → name for every landmark, in the order of the ids."""
    return dict(connection.execute("SELECT id, name FROM landmarks ORDER BY id").fetchall())


def landmarks_with_name(connection: sqlite3.Connection, names: Iterable[str]) -> dict[int, str]:
    """Return id → name for the landmarks that have one of the names."""
    find = "SELECT id, name FROM landmarks WHERE name = ? ORDER BY id"
    return {row[0]: row[1] for name in names for row in connection.execute(find, (name,))}


def landmarks_with_id(connection: sqlite3.Connection, landmark_id: int) -> dict[int, str]:
    """Return {id: name} for the landmark with an id, or {} if there is none."""
    return dict(connection.execute("SELECT id, name FROM landmarks WHERE id = ?", (landmark_id,)).fetchall())
