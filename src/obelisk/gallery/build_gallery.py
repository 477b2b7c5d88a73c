"""Build a gallery from a dataset: embed its reference photos, or only those that are new."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from obelisk.arrays import Embeddings, l2_normalize
from obelisk.embedding import Bundle, Embedder
from obelisk.errors import GalleryError, GalleryLockedError, PhotoError, UsageError, quote
from obelisk.files import exclusive_lock, move_folder, naming_full_disk
from obelisk.gallery import database, schema
from obelisk.gallery.changes import insert_references
from obelisk.gallery.embeddings import normalize_stored, read_embeddings, refuse_damaged
from obelisk.gallery.gallery import Gallery, write_empty_gallery
from obelisk.gallery.landmarks import Landmark, match_landmarks
from obelisk.gallery.lookup import all_landmark_names, all_landmarks, count_reference_photos
from obelisk.gallery.models import refuse_directionless
from obelisk.gallery.schema import DATABASE, ReferencePhoto
from obelisk.photos import hash_photo, map_in_order
from obelisk.records import Progress, no_progress

if TYPE_CHECKING:  # recognition imports this room too, and needs no tables
    from obelisk.data import Catalog

T = TypeVar("T")

COMMIT_EVERY = 64  # photos; the most that a kill costs
LOCK = "build.lock"


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build did.

    ==================  ==============================================================================
    ``embedded``        photos that went through the model
    ``reused``          photos whose bytes the gallery already had under another id or landmark
    ``unchanged``       photos that were in the gallery as they are
    ``moved``           of the reused ones, those that changed their landmark
    ``not_in_data``     photos of the gallery that the dataset does not have; they stay
    ``failed``          the error of each photo that was skipped
    ``without_photo``   landmarks of the dataset that have no photo in the gallery
    ==================  ==============================================================================
    """

    gallery: Gallery
    embedded: int
    reused: int
    unchanged: int
    moved: int
    not_in_data: int
    failed: tuple[PhotoError, ...]
    without_photo: tuple[Landmark, ...]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A reference photo of the dataset that is to be added; with its embedding if the gallery knows its bytes.

    ``landmark_id`` is the dataset's. ``replaces`` says that the gallery has a photo with this id, ``moves`` that it is
    the same photo under another landmark.
    """

    id: str
    path: Path
    landmark_id: int
    source: str = ""
    content_hash: str = ""
    embedding: Embeddings | None = None
    replaces: bool = False
    moves: bool = False


class Matching:
    """Maps the landmarks of a dataset to those of a gallery, while other processes may change the gallery."""

    def __init__(self, brought: Sequence[Landmark]) -> None:
        self._brought = brought
        self._revision = -1
        self._kept: dict[int, Landmark] = {}

    def look_up(self, connection: sqlite3.Connection) -> dict[int, Landmark]:
        """Return the dataset's landmark id → the gallery's landmark; computed anew after somebody else's change."""
        revision = schema.read_revision(connection)
        if revision != self._revision:
            self._kept = match_landmarks(self._brought, all_landmarks(connection))
            self._revision = revision
        return self._kept

    def count_own_change(self) -> None:
        """Note that the next change is the build's own, which leaves the matching as it is."""
        self._revision += 1


def build_gallery(
    path: Path | str,
    catalog: Catalog,
    bundle: Bundle,
    *,
    embedder: Embedder | None = None,
    progress: Progress = no_progress,
    keep_paths: bool = True,
) -> BuildReport:
    """Build a gallery of all reference photos of a catalog, or update an existing one.

    A new gallery grows in ``path`` + ``.partial`` and is renamed when it is complete; an interrupted build continues
    there. If ``path`` is a link, the gallery is built at its target. An existing gallery keeps its photos: those that
    are new or changed in the catalog are added, those that the catalog shows under another landmark move to it, and
    those that the catalog lacks stay. A new gallery that no photo could be added to leaves nothing behind. Without
    ``keep_paths``, the gallery does not record where the photos lie on this machine.

    Raises :class:`GalleryError` if ``path`` holds something else, if the gallery, finished or not, is of another
    model, if another build is working on it, or if no photo can be used, and :class:`ModelError` for a bundle with a
    damaged attachment.
    """
    bundle.verify_attachments()
    path = resolve_place(Path(path))
    growing = path.with_name(f"{path.name}.partial")
    finished = is_occupied(path)
    with naming_full_disk(path):
        gallery = Gallery.open(path) if finished else resume_or_start(growing, bundle)
        gallery.check_model(bundle)
        with database.reading(gallery.path) as connection:
            refuse_damaged(connection, gallery.dimensions, gallery.path)
        with refusing_other_builds(gallery, path):
            try:
                report = add_catalog(gallery, catalog, embedder or Embedder(bundle), progress, keep_paths=keep_paths)
                refuse_empty(gallery, catalog)
            except UsageError:
                if not finished and is_empty(gallery):
                    shutil.rmtree(gallery.path)
                raise
            return report if finished else replace(report, gallery=finish(gallery, path))


