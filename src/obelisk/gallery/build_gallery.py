"""Build a gallery from a dataset: embed its reference photos, or only those that are new."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from obelisk.embedding import Bundle, Embedder, keeping_references
from obelisk.errors import GalleryError, PhotoError, UsageError
from obelisk.files import naming_full_disk
from obelisk.gallery.build_plan import Plan, Planner, Task
from obelisk.gallery.build_site import find_site, refusing_other_builds
from obelisk.gallery.changes import is_folder_noted
from obelisk.gallery.embeddings import normalize_stored, read_embeddings, refuse_damaged
from obelisk.gallery.follow_plan import BuildReport, follow_plan
from obelisk.gallery.gallery import Gallery
from obelisk.gallery.landmarks import Landmark, match_landmarks
from obelisk.gallery.locate import PhotoPositions, locate_landmarks
from obelisk.gallery.lookup import all_landmarks, count_reference_photos, select_photos
from obelisk.gallery.reference_files import printable
from obelisk.gallery.schema import ReferencePhoto
from obelisk.gallery.truth import Tables
from obelisk.photos import hash_photo, map_in_order
from obelisk.records import Progress, no_progress

if TYPE_CHECKING:  # recognition imports this room too, and needs no tables
    from obelisk.data import Catalog


def build_gallery(
    path: Path | str,
    catalog: Catalog,
    bundle: Bundle,
    *,
    embedder: Embedder | None = None,
    progress: Progress = no_progress,
    keep_paths: bool = True,
    prune: bool = False,
    prune_most: bool = False,
) -> BuildReport:
    """Build a gallery of all reference photos of a catalog, or update an existing one.

    A new gallery grows in ``path`` + ``.partial`` and is renamed when it is complete; an interrupted build continues
    there. If ``path`` is a link, the gallery is built at its target; in a database it grows in its place. A new
    gallery that no photo could be added to leaves nothing behind.

    An existing gallery follows the catalog (:mod:`obelisk.gallery.build_plan`). Photos that are new or changed are
    added, those that moved to another folder move to its landmark, and a landmark whose folder was renamed is renamed.
    A landmark without a position gets the median of where its photos were taken, if these say so.
    Landmarks that were renamed or merged in the gallery stay so. Photos that the catalog no longer has stay as well,
    unless ``prune`` is set: it removes those that came from this dataset, and refuses if they are more than half of
    them, unless ``prune_most`` is set. Photos that came from elsewhere always stay. The gallery records where the files
    lie now, or, without ``keep_paths``, nothing about that.

    Raises :class:`GalleryError` if ``path`` holds something else, if the gallery, finished or not, is of another
    model, if another build is working on it, if too much would be pruned, or if no photo can be used, and
    :class:`ModelError` for a bundle with a damaged attachment.
    """
    bundle.verify_attachments()
    site = find_site(path)
    with naming_full_disk(site.name):
        gallery = site.open(bundle)
        gallery.check_model(bundle)
        gallery.truth.adopt_attachments(gallery.about, bundle)
        with gallery.truth.reading() as connection:
            refuse_damaged(connection, gallery.dimensions)
        with refusing_other_builds(site, gallery):
            try:
                brought, positions = add_positions(gallery, landmarks_of(catalog), catalog)
                plan = plan_catalog(gallery, catalog, brought, keep_paths=keep_paths)
                if prune and not prune_most:
                    refuse_pruning_most(plan, catalog)
                embedder = embedder or Embedder(bundle)
                with keeping_references(embedder):
                    report = follow_plan(plan, gallery, brought, embedder, progress, prune=prune)
                report = replace(report, positions=positions)
                refuse_empty(gallery, catalog)
            except UsageError:
                if not site.finished and is_empty(gallery):
                    site.discard(gallery)
                raise
            return report if site.finished else replace(report, gallery=site.finish(gallery))


def refuse_empty(gallery: Gallery, catalog: Catalog) -> None:
    """Raise :class:`GalleryError` for a gallery that has no photo, neither from before nor from the catalog."""
    if is_empty(gallery):
        what = f"none of {catalog.references.height} reference photos can be used"
        raise GalleryError(what, where=catalog.root, fix="see `obelisk data check` for what is wrong with them")


def is_empty(gallery: Gallery) -> bool:
    """Return whether a gallery has no photo."""
    with gallery.truth.reading() as connection:
        return count_reference_photos(connection) == 0


def refuse_pruning_most(plan: Plan, catalog: Catalog) -> None:
    """Raise :class:`GalleryError` if more than half of the photos that came from the catalog are gone."""
    known = len(plan.gone) + plan.unchanged + len(plan.moved) + sum(task.replaces for task in plan.tasks)
    if 2 * len(plan.gone) > known:
        what = f"{len(plan.gone)} of the {known} photos that came from here are gone, so nothing was changed"
        fix = "if a disk is not mounted, mount it; to remove them from the gallery, ask twice: `--prune --prune`"
        raise GalleryError(what, where=catalog.root, fix=fix)


def plan_catalog(gallery: Gallery, catalog: Catalog, brought: Sequence[Landmark], *, keep_paths: bool) -> Plan:
    """Compare the reference photos of the catalog with those of the gallery."""
    tasks = tasks_of(catalog, keep_paths=keep_paths)
    if is_empty(gallery):
        return Plan(tasks=tasks)
    digests = map_in_order(hash_file, [task.file for task in tasks])
    hashed = [
        replace(task, record=replace(task.record, content_hash=digest))
        for task, digest in zip(tasks, digests, strict=True)
    ]
    with gallery.truth.reading() as connection:
        known = all_landmarks(connection)
        planner = Planner(
            hashed,
            brought={landmark.id: landmark for landmark in brought},
            kept=match_landmarks(brought, known),
            known=known,
            folder=data_folder(catalog),
        )
        plan = planner.run(select_photos(connection, "TRUE ORDER BY row", ()))
        if keep_paths and plan.unchanged and not plan.refiled and not is_folder_noted(connection, data_folder(catalog)):
            plan.folder = data_folder(catalog)
        plan.tasks = [reuse_embedding(connection, task, gallery) for task in plan.tasks]
    return plan


def add_positions(
    gallery: Gallery, brought: Sequence[Landmark], catalog: Catalog
) -> tuple[list[Landmark], PhotoPositions]:
    """Give landmarks the position that their photos state, where neither the dataset nor the gallery has one."""
    with gallery.truth.reading() as connection:
        kept = match_landmarks(brought, all_landmarks(connection))
    bare = [landmark for landmark in brought if kept[landmark.id].latitude is None]
    photos: dict[int, list[Path]] = {landmark.id: [] for landmark in bare}
    for path, landmark_id in catalog.references.select("path", "landmark_id").iter_rows():
        if landmark_id in photos:
            photos[landmark_id].append(catalog.root / path)
    found = locate_landmarks(bare, photos)
    located = {landmark.id: landmark for landmark in found.located}
    return [located.get(landmark.id, landmark) for landmark in brought], found


def tasks_of(catalog: Catalog, *, keep_paths: bool) -> list[Task]:
    """Return a task for each reference photo of the catalog."""
    from obelisk.data import read_credits, read_photo_urls

    urls, credited = read_photo_urls(catalog), read_credits(catalog.root, catalog.references["image_id"])
    folder = data_folder(catalog) if keep_paths else ""
    columns = catalog.references.select("image_id", "path", "landmark_id")
    tasks = []
    for photo_id, path, landmark_id in columns.iter_rows():
        author, licence = credited.get(photo_id, ("", ""))
        record = ReferencePhoto(
            id=photo_id,
            source=urls.get(photo_id, ""),
            path=path if keep_paths else "",
            folder=folder,
            author=author,
            licence=licence,
        )
        tasks.append(Task(file=catalog.root / path, record=record, landmark_id=landmark_id))
    return tasks


def data_folder(catalog: Catalog) -> str:
    """Return the absolute path of a catalog's folder, as a gallery records it."""
    return printable(os.path.realpath(catalog.root))


