"""Searching a database that is read part by part: the nearest rows, and the ranks of given ones.

A ranking of a million rows is never held. The rank of a photo is the number of photos before it, so it is enough to
count, part by part, which rows are more similar to the query. Similarities are summed in float64 and kept as float32,
as a gallery keeps them; of equal ones, the row that comes first ranks first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Embeddings, Integers, parts_of
from obelisk.records import Progress, no_progress

PAIRS_AT_ONCE = 1 << 22  # similarities computed at once: 32 MiB in float64
SEARCHING = "searching"


@dataclass(frozen=True, kw_only=True)
class PartedRows:
    """N unit-norm rows (N, D), read in the same order each time they are searched; ``read`` gives parts (n, D)."""

    count: int
    read: Callable[[], Iterator[NDArray[np.floating]]]

    @classmethod
    def of_array(cls, rows: NDArray[np.floating]) -> PartedRows:
        """Return the rows of an array (N, D)."""
        return cls(count=len(rows), read=lambda: (rows[part] for part in parts_of(len(rows))))

    def followed_by(self, other: PartedRows) -> PartedRows:
        """Return these rows and those of another database after them."""

        def read() -> Iterator[NDArray[np.floating]]:
            yield from self.read()
            yield from other.read()

        return PartedRows(count=self.count + other.count, read=read)

    def compare(
        self, queries: Embeddings, progress: Progress = no_progress
    ) -> Iterator[tuple[int, Embeddings, NDArray[np.floating]]]:
        """Yield the number of the first row of each part, the similarities (Q, n) of Q queries (Q, D), and its rows."""
        precise = np.ascontiguousarray(queries.astype(np.float64).T)
        step = max(1, PAIRS_AT_ONCE // max(1, len(queries)))
        first = 0
        for block in self.read():
            for start in range(0, len(block), step):
                rows = block[start : start + step]
                yield first + start, (rows.astype(np.float64) @ precise).astype(np.float32).T, rows
            first += len(block)
            progress(SEARCHING, first, self.count)


@dataclass(frozen=True, kw_only=True, eq=False)
class NearestRows:
    """The k nearest rows of each query: indices (Q, k), similarities (Q, k), rows (Q, k, D), best first."""

    indices: Integers
    similarities: Embeddings
    rows: Embeddings


def find_nearest_rows(
    queries: Embeddings, database: PartedRows, k: int, progress: Progress = no_progress
) -> NearestRows:
    """Find the k nearest rows, or all if there are fewer, of unit-norm queries (Q, D)."""
    Q, D = queries.shape
    best = NearestRows(
        indices=np.empty((Q, 0), np.int64),
        similarities=np.empty((Q, 0), np.float32),
        rows=np.empty((Q, 0, D), np.float32),
    )
    for first, similarities, rows in database.compare(queries, progress):
        count = min(k, similarities.shape[1])
        found = largest(similarities, count)
        indices = np.concatenate([best.indices, first + found], axis=1)
        values = np.concatenate([best.similarities, np.take_along_axis(similarities, found, axis=1)], axis=1)
        # Equal ones stay in the order of the rows: those of earlier parts stand first.
        order = np.argsort(-values, axis=1, kind="stable")[:, :k]
        joined = np.concatenate([best.rows, rows[found].astype(np.float32)], axis=1)
        best = NearestRows(
            indices=np.take_along_axis(indices, order, axis=1),
            similarities=np.take_along_axis(values, order, axis=1),
            rows=np.take_along_axis(joined, order[:, :, None], axis=1),
        )
    return best


def largest(similarities: Embeddings, count: int) -> Integers:
    """Return the columns (Q, count) of the largest similarities (Q, n), largest first; equal ones in their order."""
    n = similarities.shape[1]
    chosen = np.empty((len(similarities), count), np.int64)
    for row, values in zip(chosen, similarities, strict=True):
        least = np.partition(values, n - count)[n - count]
        among = np.flatnonzero(values >= least)
        row[:] = among[np.argsort(-values[among], kind="stable")[:count]]
    return chosen


def find_ranks(
    queries: Embeddings, database: PartedRows, wanted: Sequence[Integers], progress: Progress = no_progress
) -> list[Integers]:
    """Return the ranks, from 0, of wanted rows in the ranking of each query (Q, D): one array (n,) a query.

    ``wanted`` gives the row indices for each query. The database is read twice.
    """
    similarities = [np.empty(len(rows), np.float32) for rows in wanted]
    for first, part, _ in database.compare(queries, progress):
        for query, rows in enumerate(wanted):
            here = (rows >= first) & (rows < first + part.shape[1])
            similarities[query][here] = part[query, rows[here] - first]
    orders = [np.argsort(values, kind="stable") for values in similarities]
    levels = [values[order] for values, order in zip(similarities, orders, strict=True)]
    ranks = [np.zeros(len(rows), np.int64) for rows in wanted]
    for first, part, _ in database.compare(queries, progress):
        for query, level in enumerate(levels):
            if len(level):
                indices = wanted[query][orders[query]]
                ranks[query] += count_before(part[query], first, level, indices)
    for query, order in enumerate(orders):
        ascending, ranks[query] = ranks[query], np.empty_like(ranks[query])
        ranks[query][order] = ascending
    return ranks


def count_before(similarities: Embeddings, first: int, levels: Embeddings, indices: Integers) -> Integers:
    """Count the rows of a part that rank before each wanted row (w,).

    ``similarities`` (n,) are those of the rows from number ``first`` on. The wanted rows have ascending similarities
    ``levels`` (w,) and the numbers ``indices`` (w,).
    """
    above = np.flatnonzero(similarities >= levels[0])
    values = similarities[above]
    below = np.searchsorted(levels, values, side="left")  # of how many wanted rows this one is more similar
    counts = np.bincount(below, minlength=len(levels) + 1)
    before: Integers = counts[::-1].cumsum()[::-1][1:].astype(np.int64)
    equal = np.flatnonzero(levels[np.minimum(below, len(levels) - 1)] == values)
    for row in equal:
        tied = levels == values[row]
        before[tied & (indices > first + above[row])] += 1
    return before
