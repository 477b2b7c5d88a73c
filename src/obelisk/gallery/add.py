"""Add photos to an existing gallery: each once, and each reported once it is on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from obelisk.arrays import l2_normalize
from obelisk.embedding import Embedded, Embedder, keeping_references
from obelisk.errors import GalleryError, PhotoError
from obelisk.gallery.build_gallery import hash_file
from obelisk.gallery.changes import insert_references, require_landmark, upsert_landmarks
from obelisk.gallery.follow_plan import COMMIT_EVERY, batches
from obelisk.gallery.gallery import Gallery
from obelisk.gallery.landmarks import Landmark, check_id, check_name, compared, one_of
from obelisk.gallery.locate import locate_landmarks
from obelisk.gallery.lookup import known_photo_ids, landmarks_with_id, landmarks_with_name, photo_with_content
from obelisk.gallery.models import refuse_directionless
from obelisk.gallery.reference_files import printable
from obelisk.gallery.schema import ReferencePhoto
from obelisk.gallery.truth import Tables
from obelisk.photos import GivenPhoto, map_in_order
from obelisk.positions import Position


@dataclass(frozen=True, kw_only=True)
class Addition:
    """The outcome for one photo that was to be added.

    ``photo`` is the gallery's photo with these bytes: a ``new`` one, or one that it had already. It is None only if
    ``error`` says why.
    """

    path: Path
    photo: ReferencePhoto | None = None
    new: bool = False
    error: PhotoError | None = None


def target_landmark(gallery: Gallery, name: str, landmark_id: int | None = None) -> Landmark | int | str:
    """Choose the landmark that new photos show, in the form that :meth:`Gallery.add` takes.

    Without ``landmark_id`` it is the landmark called ``name``, a new one if none has the name. With it, it is the
    landmark with this id, a new one if the gallery has none. Raises :class:`GalleryError` for a name that several
    landmarks have, an id that belongs to another name, and a name or id that is not allowed.
    """
    check_name(name)
    check_id(landmark_id or 0)
    with gallery.truth.reading() as connection:
        if landmark_id is None:
            one_of(name, landmarks_with_name(connection, [name]))
            return name
        known = landmarks_with_id(connection, landmark_id).get(landmark_id, name)
    if compared(known) != compared(name):
        fix = "choose another id, or give that name"
        raise GalleryError(f"the id {landmark_id} is that of `{known}`, not `{name}`", where=gallery.name, fix=fix)
    return Landmark(id=landmark_id, name=known)


def add_photos(
    gallery: Gallery,
    paths: Iterable[Path],
    landmark: Landmark | int | str,
    *,
    position: Position | None = None,
    embedder: Embedder | None = None,
) -> Iterator[Addition]:
    """Add photos of one landmark; yield the outcome of each, in order, once it is on the disk.

    The landmark gets the ``position``, or failing that, if it has none, the median of where new photos were taken.

    A photo whose bytes the gallery has is not added again; if the gallery has it under another landmark, its outcome
    is an error. A bad photo never stops the others. If the caller stops iterating, what was yielded stays.
    """
    embedder = embedder or Embedder(gallery.load_bundle())
    for batch in batches(paths, COMMIT_EVERY):
        with keeping_references(embedder):
            embedded = embed_unknown(gallery, batch, embedder)
        with gallery.changing() as connection:
            additions = [add_one(connection, photo, landmark) for photo in embedded]
            locate_shown(connection, additions, position)
        yield from additions


def add_uploaded(
    gallery: Gallery,
    photos: Sequence[GivenPhoto],
    landmark: Landmark | int | str,
    *,
    position: Position | None = None,
    embedder: Embedder,
) -> list[Addition]:
    """Add photos of one landmark that are no files; they are on the disk when this returns.

    Only their embeddings are kept. Positions and outcomes are those of :func:`add_photos`.
    """
    embedded = list(refuse_directionless(embedder.embed(photos)))
    with gallery.changing() as connection:
        additions = [add_one(connection, photo, landmark, source="") for photo in embedded]
        locate_shown(connection, additions, position)
    return additions


def embed_unknown(gallery: Gallery, paths: Sequence[Path], embedder: Embedder) -> list[Embedded]:
    """Embed the photos whose bytes the gallery does not have; the others come back with neither embedding nor error."""
    digests = list(map_in_order(hash_file, paths))
    with gallery.truth.reading() as connection:
        known = {digest for digest in digests if digest and photo_with_content(connection, digest)}
    unknown = [path for path, digest in zip(paths, digests, strict=True) if digest not in known]
    embedded = refuse_directionless(embedder.embed(unknown))
    return [
        Embedded(path=path, content_hash=digest, embedding=None) if digest in known else next(embedded)
        for path, digest in zip(paths, digests, strict=True)
    ]


def add_one(
    connection: Tables, embedded: Embedded, landmark: Landmark | int | str, *, source: str | None = None
) -> Addition:
    """Add an embedded photo unless the gallery has its bytes; ``source`` is its path unless it is given."""
    path, digest = embedded.path, embedded.content_hash
    if embedded.error:
        return Addition(path=path, error=embedded.error)
    known = photo_with_content(connection, digest)
    if known:
        return Addition(path=path, photo=known, error=refuse_other_landmark(connection, path, known, landmark))
    if embedded.embedding is None:
        error = PhotoError("the photo was removed from the gallery just now", where=path, fix="add it again")
        return Addition(path=path, error=error)
    source = printable(os.path.realpath(path)) if source is None else source
    photo = ReferencePhoto(id=choose_id(connection, path, digest), content_hash=digest, source=source)
    embeddings = l2_normalize(embedded.embedding[np.newaxis], dimensions=len(embedded.embedding))
    insert_references(connection, embeddings, [landmark], [photo])
    return Addition(path=path, photo=photo_with_content(connection, digest), new=True)


def locate_shown(connection: Tables, additions: Sequence[Addition], position: Position | None) -> None:
    """Give the landmark of some photos a position, or where they were taken if it has none."""
    added = [one for one in additions if one.photo and not one.error]
    if not added or added[0].photo is None:
        return
    landmark = require_landmark(connection, added[0].photo.landmark_id or 0)
    if position is not None:
        located = replace(landmark, latitude=position.latitude, longitude=position.longitude)
    elif landmark.latitude is None:
        found = locate_landmarks([landmark], {landmark.id: [one.path for one in added if one.new]})
        located = next(iter(found.located), landmark)
    else:
        return
    upsert_landmarks(connection, [located])


def refuse_other_landmark(
    connection: Tables, path: Path, known: ReferencePhoto, landmark: Landmark | int | str
) -> PhotoError | None:
    """Return an error if the gallery has the photo under another landmark than ``landmark``."""
    shown = landmarks_with_id(connection, known.landmark_id or 0)
    wanted = landmark.id if isinstance(landmark, Landmark) else landmark
    if wanted in shown or (isinstance(wanted, str) and compared(wanted) in map(compared, shown.values())):
        return None
    what = f"the gallery has this photo as `{known.id}` of {', '.join(f'`{name}`' for name in shown.values())}"
    return PhotoError(what, where=path, fix="remove it there first, or merge the two landmarks")


def choose_id(connection: Tables, path: Path, digest: str) -> str:
    """Return a photo id made of the file's name and its content hash, which no other photo has."""
    for length in (8, len(digest)):
        chosen = f"{printable(path.stem)}-{digest[:length]}{printable(path.suffix)}"
        if not known_photo_ids(connection, [chosen]):
            return chosen
    raise GalleryError(f"the gallery has a photo with the id `{chosen}`", fix="give the file another name")
