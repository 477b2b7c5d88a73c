"""Change the tables of a gallery: insert, remove, rename, merge.

Each function takes a connection of :func:`obelisk.gallery.database.writing`. None reads a whole table: the cost of a
change depends on what it changes, not on the size of the gallery.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from obelisk.arrays import Embeddings
from obelisk.errors import GalleryError
from obelisk.gallery.landmarks import Landmark, check_name, resolve_landmarks
from obelisk.gallery.lookup import known_photo_ids, landmarks_with_id, landmarks_with_name, select_landmarks
from obelisk.gallery.schema import INSERT_PHOTO, LANDMARK_COLUMNS, STORED, ReferencePhoto, mark_edited


def insert_references(
    connection: sqlite3.Connection,
    embeddings: Embeddings,
    landmarks: Sequence[Landmark | int | str],
    photos: Sequence[ReferencePhoto],
    *,
    replace: bool = False,
) -> list[int]:
    """Insert photos with their unit-norm embeddings (N, D) and landmarks; return their N search ids.

    With ``replace``, they take the place of photos with the same ids. Raises :class:`GalleryError` for an id that is
    taken, an unknown landmark id, and a name that several landmarks have.
    """
    taken = known_photo_ids(connection, (photo.id for photo in photos))
    if taken and not replace:
        fix = "remove it first, or give another id"
        raise GalleryError(f"the gallery has a photo with the id `{taken[0]}`", fix=fix)
    landmark_ids = upsert_landmarks(connection, landmarks)
    emptied = delete_photos(connection, taken)
    if taken:
        mark_edited(connection)
    rows = []
    for photo, landmark_id, vector in zip(photos, landmark_ids, embeddings.astype(STORED), strict=True):
        columns = {**vars(photo), "landmark_id": landmark_id}  # in the order of PHOTO_COLUMNS
        row = connection.execute(INSERT_PHOTO, tuple(columns.values())).lastrowid
        connection.execute("INSERT INTO embeddings VALUES (?, ?)", (row, vector.tobytes()))
        rows.append(int(row or 0))
    delete_if_empty(connection, emptied)
    return rows


def upsert_landmarks(connection: sqlite3.Connection, landmarks: Sequence[Landmark | int | str]) -> list[int]:
    """Insert or update the landmarks of some photos; return the landmark id of each photo."""
    names = {landmark for landmark in landmarks if isinstance(landmark, str)}
    for name in names:
        check_name(name)
    known = landmarks_with_name(connection, names)
    for landmark in landmarks:
        if not isinstance(landmark, str | Landmark):
            known |= landmarks_with_id(connection, int(landmark))
    last = connection.execute("SELECT coalesce(max(id), 0) FROM landmarks").fetchone()[0]
    ids, written = resolve_landmarks(landmarks, known, last)
    for landmark in written:
        upsert_landmark(connection, landmark)
    return ids


def upsert_landmark(connection: sqlite3.Connection, landmark: Landmark) -> None:
    """Insert a landmark, or update the one with its id; coordinates that are known are kept if it brings none."""
    known = select_landmarks(connection, "id = ?", (landmark.id,)).get(landmark.id)
    coordinates = (landmark.latitude, landmark.longitude)
    if known is None:
        values = (landmark.id, landmark.name, *coordinates)
        connection.execute(f"INSERT INTO landmarks ({LANDMARK_COLUMNS}) VALUES (?, ?, ?, ?)", values)
        return
    if coordinates == (None, None):
        coordinates = (known.latitude, known.longitude)
    if (landmark.name, *coordinates) != (known.name, known.latitude, known.longitude):
        update = "UPDATE landmarks SET name = ?, latitude = ?, longitude = ? WHERE id = ?"
        connection.execute(update, (landmark.name, *coordinates, landmark.id))
        mark_edited(connection)


def remove_references(connection: sqlite3.Connection, photos: Sequence[str], landmarks: Sequence[int]) -> None:
    """Delete photos by id, and landmarks by id with all their photos; a landmark goes with its last photo.

    Raises :class:`GalleryError` for an unknown id.
    """
    unknown = sorted(set(photos) - set(known_photo_ids(connection, photos)))
    if unknown:
        raise GalleryError(f"the gallery has no photo with the id `{unknown[0]}`")
    for landmark_id in landmarks:
        require_landmark(connection, landmark_id)
    emptied = delete_photos(connection, photos)
    connection.executemany("DELETE FROM photos WHERE landmark_id = ?", [(one,) for one in landmarks])
    delete_if_empty(connection, emptied | set(landmarks))
    mark_edited(connection)


def rename_landmark(connection: sqlite3.Connection, landmark_id: int, name: str) -> None:
    """Rename a landmark.

    Raises :class:`GalleryError` for an unknown id, an unreadable name, and a name that another landmark has.
    """
    check_name(name)
    require_landmark(connection, landmark_id)
    others = [known for known in landmarks_with_name(connection, {name}) if known != landmark_id]
    if others:
        fix = "merge the two, or choose another name"
        raise GalleryError(f"the landmark with the id {others[0]} is called `{name}` already", fix=fix)
    connection.execute("UPDATE landmarks SET name = ? WHERE id = ?", (name, landmark_id))
    mark_edited(connection)


def merge_landmarks(connection: sqlite3.Connection, landmark_ids: Iterable[int], into: int) -> None:
    """Move all photos of some landmarks to the one called ``into``, and delete the others.

    Raises :class:`GalleryError` for an unknown id.
    """
    merged = set(landmark_ids) - {into}
    for landmark_id in (into, *sorted(merged)):
        require_landmark(connection, landmark_id)
    connection.executemany("UPDATE photos SET landmark_id = ? WHERE landmark_id = ?", [(into, one) for one in merged])
    delete_if_empty(connection, merged)
    mark_edited(connection)


def require_landmark(connection: sqlite3.Connection, landmark_id: int) -> None:
    """Raise :class:`GalleryError` unless the gallery has a landmark with the id."""
    if not landmarks_with_id(connection, landmark_id):
        raise GalleryError(f"the gallery has no landmark with the id {landmark_id}")


def delete_photos(connection: sqlite3.Connection, ids: Iterable[str]) -> set[int]:
    """Delete photos by id; return the ids of the landmarks that lost one."""
    delete = "DELETE FROM photos WHERE id = ? RETURNING landmark_id"
    return {row[0] for photo_id in ids for row in connection.execute(delete, (photo_id,)).fetchall()}


def delete_if_empty(connection: sqlite3.Connection, landmark_ids: Iterable[int]) -> None:
    """Delete those of the landmarks that have no photo left."""
    connection.executemany(
        "DELETE FROM landmarks WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM photos WHERE landmark_id = ?1)",
        [(landmark_id,) for landmark_id in landmark_ids],
    )
