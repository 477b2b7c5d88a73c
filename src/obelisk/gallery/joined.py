"""Several galleries of one model, searched as one.

A landmark's id is unique in its own gallery only. In a join, the landmark n of gallery g, both counted from 0, has the
key g · 2⁵³ + n: ids end below 2⁵³, and those of the first gallery stay as they are. Labels and
:attr:`References.landmarks` tell landmarks by these keys; a :class:`Landmark` itself keeps the id of its gallery.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from obelisk.arrays import Embeddings, Integers
from obelisk.bundled import locate_gallery
from obelisk.embedding import Bundle
from obelisk.errors import GalleryError, quote
from obelisk.gallery.columns import MAX_ID
from obelisk.gallery.exact import SearchEngine, check_fits
from obelisk.gallery.gallery import Gallery
from obelisk.gallery.photo_labels import Labels
from obelisk.gallery.schema import ReferencePhoto
from obelisk.gallery.snapshot import References
from obelisk.records import Neighbor, Progress, no_progress

IDS = MAX_ID + 1  # landmark ids that a gallery may use


class Numbering:
    """Numbers the photos of several galleries: those of each begin after the ``spans`` of the ones before it.

    Raises :class:`GalleryError` where numbers run out.
    """

    def __init__(self, spans: Sequence[int]) -> None:
        if sum(spans) > np.iinfo(np.int64).max:
            raise GalleryError("the search ids of the galleries are too large to join them", fix="name fewer of them")
        self.starts = np.cumsum([0, *spans], dtype=np.int64)

    def split(self, numbers: Integers) -> Iterator[tuple[int, Integers, Integers]]:
        """Yield each gallery that has some of M numbers, which of the M these are, and how the gallery numbers them."""
        holders = np.searchsorted(self.starts, numbers, side="right") - 1
        for gallery in np.unique(holders).tolist():
            asked = np.flatnonzero(holders == gallery)
            yield gallery, asked, numbers[asked] - self.starts[gallery]


class JoinedSearch:
    """Searches the rows of several engines as if they stood below each other."""

    def __init__(self, engines: Sequence[SearchEngine], numbering: Numbering) -> None:
        self._engines, self._numbering = engines, numbering

    def __len__(self) -> int:
        return sum(map(len, self._engines))

    @property
    def dimensions(self) -> int:
        """D, the length of an embedding."""
        return self._engines[0].dimensions

    def nearest(self, queries: Embeddings, k: int) -> tuple[Integers, Embeddings]:
        """Find the k rows most similar to each query; see :class:`~obelisk.gallery.exact.SearchEngine`."""
        check_fits(k, len(self))
        found = [
            (start + numbers, similarities)
            for engine, start in zip(self._engines, self._numbering.starts[:-1], strict=True)
            if len(engine)
            for numbers, similarities in [engine.nearest(queries, min(k, len(engine)))]
        ]
        numbers, similarities = (np.concatenate(column, axis=1) for column in zip(*found, strict=True))
        best = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(numbers, best, axis=1), np.take_along_axis(similarities, best, axis=1)

    def rows(self, numbers: Integers) -> Embeddings:
        """Return the embeddings (M, D) of M photos."""
        embeddings = np.empty((len(numbers), self.dimensions), dtype=np.float32)
        for gallery, asked, own in self._numbering.split(numbers):
            embeddings[asked] = self._engines[gallery].rows(own)
        return embeddings


class JoinedLabels:
    """The landmarks, by their keys, of the photos of several galleries.

    See :class:`~obelisk.gallery.photo_labels.Labels`.
    """

    def __init__(self, parts: Sequence[Labels], numbering: Numbering) -> None:
        self._parts, self._numbering = parts, numbering

    @cached_property
    def landmarks(self) -> Integers:
        """The keys (C,) of the landmarks that have photos, ascending."""
        return np.concatenate([gallery * IDS + part.landmarks for gallery, part in enumerate(self._parts)])

    @property
    def span(self) -> int:
        """A number above those of all photos."""
        return int(self._numbering.starts[-1])

    def numbers(self) -> Integers:
        """Return the numbers (N,) of all photos, ascending."""
        starts = self._numbering.starts[:-1]
        return np.concatenate([start + part.numbers() for start, part in zip(starts, self._parts, strict=True)])

    def of(self, numbers: Integers) -> Integers:
        """Return the landmarks of photos, in the shape of their numbers."""
        keys = np.empty(numbers.size, dtype=np.int64)
        for gallery, asked, own in self._numbering.split(numbers.ravel()):
            keys[asked] = gallery * IDS + self._parts[gallery].of(own)
        return keys.reshape(numbers.shape)

    def photos_of(self, landmark_ids: Integers) -> list[Integers]:
        """Return the numbers of the photos of each landmark, ascending."""
        found: dict[int, Integers] = {}
        for gallery in np.unique(landmark_ids // IDS).tolist():
            asked = np.flatnonzero(landmark_ids // IDS == gallery)
            photos = self._parts[gallery].photos_of(landmark_ids[asked] % IDS)
            found |= zip(asked.tolist(), (self._numbering.starts[gallery] + own for own in photos), strict=True)
        return [found[place] for place in range(len(landmark_ids))]


@dataclass(frozen=True, kw_only=True)
class JoinedReferences(References):
    """The reference photos of several galleries, ``parts``, at one moment; ``truth`` is that of the first."""

    parts: tuple[References, ...]
    numbering: Numbering

    def gallery_of(self, landmark_id: int) -> str:
        """Return how the gallery of a landmark is called."""
        return self.parts[landmark_id // IDS].name

    def photos(self, numbers: Sequence[int] | Integers) -> list[ReferencePhoto]:
        """Return M photos; see :meth:`References.photos`."""
        found: dict[int, ReferencePhoto] = {}
        for gallery, asked, own in self.numbering.split(np.asarray(numbers, dtype=np.int64)):
            found |= zip(asked.tolist(), self.parts[gallery].photos(own), strict=True)
        return [found[place] for place in range(len(found))]

    def refuse_edited(self) -> None:
        """Raise :class:`GalleryChangedError` if one of the galleries was edited since."""
        for part in self.parts:
            part.refuse_edited()


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
    labels = [part.labels for part in parts]
    numbering = Numbering([one.span for one in labels])
    return JoinedReferences(
        truth=parts[0].truth,
        labels=JoinedLabels(labels, numbering),
        landmarks={
            number * IDS + landmark_id: landmark
            for number, part in enumerate(parts)
            for landmark_id, landmark in part.landmarks.items()
        },
        engine=JoinedSearch(parts, numbering),
        revision=sum(part.revision for part in parts),
        parts=parts,
        numbering=numbering,
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
