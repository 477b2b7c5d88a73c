"""How the neighbours of a query vote for its landmark. Arrays in, arrays out.

Each query comes with its M nearest reference photos, best first: their landmarks l₁ … l_M and cosine
similarities s₁ ≥ … ≥ s_M. The first k of them vote; the others only say which landmarks come next. With

    a(s) = (1 + s) / 2 = 1 - d²/4      agreement in [0, 1] of two photos, d the L2 distance of their embeddings
    b(l) = max {s_i : l_i = l}         similarity of the best photo of landmark l
    n(l) = |{i ≤ k : l_i = l}|         number of votes for l

the scores are::

    weighted     score(l) = (1/k · Σ_{i ≤ k, l_i = l} a(s_i)^p)^(1/p)    if n(l) > 0
                 score(l) = (1/k · a(b(l))^p / 2)^(1/p)                  if n(l) = 0: half a vote of its best photo
    majority     score(l) = (n(l) + a(b(l))) / (k + 1)
    prototype    score(l) = a(cosine of the query and the mean embedding of l)

``weighted`` is the power mean of the k votes, in which a vote for another landmark counts as 0. The
exponent p says how much more a near photo weighs than a far one: 1 weighs them almost alike, as
``majority`` does; a large p leaves the decision to the nearest photo. ``blended`` is ``weighted`` with similarities
that lean on the mean embedding of the photo's landmark (see :mod:`obelisk.recognition.rerank.prototypes`).

A score is in [0, 1] and means the same for every query. A landmark that was voted for scores above one
that was not, because nobody outside the k nearest is more similar than those within.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Floats, Integers
from obelisk.errors import UsageError, near_names

DEFAULT_VOTE = "blended"
LARGEST_EXPONENT = 100.0  # beyond it, a(s)^p leaves the range of float64 for unlike photos


def agreement(similarities: NDArray[np.floating]) -> Floats:
    """Return a(s) = (1 + s) / 2, in [0, 1]."""
    return (1.0 + similarities.astype(np.float64)) / 2.0


@dataclass(frozen=True, kw_only=True)
class Tally:
    """The votes counted: one row for every landmark among the neighbours of every query.

    =============  ====  ==========================================================
    ``queries``    (G,)  the number of the query, ascending
    ``landmarks``  (G,)  the landmark l
    ``counts``     (G,)  n(l), the photos of l among the k nearest; 0: not voted for
    ``weights``    (G,)  Σ a(s_i)^p over these photos
    ``best``       (G,)  b(l), the similarity of the best photo of l
    =============  ====  ==========================================================
    """

    queries: Integers
    landmarks: Integers
    counts: Integers
    weights: Floats
    best: NDArray[np.float32]


def count_votes(landmarks: Integers, similarities: NDArray[np.float32], *, k: int, exponent: float) -> Tally:
    """Count the votes of the first k of the M neighbours of each query.

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
    return Tally(
        queries=first // M,
        landmarks=landmarks.ravel()[first],
        counts=np.add.reduceat(voting.ravel().astype(np.int64), first),
        weights=np.add.reduceat((voting * agreement(similarities) ** exponent).ravel(), first),
        best=similarities.ravel()[first],
    )


def weighted(tally: Tally, k: int, exponent: float) -> Floats:
    """Score by the power mean of the votes (the equation stands at the top of this file)."""
    half_vote = agreement(tally.best) ** exponent / 2
    return (np.where(tally.counts > 0, tally.weights, half_vote) / k) ** (1 / exponent)


def majority(tally: Tally, k: int, exponent: float) -> Floats:
    """Score by the number of votes; the best photo decides between equal numbers. The exponent plays no part."""
    return (tally.counts + agreement(tally.best)) / (k + 1)


def prototype(tally: Tally, k: int, exponent: float) -> Floats:
    """Score by the mean embedding, the one "photo" that each landmark has here. k and exponent play no part."""
    return agreement(tally.best)


@dataclass(frozen=True, kw_only=True)
class Vote:
    """A way to choose the landmark: who votes, how a tally becomes scores (G,) in [0, 1], and with which exponent."""

    voters: Literal["photos", "blended", "prototypes"]
    score: Callable[[Tally, int, float], Floats]
    exponent: float = 1.0


VOTES = MappingProxyType(
    {
        "blended": Vote(voters="blended", score=weighted, exponent=48.0),
        "weighted": Vote(voters="photos", score=weighted, exponent=12.0),
        "majority": Vote(voters="photos", score=majority),
        "prototype": Vote(voters="prototypes", score=prototype),
    }
)


def find_vote(name: str) -> Vote:
    """Return the vote of this name, or raise :class:`UsageError` with the known names."""
    if name not in VOTES:
        fix = near_names(name, VOTES) or f"choose one of {', '.join(VOTES)}"
        raise UsageError(f"unknown vote `{name}`", fix=fix)
    return VOTES[name]


def rank_landmarks(tally: Tally, scores: Floats, *, queries: int, top: int) -> tuple[Integers, Floats]:
    """Return the ``top`` landmarks of each query (Q, T) and their scores (Q, T), best first.

    Equal scores are ordered by best similarity, then by landmark id. Where a query has fewer landmarks
    than ``top``, the rest is landmark -1 with score 0.
    """
    order = np.lexsort((tally.landmarks, -tally.best, -scores, tally.queries))
    query = tally.queries[order]
    rank = np.arange(len(query)) - np.searchsorted(query, query)
    listed = rank < top
    place = query[listed], rank[listed]

    candidates = np.full((queries, top), -1, dtype=np.int64)
    ranked_scores = np.zeros((queries, top))
    candidates[place] = tally.landmarks[order][listed]
    ranked_scores[place] = scores[order][listed]
    return candidates, ranked_scores


def landmark_means(references: NDArray[np.float32], landmark_ids: Integers) -> tuple[NDArray[np.float32], Integers]:
    """Return the prototype of each landmark: the mean (C, D) of its rows, of length 1, and the landmark ids (C,).

    A landmark whose rows cancel out has no direction; its first row stands for it.
    """
    by_landmark = np.argsort(landmark_ids, kind="stable")
    references = references[by_landmark]
    landmarks, first = np.unique(landmark_ids[by_landmark], return_index=True)
    sums = np.add.reduceat(references.astype(np.float64), first, axis=0)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    cancelled = lengths[:, 0] < 1e-9
    sums[cancelled], lengths[cancelled] = references[first[cancelled]], 1.0
    return np.ascontiguousarray(sums / lengths, dtype=np.float32), landmarks
