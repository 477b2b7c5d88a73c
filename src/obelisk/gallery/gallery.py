"""A gallery: a durable set of reference photos with their embeddings, and search over it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Embeddings, Integers, l2_normalize
from obelisk.embedding import Bundle
from obelisk.errors import GalleryError, UsageError
from obelisk.gallery import schema
from obelisk.gallery.changes import insert_references, merge_landmarks, remove_references, rename_landmark
from obelisk.gallery.embeddings import refuse_damaged
from obelisk.gallery.landmarks import Landmark
from obelisk.gallery.lookup import count_landmarks, count_reference_photos, photo_with_id, photos_by_id, photos_by_row
from obelisk.gallery.places import open_truth
from obelisk.gallery.schema import About, ReferencePhoto
from obelisk.gallery.snapshot import References, read_references
from obelisk.gallery.truth import State, Tables, Truth
from obelisk.records import Neighbor, Progress, no_progress


class Gallery:
    """A folder: ``gallery.sqlite`` (landmarks, photos, embeddings) and ``model/`` (the bundle they were made with).

    When :meth:`add`, :meth:`remove`, :meth:`rename` or :meth:`merge` returns, the change is on the disk, and the next
    search sees it. Threads may share one object, and processes one folder.

    >>> import obelisk
    >>> gallery = obelisk.Gallery.open("bundled")
    >>> queries = gallery.references().rows([0, 1])  # two of its own embeddings, as an example
    >>> ids, similarities = gallery.search(queries, k=3)
    >>> ids.shape, similarities.round(4)[:, 0].tolist()
    ((2, 3), [1.0, 1.0])
    >>> gallery.photo(ids[0, 0]) == gallery.photos[0]
    True
    """

    def __init__(self, truth: Truth, about: About, progress: Progress = no_progress) -> None:
        self.truth = truth
        self.about = about
        self._progress = progress
        self._references: References | None = None
        self._state: State = ()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        try:
            with self.truth.reading() as connection:
                landmarks, photos = count_landmarks(connection), count_reference_photos(connection)
        except GalleryError:
            return f"Gallery({self.name!r}, model {self.model})"
        return f"Gallery({self.name!r}, {landmarks:,} landmarks, {photos:,} photos, model {self.model})"

    def _repr_html_(self) -> str:
        from obelisk.gallery.gallery_card import draw_gallery

        return draw_gallery(self)

    @classmethod
    def create(cls, path: Path | str, bundle: Bundle) -> Gallery:
        """Create an empty gallery for the embeddings of a bundle, which is copied into it.

        ``path`` is a folder, or the address of a database. The gallery appears complete or not at all. Raises
        :class:`GalleryError` if there is something already.
        """
        truth = open_truth(path)
        if truth.folder is not None and truth.folder.exists():
            raise GalleryError("this path already exists", where=path, fix="choose a new folder")
        truth.create(About.of(bundle, complete=True), bundle)
        return cls(truth, truth.about())

    @classmethod
    def open(cls, path: Path | str, *, progress: Progress = no_progress) -> Gallery:
        """Open a gallery, by its folder, the word ``bundled``, or the address of a database (``postgresql://…``).

        A read-only folder or database will do for reading and searching.

        ``progress`` is called while a large gallery is indexed, which happens at its first search. Raises
        :class:`GalleryError` if there is no gallery, or a half-built, damaged or newer one.
        """
        truth = open_truth(path)
        about = truth.about()
        if not about.complete:
            what, fix = "the gallery is only half-built", "run the same `gallery build`, `push` or `pull` again"
            raise GalleryError(what, where=truth.name, fix=fix)
        return cls(truth, about, progress)

    @property
    def name(self) -> str:
        """How the gallery is called: ``bundled``, its path, or its address without a password."""
        return self.truth.name

    @property
    def folder(self) -> Path | None:
        """The gallery's folder; None if it is in a database."""
        return self.truth.folder

    @property
    def path(self) -> Path:
        """The gallery's folder; raises :class:`GalleryError` if it is in a database."""
        if self.truth.folder is None:
            raise GalleryError("the gallery is in a database, and has no folder", where=self.name)
        return self.truth.folder

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the bundle that made all embeddings."""
        return self.about.fingerprint

    @property
    def model(self) -> str:
        """Name of that bundle."""
        return self.about.model

    @property
    def dimensions(self) -> int:
        """D, the length of an embedding."""
        return self.about.dimensions

    def load_bundle(self) -> Bundle:
        """Load the gallery's own copy of the bundle; raises :class:`ModelError` if it is damaged or missing."""
        bundle = self.truth.load_bundle(self.about)
        self.check_model(bundle)
        return bundle

    def check_model(self, bundle: Bundle) -> None:
        """Raise :class:`GalleryError` for a bundle whose embeddings are not those of the gallery."""
        if bundle.fingerprint != self.fingerprint:
            raise GalleryError(
                f"the gallery was built with model `{self.model}` (fingerprint {self.fingerprint}), "
                f"not with `{bundle.name}` (fingerprint {bundle.fingerprint})",
                where=self.name,
                fix=f"rebuild it: obelisk gallery build NEW-GALLERY --data DIR --model {bundle.folder}",
            )
        if bundle.dimensions != self.dimensions:
            what = f"it states {self.dimensions} dimensions, its model gives {bundle.dimensions}"
            raise schema.damage_error(what, self.folder or self.name)

    def references(self) -> References:
        """Return what the gallery holds now; after a change, whoever made it, only the changes are read.

        A large gallery that has no search index gets one, which takes minutes (see
        :mod:`obelisk.gallery.ann.indexed`). Raises :class:`GalleryError` if a gallery of another model has taken the
        place of this one.
        """
        with self._lock:
            state = self.truth.state()
            if self._references is None or state != self._state:
                lasting = self.truth.shows_later_changes(state)  # asked now: a change may come while we read
                if self._state and state[0] != self._state[0]:
                    self._references = None
                    self._refuse_another(self.truth.about())
                self._references = read_references(self.truth, self.dimensions, self._references, self._progress)
                # A state that may hide the next change is not remembered: the next call looks again.
                self._state = state if lasting else (*state[:1], 0)
            return self._references

    def __len__(self) -> int:
        return len(self.references())

    @property
    def landmarks(self) -> tuple[Landmark, ...]:
        """All landmarks, in the order of their ids."""
        return tuple(self.references().landmarks.values())

    @property
    def photos(self) -> tuple[ReferencePhoto, ...]:
        """All reference photos, in the order they were added; each access reads them from the database."""
        references = self.references()
        return tuple(references.photos(references.labels.numbers()))

    def photo(self, search_id: int) -> ReferencePhoto:
        """Return the photo with a search id; raises :class:`GalleryError` if there is none."""
        with self.truth.reading() as connection:
            found = photos_by_row(connection, [int(search_id)])
        if not found:
            raise GalleryError(f"no reference photo has the search id {search_id}", where=self.name)
        return found[int(search_id)]

    def find_photo(self, photo_id: str) -> ReferencePhoto | None:
        """Return the photo with an id, or None if the gallery has no such photo."""
        with self.truth.reading() as connection:
            return photo_with_id(connection, photo_id)

    def find_neighbor(self, neighbor: Neighbor) -> ReferencePhoto | None:
        """Return the photo that an answer names, or None if the gallery has it no more."""
        return self.find_photo(neighbor.id)

    def find_neighbors(self, neighbors: Sequence[Neighbor]) -> list[ReferencePhoto | None]:
        """Return what :meth:`find_neighbor` finds for each, all read at once."""
        photo_ids = [neighbor.id for neighbor in neighbors]
        found = self.references().recent_photos(photo_ids)
        if missing := [photo_id for photo_id in photo_ids if photo_id not in found]:
            with self.truth.reading() as connection:
                found |= photos_by_id(connection, missing)
        return [found.get(neighbor.id) for neighbor in neighbors]

    def search(self, embeddings: NDArray[np.floating], k: int) -> tuple[Integers, Embeddings]:
        """Find the k most similar reference photos for each of Q embeddings.

        ``embeddings`` is (Q, D); it is normalized first. Returns the search ids (Q, k), which :meth:`photo` takes,
        and the cosine similarities (Q, k) in [-1, 1], best first; equal ones in the order they were added.

        Up to 200,000 photos the search is exact. Above, an index finds at least 0.99 of the nearest, and their
        similarities are exact. Raises :class:`GalleryError` if k is larger than the gallery, and :class:`UsageError`
        for another D and for a row that is zero or not finite.
        """
        references = self.references()
        numbers, similarities = references.nearest(l2_normalize(embeddings, dimensions=self.dimensions), k)
        return references.search_ids(numbers), similarities

    def add(
        self,
        embeddings: NDArray[np.floating],
        landmarks: Sequence[Landmark | int | str],
        photos: Sequence[ReferencePhoto | str],
        *,
        replace: bool = False,
    ) -> Integers:
        """Add N reference photos at once, all or none; return their search ids (N,).

        ``embeddings`` is (N, D); it is normalized first. ``landmarks`` says what each photo shows: the id of a
        landmark of the gallery, a name (a new landmark if none has it), or a :class:`Landmark`, which is added or
        updated. ``photos`` are their records, or just their ids. With ``replace``, photos take the place of those
        with the same id.

        Raises :class:`GalleryError` for a photo id that is taken or given twice, an unknown landmark id, and a name
        that several landmarks have; :class:`UsageError` for arguments of different lengths.
        """
        rows = l2_normalize(embeddings, dimensions=self.dimensions)
        if not len(rows) == len(landmarks) == len(photos):
            counts = f"{len(rows)} embeddings, {len(landmarks)} landmarks and {len(photos)} photos"
            raise UsageError(f"{counts} do not match", fix="give one of each for every photo")
        records = [ReferencePhoto(id=photo) if isinstance(photo, str) else photo for photo in photos]
        photo_ids = [record.id for record in records]
        twice = [photo_id for photo_id, times in Counter(photo_ids).items() if times > 1]
        if twice:
            fix = "give every photo an id of its own"
            raise GalleryError(f"the photo id `{twice[0]}` was given twice", where=self.name, fix=fix)
        with self.changing() as connection:
            ids = insert_references(connection, rows, landmarks, records, replace=replace)
        return np.array(ids, dtype=np.int64)

    def remove(self, *, photos: Iterable[str] = (), landmarks: Iterable[int] = ()) -> None:
        """Remove photos by id, and landmarks by id with all their photos: all or none.

        A landmark goes with its last photo. Raises :class:`GalleryError` for an unknown id.
        """
        with self.changing() as connection:
            remove_references(connection, list(photos), list(landmarks))

    def rename(self, landmark_id: int, name: str) -> None:
        """Rename a landmark.

        Raises :class:`GalleryError` for an unknown id, and for a name that another landmark has.
        """
        with self.changing() as connection:
            rename_landmark(connection, landmark_id, name)

    def merge(self, landmark_ids: Iterable[int], into: int, *, name: str | None = None) -> None:
        """Move all photos of some landmarks to the one with the id ``into``, and remove the others: all or none.

        ``into`` may be one of them, and is renamed if a ``name`` is given. Raises :class:`GalleryError` for an
        unknown id, and for a name that another landmark has.
        """
        with self.changing() as connection:
            merge_landmarks(connection, landmark_ids, into)
            if name is not None:
                rename_landmark(connection, into, name)

    def own_calibration(self) -> str | None:
        """Return the calibration that the gallery's own references gave, as JSON; None if there is none."""
        with self.truth.reading() as connection:
            kept = schema.read_own_calibration(connection)
        return kept[0] if kept else None

    def read_state(self) -> str:
        """Return the name of the gallery's state, another one after every change; "" if its format is too old."""
        with self.truth.reading() as connection:
            return schema.read_state_name(connection)

    def keep_calibration(self, content: str) -> None:
        """Keep a calibration, as JSON, in place of the former one."""
        with self.changing() as connection:
            schema.keep_own_calibration(connection, content)

    @contextmanager
    def changing(self) -> Iterator[Tables]:
        """Begin a transaction that changes the gallery, which the next search sees.

        Raises :class:`GalleryError` if a gallery of another model has taken the place of this one, and for damage in
        the newest photos.
        """
        with self.truth.writing() as connection:
            self._refuse_another(schema.about_of(connection))
            refuse_damaged(connection, self.dimensions)
            try:
                yield connection
            except GalleryError as error:
                raise GalleryError(error.what, where=error.where or self.name, fix=error.fix) from error

    def _refuse_another(self, about: About) -> None:
        """Raise :class:`GalleryError` for a gallery of another model."""
        if about.fingerprint != self.fingerprint:
            what = "the gallery was replaced by one of another model"
            raise GalleryError(what, where=self.name, fix="open it again")
