"""Layers over a search: the rows it found, ordered anew by something that it does not know.

A search finds the M rows most similar to each query once; each layer then changes their similarities and their order,
and says what no row that was left out could exceed. Whoever needs more than that bound vouches for searches again
with a larger M.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from obelisk.arrays import Embeddings, Integers
from obelisk.gallery import SearchEngine


@dataclass(frozen=True, kw_only=True)
class Shortlist:
    """The best M of N rows for each of Q queries, best first.

    ================  ======  ==========================================================
    ``places``        (Q, M)  which rows
    ``similarities``  (Q, M)  theirs to the query, falling
    ``bound``         (Q,)    what no other row's exceeds; −∞ where there is no other row
    ================  ======  ==========================================================
    """

    places: Integers
    similarities: Embeddings
    bound: Embeddings


class Layer(Protocol):
    """Orders shortlists anew."""

    def reorder(self, queries: Embeddings, listed: Shortlist) -> Shortlist:
        """Return the rows listed for the queries (Q, D) with new similarities, best first; equal ones stay in order."""


def find_rows(references: SearchEngine, queries: Embeddings, count: int) -> Shortlist:
    """Return the shortlist of the ``count`` rows nearest to each query, as a search gives it."""
    places, similarities = references.nearest(queries, count)
    bound = similarities[:, -1] if count < len(references) else np.full(len(queries), -np.inf, np.float32)
    return Shortlist(places=places, similarities=similarities, bound=bound)