def resolve_place(path: Path) -> Path:
    """Return where a gallery is or may be built, links followed; refuse a place that holds something else."""
    place = Path(os.path.realpath(path)) if path.is_symlink() else path
    if place.is_symlink():
        raise GalleryError("the link leads back to itself", where=path, fix="delete it, or name another place")
    if place.is_file():
        inside = (place.parent / DATABASE).is_file()
        fix = f"name its folder, {place.parent}" if inside else "name a new folder"
        raise GalleryError("this is a file, not a gallery's folder", where=path, fix=fix)
    if is_occupied(place) and not (place / DATABASE).is_file():
        fix = f"name a new folder; if these are your photos: `obelisk gallery build NEW --data {quote(str(path))}`"
        raise GalleryError("not a gallery, but a folder of other things", where=path, fix=fix)
    return place


def is_occupied(path: Path) -> bool:
    """Return whether ``path`` holds anything other than an empty folder."""
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def resume_or_start(growing: Path, bundle: Bundle) -> Gallery:
    """Open the gallery that an interrupted build with the same model left, or start a new one."""
    if not is_occupied(growing):
        return write_empty_gallery(growing, bundle, complete=False)
    gallery = Gallery(growing, database.read_about(growing))
    if gallery.fingerprint != bundle.fingerprint:
        what = f"an unfinished build with model `{gallery.model}` (fingerprint {gallery.fingerprint}) is in the way"
        fix = f"finish it with `--model {growing}`, or delete that folder"
        raise GalleryError(what, where=growing, fix=fix)
    return gallery


@contextmanager
def refusing_other_builds(gallery: Gallery, path: Path) -> Iterator[None]:
    """Hold the build lock of a gallery; raise :class:`GalleryLockedError` if another build holds it.

    A gallery that nothing may be written to, such as the bundled one, has no lock.
    """
    if not database.may_write(gallery.path):
        yield
        return
    # The lock of a growing gallery lies beside it: a folder with an open file cannot be renamed on Windows.
    lock = path / LOCK if gallery.path == path else path.with_name(f".{path.name}.{LOCK}")
    with exclusive_lock(lock, wait=0) as acquired:
        if not acquired:
            fix = "wait until it is done, or stop it"
            raise GalleryLockedError("another build is working on this gallery", where=path, fix=fix)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows keeps a file that is open
                lock.unlink(missing_ok=True)


def refuse_empty(gallery: Gallery, catalog: Catalog) -> None:
    """Raise :class:`GalleryError` for a gallery that has no photo, neither from before nor from the catalog."""
    if is_empty(gallery):
        what = f"none of {catalog.references.height} reference photos can be used"
        raise GalleryError(what, where=catalog.root, fix="see `obelisk data check` for what is wrong with them")


def is_empty(gallery: Gallery) -> bool:
    """Return whether a gallery has no photo."""
    with database.reading(gallery.path) as connection:
        return count_reference_photos(connection) == 0


def finish(gallery: Gallery, path: Path) -> Gallery:
    """Mark a gallery as complete and rename it to ``path``."""
    with database.writing(gallery.path) as connection:
        schema.mark_complete(connection)
    move_folder(gallery.path, path)
    return Gallery.open(path)


def add_catalog(
    gallery: Gallery, catalog: Catalog, embedder: Embedder, progress: Progress, *, keep_paths: bool
) -> BuildReport:
    """Add the reference photos of the catalog that the gallery lacks."""
    matching = Matching(landmarks_of(catalog))
    with database.reading(gallery.path) as connection:
        before = count_reference_photos(connection)
    tasks = plan_photos(gallery, catalog, matching)
    unchanged = catalog.references.height - len(tasks)
    reused = [task for task in tasks if task.embedding is not None]
    pending = [task for task in tasks if task.embedding is None]
    failed: list[PhotoError] = []
    for batch in batches(chain(reused, embed_tasks(pending, embedder, progress, failed)), COMMIT_EVERY):
        commit(gallery, batch, matching, keep_paths=keep_paths)
    with database.reading(gallery.path) as connection:
        kept = matching.look_up(connection)
        present = all_landmark_names(connection)
    return BuildReport(
        gallery=gallery,
        embedded=len(pending) - len(failed),
        reused=len(reused),
        unchanged=unchanged,
        moved=sum(task.moves for task in reused),
        not_in_data=before - unchanged - sum(task.replaces for task in tasks),
        failed=tuple(failed),
        without_photo=tuple(landmark for landmark in kept.values() if landmark.id not in present),
    )


