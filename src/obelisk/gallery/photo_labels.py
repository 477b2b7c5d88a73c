"""Which landmark each reference photo of a gallery shows: held in memory, or asked from the gallery's tables.

A photo is called by its number. In a gallery that is held in memory these are 0 to N − 1; in one that is searched by an
index they are the photos' search ids, of which no list is kept.
"""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import numpy as np

from obelisk.arrays import Integers
from obelisk.errors import GalleryChangedError
from obelisk.gallery.kept_values import KeptValues
from obelisk.gallery.lookup import landmark_ids_by_row, rows_by_landmark
from obelisk.gallery.truth import RowReader, Truth

MOST_OF_LANDMARK = 1000  # photos that stand for a landmark where its photos have to be asked for
KEPT = 1 << 20  # landmark ids of photos met last: 16 MiB


class Labels(Protocol):
    """The landmarks of N photos."""

    @property
    def landmarks(self) -> Integers:
        """The ids (C,) of the landmarks that have photos, ascending."""

    @property
    def span(self) -> int:
        """A number above those of all photos."""

    def numbers(self) -> Integers:
        """Return the numbers (N,) of all photos, ascending."""

    def of(self, numbers: Integers) -> Integers:
        """Return the landmark ids of photos, in the shape of their numbers.

        Raises :class:`GalleryChangedError` if a photo was removed, or moved to a landmark of which nothing is known.
        """

    def photos_of(self, landmark_ids: Integers) -> list[Integers]:
        """Return the numbers of the photos of each landmark, ascending; of many photos, they may be the first ones."""


class HeldLabels:
    """The landmark ids (N,) of photos 0 to N − 1."""

    def __init__(self, landmark_ids: Integers) -> None:
        self.landmark_ids = landmark_ids

    @cached_property
    def landmarks(self) -> Integers:
        """The ids (C,) of the landmarks that have photos, ascending."""
        return np.unique(self.landmark_ids)

    @property
    def span(self) -> int:
        """N."""
        return len(self.landmark_ids)

    def numbers(self) -> Integers:
        """Return 0 to N − 1."""
        return np.arange(len(self.landmark_ids))

    def of(self, numbers: Integers) -> Integers:
        """Return the landmark ids of photos, in the shape of their numbers."""
        return self.landmark_ids[numbers]

    def photos_of(self, landmark_ids: Integers) -> list[Integers]:
        """Return the numbers of all photos of each landmark, ascending."""
        order, sorted_ids = self._by_landmark
        starts, ends = (np.searchsorted(sorted_ids, landmark_ids, side=side) for side in ("left", "right"))
        return [order[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]

    @cached_property
    def _by_landmark(self) -> tuple[Integers, Integers]:
        """The photos (N,) landmark by landmark, and their landmark ids (N,)."""
        order = np.argsort(self.landmark_ids, kind="stable")
        return order, self.landmark_ids[order]


class AskedLabels:
    """Asks a gallery for the landmarks of the photos that a query meets; a photo's number is its row.

    ``landmarks`` (C,) and the ``last`` row are those of one moment: later photos do not count.
    """

    def __init__(self, truth: Truth, reader: RowReader, landmarks: Integers, last: int) -> None:
        self.landmarks = landmarks
        self._truth, self._reader, self._last = truth, reader, last
        self._kept = KeptValues(self._read, KEPT, (), np.int64)

    @property
    def span(self) -> int:
        """A number above those of all photos."""
        return self._last + 1

    def numbers(self) -> Integers:
        """Read the rows (N,) of all photos, ascending."""
        with self._truth.reading() as tables:
            rows, _ = tables.read_photo_rows(after=None)
        return rows[: np.searchsorted(rows, self._last, side="right")]

    def of(self, numbers: Integers) -> Integers:
        """Return the landmark ids of photos, in the shape of their rows; those met lately are not asked for again."""
        rows, places = np.unique(numbers, return_inverse=True)
        found: Integers = self._kept.look_up(rows)[places].reshape(numbers.shape)
        return found

    def _read(self, rows: Integers) -> Integers:
        with self._reader.asking() as asked:
            found = landmark_ids_by_row(asked, rows.tolist())
        landmark_ids = np.array(list(found.values()), dtype=np.int64)
        if len(found) < len(rows) or not np.isin(landmark_ids, self.landmarks).all():
            what = "a reference photo was removed, or moved to a new landmark, while it was used"
            fix = f"try again; if that does not help, see `obelisk gallery check {self._truth.name}`"
            raise GalleryChangedError(what, where=self._truth.name, fix=fix)
        return np.array([found[row] for row in rows.tolist()], dtype=np.int64)

    def photos_of(self, landmark_ids: Integers) -> list[Integers]:
        """Return the rows of the photos of each landmark, ascending: the first :data:`MOST_OF_LANDMARK`."""
        with self._reader.asking() as asked:
            found = rows_by_landmark(asked, landmark_ids.tolist(), most=MOST_OF_LANDMARK, last=self._last)
        return [np.array(found[landmark_id], dtype=np.int64) for landmark_id in landmark_ids.tolist()]


def as_labels(landmark_ids: Labels | Integers) -> Labels:
    """Return landmark ids (N,) as the labels of photos 0 to N − 1."""
    return HeldLabels(landmark_ids) if isinstance(landmark_ids, np.ndarray) else landmark_ids
