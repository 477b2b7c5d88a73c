"""What can be told of a gallery without reading its embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from obelisk.gallery import database as store
from obelisk.gallery.gallery import Gallery
from obelisk.gallery.landmarks import Landmark


@dataclass(frozen=True, kw_only=True)
class GalleryFacts:
    """What a gallery holds; ``places`` counts the landmarks whose place is known, ``bytes`` those on the disk."""

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
    with store.reading(gallery.path) as connection:
        landmarks, places = connection.execute("SELECT count(*), count(latitude) FROM landmarks").fetchone()
        return GalleryFacts(
            gallery=str(gallery.path),
            format=store.about_of(connection, gallery.path).format,
            model=gallery.model,
            fingerprint=gallery.fingerprint,
            dimensions=gallery.dimensions,
            landmarks=landmarks,
            places=places,
            photos=connection.execute("SELECT count(*) FROM photos").fetchone()[0],
            revision=store.read_revision(connection),
            bytes=count_bytes(gallery.path),
        )


def count_bytes(folder: Path) -> int:
    """Return how many bytes the files of a folder have."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def count_photos(gallery: Gallery) -> dict[Landmark, int]:
    """Return the landmarks of a gallery, by id, each with the number of its photos."""
    count = "SELECT count(*) FROM photos WHERE landmark_id = landmarks.id"
    with store.reading(gallery.path) as connection:
        rows = connection.execute(f"SELECT id, name, latitude, longitude, ({count}) FROM landmarks ORDER BY id")
        return {Landmark(id=row[0], name=row[1], latitude=row[2], longitude=row[3]): row[4] for row in rows}


def landmark_names(gallery: Gallery) -> dict[int, str]:
    """Return the names of a gallery's landmarks, by id."""
    with store.reading(gallery.path) as connection:
        return dict(connection.execute("SELECT id, name FROM landmarks ORDER BY id").fetchall())
