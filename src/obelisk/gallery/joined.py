"""Several galleries of one model, searched as one.

A landmark's id is unique in its own gallery only. In a join, the landmark n of gallery g, both counted from 0, has the
key g · 2⁵³ + n: ids end below 2⁵³, and those of the first gallery stay as they are. :attr:`References.landmark_ids` and
the keys of :attr:`References.landmarks` are such keys; a :class:`Landmark` itself keeps the id of its gallery.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from obelisk.arrays import Embeddings, Integers
from obelisk.bundled import locate_gallery
from obelisk.embedding import Bundle
from obelisk.errors import GalleryError, quote
from obelisk.gallery.columns import MAX_ID
from obelisk.gallery.exact import SearchEngine, check_fits
from obelisk.gallery.gallery import Gallery
from obelisk.gallery.schema import ReferencePhoto
from obelisk.gallery.snapshot import References
from obelisk.records import Neighbor, Progress, no_progress

IDS = MAX_ID + 1  # landmark ids that a gallery may use


class JoinedSearch:
    """Searches the rows of several engines as if they stood below each other."""

    def __init__(self, engines: Sequence[SearchEngine]) -> None:
        self._engines = engines
        self._starts = np.cumsum([0, *map(len, engines)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def dimensions(self) -> int:
        """D, the length of an embedding."""
        return self._engines[0].dimensions

    def nearest(self, queries: Embeddings, k: int) -> tuple[Integers, Embeddings]:
        """Find the k rows most similar to each query; see :class:`~obelisk.gallery.exact.SearchEngine`."""
        check_fits(k, len(self))
        found = [
            (start + indices, similarities)
            for engine, start in zip(self._engines, self._starts[:-1], strict=True)
            if len(engine)
            for indices, similarities in [engine.nearest(queries, min(k, len(engine)))]
        ]
        indices, similarities = (np.concatenate(column, axis=1) for column in zip(*found, strict=True))
        best = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(indices, best, axis=1), np.take_along_axis(similarities, best, axis=1)

    def rows(self, indices: Integers) -> Embeddings:
        """Return the embeddings (M, D) at M indices."""
        embeddings = np.empty((len(indices), self.dimensions), dtype=np.float32)
        for number, asked, rows in self.split(indices):
            embeddings[asked] = self._engines[number].rows(rows)
        return embeddings

    def split(self, indices: Integers) -> Iterator[tuple[int, Integers, Integers]]:
        """Yield the number of each engine that holds some of M row indices, which of the M these are, and its rows."""
        holders = np.searchsorted(self._starts, indices, side="right") - 1
        for number in np.unique(holders).tolist():
            asked = np.flatnonzero(holders == number)
            yield number, asked, indices[asked] - self._starts[number]


@dataclass(frozen=True, kw_only=True)
class JoinedReferences(References):
    """The reference photos of several galleries, ``parts``, at one moment; ``truth`` is that of the first."""

    parts: tuple[References, ...]
    engine: JoinedSearch

    def gallery_of(self, landmark_id: int) -> str:
        """Return how the gallery of a landmark is called."""
        return self.parts[landmark_id // IDS].name

    def photos(self, indices: Sequence[int] | Integers) -> list[ReferencePhoto]:
        """Return the photos at M indices; see :meth:`References.photos`."""
        found: dict[int, ReferencePhoto] = {}
        for number, asked, rows in self.engine.split(np.asarray(indices, dtype=np.int64)):
            found |= zip(asked.tolist(), self.parts[number].photos(rows), strict=True)
        return [found[place] for place in range(len(found))]


class JoinedGallery:
    """Several galleries of one model, read as one; to change them, change each.

    Raises :class:`GalleryError` for galleries of different models, with the command that rebuilds one.
    """

    def __init__(self, galleries: Sequence[Gallery]) -> None:
        self.galleries = tuple(galleries)
        self._joined: JoinedReferences | None = None
        first = self.galleries[0]
        for other in self.galleries[1:]:
            if other.fingerprint != first.fingerprint:
                models = " and ".join(
                    f"`{one.name}` is of model `{one.model}` (fingerprint {one.fingerprint})" for one in (first, other)
                )
                fix = f"rebuild it: obelisk gallery build NEW-GALLERY --data DIR --model {quote(first.name)}"
                raise GalleryError(f"only galleries of one model can be joined: {models}", where=other.name, fix=fix)

    def __repr__(self) -> str:
        return f"JoinedGallery({', '.join(map(repr, self.galleries))})"

    @property
    def name(self) -> str:
        """How the galleries are called."""
        return ", ".join(gallery.name for gallery in self.galleries)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the bundle that made all embeddings."""
        return self.galleries[0].fingerprint

    @property
    def model(self) -> str:
        """Name of that bundle."""
        return self.galleries[0].model

    @property
    def dimensions(self) -> int:
        """D, the length of an embedding."""
        return self.galleries[0].dimensions

    def load_bundle(self) -> Bundle:
        """Load the first gallery's copy of the bundle; raises :class:`ModelError` if it is damaged."""
        return self.galleries[0].load_bundle()

    def check_model(self, bundle: Bundle) -> None:
        """Raise :class:`GalleryError` for a bundle whose embeddings are not those of the galleries."""
        self.galleries[0].check_model(bundle)

    def references(self) -> JoinedReferences:
        """Return everything the galleries hold now; the same object until one of them changes."""
        parts = tuple(gallery.references() for gallery in self.galleries)
        joined = self._joined
        if joined is None or any(new is not known for new, known in zip(parts, joined.parts, strict=True)):
            joined = self._joined = join_references(parts)
        return joined

    def find_neighbor(self, neighbor: Neighbor) -> ReferencePhoto | None:
        """Return the photo that an answer names, or None if its gallery has it no more."""
        for gallery in self.galleries:
            if neighbor.gallery == gallery.name:
                return gallery.find_neighbor(neighbor)
        return None

    def find_neighbors(self, neighbors: Sequence[Neighbor]) -> list[ReferencePhoto | None]:
        """Return what :meth:`find_neighbor` finds for each; each gallery is read once."""
        found: dict[Neighbor, ReferencePhoto | None] = {}
        for gallery in self.galleries:
            own = [neighbor for neighbor in neighbors if neighbor.gallery == gallery.name and neighbor not in found]
            if own:
                found.update(zip(own, gallery.find_neighbors(own), strict=True))
        return [found.get(neighbor) for neighbor in neighbors]


