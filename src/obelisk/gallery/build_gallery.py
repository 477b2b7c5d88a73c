"""From a dataset to a gallery: embed its reference photos, and only those that are new."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import l2_normalize
from obelisk.embedding import Bundle, Embedded, Embedder
from obelisk.errors import GalleryError, GalleryLockedError, PhotoError, UsageError
from obelisk.files import naming
from obelisk.gallery import database as store
from obelisk.gallery.changes import insert_references
from obelisk.gallery.embeddings import read_embeddings, refuse_damaged, unit_embeddings
from obelisk.gallery.gallery import Gallery, write_empty_gallery
from obelisk.gallery.landmarks import Landmark, match_landmarks
from obelisk.gallery.models import refuse_directionless
from obelisk.gallery.references import ReferencePhoto
from obelisk.photos import content_hash, map_in_order, read_bytes

if TYPE_CHECKING:  # recognising imports this room too, and needs no tables
    from obelisk.data import Catalog

T = TypeVar("T")
Watch = Callable[[Iterator[Embedded], int], Iterator[Embedded]]

COMMIT_EVERY = 64  # photos; what a kill costs at most


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build did.

    ``embedded`` photos went through the model, ``reused`` ones were known by their bytes, ``unchanged`` ones were
    in the gallery, and ``moved`` of the reused ones were there under another landmark. ``not_in_data`` photos of
    the gallery are not in the dataset; they stay. ``failed`` holds the error of every photo that was skipped,
    ``without_photo`` the landmarks of the dataset that were left without any.
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
    """A reference photo of the dataset that is not in the gallery as it is; with its embedding, if its bytes are known.

    ``landmark_id`` is the dataset's. ``replaces`` says that the gallery has a photo with the id, ``moves`` that it
    is the same photo under another landmark.
    """

    id: str
    path: Path
    landmark_id: int
    source: str = ""
    content_hash: str = ""
    embedding: NDArray[np.float32] | None = None
    replaces: bool = False
    moves: bool = False


class Matching:
    """Says as which landmark of the gallery each landmark of a dataset is kept, while others change the gallery."""

    def __init__(self, brought: Sequence[Landmark]) -> None:
        self._brought = brought
        self._revision = -1
        self._kept: dict[int, Landmark] = {}

    def look_up(self, connection: sqlite3.Connection) -> dict[int, Landmark]:
        """Return the landmark of the gallery for each id of the dataset; made anew after a change by somebody else."""
        revision = store.read_revision(connection)
        if revision != self._revision:
            known = dict(connection.execute("SELECT id, name FROM landmarks").fetchall())
            self._kept = match_landmarks(self._brought, known)
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
    watch: Watch = lambda embedded, total: embedded,
    keep_paths: bool = True,
) -> BuildReport:
    """Build a gallery of all reference photos of a catalog, or bring one up to it.

    A new gallery grows in ``path`` + ``.partial`` and gets its name when it is whole; a build that was cut
    short goes on where it stopped. A gallery that is already there keeps what it has: photos that are new
    or changed in the catalog are added, and those that it shows under another landmark follow it; photos that
    are not in the catalog stay. A new gallery into which no photo came, for want of a usable one or of a
    usable model, leaves nothing. ``watch`` wraps the stream of embedded photos, for a progress bar. Without
    ``keep_paths``, the gallery does not say where the photos lie on this machine.
    Raises :class:`GalleryError` if the gallery, finished or not, is of another model, if another build is at
    work on it, or if no photo can be used, and :class:`ModelError` for a bundle with a damaged attachment.
    """
    bundle.verify_attachments()
    path = Path(path)
    growing = path.with_name(f"{path.name}.partial")
    finished = is_occupied(path)
    with naming(path):
        gallery = Gallery.open(path) if finished else resume_or_start(growing, bundle)
        gallery.check_model(bundle)
        with store.reading(gallery.path) as connection:
            refuse_damaged(connection, gallery.dimensions, gallery.path)
        with alone(gallery.path):
            try:
                report = add_catalog(gallery, catalog, embedder or Embedder(bundle), watch, keep_paths=keep_paths)
                refuse_empty(gallery, catalog)
            except UsageError:
                if not finished and not count_photos(gallery):
                    shutil.rmtree(gallery.path)
                raise
            return report if finished else replace(report, gallery=finish(gallery, path))


def refuse_empty(gallery: Gallery, catalog: Catalog) -> None:
    """Raise GalleryError for a gallery that no photo of the catalog came into, nor was in before."""
    if not count_photos(gallery):
        what = f"none of {catalog.references.height} reference photos can be used"
        raise GalleryError(what, where=catalog.root, fix="see `obelisk data check` for what is wrong with them")


def is_occupied(path: Path) -> bool:
    """Say whether there is anything in a gallery's place but an empty folder."""
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def resume_or_start(growing: Path, bundle: Bundle) -> Gallery:
    """Open the gallery that an earlier build of the same model left unfinished, or begin a new one."""
    if not is_occupied(growing):
        return write_empty_gallery(growing, bundle, complete=False)
    gallery = Gallery(growing, store.read_about(growing))
    if gallery.fingerprint != bundle.fingerprint:
        what = f"an unfinished build with model `{gallery.model}` (fingerprint {gallery.fingerprint}) is in the way"
        fix = f"finish it with `--model {growing}`, or delete that folder"
        raise GalleryError(what, where=growing, fix=fix)
    return gallery


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other builds away from a gallery; a lock that goes with the process, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fix = "wait until it is done, or stop it"
            raise GalleryLockedError("another build is at work on this gallery", where=folder, fix=fix) from None
        yield
    finally:
        os.close(descriptor)


