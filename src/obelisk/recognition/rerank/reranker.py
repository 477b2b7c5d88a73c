"""What reranks the neighbors of a query: the protocol, and the shortlist that rerankers pass on.

A search finds the M reference photos most similar to a query. Each reranker then replaces their similarities by
better evidence and sorts them again. Reranking a few rows must give the same landmarks as reranking all N, so a
shortlist carries an upper bound on the similarity of every row that it leaves out, and one lemma decides whether it
is long enough:

    A candidate stands when its best similarity exceeds every unlisted row's upper bound.

Where too few candidates stand, the classifier searches again with a larger M.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from obelisk.arrays import Embeddings, Integers
from obelisk.gallery import SearchEngine


@dataclass(frozen=True, kw_only=True)
class Shortlist:
    """The best M of N reference photos for each of Q queries, best first.

    ================  ======  =================================================================
    ``indices``       (Q, M)  row indices of the photos
    ``similarities``  (Q, M)  their similarities to the query, in descending order
    ``bound``         (Q,)    upper bound on the similarity of every other row; −∞ if there is none
    ================  ======  =================================================================
    """

    indices: Integers
    similarities: Embeddings
    bound: Embeddings


class Reranker(Protocol):
    """Replaces the similarities of shortlists by better evidence, and sorts them again."""

    def rerank(self, queries: Embeddings, shortlist: Shortlist) -> Shortlist:
        """Return the shortlist of the unit-norm queries (Q, D) with new similarities, best first.

        Equal similarities keep their order. The new bound holds for the new similarities of unlisted rows.
        """


def find_shortlist(references: SearchEngine, queries: Embeddings, length: int) -> Shortlist:
    """Search for the ``length`` reference photos most similar to each of the unit-norm queries (Q, D)."""
    indices, similarities = references.nearest(queries, length)
    bound = similarities[:, -1] if length < len(references) else np.full(len(queries), -np.inf, np.float32)
    return Shortlist(indices=indices, similarities=similarities, bound=bound)
