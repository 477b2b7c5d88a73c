"""A gallery at one moment: read in full the first time, and after a change only what was changed.

A gallery that is small enough to be searched exactly is held in memory whole. Of one that is searched by an index, only
what grows with its landmarks is, and the photos added since the index was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np

from obelisk.arrays import Embeddings, Integers
from obelisk.errors import GalleryChangedError
from obelisk.gallery import schema
from obelisk.gallery.ann import indexed
from obelisk.gallery.ann.candidates import Candidates
from obelisk.gallery.ann.engines import open_candidates
from obelisk.gallery.ann.indexed import IndexedSearch, load_index
from obelisk.gallery.embeddings import normalize_stored, read_embeddings
from obelisk.gallery.exact import ExactSearch, SearchEngine
from obelisk.gallery.landmarks import Landmark
from obelisk.gallery.lookup import (
    all_landmarks,
    count_photos_after,
    count_reference_photos,
    landmarks_with_photos,
    last_photo_row,
    photos_by_row,
    select_landmarks,
)
from obelisk.gallery.photo_labels import AskedLabels, HeldLabels, Labels
from obelisk.gallery.schema import ReferencePhoto
from obelisk.gallery.truth import Tables, Truth
from obelisk.records import Progress

RECENT_PHOTOS = 1000


@dataclass(frozen=True, kw_only=True)
class References:
    """All N reference photos of a gallery at one moment; a number n is the same photo everywhere.

    ==================  ===========================================================================================
    ``labels``          which landmark each photo shows, and the numbers of the photos
    ``landmarks``       landmark id → landmark, in the order of the ids
    ``revision``        number of changes made to the gallery until then
    ``engine``          the search over the embeddings; :meth:`nearest` and :meth:`rows` are its own
    ``held_ids``        (N,) int64, the search ids, if the gallery is held in memory; else a number is a search id
    ==================  ===========================================================================================

    Photos of a gallery that is held in memory have the numbers 0 to N − 1, in the order they were added. The records of
    the photos stay in the database until :meth:`photo` or :meth:`photos` asks for them.
    """

    truth: Truth
    labels: Labels
    landmarks: dict[int, Landmark]
    engine: SearchEngine
    revision: int = 0
    held_ids: Integers | None = None

    def __len__(self) -> int:
        return len(self.engine)

    @property
    def dimensions(self) -> int:
        """D, the length of an embedding."""
        return self.engine.dimensions

    @property
    def ids(self) -> Integers:
        """The search ids (N,) of all photos, ascending; read anew each time if the gallery is not held in memory."""
        return self.labels.numbers() if self.held_ids is None else self.held_ids

    @property
    def landmark_ids(self) -> Integers:
        """The landmark ids (N,) of all photos; read anew each time if the gallery is not held in memory."""
        return self.labels.of(self.labels.numbers())

    def search_ids(self, numbers: Integers) -> Integers:
        """Return the search ids of photos, in the shape of their numbers."""
        return numbers if self.held_ids is None else self.held_ids[numbers]

    @property
    def last_row(self) -> int:
        """The largest search id; 0 if there is no photo."""
        if self.held_ids is None:
            return self.labels.span - 1
        return int(self.held_ids[-1]) if len(self.held_ids) else 0

    def nearest(self, queries: Embeddings, k: int) -> tuple[Integers, Embeddings]:
        """Find the k most similar photos for each unit-norm query (Q, D): numbers (Q, k), similarities (Q, k)."""
        return self.engine.nearest(queries, k)

    def rows(self, numbers: Integers) -> Embeddings:
        """Return the unit-norm float32 embeddings (M, D) of M photos."""
        return self.engine.rows(numbers)

    @cached_property
    def name(self) -> str:
        """How the gallery is called."""
        return self.truth.name

    def gallery_of(self, landmark_id: int) -> str:
        """Return how the gallery of a landmark is called."""
        return self.name

    def photo(self, number: int) -> ReferencePhoto:
        """Return the photo with a number."""
        return self.photos([number])[0]

    def photos(self, numbers: Sequence[int] | Integers) -> list[ReferencePhoto]:
        """Return M photos, read together.

        A photo that was removed since has an empty id, and only its landmark. Raises :class:`GalleryChangedError` if
        not even that is known.
        """
        numbers = np.asarray(numbers, dtype=np.int64)
        rows = self.search_ids(numbers).tolist()
        with self.truth.reading() as connection:
            found = photos_by_row(connection, rows)
        if len(self._recent) + len(found) > RECENT_PHOTOS:
            self._recent.clear()
        self._recent.update((photo.id, photo) for photo in islice(found.values(), RECENT_PHOTOS))
        gone = np.array([row not in found for row in rows], dtype=bool)
        left = iter(self.labels.of(numbers[gone]).tolist())
        return [found.get(row) or ReferencePhoto(id="", landmark_id=next(left)) for row in rows]

    def refuse_edited(self) -> None:
        """Raise :class:`GalleryChangedError` if more was done to the gallery since than adding photos.

        What was asked from its tables may then be of two moments. A gallery that is held in memory is of one.
        """
        if not isinstance(self.engine, IndexedSearch):
            return
        with self.engine.reader.asking() as asked:
            edited = schema.read_edited(asked) > self.revision
        if edited:
            raise GalleryChangedError("the gallery was edited while it was searched", where=self.name, fix="try again")

    def recent_photos(self, photo_ids: Sequence[str]) -> dict[str, ReferencePhoto]:
        """Return id → photo for those of the photo ids that :meth:`photos` has lately read for an answer."""
        return {photo_id: photo for photo_id in photo_ids if (photo := self._recent.get(photo_id))}

    @cached_property
    def _recent(self) -> dict[str, ReferencePhoto]:
        return {}


@dataclass(frozen=True, kw_only=True)
class PhotoTable:
    """The photos of a gallery that is held in memory: ids and landmark ids (N,), and its landmarks."""

    ids: Integers
    landmark_ids: Integers
    landmarks: dict[int, Landmark]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is held of a gallery that is searched by an index: how many photos it has, its last row, its landmarks.

    ``shown`` (C,) are the ids of the landmarks that have photos, ascending.
    """

    count: int
    last: int
    landmarks: dict[int, Landmark]
    shown: Integers


