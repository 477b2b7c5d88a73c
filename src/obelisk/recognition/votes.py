"""How the neighbors of a query vote for its landmark. Arrays in, arrays out.

Each query comes with its M nearest reference photos, best first: their landmarks l₁ … l_M and cosine similarities
s₁ ≥ … ≥ s_M. The first k of them vote; the others only say which landmarks come next. With

    a(s) = (1 + s) / 2 = 1 - d²/4      agreement in [0, 1] of two photos, d the L2 distance of their embeddings
    b(l) = max {s_i : l_i = l}         similarity of the best photo of landmark l
    n(l) = |{i ≤ k : l_i = l}|         number of votes for l

the scores are::

    weighted     score(l) = (1/k · Σ_{i ≤ k, l_i = l} a(s_i)^p)^(1/p)    if n(l) > 0
                 score(l) = (1/k · a(b(l))^p / 2)^(1/p)                  if n(l) = 0: half a vote of its best photo
    majority     score(l) = (n(l) + a(b(l))) / (k + 1)
    prototype    score(l) = a(cosine of the query and the mean embedding of l)

``weighted`` is the power mean of the k votes, in which a vote for another landmark counts as 0. The exponent p sets
how much more a near photo weighs than a far one: with p = 1 they weigh almost the same, as in ``majority``; a large p
leaves the decision to the nearest photo. ``blended`` is ``weighted`` on similarities blended with those of the
landmarks' prototypes (see :mod:`obelisk.recognition.rerank.prototypes`).

A score is in [0, 1] and means the same for every query. A landmark with a vote scores above one without, because no
photo outside the k nearest is more similar than those within.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Embeddings, Floats, Integers
from obelisk.errors import UsageError, near_names

LARGEST_EXPONENT = 100.0  # beyond it, a(s)^p leaves the range of float64 for unlike photos


def agreement(similarities: NDArray[np.floating]) -> Floats:
    """Return a(s) = (1 + s) / 2, in [0, 1]."""
    return (1.0 + similarities.astype(np.float64)) / 2.0


@dataclass(frozen=True, kw_only=True)
class VoteCounts:
    """The votes, counted: one row for every landmark among the neighbors of every query.

    =============  ====  ===========================================================
    ``queries``    (G,)  row index of the query, ascending
    ``landmarks``  (G,)  the landmark l
    ``votes``      (G,)  n(l), the photos of l among the k nearest; 0: not voted for
    ``weights``    (G,)  Σ a(s_i)^p over these photos
    ``best``       (G,)  b(l), the similarity of the best photo of l
    ``k``                photos that vote
    ``exponent``         p
    =============  ====  ===========================================================
    """

    queries: Integers
    landmarks: Integers
    votes: Integers
    weights: Floats
    best: Embeddings
    k: int
    exponent: float


def count_votes(landmarks: Integers, similarities: Embeddings, *, k: int, exponent: float) -> VoteCounts:
    """Count the votes of the first k of the M neighbors of each query.

    ``landmarks`` and ``similarities`` are (Q, M), best first, M ≥ k.
    """
    Q, M = landmarks.shape
    # Bring the photos of one landmark together; the sort is stable, so that the best photo stays first.
    together = np.argsort(landmarks, axis=1, kind="stable")
    landmarks = np.take_along_axis(landmarks, together, axis=1)
    similarities = np.take_along_axis(similarities, together, axis=1)
    voting = together < k

    opens_group = np.ones((Q, M), dtype=bool)
    opens_group[:, 1:] = landmarks[:, 1:] != landmarks[:, :-1]
    first = np.flatnonzero(opens_group)
    return VoteCounts(
        queries=first // M,
        landmarks=landmarks.ravel()[first],
        votes=np.add.reduceat(voting.ravel().astype(np.int64), first),
        weights=np.add.reduceat((voting * agreement(similarities) ** exponent).ravel(), first),
        best=similarities.ravel()[first],
        k=k,
        exponent=exponent,
    )


def weighted(counts: VoteCounts) -> Floats:
    """Score (G,) by the power mean of the votes."""
    half_vote = agreement(counts.best) ** counts.exponent / 2
    return (np.where(counts.votes > 0, counts.weights, half_vote) / counts.k) ** (1 / counts.exponent)


def majority(counts: VoteCounts) -> Floats:
    """Score (G,) by the number of votes; the best photo decides between equal numbers."""
    return (counts.votes + agreement(counts.best)) / (counts.k + 1)


def prototype(counts: VoteCounts) -> Floats:
    """Score (G,) by the mean embedding, which stands in for the photos of its landmark."""
    return agreement(counts.best)


@dataclass(frozen=True, kw_only=True)
class Vote:
    """A voting rule: who votes, how the counted votes become scores (G,) in [0, 1], and the default exponent."""

    voters: Literal["photos", "blended", "prototypes"]
    score: Callable[[VoteCounts], Floats]
    exponent: float = 1.0


VOTES = MappingProxyType(
    {
        "blended": Vote(voters="blended", score=weighted, exponent=48.0),
        "weighted": Vote(voters="photos", score=weighted, exponent=12.0),
        "majority": Vote(voters="photos", score=majority),
        "prototype": Vote(voters="prototypes", score=prototype),
    }
)
"""The voting rules by name; their equations stand at the top of :mod:`obelisk.recognition.votes`."""


def find_vote(name: str) -> Vote:
    """Return the vote of this name, or raise :class:`UsageError` with the known names."""
    if name not in VOTES:
        fix = near_names(name, VOTES) or f"choose one of {', '.join(VOTES)}"
        raise UsageError(f"unknown vote `{name}`", fix=fix)
    return VOTES[name]


def rank_landmarks(counts: VoteCounts, scores: Floats, *, queries: int, top: int) -> tuple[Integers, Floats]:
    """Return the ``top`` landmarks of each query (Q, T) and their scores (Q, T), best first.

    Equal scores are ordered by best similarity, then by landmark id. Where a query has fewer landmarks than ``top``,
    landmark -1 with score 0 fills the rest.
    """
    order = np.lexsort((counts.landmarks, -counts.best, -scores, counts.queries))
    query = counts.queries[order]
    rank = np.arange(len(query)) - np.searchsorted(query, query)
    listed = rank < top
    cell = query[listed], rank[listed]

    candidates = np.full((queries, top), -1, dtype=np.int64)
    ranked_scores = np.zeros((queries, top))
    candidates[cell] = counts.landmarks[order][listed]
    ranked_scores[cell] = scores[order][listed]
    return candidates, ranked_scores
