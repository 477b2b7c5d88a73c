"""k-nearest-neighbour classification of embeddings. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from obelisk.arrays import Booleans, Embeddings, Integers
from obelisk.defaults import TOP, VOTE, K
from obelisk.errors import UsageError
from obelisk.gallery import HeldLabels, Labels, as_labels
from obelisk.gallery.exact import ExactSearch, SearchEngine, check_fits, check_normalized
from obelisk.recognition.ranking import Ranking, allocate_ranking, fill_rows
from obelisk.recognition.rerank.background import Background, BackgroundReranker
from obelisk.recognition.rerank.prototypes import RERANKED, PrototypeReranker, prototypes_of
from obelisk.recognition.rerank.query_expansion import expand_search
from obelisk.recognition.rerank.reranker import Reranker, Shortlist, find_shortlist
from obelisk.recognition.votes import LARGEST_EXPONENT, VoteCounts, count_votes, find_vote, rank_landmarks

ROWS_PER_CANDIDATE = 8  # of the first shortlist: searching all rows costs far more than a longer shortlist
SHORTEST = max(128, RERANKED)  # rows of a shortlist
GROWTH = 4  # each next shortlist is this many times longer
PAIRS_AT_ONCE = 1 << 20  # of query and reference, held in memory: about 64 MiB


def recognize_embeddings(
    queries: Embeddings,
    references: Embeddings,
    landmark_ids: Integers,
    *,
    k: int = K,
    top: int = TOP,
    vote: str = VOTE,
    exponent: float | None = None,
) -> Ranking:
    """Rank the landmarks of query embeddings by the votes of their k nearest reference embeddings.

    ``queries`` (Q, D) and ``references`` (N, D) are unit-norm rows; ``landmark_ids`` (N,) is the landmark of each
    reference. ``exponent`` defaults to that of the vote. The ranking is exact, and that of a query does not depend on
    the other queries.

    Raises :class:`~obelisk.errors.GalleryError` if k exceeds N, :class:`~obelisk.errors.UsageError` for other values
    and shapes that don't fit.
    """
    classifier = KNNClassifier(ExactSearch(references), landmark_ids, vote=vote, exponent=exponent)
    return classifier.classify(queries, k=k, top=top)


class KNNClassifier:
    """Ranks landmarks by the votes of the k nearest reference photos.

    ``references`` is anything that searches N rows, such as :class:`obelisk.gallery.References`; ``labels`` tells the
    landmark of each: an array (N,), or :class:`obelisk.gallery.Labels`. ``vote`` names one of
    :data:`~obelisk.recognition.votes.VOTES`; ``exponent`` defaults to that of the vote. A ``background`` normalizes
    similarities before they vote (see :mod:`obelisk.recognition.rerank.background`). ``expand`` is ``none``, ``query``
    or ``references`` (see :mod:`obelisk.recognition.rerank.query_expansion`).

    Raises :class:`~obelisk.errors.UsageError` for unknown names and values out of range. A classifier caches what its
    rerankers compute for references, which makes later queries faster.
    """

    def __init__(
        self,
        references: SearchEngine,
        labels: Labels | Integers,
        *,
        vote: str = VOTE,
        exponent: float | None = None,
        background: Background | None = None,
        expand: str = "none",
    ) -> None:
        self._vote = find_vote(vote)
        self._exponent = self._vote.exponent if exponent is None else exponent
        if not 0 < self._exponent <= LARGEST_EXPONENT:
            fix = f"give a number above 0, of at most {LARGEST_EXPONENT:g}"
            raise UsageError(f"exponent = {exponent} of the vote", fix=fix)
        if isinstance(labels, np.ndarray) and len(references) != len(labels):
            counts = f"{len(references)} references and {len(labels)} landmark ids"
            raise UsageError(f"{counts} do not belong together", fix="give one landmark id for each reference")
        self._references = self._voters = references
        self._labels = as_labels(labels)
        self._landmark_count = len(self._labels.landmarks)
        if self._vote.voters == "prototypes" and len(references):
            landmarks = self._labels.landmarks
            self._voters = ExactSearch(prototypes_of(references, self._labels, landmarks))
            self._labels = HeldLabels(landmarks)
        self._voters, self._labels = expand_search(self._voters, self._labels, expand)
        self._rerankers: list[Reranker] = []
        if self._vote.voters == "blended" and len(references):
            self._rerankers.append(PrototypeReranker(self._voters, self._labels))
        if background:
            self._rerankers.append(BackgroundReranker(self._voters, background))

    def check(self, *, k: int, top: int) -> None:
        """Raise the error that :meth:`classify` would raise for these values."""
        check_fits(k, len(self._references))
        if top < 1:
            raise UsageError(f"top = {top} candidates", fix="top must be at least 1")

    def classify(self, queries: Embeddings, *, k: int = K, top: int = TOP) -> Ranking:
        """Rank the landmarks of unit-norm query embeddings (Q, D).

        Raises :class:`~obelisk.errors.GalleryError` if k exceeds N, :class:`~obelisk.errors.UsageError` for other
        values and shapes that don't fit.
        """
        self.check(k=k, top=top)
        queries = check_normalized(queries, dimensions=self._references.dimensions)
        ranking = self._rank(queries, k=min(k, len(self._voters)), top=min(top, self._landmark_count))
        if self._voters is self._references:
            return ranking
        neighbors, similarities = self._references.nearest(queries, k)
        return replace(ranking, neighbors=neighbors, similarities=similarities)

    def _rank(self, queries: Embeddings, *, k: int, top: int) -> Ranking:
        """Rank the landmarks of all queries, with longer and longer shortlists until every ranking is final.

        Queries differ in how many rows it takes to be sure of ``top`` landmarks. Most are done after the first, short
        search; only the rest are searched again.
        """
        ranking = allocate_ranking(len(queries), k=k, top=top)
        pending = np.arange(len(queries))
        for length in shortlist_lengths(max(k, SHORTEST, ROWS_PER_CANDIDATE * top), rows=len(self._voters)):
            if not pending.size:
                break
            final = np.empty(len(queries), dtype=bool)
            for part in np.split(pending, range(0, len(pending), max(1, PAIRS_AT_ONCE // length))[1:]):
                found, final[part] = self._rank_shortlists(queries[part], length, k=k, top=top)
                fill_rows(ranking, part, found)
            pending = pending[~final[pending]]
        return ranking

    def _rank_shortlists(self, queries: Embeddings, length: int, *, k: int, top: int) -> tuple[Ranking, Booleans]:
        """Search, rerank, vote: rank landmarks from shortlists of one length; return also which (Q,) are final."""
        nearest = shortlist = find_shortlist(self._voters, queries, length)
        for reranker in self._rerankers:
            shortlist = reranker.rerank(queries, shortlist)
        landmarks = self._labels.of(shortlist.indices)
        counts = count_votes(landmarks, shortlist.similarities, k=k, exponent=self._exponent)
        candidates, scores = rank_landmarks(counts, self._vote.score(counts), queries=len(queries), top=top)
        ranking = Ranking(
            candidates=candidates,
            scores=scores,
            confidence=scores[:, 0],
            neighbors=nearest.indices[:, :k],
            similarities=nearest.similarities[:, :k],
        )
        return ranking, find_final(shortlist, counts, top=top)


def find_final(shortlist: Shortlist, counts: VoteCounts, *, top: int) -> Booleans:
    """Return which rankings (Q,) no unlisted row could change.

    ``top`` candidates must stand (the lemma of :mod:`obelisk.recognition.rerank.reranker`), and all k voters with
    them: a voter stays one unless an unlisted row may be more similar than the last of them.
    """
    stands = counts.best > shortlist.bound[counts.queries]
    standing = np.bincount(counts.queries[stands], minlength=len(shortlist.bound))
    last_voter = shortlist.similarities[:, counts.k - 1]
    final: Booleans = (standing >= top) & (last_voter >= shortlist.bound)
    return final


def shortlist_lengths(first: int, *, rows: int) -> Iterator[int]:
    """Yield the lengths of shortlists to try, up to all rows."""
    length = min(first, rows)
    yield length
    while length < rows:
        length = min(GROWTH * length, rows)
        yield length
