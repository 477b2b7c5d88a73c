"""Copy a gallery to where another truth keeps it: from a folder to a database, or back.

Batches of photos are committed one by one, each known by its ids and content hashes, so that a copy which was
interrupted goes on where it stopped, and one that is there already is only compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Embeddings, Integers
from obelisk.embedding import LARGEST_JSON
from obelisk.errors import GalleryError
from obelisk.gallery import schema
from obelisk.gallery.changes import insert_references, move_photos, write_landmarks
from obelisk.gallery.embeddings import join_blobs, normalize_stored, pick_embeddings, read_embeddings
from obelisk.gallery.exact import nearest_rows
from obelisk.gallery.follow_plan import batches
from obelisk.gallery.gallery import Gallery
from obelisk.gallery.landmarks import Landmark
from obelisk.gallery.lookup import (
    all_landmarks,
    count_landmarks,
    count_reference_photos,
    photos_with_ids,
    select_photos,
)
from obelisk.gallery.schema import About, ReferencePhoto
from obelisk.gallery.truth import Tables, Truth
from obelisk.records import Progress, no_progress

CALIBRATION_FILE = "calibration.json"
BATCH = 4096  # photos of one transaction
SAMPLE = 100  # photos that the recall is measured with
NEAREST_MEASURED = 10
WHOLE = 1 << 128


@dataclass(frozen=True, kw_only=True)
class PushReport:
    """What a copy did, and what there is now.

    ``new``, ``changed`` and ``unchanged`` count the photos of the origin; ``more`` are photos of the copy that the
    origin does not have, which stay. ``digests`` are the content hashes of the origin's photos at both places.
    ``recall`` is the share of the 10 nearest photos that the copy's search finds, measured with a sample.
    """

    gallery: Gallery
    landmarks: int
    photos: int
    new: int
    changed: int
    unchanged: int
    more: int
    digests: tuple[str, str]
    recall: float | None = None

    @property
    def same(self) -> bool:
        """Whether the copy has every photo of the origin as it is there."""
        return self.digests[0] == self.digests[1]


def push_gallery(
    origin: Gallery, target: Truth, *, recall: bool = True, progress: Progress = no_progress
) -> PushReport:
    """Copy a gallery with its model to another truth, or bring the copy up to date; photos that only it has stay.

    Raises :class:`GalleryError` if another gallery, or one of another model, is there.
    """
    bundle = origin.load_bundle()
    if not target.exists():
        target.create(About.of(bundle, complete=False), bundle)
        adopt_identity(origin.truth, target)
    about = target.about()
    refuse_another(origin, target, about)
    target.adopt_attachments(about, bundle)
    with origin.truth.reading() as source:
        landmarks, total = all_landmarks(source), count_reference_photos(source)
        put_landmarks(target, landmarks)
        counts, digests = copy_photos(source, target, landmarks, origin.dimensions, total, progress)
        calibration = schema.read_own_calibration(source)
    own = origin.truth.read_file(CALIBRATION_FILE, LARGEST_JSON)
    if own is not None and own != target.read_file(CALIBRATION_FILE, LARGEST_JSON):
        target.write_file(CALIBRATION_FILE, own)
    complete_copy(target, calibration[0] if calibration else None)
    gallery = Gallery(target, target.about(), progress)
    with target.reading() as tables:
        there, landmarks_there = count_reference_photos(tables), count_landmarks(tables)
    new, changed, unchanged = counts.tolist()
    return PushReport(
        gallery=gallery,
        landmarks=landmarks_there,
        photos=there,
        new=new,
        changed=changed,
        unchanged=unchanged,
        more=there - total,
        digests=digests,
        recall=measure_recall(gallery) if recall and there else None,
    )


def adopt_identity(origin: Truth, target: Truth) -> None:
    """Give a new copy the identity of its origin, by which the next copy knows it."""
    with origin.reading() as source:
        identity = schema.read_identity(source)
    with target.writing() as tables:
        tables.execute(schema.SET_ENTRY, ("identity", identity))


def refuse_another(origin: Gallery, target: Truth, about: About) -> None:
    """Raise :class:`GalleryError` if what is there is no copy of the gallery."""
    if about.fingerprint != origin.fingerprint:
        what = f"the gallery there is of model `{about.model}` (fingerprint {about.fingerprint}), not `{origin.model}`"
        raise GalleryError(what, where=target.name, fix="name another folder, or another schema: ?schema=NAME")
    with origin.truth.reading() as source, target.reading() as tables:
        if schema.read_identity(source) != schema.read_identity(tables):
            fix = "name another folder, or another schema: ?schema=NAME"
            raise GalleryError("another gallery is there, which stays as it is", where=target.name, fix=fix)


def put_landmarks(target: Truth, landmarks: dict[int, Landmark]) -> None:
    """Write the landmarks that the copy lacks, or has otherwise."""
    with target.reading() as tables:
        known = all_landmarks(tables)
    missing = [landmark for number, landmark in landmarks.items() if known.get(number) != landmark]
    for batch in batches(missing, BATCH):
        with target.writing() as tables:
            write_landmarks(tables, *batch)
            schema.mark_edited(tables)


def read_batches(source: Tables, dimensions: int) -> Iterator[tuple[list[ReferencePhoto], NDArray[np.float16]]]:
    """Yield the photos of a gallery in the order they were added, with their stored embeddings (N, D)."""
    for batch in batches(select_photos(source, "TRUE ORDER BY row", ()), BATCH):
        rows = np.array([row for row, _ in batch], dtype=np.int64)
        yield [photo for _, photo in batch], read_embeddings(source, rows, dimensions)


def copy_photos(
    source: Tables, target: Truth, landmarks: dict[int, Landmark], dimensions: int, total: int, progress: Progress
) -> tuple[NDArray[np.int64], tuple[str, str]]:
    """Copy what the target lacks of all photos; return how many were new, changed and unchanged, and both digests.

    While a batch is written, another thread reads the one before back.
    """
    counts = np.zeros(3, dtype=np.int64)
    given, there = 0, 0
    reading: Future[int] | None = None
    with ThreadPoolExecutor(1) as beside:
        for photos, vectors in read_batches(source, dimensions):
            counts += put_batch(target, landmarks, photos, vectors)
            given += digest_photos(photos, vectors)
            there += reading.result() if reading else 0
            reading = beside.submit(digest_at, target, photos, dimensions)
            progress("copying photos", int(counts.sum()), total)
    there += reading.result() if reading else 0
    return counts, (f"{given % WHOLE:032x}", f"{there % WHOLE:032x}")


def put_batch(
    target: Truth, landmarks: dict[int, Landmark], photos: Sequence[ReferencePhoto], vectors: NDArray[np.float16]
) -> list[int]:
    """Write what the copy lacks of some photos; return how many were new, changed and unchanged."""
    with target.reading() as tables:
        known = photos_with_ids(tables, [photo.id for photo in photos])
    absent, moved = [], []
    for index, photo in enumerate(photos):
        row, there = known.get(photo.id, (0, None))
        if there is None or there.content_hash != photo.content_hash:
            absent.append(index)
        elif there != photo:
            moved.append((row, photo))
    replaced = sum(photos[index].id in known for index in absent)
    if absent or moved:
        with target.writing() as tables:
            shown = [landmarks[photos[index].landmark_id or 0].id for index in absent]
            # As they are stored, bit for bit: they are not rounded again.
            insert_references(tables, vectors[absent], shown, [photos[index] for index in absent], replace=True)
            move_photos(tables, moved, [photo.landmark_id or 0 for _, photo in moved])
    changed = replaced + len(moved)
    return [len(absent) - replaced, changed, len(photos) - len(absent) - len(moved)]


def digest_at(target: Truth, photos: Sequence[ReferencePhoto], dimensions: int) -> int:
    """Return the digest of what the copy has of some photos."""
    with target.reading() as tables:
        found = dict(photos_with_ids(tables, [photo.id for photo in photos]).values())
        _, vectors = pick_embeddings(tables, sorted(found), dimensions)
    return digest_photos([found[row] for row in sorted(found)], vectors)


def digest_photos(photos: Sequence[ReferencePhoto], vectors: NDArray[np.float16]) -> int:
    """Return a digest of photos and their stored embeddings that does not depend on their order."""
    total = 0
    for photo, vector in zip(photos, vectors, strict=True):
        record = (photo.id, photo.content_hash, photo.landmark_id, photo.author, photo.licence)
        digest = blake2b(repr(record).encode("utf-8", "surrogatepass"), digest_size=16)
        digest.update(vector.tobytes())
        total += int.from_bytes(digest.digest())
    return total % WHOLE


def complete_copy(target: Truth, calibration: str | None) -> None:
    """Give a copy the calibration of its origin, and mark it as complete; one that is so already stays untouched."""
    with target.reading() as tables:
        kept = schema.read_own_calibration(tables)
        if schema.about_of(tables).complete and (kept[0] if kept else None) == calibration:
            return
    with target.writing() as tables:
        if calibration is not None:
            schema.keep_own_calibration(tables, calibration)
        schema.mark_complete(tables)


def measure_recall(gallery: Gallery, *, seed: int = 0) -> float:
    """Return the share of the 10 nearest photos that the gallery's search finds, for a sample of its photos."""
    references = gallery.references()
    k = min(NEAREST_MEASURED, len(references))
    numbers = references.labels.numbers()
    sample = np.random.default_rng(seed).choice(numbers, min(SAMPLE, len(numbers)), replace=False)
    queries = references.rows(np.sort(sample))
    found, _ = references.nearest(queries, k)
    found, truly = references.search_ids(found), nearest_of_all(gallery, queries, k)
    return float(np.mean([len(set(one) & set(other)) / k for one, other in zip(found, truly, strict=True)]))


def nearest_of_all(gallery: Gallery, queries: Embeddings, k: int) -> Integers:
    """Return the search ids (Q, k) of the nearest photos, compared with every one."""
    best = np.full((len(queries), k), -2.0, dtype=np.float32)
    rows = np.zeros((len(queries), k), dtype=np.int64)
    with gallery.truth.reading() as tables:
        stream = tables.stream("SELECT row, vector FROM embeddings ORDER BY row")
        for batch in batches(stream, BATCH):
            numbers, blobs = zip(*batch, strict=True)
            stored = join_blobs(blobs, (len(batch), gallery.dimensions), tables.place)
            indices, similarities = nearest_rows(queries, normalize_stored(stored, tables.place), min(k, len(batch)))
            rows = np.concatenate([rows, np.array(numbers, dtype=np.int64)[indices]], axis=1)
            best = np.concatenate([best, similarities], axis=1)
            order = np.argsort(-best, axis=1, kind="stable")[:, :k]
            rows, best = np.take_along_axis(rows, order, axis=1), np.take_along_axis(best, order, axis=1)
    return rows
