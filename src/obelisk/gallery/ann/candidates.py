"""What proposes the photos that may be nearest to a query, behind one seam.

An engine only ever proposes. :class:`~obelisk.gallery.ann.indexed.IndexedSearch` measures what it proposes with the
embeddings of the gallery, so rows that an engine holds twice, too long, or from somewhere else never become answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from obelisk.arrays import Embeddings, Integers
from obelisk.errors import GalleryError
from obelisk.gallery.exact import nearest_rows

OWN = "own"
PGVECTOR = "pgvector"
MILVUS = "milvus://"
ROWS_AT_ONCE = 4096
EXACT_WITHOUT_ENGINE = 1_000_000  # photos compared one by one while the engine is away: 2 GB with 512 values
TRIED_AGAIN = 30.0  # s, after which an engine that was away is asked again
SPARE = 2  # proposed for each that is wanted

ReadRows = Callable[[list[int]], tuple[Integers, Embeddings]]
"""Returns those of the rows that still exist, ascending, and their unit-norm embeddings (M, D)."""


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

    def __len__(self) -> int:
        """Return how many rows it may propose."""

    def still_pays(self, ids: Integers) -> bool:
        """Return whether it is worth using for the photos ``ids`` (N,), or must be opened again."""

    def candidates(
        self, queries: Embeddings, k: int, *, allowed: Integers | None = None, widening: int = 1
    ) -> list[Integers]:
        """Return, for each query (Q, D), rows (C,) that may be among its k nearest; a larger widening finds more.

        ``allowed`` are the rows that count, ascending; None means all. Raises :class:`EngineError` if it is away.
        """


class ExhaustiveCandidates:
    """Proposes by comparing with every one of some rows, which are read at the first search."""

    def __init__(self, setting: str, ids: Integers, read: ReadRows) -> None:
        self.setting = setting
        self.last = int(ids[-1])
        self._ids, self._read = ids, read
        self._all: tuple[Integers, Embeddings] | None = None
        self._until = time.monotonic() + TRIED_AGAIN

    def __len__(self) -> int:
        return len(self._ids)

    def still_pays(self, ids: Integers) -> bool:
        """Return whether it is too early to try the engine again: each trial may take seconds."""
        return time.monotonic() < self._until

    def candidates(
        self, queries: Embeddings, k: int, *, allowed: Integers | None = None, widening: int = 1
    ) -> list[Integers]:
        """Return the nearest rows for each query."""
        if self._all is None:
            starts = range(0, len(self._ids), ROWS_AT_ONCE)
            parts = [self._read(self._ids[start : start + ROWS_AT_ONCE].tolist()) for start in starts]
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
