"""Look photos and landmarks up in the tables of a gallery, by row, id, name or content.

Every function takes the tables of :meth:`obelisk.gallery.truth.Truth.reading` or ``writing``. None reads a whole
table unless its name says ``all`` or ``count``: what a lookup costs does not depend on the size of the gallery.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from obelisk.arrays import Integers
from obelisk.gallery.columns import LONGEST_TEXT
from obelisk.gallery.landmarks import Landmark
from obelisk.gallery.schema import ReferencePhoto, damage_error, has_column, select_columns
from obelisk.gallery.truth import Asked, Tables

VALUES_AT_ONCE = 500  # in one SQL statement


def select_photos(
    connection: Tables, condition: str, values: Sequence[int | str]
) -> Iterator[tuple[int, ReferencePhoto]]:
    """Yield the photos that meet an SQL condition, each with its row."""
    folders = data_folders(connection)
    statement = f"SELECT {select_columns(connection, 'photos')} FROM photos WHERE {condition}"
    rows = connection.execute(statement, values) if values else connection.stream(statement)
    for row, photo_id, landmark_id, content_hash, source, path, folder_id, *credit in rows:
        refuse_other_types(connection, str, photo_id, content_hash, source, path, *credit)
        refuse_other_types(connection, int, landmark_id)
        folder = folders.get(folder_id, "")
        yield (
            row,
            ReferencePhoto(
                id=photo_id,
                landmark_id=landmark_id,
                content_hash=content_hash,
                source=source or (str(Path(folder, path)) if path else ""),
                path=path,
                folder=folder,
                author=credit[0],
                licence=credit[1],
            ),
        )


def refuse_other_types(connection: Asked, kind: type, *values: object) -> None:
    """Raise :class:`GalleryError` for values of another type than their column's, which SQLite allows; or too long."""
    for value in values:
        if not isinstance(value, kind):
            wanted = "text" if kind is str else "whole number"
            raise damage_error(f"a value of a photo, landmark or folder is no {wanted}", connection.place)
        if isinstance(value, str) and len(value) > LONGEST_TEXT:
            what = f"a text of a photo, landmark or folder has {len(value)} characters"
            raise damage_error(what, connection.place)


def data_folders(connection: Tables) -> dict[int, str]:
    """Return id → absolute path of the data folders that photos lie in.

    If a folder is gone, but lies where it lay seen from the gallery, both were moved together, and that is its path.
    """
    if not has_column(connection, "photos", "folder_id"):
        return {}
    folders = {}
    for number, path, beside in connection.execute("SELECT id, path, beside FROM folders"):
        refuse_other_types(connection, str, path, beside)
        moved = os.path.normpath(connection.folder / beside) if connection.folder else ""
        folders[number] = moved if beside and moved and not Path(path).is_dir() and Path(moved).is_dir() else path
    return folders


def photos_by_row(connection: Tables, rows: Sequence[int]) -> dict[int, ReferencePhoto]:
    """Return row → photo for those of the rows that the gallery has."""
    found: dict[int, ReferencePhoto] = {}
    for start in range(0, len(rows), VALUES_AT_ONCE):
        part = rows[start : start + VALUES_AT_ONCE]
        found.update(select_photos(connection, f"row IN ({marks(part)})", part))
    return found


def photos_with_ids(connection: Tables, ids: Sequence[str]) -> dict[str, tuple[int, ReferencePhoto]]:
    """Return id → row and photo for those of the photo ids that the gallery has."""
    found: dict[str, tuple[int, ReferencePhoto]] = {}
    for start in range(0, len(ids), VALUES_AT_ONCE):
        part = ids[start : start + VALUES_AT_ONCE]
        chosen = select_photos(connection, f"id IN ({marks(part)})", part)
        found |= {photo.id: (row, photo) for row, photo in chosen}
    return found


def photos_by_id(connection: Tables, ids: Sequence[str]) -> dict[str, ReferencePhoto]:
    """Return id → photo for those of the photo ids that the gallery has."""
    return {photo_id: photo for photo_id, (_, photo) in photos_with_ids(connection, ids).items()}


def marks(values: Sequence[object]) -> str:
    """Return a mark for each of some values of a statement."""
    return ", ".join("?" * len(values))


def photo_with_id(connection: Tables, photo_id: str) -> ReferencePhoto | None:
    """Return the photo with an id, or None."""
    return next((photo for _, photo in select_photos(connection, "id = ?", [photo_id])), None)


def photo_with_content(connection: Tables, content_hash: str) -> ReferencePhoto | None:
    """Return the first photo whose file has these bytes, or None."""
    return next(
        (photo for _, photo in select_photos(connection, "content_hash = ? ORDER BY row", [content_hash])), None
    )


def known_photo_ids(connection: Tables, ids: Iterable[str]) -> list[str]:
    """Return those of the photo ids that the gallery has."""
    asked = list(ids)
    known: set[str] = set()
    for start in range(0, len(asked), VALUES_AT_ONCE):
        part = asked[start : start + VALUES_AT_ONCE]
        known |= {found for (found,) in connection.execute(f"SELECT id FROM photos WHERE id IN ({marks(part)})", part)}
    return [photo_id for photo_id in asked if photo_id in known]


def count_landmarks(connection: Tables) -> int:
    """Return the number of landmarks."""
    return int(connection.execute("SELECT count(*) FROM landmarks").fetchone()[0])


def count_reference_photos(connection: Tables) -> int:
    """Return the number of photos."""
    return int(connection.execute("SELECT count(*) FROM photos").fetchone()[0])


def count_photos_after(connection: Tables, row: int) -> int:
    """Return the number of photos with a larger row."""
    return int(connection.execute("SELECT count(*) FROM photos WHERE row > ?", (row,)).fetchone()[0])


def last_photo_row(connection: Tables) -> int:
    """Return the largest row of a photo; 0 if there is none."""
    return int(connection.execute("SELECT coalesce(max(row), 0) FROM photos").fetchone()[0])


def landmarks_with_photos(connection: Tables) -> Integers:
    """Return the ids (C,) of the landmarks that have photos, ascending; the time grows with landmarks, not photos."""
    first = "(SELECT row FROM photos WHERE landmark_id = landmarks.id LIMIT 1)"
    found = connection.execute(f"SELECT id FROM landmarks WHERE {first} IS NOT NULL ORDER BY id")
    return np.array([landmark_id for (landmark_id,) in found], dtype=np.int64)


def landmark_ids_by_row(asked: Asked, rows: Sequence[int]) -> dict[int, int]:
    """Return row → landmark id for those of the rows that the gallery has."""
    found: dict[int, int] = {}
    for start in range(0, len(rows), VALUES_AT_ONCE):
        part = rows[start : start + VALUES_AT_ONCE]
        found |= dict(asked.execute(f"SELECT row, landmark_id FROM photos WHERE row IN ({marks(part)})", part))
    refuse_other_types(asked, int, *found.values())
    return found


def rows_by_landmark(asked: Asked, landmark_ids: Sequence[int], *, most: int, last: int) -> dict[int, list[int]]:
    """Return landmark id → the first rows of its photos, ascending: at most so many, and none above ``last``."""
    found: dict[int, list[int]] = {landmark_id: [] for landmark_id in landmark_ids}
    for start in range(0, len(landmark_ids), VALUES_AT_ONCE):
        part = landmark_ids[start : start + VALUES_AT_ONCE]
        place = "row_number() OVER (PARTITION BY landmark_id ORDER BY row) AS place"
        photos = f"SELECT landmark_id, row, {place} FROM photos WHERE landmark_id IN ({marks(part)})"
        first = f"SELECT landmark_id, row FROM ({photos}) AS photo WHERE place <= {most}"
        for landmark_id, row in asked.execute(f"{first} AND row <= {last} ORDER BY row", part):
            found[landmark_id].append(row)
    return found


def counts_and_first_rows(connection: Tables, landmark_ids: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Return landmark id → how many photos it has, and the row of the first, for the landmarks that have any."""
    found: dict[int, tuple[int, int]] = {}
    for start in range(0, len(landmark_ids), VALUES_AT_ONCE):
        part = landmark_ids[start : start + VALUES_AT_ONCE]
        select = f"SELECT landmark_id, count(*), min(row) FROM photos WHERE landmark_id IN ({marks(part)})"
        for landmark_id, count, first in connection.execute(f"{select} GROUP BY landmark_id", part):
            found[landmark_id] = count, first
    return found


def all_landmarks(connection: Tables) -> dict[int, Landmark]:
    """Return every landmark, id → landmark, in the order of the ids."""
    return select_landmarks(connection, "TRUE", ())


def select_landmarks(connection: Tables, condition: str, values: Sequence[int | str]) -> dict[int, Landmark]:
    """Return the landmarks that meet an SQL condition, id → landmark, in the order of the ids."""
    select = f"SELECT {select_columns(connection, 'landmarks')} FROM landmarks WHERE {condition} ORDER BY id"
    found: dict[int, Landmark] = {}
    for landmark_id, name, latitude, longitude, links, origins in connection.execute(select, values):
        refuse_other_types(connection, str, name)
        located = is_degrees(latitude, 90) and is_degrees(longitude, 180)
        found[landmark_id] = Landmark(
            id=landmark_id,
            name=name,
            latitude=latitude if located else None,
            longitude=longitude if located else None,
            links=parse_texts(links, connection),
            origins=parse_texts(origins, connection),
        )
    return found


def is_degrees(value: object, most: int) -> bool:
    """Return whether a value is a coordinate; former versions let any number in."""
    return isinstance(value, int | float) and abs(value) <= most


def parse_texts(column: str, connection: Tables) -> tuple[str, ...]:
    """Return the texts of a column that holds a JSON list; raise :class:`GalleryError` if it holds anything else."""
    if column == "[]":  # most of them
        return ()
    try:
        texts = json.loads(column)
    except (TypeError, ValueError, RecursionError):
        texts = None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise damage_error("a landmark's links or origins are not a list of texts", connection.place)
    return tuple(texts)


def all_landmark_names(connection: Tables) -> dict[int, str]:
    """Return id → name for every landmark, in the order of the ids."""
    return select_names(connection, "TRUE", ())


def landmarks_with_name(connection: Tables, names: Iterable[str]) -> dict[int, str]:
    """Return id → name for the landmarks that have one of the names, composed (NFC) or decomposed (NFD)."""
    found: dict[int, str] = {}
    for name in names:
        forms = (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
        found |= select_names(connection, "name IN (?, ?, ?)", forms)
    return found


def landmarks_with_id(connection: Tables, *landmark_ids: int) -> dict[int, str]:
    """Return id → name for those of the landmark ids that the gallery has."""
    found: dict[int, str] = {}
    for start in range(0, len(landmark_ids), VALUES_AT_ONCE):
        part = landmark_ids[start : start + VALUES_AT_ONCE]
        found |= select_names(connection, f"id IN ({marks(part)})", part)
    return found


def select_names(connection: Tables, condition: str, values: Sequence[int | str]) -> dict[int, str]:
    """Return id → name for the landmarks that meet an SQL condition, in the order of the ids."""
    found = dict(connection.execute(f"SELECT id, name FROM landmarks WHERE {condition} ORDER BY id", values).fetchall())
    refuse_other_types(connection, str, *found.values())
    return found
