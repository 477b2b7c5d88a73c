"""A gallery at one moment: read in full the first time, and after a change only what was changed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np

from obelisk.arrays import Embeddings, Integers
from obelisk.gallery import schema
from obelisk.gallery.ann import indexed
from obelisk.gallery.ann.engines import open_candidates
from obelisk.gallery.ann.indexed import IndexedSearch, load_index
from obelisk.gallery.embeddings import normalize_stored, read_embeddings
from obelisk.gallery.exact import ExactSearch, SearchEngine
from obelisk.gallery.landmarks import Landmark
from obelisk.gallery.lookup import all_landmarks, photos_by_row, select_landmarks
from obelisk.gallery.schema import ReferencePhoto
from obelisk.gallery.truth import Tables, Truth
from obelisk.records import Progress

RECENT_PHOTOS = 1000


@dataclass(frozen=True, kw_only=True)
class References:
    """All N reference photos of a gallery at one moment; index n is the same photo everywhere.

    ==================  ======  ===========================================================================
    ``ids``             (N,)    int64, what :meth:`Gallery.search` returns; ascending, never used twice
    ``landmark_ids``    (N,)    int64
    ``landmarks``               landmark id → landmark, in the order of the ids
    ``revision``                number of changes made to the gallery until then
    ``engine``          N       the search over the embeddings; :meth:`nearest` and :meth:`rows` are its own
    ==================  ======  ===========================================================================

    The records of the photos stay in the database until :meth:`photo` or :meth:`photos` asks for them.
    """

    truth: Truth
    ids: Integers
    landmark_ids: Integers
    landmarks: dict[int, Landmark]
    engine: SearchEngine
    revision: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dimensions(self) -> int:
        """D, the length of an embedding."""
        return self.engine.dimensions

    def nearest(self, queries: Embeddings, k: int) -> tuple[Integers, Embeddings]:
        """Find the k most similar photos for each unit-norm query (Q, D): indices (Q, k), similarities (Q, k)."""
        return self.engine.nearest(queries, k)

    def rows(self, indices: Integers) -> Embeddings:
        """Return the unit-norm float32 embeddings (M, D) at M indices."""
        return self.engine.rows(indices)

    @cached_property
    def name(self) -> str:
        """How the gallery is called."""
        return self.truth.name

    def gallery_of(self, landmark_id: int) -> str:
        """Return how the gallery of a landmark is called."""
        return self.name

    def photo(self, index: int) -> ReferencePhoto:
        """Return the photo at an index."""
        return self.photos([index])[0]

    def photos(self, indices: Sequence[int] | Integers) -> list[ReferencePhoto]:
        """Return the photos at M indices, read together.

        A photo that was removed since has an empty id, and only its landmark.
        """
        indices = np.asarray(indices, dtype=np.int64)
        rows = self.ids[indices].tolist()
        with self.truth.reading() as connection:
            found = photos_by_row(connection, rows)
        if len(self._recent) + len(found) > RECENT_PHOTOS:
            self._recent.clear()
        self._recent.update((photo.id, photo) for photo in islice(found.values(), RECENT_PHOTOS))
        landmark_ids = self.landmark_ids[indices].tolist()
        return [
            found.get(row) or ReferencePhoto(id="", landmark_id=landmark_id)
            for row, landmark_id in zip(rows, landmark_ids, strict=True)
        ]

    def recent_photos(self, photo_ids: Sequence[str]) -> dict[str, ReferencePhoto]:
        """Return id → photo for those of the photo ids that :meth:`photos` has lately read for an answer."""
        return {photo_id: photo for photo_id in photo_ids if (photo := self._recent.get(photo_id))}

    @cached_property
    def _recent(self) -> dict[str, ReferencePhoto]:
        return {}


@dataclass(frozen=True, kw_only=True)
class PhotoTable:
    """What a gallery holds besides the embeddings; the fields are those of :class:`References`."""

    ids: Integers
    landmark_ids: Integers
    landmarks: dict[int, Landmark]
    revision: int


def read_references(truth: Truth, dimensions: int, before: References | None, progress: Progress) -> References:
    """Return what a gallery holds now; ``before`` is what it held when it was last read.

    A gallery of more than :data:`indexed.EXACT_UP_TO` photos gets a search index if it has none; ``progress`` reports
    on that.
    """
    index = before.engine.index if before and isinstance(before.engine, IndexedSearch) else None
    now: PhotoTable | None = None
    fresh = False
    with ThreadPoolExecutor(1) as beside:
        # The first time, another thread loads the index while this one reads the tables.
        loading = None if before else beside.submit(load_index, truth, dimensions)
        while True:
            with truth.reading() as connection:
                revision = schema.read_revision(connection)
                if before and revision and before.revision == revision:
                    return before
                if now is None or not revision or now.revision != revision:
                    now = read_photo_table(connection, now or before)
                if len(now.ids) <= indexed.EXACT_UP_TO:
                    embeddings = update_embeddings(connection, now.ids, dimensions, before)
                    return assemble_references(truth, now, ExactSearch(embeddings))
                setting = schema.read_engine(connection)
                if index and index.setting == setting and (fresh or index.still_pays(now.ids)):
                    tail = now.ids[now.ids > index.last]
                    embeddings = update_embeddings(connection, tail, dimensions, before)
                    return assemble_references(truth, now, IndexedSearch(truth, index, now.ids, embeddings))
            # Making an index may take minutes, so it happens outside of any transaction: then look again.
            loaded = loading.result() if loading else None
            index, fresh = open_candidates(setting, truth, now.ids, dimensions, progress, loaded), True


def assemble_references(truth: Truth, table: PhotoTable, engine: SearchEngine) -> References:
    """Put the photos and the search over their embeddings together."""
    return References(
        truth=truth,
        ids=table.ids,
        landmark_ids=table.landmark_ids,
        landmarks=table.landmarks,
        engine=engine,
        revision=table.revision,
    )


def read_photo_table(connection: Tables, before: PhotoTable | References | None) -> PhotoTable:
    """Read the landmarks and photos; if there were only additions since ``before``, read just those.

    Raises :class:`GalleryError` for a photo whose landmark the gallery does not have.
    """
    revision = schema.read_revision(connection)
    if before is None or not before.revision or schema.read_edited(connection) > before.revision:
        ids, landmark_ids = connection.read_photo_rows(after=None)
        landmarks = all_landmarks(connection)
        refuse_orphans(landmark_ids, landmarks, connection)
        return PhotoTable(ids=ids, landmark_ids=landmark_ids, landmarks=landmarks, revision=revision)
    ids, landmark_ids = connection.read_photo_rows(after=int(before.ids[-1]) if len(before.ids) else 0)
    landmarks = dict(before.landmarks)
    for landmark_id in set(landmark_ids.tolist()) - landmarks.keys():
        landmarks |= select_landmarks(connection, "id = ?", (landmark_id,))
    refuse_orphans(landmark_ids, landmarks, connection)
    return PhotoTable(
        ids=np.concatenate([before.ids, ids]),
        landmark_ids=np.concatenate([before.landmark_ids, landmark_ids]),
        landmarks=dict(sorted(landmarks.items())),
        revision=revision,
    )


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
        return references.ids[len(references) - len(engine.tail) :], engine.tail
    return references.ids, engine.embeddings if isinstance(engine, ExactSearch) else engine.rows(references.ids[:0])
