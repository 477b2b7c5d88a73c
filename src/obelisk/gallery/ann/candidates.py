"""What proposes the photos that may be nearest to a query, behind one seam.

An engine only ever proposes. :class:`~obelisk.gallery.ann.indexed.IndexedSearch` measures what it proposes with the
embeddings of the gallery, so rows that an engine holds twice, too long, or from somewhere else never become answers.
"""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np

from obelisk.arrays import Embeddings, Integers
from obelisk.errors import GalleryError
from obelisk.gallery.exact import nearest_rows
from obelisk.gallery.truth import RowReader, Truth

OWN = "own"
PGVECTOR = "pgvector"
MILVUS = "milvus://"
ROWS_AT_ONCE = 4096
EXACT_WITHOUT_ENGINE = 1_000_000  # photos compared one by one while the engine is away: 2 GB with 512 values
TRIED_AGAIN = 30.0  # s, after which an engine that was away is asked again
SPARE = 2  # proposed for each that is wanted


class EngineError(GalleryError):
    """The engine that proposes candidates is away, or can't go on."""

    exit_code = 1


class Candidates(Protocol):
    """An engine that proposes candidates for the photos of one gallery. Threads may share it.

    ``setting`` is what the gallery says about its engine, and ``last`` the last row that the engine covers: those after
    it are searched exactly.
    """

    setting: str
    last: int
    leaves_out: bool

    def __len__(self) -> int:
        """Return how many rows it may propose."""

    def still_pays(self, covered: int, newer: int) -> bool:
        """Return whether it is worth using, or must be opened again.

        The gallery has so many photos up to the ``last`` row that the engine covers, and so many newer ones.
        """

    def candidates(self, queries: Embeddings, k: int, *, gone: Integers, widening: int = 1) -> list[Integers]:
        """Return, for each query (Q, D), rows (C,) that may be among its k nearest; a larger widening finds more.

        ``gone`` are rows that are known not to count, ascending; an engine that ``leaves_out`` these proposes others in
        their place. Raises :class:`EngineError` if it is away.
        """


class ExhaustiveCandidates:
    """Proposes by comparing with each of the ``count`` rows up to the last; they are read at the first search."""

    leaves_out = False

    def __init__(self, setting: str, truth: Truth, reader: RowReader, last: int, count: int) -> None:
        self.setting = setting
        self.last = last
        self._truth, self._reader, self._count = truth, reader, count
        self._all: tuple[Integers, Embeddings] | None = None
        self._until = time.monotonic() + TRIED_AGAIN

    def __len__(self) -> int:
        return self._count

    def still_pays(self, covered: int, newer: int) -> bool:
        """Return whether it is too early to try the engine again: each trial may take seconds."""
        return time.monotonic() < self._until

    def candidates(self, queries: Embeddings, k: int, *, gone: Integers, widening: int = 1) -> list[Integers]:
        """Return the nearest rows for each query."""
        if self._all is None:
            with self._truth.reading() as tables:
                ids, _ = tables.read_photo_rows(after=None)
            ids = ids[: np.searchsorted(ids, self.last, side="right")]
            starts = range(0, max(1, len(ids)), ROWS_AT_ONCE)
            parts = [self._reader.read(ids[start : start + ROWS_AT_ONCE].tolist()) for start in starts]
            self._all = np.concatenate([rows for rows, _ in parts]), np.concatenate([found for _, found in parts])
        rows, embeddings = self._all
        if not len(rows):
            return [rows] * len(queries)
        found, _ = nearest_rows(queries, embeddings, min(len(rows), SPARE * widening * k))
        return list(rows[found])


def refuse_too_large(error: EngineError, count: int) -> None:
    """Raise the error of an engine if a gallery of so many photos can't be searched without it."""
    if count > EXACT_WITHOUT_ENGINE:
        what = f"{error.what}, and {count:,} photos are too many to be searched without it"
        raise EngineError(what, where=error.where, fix=error.fix) from error
