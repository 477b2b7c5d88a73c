"""Query expansion and database-side augmentation: an embedding is averaged with its nearest neighbors.

α query expansion (Radenović, Tolias & Chum, *Fine-tuning CNN image retrieval with no human annotation*, TPAMI 2019)
searches a second time, with the query q and its n nearest references r₁ … r_n of cosine similarities s₁ … s_n::

    q' = q + Σ_i max(s_i, 0)^α · r_i,  scaled to length 1

Database-side augmentation (Arandjelović & Zisserman, CVPR 2012) does the same to each reference, here with the nearest
photos of its own landmark (prototypes are left as they are), or the nearest of all where landmarks are not told. Both
are off by default: on validation photos they made the answers neither better nor worse.
"""

from __future__ import annotations

import numpy as np

from obelisk.arrays import Embeddings, Integers, l2_normalize, parts_of
from obelisk.errors import UsageError
from obelisk.gallery import ExactSearch, HeldLabels, Labels, SearchEngine, nearest_rows

EXPANSIONS = ("none", "query", "references")
"""Names of the expansions that :func:`expand_search` knows."""

ALPHA = 3.0
QUERY_NEIGHBORS = 3  # n
REFERENCE_NEIGHBORS = 10
MOST_REFERENCES = 200_000  # whose augmented rows are held in memory


def expand_search(references: SearchEngine, labels: Labels, expansion: str) -> tuple[SearchEngine, Labels]:
    """Return a search with the given expansion, ``none``, ``query`` or ``references``, and the labels of its rows.

    ``labels`` tells the landmark of each reference. Raises :class:`~obelisk.errors.UsageError` for another
    name, and for more references than can be augmented.
    """
    if expansion not in EXPANSIONS:
        raise UsageError(f"unknown expansion `{expansion}`", fix=f"choose one of {', '.join(EXPANSIONS)}")
    if expansion == "query" and len(references):
        return ExpandedSearch(references), labels
    if expansion == "references" and len(references):
        refuse_many(len(references))
        numbers = labels.numbers()
        landmark_ids = labels.of(numbers)
        return ExactSearch(augment_references(references.rows(numbers), landmark_ids)), HeldLabels(landmark_ids)
    return references, labels


class ExpandedSearch:
    """A search engine that searches a second time, with the expanded query.

    ``references`` is any search engine; the rows it returns stay those of the references.
    """

    def __init__(self, references: SearchEngine) -> None:
        self._references = references
        self.rows = references.rows
        self.dimensions = references.dimensions

    def __len__(self) -> int:
        return len(self._references)

    def nearest(self, queries: Embeddings, k: int) -> tuple[Integers, Embeddings]:
        """Return the row indices (Q, k) nearest to the expanded queries (Q, D), and their cosines (Q, k)."""
        indices, similarities = self._references.nearest(queries, min(QUERY_NEIGHBORS, len(self)))
        rows = self._references.rows(indices.ravel()).reshape(*indices.shape, -1)
        return self._references.nearest(expand_queries(queries, rows, similarities), k)


def expand_queries(queries: Embeddings, rows: Embeddings, similarities: Embeddings) -> Embeddings:
    """Return the expanded queries (Q, D): each with its n nearest rows (Q, n, D), of cosine similarities (Q, n)."""
    weights = np.maximum(similarities, 0.0).astype(np.float64) ** ALPHA
    expanded = queries + np.einsum("qn,qnd->qd", weights, rows.astype(np.float64))
    return l2_normalize(expanded, dimensions=queries.shape[1])


def augment_all(rows: Embeddings) -> Embeddings:
    """Average each unit-norm row (N, D) with the nearest of all others; returns unit-norm rows (N, D).

    Raises :class:`~obelisk.errors.UsageError` for more than MOST_REFERENCES rows, each of which is compared with all.
    """
    refuse_many(len(rows))
    indices, similarities = nearest_rows(rows, rows, min(REFERENCE_NEIGHBORS + 1, len(rows)))
    others = indices != np.arange(len(rows))[:, None]
    augmented = np.empty_like(rows)
    for part in parts_of(len(rows)):
        near = np.where(others[part], similarities[part], 0.0).astype(np.float32)
        augmented[part] = expand_queries(rows[part], rows[indices[part]], near)
    return augmented


def refuse_many(count: int) -> None:
    """Raise UsageError for more references than can be augmented."""
    if count > MOST_REFERENCES:
        what = f"{count:,} references to augment, of at most {MOST_REFERENCES:,}"
        raise UsageError(what, fix="leave --expand out, or expand the query")


def augment_references(rows: Embeddings, landmark_ids: Integers) -> Embeddings:
    """Average each unit-norm row (N, D) with the nearest rows of its landmark; ``landmark_ids`` is (N,).

    Returns unit-norm rows (N, D).
    """
    augmented = rows.astype(np.float64)
    by_landmark = np.argsort(landmark_ids, kind="stable")
    _, starts = np.unique(landmark_ids[by_landmark], return_index=True)
    for indices in np.split(by_landmark, starts[1:]):
        own = rows[indices].astype(np.float64)
        weights = np.maximum(own @ own.T, 0.0) ** ALPHA
        np.fill_diagonal(weights, 0.0)
        if len(indices) > REFERENCE_NEIGHBORS + 1:
            least = np.partition(weights, -REFERENCE_NEIGHBORS, axis=1)[:, -REFERENCE_NEIGHBORS, None]
            weights = np.where(weights >= least, weights, 0.0)
        augmented[indices] += weights @ own
    return l2_normalize(augmented, dimensions=rows.shape[1])
