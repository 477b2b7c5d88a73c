"""From a dataset to a gallery: embed its reference photos, and only those that are new."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from obelisk.embedding import Bundle, Embedded, Embedder
from obelisk.errors import GalleryError, PhotoError
from obelisk.gallery import store
from obelisk.gallery.gallery import Gallery, write_empty_gallery
from obelisk.gallery.landmarks import Landmark, match_landmarks
from obelisk.gallery.models import refuse_directionless
from obelisk.gallery.references import ReferencePhoto
from obelisk.photos import content_hash, read_bytes

if TYPE_CHECKING:  # recognising imports this room too, and needs no tables
    from obelisk.data import Catalog

T = TypeVar("T")
Watch = Callable[[Iterator[Embedded], int], Iterator[Embedded]]

COMMIT_EVERY = 64  # photos; what a kill costs at most


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build did.

    ``embedded`` photos went through the model, ``reused`` ones were known by their bytes, ``unchanged``
    ones were in the gallery. ``failed`` holds the error of every photo that was skipped, ``without_photo``
    the landmarks of the dataset that were left without any.
    """

    gallery: Gallery
    embedded: int
    reused: int
    unchanged: int
    failed: tuple[PhotoError, ...]
    without_photo: tuple[Landmark, ...]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A reference photo of the dataset that is not yet in the gallery; with its embedding, if its bytes are known."""

    id: str
    path: Path
    landmark: Landmark
    content_hash: str = ""
    embedding: NDArray[np.float32] | None = None


def build_gallery(
    path: Path | str,
    catalog: Catalog,
    bundle: Bundle,
    *,
    embedder: Embedder | None = None,
    watch: Watch = lambda embedded, total: embedded,
) -> BuildReport:
    """Build a gallery of all reference photos of a catalog, or bring one up to it.

    A new gallery grows in ``path`` + ``.partial`` and gets its name when it is whole; a build that was cut
    short goes on where it stopped. A gallery that is already there keeps what it has: photos that are new
    or changed in the catalog are added. ``watch`` wraps the stream of embedded photos, for a progress bar.
    Raises :class:`GalleryError` if the gallery is of another model, or if no photo can be used.
    """
    path = Path(path)
    growing = path.with_name(f"{path.name}.partial")
    finished = path.is_dir() and any(path.iterdir())
    if finished:
        gallery = Gallery.open(path)
        gallery.check_model(bundle)
    else:
        gallery = resume_or_start(growing, bundle)
    report = add_catalog(gallery, catalog, embedder or Embedder(bundle), watch)
    if not len(gallery):
        shutil.rmtree(gallery.path)
        what = f"none of {catalog.references.height} reference photos can be used"
        raise GalleryError(what, where=catalog.root, fix="see `obelisk data check` for what is wrong with them")
    if not finished:
        report = replace(report, gallery=finish(gallery, path))
    return report


def resume_or_start(growing: Path, bundle: Bundle) -> Gallery:
    """Open the gallery that an earlier build of the same model left unfinished, or begin a new one."""
    try:
        gallery = Gallery(growing, store.read_about(growing))
        gallery.check_model(bundle)
    except GalleryError:
        shutil.rmtree(growing, ignore_errors=True)
        growing.parent.mkdir(parents=True, exist_ok=True)
        gallery = write_empty_gallery(growing, bundle, complete=False)
    return gallery


def finish(gallery: Gallery, path: Path) -> Gallery:
    """Give a gallery that is whole its name."""
    with store.writing(gallery.path) as connection:
        store.mark_complete(connection)
    if path.is_dir():
        path.rmdir()
    gallery.path.rename(path)
    return Gallery.open(path)


def add_catalog(gallery: Gallery, catalog: Catalog, embedder: Embedder, watch: Watch) -> BuildReport:
    """Add the reference photos of the catalog that the gallery lacks."""
    kept = match_landmarks(landmarks_of(catalog), {landmark.id: landmark.name for landmark in gallery.landmarks})
    tasks = plan(gallery, catalog, kept)
    reused = [task for task in tasks if task.embedding is not None]
    pending = [task for task in tasks if task.embedding is None]
    failed: list[PhotoError] = []
    for batch in batches(chain(reused, embed_tasks(pending, embedder, watch, failed)), COMMIT_EVERY):
        commit(gallery, batch)
    present = {landmark.id for landmark in gallery.landmarks}
    return BuildReport(
        gallery=gallery,
        embedded=len(pending) - len(failed),
        reused=len(reused),
        unchanged=catalog.references.height - len(tasks),
        failed=tuple(failed),
        without_photo=tuple(landmark for landmark in kept.values() if landmark.id not in present),
    )


def plan(gallery: Gallery, catalog: Catalog, kept: Mapping[int, Landmark]) -> list[Task]:
    """Return the reference photos of the catalog that the gallery does not have as they are."""
    references = gallery.references()
    known = {photo.id: photo for photo in references.photos}
    embeddings = {photo.content_hash: row for photo, row in zip(references.photos, references.embeddings, strict=True)}
    tasks = []
    for photo_id, path, landmark_id in catalog.references.select("image_id", "path", "landmark_id").iter_rows():
        task = Task(id=photo_id, path=catalog.root / path, landmark=kept[landmark_id])
        digest = hash_of(task.path) if known else ""
        photo = known.get(photo_id)
        if not (photo and photo.content_hash == digest and photo.landmark_id == task.landmark.id):
            tasks.append(replace(task, content_hash=digest, embedding=embeddings.get(digest)))
    return tasks


def embed_tasks(tasks: Sequence[Task], embedder: Embedder, watch: Watch, failed: list[PhotoError]) -> Iterator[Task]:
    """Yield the tasks with their embeddings; leave out those whose photo failed, and note its error."""
    stream = watch(refuse_directionless(embedder.embed(task.path for task in tasks)), len(tasks))
    for task, found in zip(tasks, stream, strict=True):
        if found.error:
            failed.append(found.error)
        else:
            yield replace(task, content_hash=found.content_hash, embedding=found.embedding)


def commit(gallery: Gallery, tasks: Sequence[Task]) -> None:
    """Add a batch of embedded photos."""
    embeddings = np.stack([task.embedding for task in tasks if task.embedding is not None])
    photos = [
        ReferencePhoto(id=task.id, content_hash=task.content_hash, source=str(task.path.resolve())) for task in tasks
    ]
    gallery.add(embeddings, [task.landmark for task in tasks], photos, replace=True)


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
