"""k-nearest-neighbour recognition of embeddings: arrays in, arrays out.

The evaluation of a run and the recognition of a photo both go through this module, so that they agree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Embeddings, Integers
from obelisk.errors import UsageError
from obelisk.gallery.exact import ExactSearch, SearchEngine, check_fits, check_normalized
from obelisk.recognition.rerank.background import Background, Correction
from obelisk.recognition.rerank.prototypes import RANKED_AGAIN, Blend
from obelisk.recognition.rerank.query_expansion import expand_search
from obelisk.recognition.rerank.reranker import Layer, find_rows
from obelisk.recognition.votes import (
    DEFAULT_VOTE,
    LARGEST_EXPONENT,
    count_votes,
    find_vote,
    landmark_means,
    rank_landmarks,
)

ROWS_PER_CANDIDATE = 8  # looked at first: a scan of all rows costs far more than a longer list of the nearest
FEWEST_ROWS = max(128, RANKED_AGAIN)
PAIRS_AT_ONCE = 1 << 20  # pairs of query and reference in memory at once: about 64 MiB


@dataclass(frozen=True, kw_only=True)
class Votes:
    """What the reference photos say about Q queries. T = ``top``, or the number of landmarks if that is smaller.

    ================  ======  ===========================================================
    ``candidates``    (Q, T)  landmark ids, best first
    ``scores``        (Q, T)  their scores in [0, 1], higher is better
    ``confidence``    (Q,)    of the first candidate, in [0, 1]
    ``neighbours``    (Q, k)  row numbers of the nearest reference photos, nearest first
    ``similarities``  (Q, k)  their cosine similarities
    ================  ======  ===========================================================
    """

    candidates: Integers
    scores: NDArray[np.float64]
    confidence: NDArray[np.float64]
    neighbours: Integers
    similarities: Embeddings


def recognize_embeddings(
    queries: Embeddings,
    references: Embeddings,
    landmark_ids: Integers,
    *,
    k: int = 3,
    top: int = 5,
    vote: str = DEFAULT_VOTE,
    exponent: float | None = None,
) -> Votes:
    """Let the k nearest of N reference embeddings vote for the landmark of each of Q query embeddings.

    ``queries`` (Q, D) and ``references`` (N, D) are unit float32 rows; ``landmark_ids`` (N,) names the
    landmark of each reference. ``exponent`` is that of the vote where it is not given. The result is exact, and that of
    a query does not depend on the others.
    Raises :class:`GalleryError` when k is larger than N, :class:`UsageError` for other unusable values.
    """
    engine = ExactSearch(references)
    return NeighbourClassifier(engine, landmark_ids, vote=vote, exponent=exponent).classify(queries, k=k, top=top)


class NeighbourClassifier:
    """The prepared form of :func:`recognize_embeddings`, for queries that come in parts.

    ``references`` are searchable rows, such as :class:`obelisk.gallery.References`. With a ``background``, similarities
    are corrected by it before they vote (see :mod:`obelisk.recognition.rerank.background`). ``expand`` names what leans
    on its neighbours first (see :mod:`obelisk.recognition.rerank.query_expansion`).
    """

    def __init__(
        self,
        references: SearchEngine,
        landmark_ids: Integers,
        *,
        vote: str = DEFAULT_VOTE,
        exponent: float | None = None,
        background: Background | None = None,
        expand: str = "none",
    ) -> None:
        self._vote = find_vote(vote)
        self._exponent = self._vote.exponent if exponent is None else exponent
        if not 0 < self._exponent <= LARGEST_EXPONENT:
            fix = f"give a number above 0, of at most {LARGEST_EXPONENT:g}"
            raise UsageError(f"exponent = {exponent} of the vote", fix=fix)
        if len(references) != len(landmark_ids):
            counts = f"{len(references)} references and {len(landmark_ids)} landmark ids"
            raise UsageError(f"{counts} do not belong together", fix="give one landmark id for each reference")
        self._references = self._voters = references
        self._voter_landmarks = landmark_ids
        if self._vote.voters == "prototypes" and len(references):
            means, self._voter_landmarks = landmark_means(references.rows(np.arange(len(references))), landmark_ids)
            self._voters = ExactSearch(means)
        self._layers: list[Layer] = []
        self._voters = expand_search(self._voters, self._voter_landmarks, expand)
        if self._vote.voters == "blended" and len(references):
            self._layers.append(Blend(self._voters, landmark_ids))
        if background:
            self._layers.append(Correction(self._voters, background))
        self._landmark_count = len(np.unique(landmark_ids))

    def check(self, *, k: int, top: int) -> None:
        """Refuse numbers of neighbours and candidates that cannot be given."""
        check_fits(k, len(self._references))
        if top < 1:
            raise UsageError(f"top = {top} candidates", fix="top must be at least 1")

    def classify(self, queries: Embeddings, *, k: int = 3, top: int = 5) -> Votes:
        """Recognise the query embeddings (Q, D)."""
        self.check(k=k, top=top)
        queries = check_normalized(queries, dimensions=self._references.dimensions)
        ranking = self._rank(queries, k=min(k, len(self._voters)), top=min(top, self._landmark_count))
        if self._voters is self._references:
            return ranking
        neighbours, similarities = self._references.nearest(queries, k)
        return replace(ranking, neighbours=neighbours, similarities=similarities)

    def _rank(self, queries: Embeddings, *, k: int, top: int) -> Votes:
        """Let the k best voters vote; the neighbours that are returned are the nearest ones.

        How many rows it takes to be sure of ``top`` landmarks differs by query: look at a few, and go on with
        more for those queries that need them.
        """
        votes = empty_votes(len(queries), k=k, top=top)
        seen = min(len(self._voters), max(k, FEWEST_ROWS, ROWS_PER_CANDIDATE * top))
        unsettled = np.arange(len(queries))
        while unsettled.size:
            left = []
            for part in np.split(unsettled, range(0, len(unsettled), max(1, PAIRS_AT_ONCE // seen))[1:]):
                listed = find_rows(self._voters, queries[part], seen)
                votes.neighbours[part], votes.similarities[part] = listed.places[:, :k], listed.similarities[:, :k]
                for layer in self._layers:
                    listed = layer.reorder(queries[part], listed)
                landmarks = self._voter_landmarks[listed.places]
                tally = count_votes(landmarks, listed.similarities, k=k, exponent=self._exponent)
                scores = self._vote.score(tally, k, self._exponent)
                votes.candidates[part], votes.scores[part] = rank_landmarks(tally, scores, queries=len(part), top=top)
                # A ranking stands when no row that was left out can be a voter, or the best of a landmark at the top.
                surely = tally.best > listed.bound[tally.queries]
                met = np.bincount(tally.queries[surely], minlength=len(part))
                left.append(part[(met < top) | (listed.similarities[:, k - 1] < listed.bound)])
            unsettled = np.concatenate(left) if seen < len(self._voters) else unsettled[:0]
            seen = min(len(self._voters), 4 * seen)
        return replace(votes, confidence=votes.scores[:, 0])


def empty_votes(queries: int, *, k: int, top: int) -> Votes:
    """Return the columns to be filled in."""
    return Votes(
        candidates=np.empty((queries, top), dtype=np.int64),
        scores=np.empty((queries, top)),
        confidence=np.empty(queries),
        neighbours=np.empty((queries, k), dtype=np.int64),
        similarities=np.empty((queries, k), dtype=np.float32),
    )