def plan_photos(gallery: Gallery, catalog: Catalog, matching: Matching) -> list[Task]:
    """Return a task for each reference photo of the catalog that the gallery does not have as it is."""
    from obelisk.data import read_photo_urls

    urls = read_photo_urls(catalog)
    columns = catalog.references.select("image_id", "path", "landmark_id")
    tasks = [
        Task(id=row[0], path=catalog.root / row[1], landmark_id=row[2], source=urls.get(row[0], ""))
        for row in columns.iter_rows()
    ]
    if is_empty(gallery):
        return tasks
    digests = list(map_in_order(hash_file, [task.path for task in tasks]))
    with database.reading(gallery.path) as connection:
        kept = matching.look_up(connection)
        planned = [
            plan_photo(connection, replace(task, content_hash=digest), kept[task.landmark_id].id, gallery)
            for task, digest in zip(tasks, digests, strict=True)
        ]
    return [task for task in planned if task]


def plan_photo(connection: sqlite3.Connection, task: Task, landmark_id: int, gallery: Gallery) -> Task | None:
    """Complete the task of one photo; None if the gallery has the photo as it is, by its id or by its file."""
    by_id = "SELECT content_hash, landmark_id FROM photos WHERE id = ?"
    known = connection.execute(by_id, (task.id,)).fetchone()
    if known == (task.content_hash, landmark_id):
        return None
    by_content = "SELECT row, landmark_id, source, path FROM photos WHERE content_hash = ? ORDER BY row"
    same = connection.execute(by_content, (task.content_hash,)).fetchall() if task.content_hash else []
    file = os.path.realpath(task.path)
    if any(shown == landmark_id and file in files for _, shown, *files in same):
        return None
    task = replace(task, replaces=known is not None)
    if not same:
        return task
    stored = read_embeddings(connection, np.array([same[0][0]]), gallery.dimensions, gallery.path)
    embedding = normalize_stored(stored, gallery.path)[0]
    return replace(task, embedding=embedding, moves=known is not None and known[0] == task.content_hash)


def embed_tasks(
    tasks: Sequence[Task], embedder: Embedder, progress: Progress, failed: list[PhotoError]
) -> Iterator[Task]:
    """Yield the tasks with their embeddings; photos that fail are left out, and their errors go into ``failed``."""
    if tasks:
        progress("embedding photos", 0, len(tasks))
    photos = refuse_directionless(embedder.embed(task.path for task in tasks))
    for done, (task, embedded) in enumerate(zip(tasks, photos, strict=True), start=1):
        progress("embedding photos", done, len(tasks))
        if embedded.error:
            failed.append(embedded.error)
        else:
            yield replace(task, content_hash=embedded.content_hash, embedding=embedded.embedding)


def commit(gallery: Gallery, tasks: Sequence[Task], matching: Matching, *, keep_paths: bool) -> None:
    """Add a batch of embedded photos in one transaction."""
    embeddings = np.stack([task.embedding for task in tasks if task.embedding is not None])
    rows = l2_normalize(embeddings, dimensions=gallery.dimensions)
    photos = [photo_of_task(task, keep_path=keep_paths) for task in tasks]
    with gallery.changing() as connection:
        kept = matching.look_up(connection)
        landmarks = [kept[task.landmark_id] for task in tasks]
        insert_references(connection, rows, landmarks, photos, replace=True)
    matching.count_own_change()


def photo_of_task(task: Task, *, keep_path: bool) -> ReferencePhoto:
    """Return what the gallery records about a photo."""
    path = os.path.realpath(task.path) if keep_path else ""
    source, path = (task.source, path) if task.source else (path, "")
    return ReferencePhoto(id=task.id, content_hash=task.content_hash, source=source, path=path)


def hash_file(path: Path) -> str:
    """Return the content hash of a photo's file, or "" if it can't be read: embedding it will say why."""
    try:
        return hash_photo(path)
    except PhotoError:
        return ""


def landmarks_of(catalog: Catalog) -> list[Landmark]:
    """Return the landmarks of the catalog."""
    columns = catalog.landmarks.select("landmark_id", "name", "latitude", "longitude")
    return [Landmark(id=row[0], name=row[1], latitude=row[2], longitude=row[3]) for row in columns.iter_rows()]


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of ``size``; the last may be shorter."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch
