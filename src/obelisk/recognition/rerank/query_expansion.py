"""Query expansion and its mirror image, database-side augmentation: photos lean on their nearest neighbours.

α query expansion (Radenović, Tolias & Chum, *Fine-tuning CNN image retrieval with no human annotation*, TPAMI 2019)
looks a second time with the query q and its n nearest references r₁ … r_n, of cosine similarities s₁ … s_n::

    q' = q + Σ_i max(s_i, 0)^α · r_i,  of length 1

Database-side augmentation (Arandjelović & Zisserman, CVPR 2012) does the same to each reference, here with the nearest
photos of its own landmark (a prototype has none, and stays). Both are options: on validation photos they left the
answers as good as they were.
"""

from __future__ import annotations

import numpy as np

from obelisk.arrays import Embeddings, Integers, l2_normalize
from obelisk.errors import UsageError
from obelisk.gallery import ExactSearch, SearchEngine

EXPANSIONS = ("none", "query", "references")
ALPHA = 3.0
QUERY_NEIGHBOURS = 3
REFERENCE_NEIGHBOURS = 10
MOST_REFERENCES = 200_000  # their augmented rows are kept in memory


def expand_search(references: SearchEngine, landmark_ids: Integers, expansion: str) -> SearchEngine:
    """Return a search that expands queries, or holds augmented references, as ``expansion`` says.

    Raises UsageError for an unknown expansion, and for more references than can be augmented.
    """
    if expansion not in EXPANSIONS:
        raise UsageError(f"unknown expansion `{expansion}`", fix=f"choose one of {', '.join(EXPANSIONS)}")
    if expansion == "query" and len(references):
        return ExpandedSearch(references)
    if expansion == "references" and len(references):
        if len(references) > MOST_REFERENCES:
            what = f"{len(references):,} references to augment, of at most {MOST_REFERENCES:,}"
            raise UsageError(what, fix="leave --expand out, or expand the query")
        return ExactSearch(augment_references(references.rows(np.arange(len(references))), landmark_ids))
    return references


class ExpandedSearch:
    """A search that looks a second time, with the expanded query."""

    def __init__(self, references: SearchEngine) -> None:
        self._references = references
        self.rows = references.rows
        self.dimensions = references.dimensions

    def __len__(self) -> int:
        return len(self._references)

    def nearest(self, queries: Embeddings, k: int) -> tuple[Integers, Embeddings]:
        """Return the places (Q, k) of the rows nearest to the expanded queries, and their cosines (Q, k)."""
        places, similarities = self._references.nearest(queries, min(QUERY_NEIGHBOURS, len(self)))
        rows = self._references.rows(places.ravel()).reshape(*places.shape, -1)
        weights = np.maximum(similarities, 0.0).astype(np.float64) ** ALPHA
        expanded = queries + np.einsum("qn,qnd->qd", weights, rows.astype(np.float64))
        return self._references.nearest(l2_normalize(expanded, dimensions=self.dimensions), k)


def augment_references(rows: Embeddings, landmark_ids: Integers) -> Embeddings:
    """Return unit rows (N, D), each drawn towards the nearest ones of its landmark; ``landmark_ids`` is (N,)."""
    augmented = rows.astype(np.float64)
    by_landmark = np.argsort(landmark_ids, kind="stable")
    _, starts = np.unique(landmark_ids[by_landmark], return_index=True)
    for places in np.split(by_landmark, starts[1:]):
        own = rows[places].astype(np.float64)
        weights = np.maximum(own @ own.T, 0.0) ** ALPHA
        np.fill_diagonal(weights, 0.0)
        if len(places) > REFERENCE_NEIGHBOURS + 1:
            least = np.partition(weights, -REFERENCE_NEIGHBOURS, axis=1)[:, -REFERENCE_NEIGHBOURS, None]
            weights = np.where(weights >= least, weights, 0.0)
        augmented[places] += weights @ own
    return l2_normalize(augmented, dimensions=rows.shape[1])