def read_references(truth: Truth, dimensions: int, before: References | None, progress: Progress) -> References:
    """Return what a gallery holds now; ``before`` is what it held when it was last read.

    A gallery of more than :data:`indexed.EXACT_UP_TO` photos gets a search index if it has none; ``progress`` reports
    on that.
    """
    index = before.engine.index if before and isinstance(before.engine, IndexedSearch) else None
    contents: tuple[int, Contents] | None = None
    fresh = False
    with ThreadPoolExecutor(1) as beside:
        # The first time, another thread loads the index while this one reads the tables.
        loading = None if before else beside.submit(load_index, truth, dimensions)
        while True:
            with truth.reading() as connection:
                revision = schema.read_revision(connection)
                if before and revision and before.revision == revision:
                    return before
                if contents is None or not revision or contents[0] != revision:
                    count = count_photos_since(connection, before)
                    if count <= indexed.EXACT_UP_TO:
                        return hold_references(truth, connection, dimensions, before, revision)
                    contents = revision, read_contents(connection, before, count)
                setting = schema.read_engine(connection)
                if index and index.setting == setting:
                    newer = count_photos_after(connection, index.last)
                    if fresh or index.still_pays(contents[1].count - newer, newer):
                        return index_references(truth, connection, dimensions, before, index, *contents)
            if loading:
                index, loading = loading.result(), None
                if index:
                    continue
            # Making an index may take minutes, so it happens outside of any transaction: then look again.
            index, fresh = open_candidates(setting, truth, dimensions, progress), True


def hold_references(
    truth: Truth, connection: Tables, dimensions: int, before: References | None, revision: int
) -> References:
    """Read a gallery into memory; ``before`` is what it held when it was last read."""
    table = read_photo_table(connection, before)
    return References(
        truth=truth,
        labels=HeldLabels(table.landmark_ids),
        landmarks=table.landmarks,
        engine=ExactSearch(update_embeddings(connection, table.ids, dimensions, before)),
        revision=revision,
        held_ids=table.ids,
    )


def index_references(
    truth: Truth,
    connection: Tables,
    dimensions: int,
    before: References | None,
    index: Candidates,
    revision: int,
    contents: Contents,
) -> References:
    """Return the references of a gallery that is searched by an index, and read what the index lacks."""
    newer, _ = connection.read_photo_rows(after=index.last)
    tail = update_embeddings(connection, newer, dimensions, before)
    engine = IndexedSearch(truth, index, newer, tail, count=contents.count, last=contents.last)
    return References(
        truth=truth,
        labels=AskedLabels(truth, engine.reader, contents.shown, contents.last),
        landmarks=contents.landmarks,
        engine=engine,
        revision=revision,
    )