def reuse_embedding(connection: Tables, task: Task, gallery: Gallery) -> Task:
    """Give a task the embedding of its bytes if the gallery has them."""
    find = "SELECT row FROM photos WHERE content_hash = ? AND content_hash != '' ORDER BY row LIMIT 1"
    found = connection.execute(find, (task.record.content_hash,)).fetchone()
    if not found:
        return task
    stored = read_embeddings(connection, np.array(found), gallery.dimensions)
    return replace(task, embedding=normalize_stored(stored, connection.place)[0])


def hash_file(path: Path) -> str:
    """Return the content hash of a photo's file, or "" if it can't be read: embedding it will say why."""
    try:
        return hash_photo(path)
    except PhotoError:
        return ""


def landmarks_of(catalog: Catalog) -> list[Landmark]:
    """Return the landmarks of the catalog, with the page of each at Wikimedia Commons where the dataset has it."""
    from obelisk.data import read_category_links

    links = read_category_links(catalog)
    columns = catalog.landmarks.select("landmark_id", "name", "latitude", "longitude")
    return [
        Landmark(
            id=number,
            name=name,
            latitude=latitude,
            longitude=longitude,
            links=(links[number],) if number in links else (),
        )
        for number, name, latitude, longitude in columns.iter_rows()
    ]
