"""Photos into a gallery that is there: each once, and each told of when it is safe."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from obelisk.arrays import l2_normalize
from obelisk.embedding import Embedded, Embedder
from obelisk.errors import GalleryError, PhotoError
from obelisk.gallery import database as store
from obelisk.gallery.build_gallery import COMMIT_EVERY, batches, hash_of
from obelisk.gallery.changes import insert_references, known_ids, landmarks_with_id, named_landmarks
from obelisk.gallery.gallery import Gallery
from obelisk.gallery.landmarks import Landmark, check_id, check_name, one_of
from obelisk.gallery.models import refuse_directionless
from obelisk.gallery.references import ReferencePhoto, select_photos
from obelisk.photos import map_in_order


@dataclass(frozen=True, kw_only=True)
class Addition:
    """What became of a photo that was brought to a gallery.

    ``photo`` is the one that the gallery now has with these bytes: a ``new`` one, or one that was there.
    There is none if ``error`` says why not.
    """

    path: Path
    photo: ReferencePhoto | None = None
    new: bool = False
    error: PhotoError | None = None


def choose_landmark(gallery: Gallery, name: str, landmark_id: int | None = None) -> Landmark | int | str:
    """Return what photos show that are brought as ``name``, as :meth:`Gallery.add` takes it.

    With an id, it is the landmark with this id, a new one if the gallery has none. Raises :class:`GalleryError`
    for the name of several landmarks, for an id that belongs to another name, and for what can be neither.
    """
    check_name(name)
    check_id(landmark_id or 0)
    with store.reading(gallery.path) as connection:
        if landmark_id is None:
            one_of(name, named_landmarks(connection, [name]))
            return name
        known = landmarks_with_id(connection, landmark_id).get(landmark_id, name)
    if known != name:
        fix = "choose another id, or give that name"
        raise GalleryError(f"the id {landmark_id} is that of `{known}`, not `{name}`", where=gallery.path, fix=fix)
    return Landmark(id=landmark_id, name=name)


def add_photos(
    gallery: Gallery, paths: Iterable[Path], landmark: Landmark | int | str, *, embedder: Embedder | None = None
) -> Iterator[Addition]:
    """Add photos of one landmark, and yield what became of each, in order, once it is on the disk.

    A photo whose bytes the gallery has is not added again; if it has them as another landmark's, that is an error.
    A bad photo never stops the others. Whoever stops the iteration keeps what was yielded.
    """
    embedder = embedder or Embedder(gallery.load_bundle())
    for batch in batches(paths, COMMIT_EVERY):
        found = embed_unknown(gallery, batch, embedder)
        with gallery.changing() as connection:
            additions = [add_one(connection, photo, landmark) for photo in found]
        yield from additions


def embed_unknown(gallery: Gallery, paths: Sequence[Path], embedder: Embedder) -> list[Embedded]:
    """Embed those photos whose bytes the gallery does not have; the others come back without embedding or error."""
    digests = list(map_in_order(hash_of, paths))
    with store.reading(gallery.path) as connection:
        known = {digest for digest in digests if digest and photo_of_content(connection, digest)}
    unknown = [path for path, digest in zip(paths, digests, strict=True) if digest not in known]
    embedded = refuse_directionless(embedder.embed(unknown))
    return [
        Embedded(path=path, content_hash=digest, embedding=None) if digest in known else next(embedded)
        for path, digest in zip(paths, digests, strict=True)
    ]


def add_one(connection: sqlite3.Connection, found: Embedded, landmark: Landmark | int | str) -> Addition:
    """Add an embedded photo unless the gallery has its bytes."""
    if found.error:
        return Addition(path=found.path, error=found.error)
    there = photo_of_content(connection, found.content_hash)
    if there:
        return Addition(path=found.path, photo=there, error=refuse_other(connection, found.path, there, landmark))
    if found.embedding is None:
        error = PhotoError("the gallery had the photo and just lost it", where=found.path, fix="add it again")
        return Addition(path=found.path, error=error)
    photo = ReferencePhoto(
        id=choose_id(connection, found.path, found.content_hash),
        content_hash=found.content_hash,
        source=printable(os.path.realpath(found.path)),
    )
    rows = l2_normalize(found.embedding[np.newaxis], dimensions=len(found.embedding))
    insert_references(connection, rows, [landmark], [photo])
    return Addition(path=found.path, photo=photo_of_content(connection, found.content_hash), new=True)


def refuse_other(
    connection: sqlite3.Connection, path: Path, there: ReferencePhoto, landmark: Landmark | int | str
) -> PhotoError | None:
    """Return the error of a photo that the gallery has as one of another landmark than it is brought as."""
    shown = landmarks_with_id(connection, there.landmark_id or 0)
    wanted = landmark.id if isinstance(landmark, Landmark) else landmark
    if wanted in shown or wanted in shown.values():
        return None
    what = f"the gallery has this photo as `{there.id}` of {', '.join(f'`{name}`' for name in shown.values())}"
    return PhotoError(what, where=path, fix="remove it there first, or merge the two landmarks")


def photo_of_content(connection: sqlite3.Connection, digest: str) -> ReferencePhoto | None:
    """Return the first photo of the gallery that has these bytes."""
    found = select_photos(connection, "content_hash = ?", [digest])
    return next((photo for _, photo in found), None)


def choose_id(connection: sqlite3.Connection, path: Path, digest: str) -> str:
    """Return an id that tells the file's name, and that no photo of another content has."""
    for length in (8, len(digest)):
        chosen = f"{printable(path.stem)}-{digest[:length]}{printable(path.suffix)}"
        if not known_ids(connection, [chosen]):
            return chosen
    raise GalleryError(f"the gallery has a photo with the id `{chosen}`", fix="give the file another name")


def printable(path: Path | str) -> str:
    """Return a path as text, also one whose bytes are none."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")
