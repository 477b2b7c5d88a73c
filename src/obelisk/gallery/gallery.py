"""The durable set of reference photos with their embeddings, and search over it."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import l2_normalize
from obelisk.embedding import Bundle
from obelisk.errors import GalleryError, UsageError
from obelisk.gallery import database as store
from obelisk.gallery.ann.ivfpq import Progress, tell_nobody
from obelisk.gallery.changes import insert_references, merge_landmarks, remove_references, rename_landmark
from obelisk.gallery.embeddings import refuse_damaged
from obelisk.gallery.landmarks import Landmark
from obelisk.gallery.references import ReferencePhoto, References, select_photos
from obelisk.gallery.snapshot import read_references

MODEL = "model"


class Gallery:
    """A folder: ``gallery.sqlite`` (landmarks, photos, embeddings) and ``model/`` (the bundle they were made with).

    A change is on the disk when :meth:`add`, :meth:`remove`, :meth:`rename` or :meth:`merge` returns, and the
    next search of this object sees it. One object may be used from several threads, and one folder from
    several processes.
    """

    def __init__(self, path: Path, about: store.About, watch: Progress = tell_nobody) -> None:
        self.path = path
        self._about = about
        self._watch = watch
        self._references: References | None = None
        self._seen: tuple[int, ...] = ()
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: Path | str, bundle: Bundle) -> Gallery:
        """Make an empty gallery for the embeddings of a bundle, which is copied into it.

        The folder appears whole or not at all. Raises :class:`GalleryError` if it is already there.
        """
        path = Path(path)
        if path.exists():
            raise GalleryError("there is something in the gallery's place", where=path, fix="choose a new folder")
        return write_empty_gallery(path, bundle, complete=True)

    @classmethod
    def open(cls, path: Path | str, *, watch: Progress = tell_nobody) -> Gallery:
        """Open a gallery; one in a read-only folder can be read.

        ``watch`` is told what takes long, how much of it is done, and of how much: a large gallery is indexed
        when it is first searched. Raises :class:`GalleryError` when there is no gallery, or a half-built,
        damaged or newer one.
        """
        path = Path(path)
        about = store.read_about(path)
        if not about.complete:
            raise GalleryError("the gallery is only half-built", where=path, fix="run the same `gallery build` again")
        return cls(path, about, watch)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the bundle that all embeddings were made with."""
        return self._about.fingerprint

    @property
    def model(self) -> str:
        """The name of that bundle."""
        return self._about.model

    @property
    def dimensions(self) -> int:
        """D, the length of an embedding."""
        return self._about.dimensions

    def load_bundle(self) -> Bundle:
        """Load the gallery's own copy of the bundle; raises :class:`ModelError` if it was damaged."""
        bundle = Bundle.load(self.path / MODEL)
        self.check_model(bundle)
        return bundle

    def check_model(self, bundle: Bundle) -> None:
        """Refuse a bundle that makes other embeddings than the gallery's."""
        if bundle.fingerprint != self.fingerprint:
            raise GalleryError(
                f"the gallery was built with model `{self.model}` (fingerprint {self.fingerprint}), "
                f"not with `{bundle.name}` (fingerprint {bundle.fingerprint})",
                where=self.path,
                fix=f"rebuild it: obelisk gallery build NEW-GALLERY --data DIR --model {bundle.folder}",
            )
        if bundle.dimensions != self.dimensions:
            what = f"it states {self.dimensions} dimensions, its model gives {bundle.dimensions}"
            raise store.damaged(what, self.path)

    def references(self) -> References:
        """Return everything the gallery holds now: read once, and after a change, by whomever, what was changed.

        A large gallery gets a search index when it has none, which takes minutes (see
        :mod:`obelisk.gallery.ann.indexed`). Raises :class:`GalleryError` when a gallery of another model has taken
        this one's place.
        """
        with self._lock:
            seen = store.look_at(self.path)
            if self._references is None or seen != self._seen:
                if self._seen and seen[0] != self._seen[0]:
                    self._references = None
                    self._refuse_another(store.read_about(self.path))
                self._references = read_references(self.path, self.dimensions, self._references, self._watch)
                self._seen = seen if store.is_settled(seen) else (*seen[:1], 0)
            return self._references

    def __len__(self) -> int:
        return len(self.references())

    @property
    def landmarks(self) -> tuple[Landmark, ...]:
        """The landmarks, by id."""
        return tuple(self.references().landmarks.values())

    @property
    def photos(self) -> tuple[ReferencePhoto, ...]:
        """The reference photos, in row order, all of them read now."""
        references = self.references()
        return tuple(references.photos(np.arange(len(references))))

    def photo(self, search_id: int) -> ReferencePhoto:
        """Return the photo that :meth:`search` calls ``search_id``."""
        references = self.references()
        place = int(np.searchsorted(references.ids, search_id))
        if place == len(references) or references.ids[place] != search_id:
            raise GalleryError(f"no reference photo has the search id {search_id}", where=self.path)
        return references.photo(place)

    def find_photo(self, photo_id: str) -> ReferencePhoto | None:
        """Return the photo with the id ``photo_id``, None if the gallery has none."""
        with store.reading(self.path) as connection:
            return next((photo for _, photo in select_photos(connection, "id = ?", [photo_id])), None)

    def search(self, embeddings: NDArray[np.floating], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the k most similar reference photos for each of Q embeddings.

        ``embeddings`` is (Q, D), of any length other than 0. Returns the search ids (Q, k), see :meth:`photo`,
        and the cosine similarities (Q, k), best first; equal ones in the order they were added. Up to 200,000
        photos the search is exact; above, it finds at least 0.99 of the nearest, and its similarities are exact.
        Raises :class:`GalleryError` when k is larger than the gallery.
        """
        references = self.references()
        places, similarities = references.nearest(l2_normalize(embeddings, dimensions=self.dimensions), k)
        return references.ids[places], similarities

    def add(
        self,
        embeddings: NDArray[np.floating],
        landmarks: Sequence[Landmark | int | str],
        photos: Sequence[ReferencePhoto | str],
        *,
        replace: bool = False,
    ) -> NDArray[np.int64]:
        """Add N reference photos at once, all or none, and return their search ids (N,).

        ``embeddings`` is (N, D). ``landmarks`` says what each photo shows: the id of a landmark of the
        gallery, a name (a new landmark if none has it), or a :class:`Landmark`, which is added or updated.
        ``photos`` are their records, or just their ids. With ``replace``, photos take the place of those
        with the same id. Raises :class:`GalleryError` for a photo id that is taken or given twice, an
        unknown landmark id, and a name of several landmarks.
        """
        rows = l2_normalize(embeddings, dimensions=self.dimensions)
        if not len(rows) == len(landmarks) == len(photos):
            counts = f"{len(rows)} embeddings, {len(landmarks)} landmarks and {len(photos)} photos"
            raise UsageError(f"{counts} do not belong together", fix="give one of each for every photo")
        records = [ReferencePhoto(id=photo) if isinstance(photo, str) else photo for photo in photos]
        photo_ids = [record.id for record in records]
        twice = [photo_id for photo_id, times in Counter(photo_ids).items() if times > 1]
        if twice:
            fix = "give every photo an id of its own"
            raise GalleryError(f"the photo id `{twice[0]}` was given twice", where=self.path, fix=fix)
        with self.changing() as connection:
            new = insert_references(connection, rows, landmarks, records, replace=replace)
        return np.array(new, dtype=np.int64)

    def remove(self, *, photos: Iterable[str] = (), landmarks: Iterable[int] = ()) -> None:
        """Remove photos by id, and landmarks by id with all their photos: all or none.

        A landmark goes with its last photo. Raises :class:`GalleryError` for an id that is not there.
        """
        with self.changing() as connection:
            remove_references(connection, list(photos), list(landmarks))

    def rename(self, landmark_id: int, name: str) -> None:
        """Give a landmark another name.

        Raises :class:`GalleryError` for an id that is not there, and a name that another landmark has.
        """
        with self.changing() as connection:
            rename_landmark(connection, landmark_id, name)

    def merge(self, landmark_ids: Iterable[int], into: int, *, name: str | None = None) -> None:
        """Give all photos of some landmarks to the one with the id ``into``, and remove those: all or none.

        It may be among them, and gets a new ``name`` if one is given. Raises :class:`GalleryError` for an id
        that is not there, and a name that another landmark has.
        """
        with self.changing() as connection:
            merge_landmarks(connection, landmark_ids, into)
            if name is not None:
                rename_landmark(connection, into, name)

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Open the database for one change, which the next search sees.

        Raises :class:`GalleryError` when a gallery of another model has taken this one's place, and for damage that
        is seen without a look at every row.
        """
        with store.writing(self.path) as connection:
            self._refuse_another(store.about_of(connection, self.path))
            refuse_damaged(connection, self.dimensions, self.path)
            try:
                yield connection
            except GalleryError as error:
                raise GalleryError(error.what, where=error.where or self.path, fix=error.fix) from error

    def _refuse_another(self, about: store.About) -> None:
        """Refuse to go on with a gallery of another model."""
        if about.fingerprint != self.fingerprint:
            what = "the gallery was replaced by one of another model"
            raise GalleryError(what, where=self.path, fix="open it again")


def write_empty_gallery(path: Path, bundle: Bundle, *, complete: bool) -> Gallery:
    """Write an empty gallery; its folder appears whole or not at all."""
    about = store.About(
        model=bundle.name, fingerprint=bundle.fingerprint, dimensions=bundle.dimensions, complete=complete
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as made:
        folder = Path(made) / path.name
        bundle.save_to(folder / MODEL)
        store.create_database(folder, about)
        store.settle(folder, path)
    return Gallery(path, about)