def count_photos_since(connection: Tables, before: References | None) -> int:
    """Count the photos; if there were only additions since ``before``, count just those."""
    if before is None or was_edited(connection, before):
        return count_reference_photos(connection)
    return len(before) + count_photos_after(connection, before.last_row)


def read_contents(connection: Tables, before: References | None, count: int) -> Contents:
    """Read the landmarks of ``count`` photos; if there were only additions since ``before``, read just those."""
    if before is None or before.held_ids is not None or was_edited(connection, before):
        return Contents(
            count=count,
            last=last_photo_row(connection),
            landmarks=all_landmarks(connection),
            shown=landmarks_with_photos(connection),
        )
    rows, landmark_ids = connection.read_photo_rows(after=before.last_row)
    return Contents(
        count=count,
        last=int(rows[-1]) if len(rows) else before.last_row,
        landmarks=add_landmarks(connection, before.landmarks, landmark_ids),
        shown=np.union1d(before.labels.landmarks, landmark_ids),
    )


def read_photo_table(connection: Tables, before: References | None) -> PhotoTable:
    """Read the landmarks and photos; if there were only additions since ``before``, read just those.

    Raises :class:`GalleryError` for a photo whose landmark the gallery does not have.
    """
    if before is None or before.held_ids is None or was_edited(connection, before):
        ids, landmark_ids = connection.read_photo_rows(after=None)
        landmarks = all_landmarks(connection)
        refuse_orphans(landmark_ids, landmarks, connection)
        return PhotoTable(ids=ids, landmark_ids=landmark_ids, landmarks=landmarks)
    ids, landmark_ids = connection.read_photo_rows(after=before.last_row)
    return PhotoTable(
        ids=np.concatenate([before.held_ids, ids]),
        landmark_ids=np.concatenate([before.landmark_ids, landmark_ids]),
        landmarks=add_landmarks(connection, before.landmarks, landmark_ids),
    )


def was_edited(connection: Tables, before: References) -> bool:
    """Return whether more was done to a gallery since ``before`` than adding new photos, as far as it says."""
    return not before.revision or schema.read_edited(connection) > before.revision


def add_landmarks(connection: Tables, known: dict[int, Landmark], landmark_ids: Integers) -> dict[int, Landmark]:
    """Return the known landmarks and those of new photos, id → landmark; refuse a photo whose landmark is missing."""
    landmarks = dict(known)
    for landmark_id in set(landmark_ids.tolist()) - landmarks.keys():
        landmarks |= select_landmarks(connection, "id = ?", (landmark_id,))
    refuse_orphans(landmark_ids, landmarks, connection)
    return dict(sorted(landmarks.items()))


def refuse_orphans(landmark_ids: Integers, landmarks: dict[int, Landmark], connection: Tables) -> None:
    """Raise :class:`GalleryError` for photos that show a landmark which the gallery does not have."""
    if not set(np.unique(landmark_ids).tolist()) <= landmarks.keys():
        raise schema.damage_error("there are photos without a landmark", connection.place)


def update_embeddings(connection: Tables, ids: Integers, dimensions: int, before: References | None) -> Embeddings:
    """Return the unit-norm embeddings (N, D) of the last N photos; those that are in memory are not read again."""
    known_ids, known = embeddings_in_memory(before) if before else (ids[:0], np.empty((0, dimensions), np.float32))
    if len(known_ids) and len(ids) and known_ids[0] > ids[0]:
        known_ids, known = known_ids[:0], known[:0]
    new = ids[np.searchsorted(ids, known_ids[-1], side="right") :] if len(known_ids) else ids
    kept = known[np.isin(known_ids, ids)]
    read = normalize_stored(read_embeddings(connection, new, dimensions), connection.place)
    return np.concatenate([kept, read]) if len(kept) else read


def embeddings_in_memory(references: References) -> tuple[Integers, Embeddings]:
    """Return the ids (M,) of the photos whose embeddings (M, D) are in memory."""
    engine = references.engine
    if isinstance(engine, IndexedSearch):
        return engine.newer, engine.tail
    assert isinstance(engine, ExactSearch)
    assert references.held_ids is not None
    return references.held_ids, engine.embeddings
