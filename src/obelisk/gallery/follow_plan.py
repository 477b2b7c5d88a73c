"""Follow the plan of a build: move, add and remove photos, in transactions that leave the gallery sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TypeVar

import numpy as np

from obelisk.arrays import l2_normalize
from obelisk.embedding import Embedder
from obelisk.errors import PhotoError
from obelisk.gallery import schema
from obelisk.gallery.build_plan import MovedPhoto, Plan, RenamedFolder, Task
from obelisk.gallery.changes import (
    delete_if_empty,
    insert_references,
    keep_folder,
    move_photos,
    remove_references,
    update_photo_files,
    upsert_landmarks,
    write_landmarks,
)
from obelisk.gallery.gallery import Gallery
from obelisk.gallery.landmarks import Landmark, match_landmarks, merge_facts
from obelisk.gallery.locate import NO_POSITIONS, PhotoPositions
from obelisk.gallery.lookup import all_landmark_names, all_landmarks, known_photo_ids
from obelisk.gallery.models import refuse_directionless
from obelisk.gallery.schema import ReferencePhoto
from obelisk.gallery.truth import Tables
from obelisk.records import Progress

T = TypeVar("T")

COMMIT_EVERY = 64  # photos; the most that a kill costs


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build did.

    ==================  ==============================================================================
    ``new``             photos that were added
    ``changed``         photos that took the place of others with the same id
    ``embedded``        of these two, photos that went through the model
    ``reused``          of these two, photos whose bytes the gallery had already
    ``moved``           photos that the dataset has elsewhere, or under another landmark, than the gallery had
    ``renamed``         landmarks whose folder was renamed; their photos are not in ``moved``
    ``unchanged``       photos that were in the gallery as they are
    ``gone``            photos that came from this dataset, which no longer has them
    ``pruned``          whether those were removed
    ``elsewhere``       photos of the gallery that came from somewhere else; they stay
    ``emptied``         landmarks that were removed with their last photo
    ``failed``          the error of each photo that was skipped
    ``without_photo``   landmarks of the dataset that have no photo in the gallery
    ``positions``       what the photos of landmarks without a position said of where these are
    ==================  ==============================================================================
    """

    gallery: Gallery
    new: int
    changed: int
    embedded: int
    reused: int
    moved: tuple[MovedPhoto, ...]
    renamed: tuple[RenamedFolder, ...]
    unchanged: int
    gone: tuple[ReferencePhoto, ...]
    pruned: bool
    elsewhere: int
    emptied: tuple[Landmark, ...]
    failed: tuple[PhotoError, ...]
    without_photo: tuple[Landmark, ...]
    positions: PhotoPositions = NO_POSITIONS

    @property
    def seen(self) -> int:
        """The number of reference photos of the dataset."""
        renamed = sum(folder.photos for folder in self.renamed)
        return self.new + self.changed + len(self.moved) + renamed + self.unchanged + len(self.failed)


class Matching:
    """Maps the landmarks of a dataset to those of a gallery, while other processes may change the gallery."""

    def __init__(self, brought: Sequence[Landmark]) -> None:
        self._brought = brought
        self._revision = -1
        self._kept: dict[int, Landmark] = {}

    def look_up(self, connection: Tables) -> dict[int, Landmark]:
        """Return the dataset's landmark id → the gallery's landmark; computed anew after somebody else's change."""
        revision = schema.read_revision(connection)
        if revision != self._revision:
            self._kept = match_landmarks(self._brought, all_landmarks(connection))
            self._revision = revision
        return self._kept

    def count_own_change(self) -> None:
        """Note that the next change is the build's own, which leaves the matching as it is."""
        self._revision += 1

    def forget(self) -> None:
        """Compute the matching anew at the next call."""
        self._revision = -1


