"""Facts about a gallery that need no embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from obelisk.gallery import schema
from obelisk.gallery.gallery import Gallery
from obelisk.gallery.landmarks import Landmark
from obelisk.gallery.lookup import (
    all_landmark_names,
    all_landmarks,
    count_reference_photos,
    counts_and_first_rows,
    photos_by_row,
    select_photos,
)
from obelisk.gallery.snapshot import References


@dataclass(frozen=True, kw_only=True)
class GalleryFacts:
    """What a gallery holds, as ``obelisk gallery info`` prints it.

    ``places`` counts the landmarks with known coordinates, ``bytes`` all files of the folder. ``revision`` is the
    number of changes made so far.
    """

    gallery: str
    format: int
    model: str
    fingerprint: str
    dimensions: int
    landmarks: int
    places: int
    photos: int
    revision: int
    bytes: int


def gather_facts(gallery: Gallery) -> GalleryFacts:
    """Count what a gallery holds."""
    with gallery.truth.reading() as connection:
        landmarks, located = connection.execute("SELECT count(*), count(latitude) FROM landmarks").fetchone()
        return GalleryFacts(
            gallery=str(gallery.folder or gallery.name),
            format=schema.about_of(connection).format,
            model=gallery.model,
            fingerprint=gallery.fingerprint,
            dimensions=gallery.dimensions,
            landmarks=landmarks,
            places=located,
            photos=count_reference_photos(connection),
            revision=schema.read_revision(connection),
            bytes=gallery.truth.count_bytes(),
        )


def landmark_counts(gallery: Gallery) -> dict[Landmark, int]:
    """Return landmark → number of its reference photos, in the order of the landmark ids."""
    with gallery.truth.reading() as connection:
        counts = dict(connection.execute("SELECT landmark_id, count(*) FROM photos GROUP BY landmark_id").fetchall())
        return {landmark: counts.get(landmark.id, 0) for landmark in all_landmarks(connection).values()}


def describe_photos(references: References, landmark_ids: Sequence[int]) -> dict[int, tuple[int, str | None]]:
    """Return landmark id → how many reference photos it has now, and the id of the first; (0, None) without any."""
    with references.truth.reading() as connection:
        known = counts_and_first_rows(connection, landmark_ids)
        firsts = photos_by_row(connection, [row for _, row in known.values()])
    described = {landmark_id: (count, firsts[row].id) for landmark_id, (count, row) in known.items()}
    return {landmark_id: described.get(landmark_id, (0, None)) for landmark_id in landmark_ids}


def landmark_names(gallery: Gallery) -> dict[int, str]:
    """Return id → name for every landmark of a gallery."""
    with gallery.truth.reading() as connection:
        return all_landmark_names(connection)


def list_photos(gallery: Gallery) -> Iterator[dict[str, object]]:
    """Yield id, landmark, landmark id and file (None if unknown) of each photo, in the order they were added."""
    with gallery.truth.reading() as connection:
        names = all_landmark_names(connection)
        for _, photo in select_photos(connection, "TRUE ORDER BY row", ()):
            yield {
                "id": photo.id,
                "landmark": names.get(photo.landmark_id or 0),
                "landmark_id": photo.landmark_id,
                "file": None if photo.file is None else str(photo.file),
            }