def join_references(parts: tuple[References, ...]) -> JoinedReferences:
    """Put the reference photos of several galleries below each other."""
    engine = JoinedSearch(parts)
    return JoinedReferences(
        truth=parts[0].truth,
        ids=np.arange(len(engine)),
        landmark_ids=np.concatenate([number * IDS + part.landmark_ids for number, part in enumerate(parts)]),
        landmarks={
            number * IDS + landmark_id: landmark
            for number, part in enumerate(parts)
            for landmark_id, landmark in part.landmarks.items()
        },
        engine=engine,
        revision=sum(part.revision for part in parts),
        parts=parts,
    )


def open_galleries(
    named: Sequence[Gallery | Path | str], *, progress: Progress = no_progress
) -> Gallery | JoinedGallery:
    """Open one gallery, or several as one; the bundled one if none is named.

    One that is named twice counts once. Raises what :meth:`Gallery.open` and :class:`JoinedGallery` raise.
    """
    opened: dict[Path | str, Gallery] = {}
    for one in named or [locate_gallery(None)]:
        gallery = one if isinstance(one, Gallery) else Gallery.open(one, progress=progress)
        opened.setdefault(gallery.folder.resolve() if gallery.folder else gallery.name, gallery)
    galleries = list(opened.values())
    return galleries[0] if len(galleries) == 1 else JoinedGallery(galleries)
