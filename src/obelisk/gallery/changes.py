"""Change the tables of a gallery: insert, remove, rename, merge.

Each function takes the tables of :meth:`obelisk.gallery.truth.Truth.writing`. None reads a whole table: the cost of a
change depends on what it changes, not on the size of the gallery.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from obelisk.errors import GalleryError
from obelisk.gallery.landmarks import Landmark, check_name, compared, merge_facts, resolve_landmarks
from obelisk.gallery.lookup import (
    data_folders,
    known_photo_ids,
    landmarks_with_id,
    landmarks_with_name,
    select_landmarks,
)
from obelisk.gallery.schema import STORED, ReferencePhoto, mark_edited
from obelisk.gallery.truth import Tables

LANDMARK_OF_ROW = "SELECT landmark_id FROM photos WHERE row = ?"
ABOUT_FILE = "source, path, folder_id, author, licence"


def insert_references(
    connection: Tables,
    embeddings: NDArray[np.floating],
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
    inserted = [
        (photo.id, landmark_id, photo.content_hash, *columns)
        for photo, landmark_id, columns in zip(photos, landmark_ids, file_columns(connection, photos), strict=True)
    ]
    rows = connection.insert_references(inserted, embeddings.astype(STORED))
    delete_if_empty(connection, emptied)
    return rows


def update_photo_files(connection: Tables, photos: Iterable[ReferencePhoto]) -> None:
    """Set source, file and credit of photos that the gallery has, by their ids; nothing else of them changes."""
    update = f"UPDATE photos SET ({ABOUT_FILE}) = (?, ?, ?, ?, ?) WHERE id = ?"
    photos = list(photos)
    columns = file_columns(connection, photos)
    connection.executemany(update, [(*given, photo.id) for given, photo in zip(columns, photos, strict=True)])
    unused = "SELECT 1 FROM photos WHERE folder_id = folders.id"
    connection.execute(f"DELETE FROM folders WHERE NOT EXISTS ({unused})")


def move_photos(connection: Tables, moves: Sequence[tuple[int, ReferencePhoto]], landmark_ids: Sequence[int]) -> None:
    """Give photos, by their rows, the ids and files of other records, and other landmarks; their embeddings stay.

    A photo that has one of these ids and does not move itself is deleted; a landmark goes with its last photo.
    """
    if not moves:
        return
    rows = [(row,) for row, _ in moves]
    left = {found[0] for row in rows for found in connection.execute(LANDMARK_OF_ROW, row)}
    # Two photos may have changed places, so first their ids are set aside.
    aside = [(f"row {row} {secrets.token_hex(8)}", row) for row, _ in moves]
    connection.executemany("UPDATE photos SET id = ? WHERE row = ?", aside)
    left |= delete_photos(connection, [record.id for _, record in moves])
    update = f"UPDATE photos SET (id, landmark_id, {ABOUT_FILE}) = (?, ?, ?, ?, ?, ?, ?) WHERE row = ?"
    columns = file_columns(connection, [record for _, record in moves])
    for (row, record), landmark_id, given in zip(moves, landmark_ids, columns, strict=True):
        connection.execute(update, (record.id, landmark_id, *given, row))
    delete_if_empty(connection, left | set(landmark_ids))
    mark_edited(connection)


def file_columns(connection: Tables, photos: Sequence[ReferencePhoto]) -> list[tuple[str, str, int | None, str, str]]:
    """Return what :data:`ABOUT_FILE` names of photos; a source that its folder and path tell is not kept twice."""
    folders = sorted({photo.folder for photo in photos if photo.folder and photo.path})
    numbers = {folder: keep_folder(connection, folder) for folder in folders}
    columns = []
    for photo in photos:
        number = numbers.get(photo.folder) if photo.path else None
        source = "" if number is not None and photo.source == str(photo.file) else photo.source
        columns.append((source, photo.path, number, photo.author, photo.licence))
    return columns


def keep_folder(connection: Tables, path: str) -> int:
    """Return the id of a data folder; note it if it is new, and where it lies now if it moved with the gallery."""
    place = place_of_folder(connection, path)
    if found := connection.execute("SELECT id FROM folders WHERE (path, beside) = (?, ?)", place).fetchone():
        return int(found[0])
    for number, known in data_folders(connection).items():
        if known == path:
            connection.execute("UPDATE folders SET path = ?, beside = ? WHERE id = ?", (*place, number))
            return number
    return int(connection.execute("INSERT INTO folders (path, beside) VALUES (?, ?) RETURNING id", place).fetchone()[0])


def place_of_folder(connection: Tables, path: str) -> tuple[str, str]:
    """Return the two paths that are noted of a data folder: the absolute one, and that from the gallery."""
    if connection.folder is None:
        return path, ""
    try:
        return path, os.path.relpath(path, connection.folder)
    except ValueError:  # another drive of Windows
        return path, ""


def is_folder_noted(connection: Tables, path: str) -> bool:
    """Return whether a data folder is noted as lying where it lies now."""
    find = "SELECT EXISTS (SELECT 1 FROM folders WHERE (path, beside) = (?, ?))"
    return bool(connection.execute(find, place_of_folder(connection, path)).fetchone()[0])


def upsert_landmarks(connection: Tables, landmarks: Sequence[Landmark | int | str]) -> list[int]:
    """Insert or update the landmarks of some photos; return the landmark id of each photo."""
    names = {landmark for landmark in landmarks if isinstance(landmark, str)}
    for name in names:
        check_name(name)
    known = landmarks_with_name(connection, names)
    known |= landmarks_with_id(connection, *{int(one) for one in landmarks if not isinstance(one, str | Landmark)})
    last = connection.execute("SELECT coalesce(max(id), 0) FROM landmarks").fetchone()[0]
    ids, written = resolve_landmarks(landmarks, known, last)
    for landmark in written:
        upsert_landmark(connection, landmark)
    return ids


def upsert_landmark(connection: Tables, landmark: Landmark) -> None:
    """Insert a landmark, or update the one with its id; what is known of it is kept where it brings nothing else."""
    known = select_landmarks(connection, "id = ?", (landmark.id,)).get(landmark.id)
    if known:
        if compared(landmark.name) == compared(known.name):
            landmark = replace(landmark, name=known.name)
        landmark = merge_facts(landmark, known)
    if landmark != known:
        write_landmarks(connection, landmark)
    if known and landmark != known:
        mark_edited(connection)


def write_landmarks(connection: Tables, *landmarks: Landmark) -> None:
    """Write all columns of landmarks, whether they are new or not."""
    connection.executemany(
        "INSERT INTO landmarks VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name,"
        " latitude = excluded.latitude, longitude = excluded.longitude, links = excluded.links,"
        " origins = excluded.origins",
        [landmark_columns(landmark) for landmark in landmarks],
    )


def landmark_columns(landmark: Landmark) -> tuple[object, ...]:
    """Return the columns of a landmark."""
    lists = [json.dumps(texts, ensure_ascii=False) for texts in (landmark.links, landmark.origins)]
    return landmark.id, landmark.name, landmark.latitude, landmark.longitude, *lists


def remove_references(connection: Tables, photos: Sequence[str], landmarks: Sequence[int]) -> None:
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


def rename_landmark(connection: Tables, landmark_id: int, name: str) -> None:
    """Rename a landmark; the name that data knows it by becomes its origin.

    Raises :class:`GalleryError` for an unknown id, an unreadable name, and a name that another landmark has.
    """
    check_name(name)
    landmark = require_landmark(connection, landmark_id)
    others = [known for known in landmarks_with_name(connection, {name}) if known != landmark_id]
    if others:
        fix = "merge the two, or choose another name"
        raise GalleryError(f"the landmark with the id {others[0]} is called `{name}` already", fix=fix)
    origins = landmark.data_names
    write_landmarks(connection, replace(landmark, name=name, origins=() if origins == (name,) else origins))
    mark_edited(connection)


def merge_landmarks(connection: Tables, landmark_ids: Iterable[int], into: int) -> None:
    """Move all photos of some landmarks to the one called ``into``, and delete the others.

    The names that data knows the others by become its origins, too. Raises :class:`GalleryError` for an unknown id.
    """
    merged = sorted(set(landmark_ids) - {into})
    landmarks = [require_landmark(connection, landmark_id) for landmark_id in (into, *merged)]
    if merged:
        origins = tuple(name for landmark in landmarks for name in landmark.data_names)
        write_landmarks(connection, replace(landmarks[0], origins=origins))
    connection.executemany("UPDATE photos SET landmark_id = ? WHERE landmark_id = ?", [(into, one) for one in merged])
    delete_if_empty(connection, merged)
    mark_edited(connection)


def require_landmark(connection: Tables, landmark_id: int) -> Landmark:
    """Return the landmark with an id; raise :class:`GalleryError` if the gallery has none."""
    found = select_landmarks(connection, "id = ?", (landmark_id,))
    if not found:
        raise GalleryError(f"the gallery has no landmark with the id {landmark_id}")
    return found[landmark_id]


def delete_photos(connection: Tables, ids: Iterable[str]) -> set[int]:
    """Delete photos by id; return the ids of the landmarks that lost one."""
    delete = "DELETE FROM photos WHERE id = ? RETURNING landmark_id"
    return {row[0] for photo_id in ids for row in connection.execute(delete, (photo_id,)).fetchall()}


def delete_if_empty(connection: Tables, landmark_ids: Iterable[int]) -> None:
    """Delete those of the landmarks that have no photo left."""
    connection.executemany(
        "DELETE FROM landmarks WHERE id = ? AND NOT EXISTS (SELECT 1 FROM photos WHERE landmark_id = ?)",
        [(landmark_id, landmark_id) for landmark_id in landmark_ids],
    )
