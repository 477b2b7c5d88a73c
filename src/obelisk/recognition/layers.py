"""A search laid over another: the same rows, ordered by something else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obelisk.gallery import SearchEngine

FloatRows = NDArray[np.float32]
Integers = NDArray[np.int64]


class SearchLayer:
    """What every layer hands on to the search below it; a layer says what is ``nearest``."""

    def __init__(self, references: SearchEngine) -> None:
        self._references = references

    def __len__(self) -> int:
        return len(self._references)

    @property
    def dimensions(self) -> int:
        """D, the number of values in a row."""
        return self._references.dimensions

    def rows(self, places: Integers) -> FloatRows:
        """Return the rows (M, D) in M places."""
        return self._references.rows(places)

    def nearest(self, queries: FloatRows, k: int) -> tuple[Integers, FloatRows]:
        """Return the places (Q, k) of the k nearest rows to each query, and their similarities (Q, k), best first."""
        return self._references.nearest(queries, k)