def follow_plan(
    plan: Plan, gallery: Gallery, brought: Sequence[Landmark], embedder: Embedder, progress: Progress, *, prune: bool
) -> BuildReport:
    """Bring a gallery up to date: move what moved, add what is new, and last remove what is gone, if asked to.

    ``brought`` are the dataset's landmarks.
    """
    matching = Matching(brought)
    with gallery.truth.reading() as connection:
        before = all_landmarks(connection)
    move_in_gallery(plan, gallery, matching)
    reused = [task for task in plan.tasks if task.embedding is not None]
    pending = [task for task in plan.tasks if task.embedding is None]
    failed: list[PhotoError] = []
    added: list[bool] = []
    for batch in batches(chain(reused, embed_tasks(pending, embedder, progress, failed)), COMMIT_EVERY):
        commit(gallery, batch, matching)
        added += [task.replaces for task in batch]
    if prune and plan.gone:
        with gallery.changing() as connection:
            remove_references(connection, known_photo_ids(connection, [photo.id for photo in plan.gone]), ())
    add_facts(gallery, matching)
    with gallery.truth.reading() as connection:
        kept = matching.look_up(connection)
        present = all_landmark_names(connection)
    renamed = {folder.landmark_id for folder in plan.renamed}
    return BuildReport(
        gallery=gallery,
        new=added.count(False),
        changed=added.count(True),
        embedded=len(pending) - len(failed),
        reused=len(reused),
        moved=tuple(photo for photo in plan.moved if photo.landmark_id not in renamed),
        renamed=tuple(plan.renamed),
        unchanged=plan.unchanged,
        gone=tuple(plan.gone),
        pruned=prune,
        elsewhere=plan.elsewhere,
        emptied=tuple(landmark for landmark in before.values() if landmark.id not in present),
        failed=tuple(failed),
        without_photo=tuple(landmark for landmark in kept.values() if landmark.id not in present),
    )


def move_in_gallery(plan: Plan, gallery: Gallery, matching: Matching) -> None:
    """Rename landmarks, move photos and note where their files are now, in one transaction."""
    if not plan.moved and not ((plan.refiled or plan.folder) and gallery.truth.may_write()):
        return
    with gallery.changing() as connection:
        for folder in plan.renamed:
            write_landmarks(connection, folder.landmark)
        matching.forget()
        kept = matching.look_up(connection)
        landmark_ids = upsert_landmarks(connection, [kept[moved.landmark_id] for moved in plan.moved])
        move_photos(connection, [(moved.row, moved.after) for moved in plan.moved], landmark_ids)
        update_photo_files(connection, plan.refiled)
        if plan.folder:
            keep_folder(connection, plan.folder)
        delete_if_empty(connection, [folder.landmark.id for folder in plan.renamed])
    matching.forget()


def add_facts(gallery: Gallery, matching: Matching) -> None:
    """Give the gallery's landmarks the positions and links that the dataset has and the gallery lacks."""

    def find_richer(connection: Tables) -> list[Landmark]:
        known = all_landmarks(connection)
        kept = [landmark for landmark in matching.look_up(connection).values() if landmark.id in known]
        return [landmark for landmark in kept if merge_facts(known[landmark.id], landmark) != known[landmark.id]]

    with gallery.truth.reading() as connection:
        richer = find_richer(connection)
    if richer and gallery.truth.may_write():
        with gallery.changing() as connection:
            upsert_landmarks(connection, find_richer(connection))
        matching.forget()


def embed_tasks(
    tasks: Sequence[Task], embedder: Embedder, progress: Progress, failed: list[PhotoError]
) -> Iterator[Task]:
    """Yield the tasks with their embeddings; photos that fail are left out, and their errors go into ``failed``."""
    if tasks:
        progress("embedding photos", 0, len(tasks))
    photos = refuse_directionless(embedder.embed(task.file for task in tasks))
    for done, (task, embedded) in enumerate(zip(tasks, photos, strict=True), start=1):
        progress("embedding photos", done, len(tasks))
        if embedded.error:
            failed.append(embedded.error)
        else:
            record = replace(task.record, content_hash=embedded.content_hash)
            yield replace(task, record=record, embedding=embedded.embedding)


def commit(gallery: Gallery, tasks: Sequence[Task], matching: Matching) -> None:
    """Add a batch of embedded photos in one transaction."""
    embeddings = np.stack([task.embedding for task in tasks if task.embedding is not None])
    rows = l2_normalize(embeddings, dimensions=gallery.dimensions)
    with gallery.changing() as connection:
        kept = matching.look_up(connection)
        landmarks = [kept[task.landmark_id] for task in tasks]
        insert_references(connection, rows, landmarks, [task.record for task in tasks], replace=True)
    matching.count_own_change()


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of ``size``; the last may be shorter."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch
