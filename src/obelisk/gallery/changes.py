"""Changes to the tables of a gallery; each takes a connection of :func:`obelisk.gallery.database.writing`.

No change reads a whole table: what it costs depends on what it changes, not on the size of the gallery.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from obelisk.errors import GalleryError
from obelisk.gallery.database import STORED, mark_edited
from obelisk.gallery.landmarks import Landmark, check_name, resolve_landmarks
from obelisk.gallery.references import ReferencePhoto


def insert_references(
    connection: sqlite3.Connection,
    rows: NDArray[np.float32],
    landmarks: Sequence[Landmark | int | str],
    photos: Sequence[ReferencePhoto],
    *,
    replace: bool = False,
) -> list[int]:
    """Write photos with their unit embeddings (N, D) and landmarks; return their search ids.

    With ``replace``, they take the place of those with the same ids. Raises :class:`GalleryError` for an id that is
    taken, an unknown landmark id, and a name of several landmarks.
    """
    taken = known_ids(connection, (photo.id for photo in photos))
    if taken and not replace:
        fix = "remove it first, or give another id"
        raise GalleryError(f"the gallery has a photo with the id `{taken[0]}`", fix=fix)
    shown = write_landmarks(connection, landmarks)
    left = delete_photos(connection, taken)
    if taken:
        mark_edited(connection)
    new = []
    for photo, landmark_id, vector in zip(photos, shown, rows.astype(STORED), strict=True):
        columns = (photo.id, landmark_id, photo.content_hash, photo.source, photo.path)
        insert = "INSERT INTO photos (id, landmark_id, content_hash, source, path) VALUES (?, ?, ?, ?, ?)"
        row = connection.execute(insert, columns).lastrowid
        connection.execute("INSERT INTO embeddings VALUES (?, ?)", (row, vector.tobytes()))
        new.append(int(row or 0))
    delete_if_empty(connection, left)
    return new


def write_landmarks(connection: sqlite3.Connection, landmarks: Sequence[Landmark | int | str]) -> list[int]:
    """Add or update the landmarks that photos show, and return the id of each."""
    names = {landmark for landmark in landmarks if isinstance(landmark, str)}
    for name in names:
        check_name(name)
    known = named_landmarks(connection, names)
    for landmark in landmarks:
        if not isinstance(landmark, str | Landmark):
            known |= landmarks_with_id(connection, int(landmark))
    last = connection.execute("SELECT coalesce(max(id), 0) FROM landmarks").fetchone()[0]
    ids, written = resolve_landmarks(landmarks, known, last)
    for landmark in written:
        write_landmark(connection, landmark)
    return ids


def write_landmark(connection: sqlite3.Connection, landmark: Landmark) -> None:
    """Add a landmark, or update the one with its id; without a place of its own it keeps the one that is known."""
    find = "SELECT name, latitude, longitude FROM landmarks WHERE id = ?"
    known = connection.execute(find, (landmark.id,)).fetchone()
    place = (landmark.latitude, landmark.longitude)
    if known is None:
        connection.execute("INSERT INTO landmarks VALUES (?, ?, ?, ?)", (landmark.id, landmark.name, *place))
        return
    if place == (None, None):
        place = known[1:]
    if (landmark.name, *place) != known:
        update = "UPDATE landmarks SET name = ?, latitude = ?, longitude = ? WHERE id = ?"
        connection.execute(update, (landmark.name, *place, landmark.id))
        mark_edited(connection)


def remove_references(connection: sqlite3.Connection, photos: Sequence[str], landmarks: Sequence[int]) -> None:
    """Delete photos, and landmarks with all their photos; a landmark goes with its last photo.

    Raises :class:`GalleryError` for an id that is not there.
    """
    unknown = sorted(set(photos) - set(known_ids(connection, photos)))
    if unknown:
        raise GalleryError(f"the gallery has no photo with the id `{unknown[0]}`")
    for landmark_id in landmarks:
        require_landmark(connection, landmark_id)
    left = delete_photos(connection, photos)
    connection.executemany("DELETE FROM photos WHERE landmark_id = ?", [(one,) for one in landmarks])
    delete_if_empty(connection, left | set(landmarks))
    mark_edited(connection)


def rename_landmark(connection: sqlite3.Connection, landmark_id: int, name: str) -> None:
    """Give a landmark another name.

    Raises :class:`GalleryError` for an id that is not there, and a name that another landmark has or nobody could read.
    """
    check_name(name)
    require_landmark(connection, landmark_id)
    others = [known for known in named_landmarks(connection, {name}) if known != landmark_id]
    if others:
        fix = "merge the two, or choose another name"
        raise GalleryError(f"the landmark with the id {others[0]} is called `{name}` already", fix=fix)
    connection.execute("UPDATE landmarks SET name = ? WHERE id = ?", (name, landmark_id))
    mark_edited(connection)


def merge_landmarks(connection: sqlite3.Connection, landmark_ids: Iterable[int], into: int) -> None:
    """Give all photos of landmarks to one, which may be among them; the others go.

    Raises :class:`GalleryError` for an id that is not there.
    """
    merged = set(landmark_ids) - {into}
    for landmark_id in (into, *sorted(merged)):
        require_landmark(connection, landmark_id)
    connection.executemany("UPDATE photos SET landmark_id = ? WHERE landmark_id = ?", [(into, one) for one in merged])
    delete_if_empty(connection, merged)
    mark_edited(connection)


def named_landmarks(connection: sqlite3.Connection, names: Iterable[str]) -> dict[int, str]:
    """Return the landmarks that have one of the names, id → name."""
    find = "SELECT id, name FROM landmarks WHERE name = ? ORDER BY id"
    return {row[0]: row[1] for name in names for row in connection.execute(find, (name,))}


def landmarks_with_id(connection: sqlite3.Connection, landmark_id: int) -> dict[int, str]:
    """Return the landmark with an id, id → name; empty if there is none."""
    return dict(connection.execute("SELECT id, name FROM landmarks WHERE id = ?", (landmark_id,)).fetchall())


def require_landmark(connection: sqlite3.Connection, landmark_id: int) -> None:
    """Raise :class:`GalleryError` unless the gallery has a landmark with the id."""
    if not landmarks_with_id(connection, landmark_id):
        raise GalleryError(f"the gallery has no landmark with the id {landmark_id}")


def known_ids(connection: sqlite3.Connection, ids: Iterable[str]) -> list[str]:
    """Return those photo ids that the gallery has."""
    find = "SELECT EXISTS (SELECT 1 FROM photos WHERE id = ?)"
    return [photo_id for photo_id in ids if connection.execute(find, (photo_id,)).fetchone()[0]]


def delete_photos(connection: sqlite3.Connection, ids: Iterable[str]) -> set[int]:
    """Delete photos by id, and return the ids of the landmarks that lost one."""
    delete = "DELETE FROM photos WHERE id = ? RETURNING landmark_id"
    return {row[0] for photo_id in ids for row in connection.execute(delete, (photo_id,)).fetchall()}


def delete_if_empty(connection: sqlite3.Connection, landmark_ids: Iterable[int]) -> None:
    """Delete those of the landmarks that have no photo."""
    connection.executemany(
        "DELETE FROM landmarks WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM photos WHERE landmark_id = ?1)",
        [(landmark_id,) for landmark_id in landmark_ids],
    )