def finish(gallery: Gallery, path: Path) -> Gallery:
    """Give a gallery that is whole its name."""
    with store.writing(gallery.path) as connection:
        store.mark_complete(connection)
    store.settle(gallery.path, path)
    return Gallery.open(path)


def add_catalog(
    gallery: Gallery, catalog: Catalog, embedder: Embedder, watch: Watch, *, keep_paths: bool
) -> BuildReport:
    """Add the reference photos of the catalog that the gallery lacks."""
    matching = Matching(landmarks_of(catalog))
    before = count_photos(gallery)
    tasks = plan(gallery, catalog, matching)
    unchanged = catalog.references.height - len(tasks)
    reused = [task for task in tasks if task.embedding is not None]
    pending = [task for task in tasks if task.embedding is None]
    failed: list[PhotoError] = []
    for batch in batches(chain(reused, embed_tasks(pending, embedder, watch, failed)), COMMIT_EVERY):
        commit(gallery, batch, matching, keep_paths=keep_paths)
    with store.reading(gallery.path) as connection:
        kept = matching.look_up(connection)
        present = {row[0] for row in connection.execute("SELECT id FROM landmarks")}
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


def plan(gallery: Gallery, catalog: Catalog, matching: Matching) -> list[Task]:
    """Return the reference photos of the catalog that the gallery does not have as they are."""
    from obelisk.data import read_photo_urls

    urls = read_photo_urls(catalog)
    columns = catalog.references.select("image_id", "path", "landmark_id")
    tasks = [
        Task(id=row[0], path=catalog.root / row[1], landmark_id=row[2], source=urls.get(row[0], ""))
        for row in columns.iter_rows()
    ]
    if not count_photos(gallery):
        return tasks
    digests = list(map_in_order(hash_of, [task.path for task in tasks]))
    with store.reading(gallery.path) as connection:
        kept = matching.look_up(connection)
        compared = [
            compare(connection, replace(task, content_hash=digest), kept[task.landmark_id].id, gallery)
            for task, digest in zip(tasks, digests, strict=True)
        ]
    return [task for task in compared if task]


def compare(connection: sqlite3.Connection, task: Task, landmark_id: int, gallery: Gallery) -> Task | None:
    """Return what is to be done about a photo, None if the gallery has it as it is, under its id or from its file."""
    by_id = "SELECT content_hash, landmark_id FROM photos WHERE id = ?"
    known = connection.execute(by_id, (task.id,)).fetchone()
    if known == (task.content_hash, landmark_id):
        return None
    by_content = "SELECT row, landmark_id, source, path FROM photos WHERE content_hash = ? ORDER BY row"
    same = connection.execute(by_content, (task.content_hash,)).fetchall() if task.content_hash else []
    place = os.path.realpath(task.path)
    if any(shown == landmark_id and place in files for _, shown, *files in same):
        return None
    task = replace(task, replaces=known is not None)
    if not same:
        return task
    stored = read_embeddings(connection, np.array([same[0][0]]), gallery.dimensions, gallery.path)
    row = unit_embeddings(stored, gallery.path)[0]
    return replace(task, embedding=row, moves=known is not None and known[0] == task.content_hash)


def embed_tasks(tasks: Sequence[Task], embedder: Embedder, watch: Watch, failed: list[PhotoError]) -> Iterator[Task]:
    """Yield the tasks with their embeddings; leave out those whose photo failed, and note its error."""
    stream = watch(refuse_directionless(embedder.embed(task.path for task in tasks)), len(tasks))
    for task, found in zip(tasks, stream, strict=True):
        if found.error:
            failed.append(found.error)
        else:
            yield replace(task, content_hash=found.content_hash, embedding=found.embedding)


def commit(gallery: Gallery, tasks: Sequence[Task], matching: Matching, *, keep_paths: bool) -> None:
    """Add a batch of embedded photos."""
    embeddings = np.stack([task.embedding for task in tasks if task.embedding is not None])
    rows = l2_normalize(embeddings, dimensions=gallery.dimensions)
    photos = [record(task, keep_path=keep_paths) for task in tasks]
    with gallery.changing() as connection:
        kept = matching.look_up(connection)
        landmarks = [kept[task.landmark_id] for task in tasks]
        insert_references(connection, rows, landmarks, photos, replace=True)
    matching.count_own_change()


def record(task: Task, *, keep_path: bool) -> ReferencePhoto:
    """Return what the gallery notes of a photo."""
    path = os.path.realpath(task.path) if keep_path else ""
    source, path = (task.source, path) if task.source else (path, "")
    return ReferencePhoto(id=task.id, content_hash=task.content_hash, source=source, path=path)


def count_photos(gallery: Gallery) -> int:
    """Return how many photos a gallery has, without reading them."""
    with store.reading(gallery.path) as connection:
        return int(connection.execute("SELECT count(*) FROM photos").fetchone()[0])


def hash_of(path: Path) -> str:
    """Return the content hash of a file, empty if it cannot be read: embedding it will then say why."""
    try:
        return content_hash(read_bytes(path))
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
