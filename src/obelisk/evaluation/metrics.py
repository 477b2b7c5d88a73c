"""The metrics, in NumPy: arrays in, numbers out.

Letters: Q queries, T candidates of a query (ranked, best first), C landmarks, K neighbors of a query
(ranked, best first). A landmark is an integer id; ``NO_LANDMARK`` fills the rows that have fewer
candidates or fewer true landmarks than others. A query may have several true landmarks: naming any one
of them is right. A metric of nothing (no query, no answer) is ``nan``.

==================================  ===================================================================
:func:`top_k_accuracy`              is a true landmark among the first k candidates?
:func:`f1_scores`                   the same for the first candidate, landmark by landmark
:func:`gap`                         are right answers given with more confidence than wrong ones?
:func:`auroc`                       does the confidence tell landmarks from distractors?
:func:`expected_calibration_error`  is a confidence of 0.8 right in 80 % of the cases?
:func:`precision_and_recall`        how good are the answers at or above a threshold?
:func:`retrieval_map`               do all photos of the landmark come first among the neighbors?
:func:`trapezoid_precision`         the same over a whole ranking, as Revisited Oxford and Paris measure it
==================================  ===================================================================
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from obelisk.arrays import Booleans, Floats, Integers
from obelisk.errors import DataError

NO_LANDMARK = -1


def find_hits(candidates: Integers, truths: Integers) -> Booleans:
    """Return which candidates are true landmarks: (Q, T).

    ``candidates`` (Q, T) and ``truths`` (Q, L) are landmark ids, rows padded with ``NO_LANDMARK``.
    """
    same = candidates[:, :, None] == truths[:, None, :]
    hits: Booleans = same.any(axis=2) & (candidates != NO_LANDMARK)
    return hits


def top_k_accuracy(hits: Booleans, k: int) -> float:
    """Return the share of queries with a true landmark among the first k candidates.

    ``top-k = 1/Q · Σ_q [ any hit in ranks 1 … k ]``

    ``hits`` (Q, T) is of the queries that have a landmark: distractors play no part.
    """
    return mean(np.any(hits[:, :k], axis=1))


def f1_scores(truths: Integers, answers: Integers) -> tuple[float, float]:
    """Return the macro and the weighted F1.

    For a landmark c, with ``TP`` its queries answered by c, ``FN`` its queries answered otherwise and
    ``FP`` the queries of other landmarks answered by c::

        F1_c     = 2·TP / (2·TP + FP + FN)
        macro    = mean of F1_c over the C landmarks that have queries
        weighted = mean of F1_c over these, each counted as often as it has queries

    ``truths`` (Q,) is the one landmark that each query counts for (:func:`counted_landmarks`) and
    ``answers`` (Q,) the first candidate, which no confidence rejects. Distractors play no part: whether
    they are recognized as such is what ``gap``, ``auroc`` and the precision measure.
    """
    if not len(truths):
        return math.nan, math.nan
    landmarks, truth, queries = np.unique(truths, return_inverse=True, return_counts=True)
    C = len(landmarks)
    column = np.minimum(np.searchsorted(landmarks, answers), C - 1)
    counted = landmarks[column] == answers  # an answer outside the C landmarks is a miss, and a hit of nobody
    answered = np.bincount(column[counted], minlength=C)  # TP + FP
    TP = np.bincount(truth[truths == answers], minlength=C)
    F1 = 2 * TP / (answered + queries)  # TP + FN = queries
    return float(F1.mean()), float(F1 @ queries / queries.sum())


def counted_landmarks(truths: Integers, answers: Integers) -> Integers:
    """Return the one true landmark (Q,) that a query counts for where it must count once.

    That is the one its answer names; where the answer is wrong, the first in the list.
    ``truths`` is (Q, L), ``answers`` (Q,) the first candidates.
    """
    right = find_hits(answers[:, None], truths)[:, 0]
    return np.where(right, answers, truths[:, 0])


def gap(
    solution: Mapping[str, Collection[int]],
    predictions: Mapping[str, tuple[int, float]],
    ignore_non_landmarks: bool = False,
) -> float:
    """Return the global average precision (GAP, µAP), as Google's delf library defines it.

    All N predictions are ranked together: highest score first, ties by query id, then by landmark id. ::

        GAP = 1/M · Σ_{i=1…N} P(i) · rel(i)

    with ``rel(i) = 1`` if prediction i names a true landmark of its query, ``P(i)`` the precision among
    the first i predictions, and M the queries that have a landmark. A prediction for a query without one
    is wrong, unless ``ignore_non_landmarks`` leaves these queries out. A query without a prediction is a miss.

    ``solution`` gives the true landmarks of every query, an empty list where it shows none; queries with
    ``Usage`` "Ignored" are to be left out of both. ``predictions`` gives (landmark, score). Raises
    :class:`DataError` for a prediction of a query that the solution does not have, or whose score is no number.

    Weyand et al., Google Landmarks Dataset v2, CVPR 2020, where it is called µAP.
    """
    unknown = predictions.keys() - solution.keys()
    if unknown:
        raise DataError(f"a prediction of query `{min(unknown)}`, which the solution does not have", fix="leave it out")
    unranked = [query for query, (_, score) in predictions.items() if math.isnan(score)]
    if unranked:
        raise DataError(f"the score of query `{unranked[0]}` is not a number", fix="give every prediction a score")
    wanted = [query for query in predictions if solution[query] or not ignore_non_landmarks]
    ranked = sorted(wanted, key=lambda query: (-predictions[query][1], query, predictions[query][0]))
    right = np.array([predictions[query][0] in solution[query] for query in ranked], dtype=bool)
    return ranked_precision(right, positives=sum(1 for landmarks in solution.values() if landmarks))


def ranked_gap(right: Booleans, answered: Booleans, confidence: Floats, positives: int) -> float:
    """Return :func:`gap` of queries in arrays (Q,), which are in the order of their ids.

    ``right``: the answer names a true landmark; ``answered``: there is an answer at all;
    ``positives``: M, the queries that have a landmark.
    """
    order = np.argsort(-confidence, kind="stable")
    return ranked_precision(right[order][answered[order]], positives)


def ranked_precision(rel: Booleans, positives: int) -> float:
    """Return ``1/M · Σ P(i) · rel(i)`` for ranked answers ``rel`` (N,) and M = ``positives``."""
    if positives == 0:
        return math.nan
    P = np.cumsum(rel) / np.arange(1, len(rel) + 1)
    return float(P[rel].sum() / positives)


def auroc(positives: Floats, negatives: Floats) -> float:
    """Return the area under the ROC curve of scores (P,) that should be higher than scores (N,).

    ``AUROC = P(s⁺ > s⁻) + ½ · P(s⁺ = s⁻)``, over all pairs of a positive and a negative; from the ranks
    of all scores together (ties share their mean rank): ``(Σ rank⁺ − P·(P+1)/2) / (P·N)``.
    """
    P, N = len(positives), len(negatives)
    if P == 0 or N == 0:
        return math.nan
    _, value, counts = np.unique(np.concatenate([positives, negatives]), return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    return float((mean_rank[value[:P]].sum() - P * (P + 1) / 2) / (P * N))


def expected_calibration_error(confidence: Floats, right: Booleans, bins: int = 15) -> float:
    """Return how far confidence and accuracy lie apart (ECE).

    ``ECE = Σ_m |B_m| / Q · | accuracy(B_m) − mean confidence(B_m) |`` over M equal bins
    ``B_m = ((m−1)/M, m/M]``; the first also holds confidence 0.

    ``confidence`` (Q,) in [0, 1] and ``right`` (Q,) are of all queries; a distractor is never right.
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    Q = len(confidence)
    if Q == 0:
        return math.nan
    edges = np.arange(1, bins) / bins
    m = np.searchsorted(edges, confidence, side="left")
    surplus = np.bincount(m, weights=confidence - right, minlength=bins)  # |B_m| · (mean confidence − accuracy)
    return float(np.abs(surplus).sum() / Q)


def precision_and_recall(right: Booleans, confidence: Floats, known: Booleans, threshold: float) -> tuple[float, float]:
    """Return precision and recall of the answers with a confidence of at least ``threshold``.

    ``precision = right answers / answers given``, ``recall = right answers / queries of known landmarks``

    All three arrays are (Q,), over all queries: an answer to a distractor is a wrong answer.
    """
    given = confidence >= threshold
    right_answers = int((right & given).sum())
    return divide(right_answers, int(given.sum())), divide(right_answers, int(known.sum()))


def precision_at_coverage(confidence: Floats, right: Booleans, weights: Floats | None = None) -> tuple[Floats, Floats]:
    """Return the risk–coverage curve: coverage (n,), ascending to 1, and the precision (n,) of these answers.

    The answers of at least each confidence that occurs are given: coverage is their share of all Q queries, risk is
    1 − precision. ``confidence`` and ``right`` are (Q,), and ``weights`` (Q,) says how much each query counts.
    El-Yaniv & Wiener, On the Foundations of Noise-free Selective Classification, JMLR 2010.
    """
    w = np.ones(len(confidence)) if weights is None else weights
    order = np.argsort(-confidence, kind="stable")
    given, correct = np.cumsum(w[order]), np.cumsum((w * right)[order])
    last = np.flatnonzero(np.diff(confidence[order], append=-np.inf))  # queries of one confidence are answered together
    return given[last] / given[-1] if len(last) else given, correct[last] / given[last]


def reliability(
    confidence: Floats, right: Booleans, weights: Floats | None = None, bins: int = 15
) -> tuple[Floats, Floats, Floats]:
    """Return mean confidence, accuracy and share of the queries (B,) of each bin that holds any: a reliability diagram.

    The bins are those of :func:`expected_calibration_error`, which is Σ share · |accuracy − mean confidence|.
    """
    w = np.ones(len(confidence)) if weights is None else weights
    m = np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
    held = np.bincount(m, weights=w, minlength=bins)
    filled = held > 0
    means = [
        np.bincount(m, weights=w * values, minlength=bins)[filled] / held[filled] for values in (confidence, right)
    ]
    return means[0], means[1], held[filled] / held.sum()


def retrieval_map(
    solution: Mapping[str, Collection[str]], predictions: Mapping[str, Sequence[str]], k: int = 100
) -> float:
    """Return the mean average precision of the first k retrieved photos (mAP@k), as delf defines it.

    The mean of :func:`average_precision` over all queries of the solution. ``solution`` gives the
    ids of the photos that should be found for each query (at least one), ``predictions`` the ids that
    were found, best first; a photo listed twice counts once, at its first rank. A query without
    predictions scores 0. Raises :class:`DataError` for a prediction of a query outside the solution.
    """
    unknown = predictions.keys() - solution.keys()
    if unknown:
        raise DataError(f"a prediction of query `{min(unknown)}`, which the solution does not have", fix="leave it out")
    relevant = np.zeros((len(solution), k), dtype=bool)
    for row, (query, photos) in zip(relevant, solution.items(), strict=True):
        found = predictions.get(query, ())[:k]
        row[: len(found)] = [photo in photos and photo not in found[:rank] for rank, photo in enumerate(found)]
    totals = np.array([len(photos) for photos in solution.values()], dtype=np.int64)
    return mean(average_precision(relevant, totals, k))


def average_precision(relevant: Booleans, totals: Integers, k: int = 100) -> Floats:
    """Return the average precision (Q,) of the first k neighbors.

    ``AP@k = 1/min(n, k) · Σ_{i=1…k} P(i) · rel(i)``, with n the photos that should be found and ``P(i)``
    the precision among the first i. ``relevant`` is (Q, K), ``totals`` (Q,) is n; where n = 0, AP is nan.
    """
    rel = relevant[:, :k]
    P = np.cumsum(rel, axis=1) / np.arange(1, rel.shape[1] + 1)
    expected = np.where(totals > 0, np.minimum(totals, k), np.nan)
    return np.asarray((P * rel).sum(axis=1) / expected, dtype=np.float64)


def trapezoid_precision(ranks: Integers, junk: Integers) -> float:
    """Return the average precision of a whole ranking, as the benchmarks Revisited Oxford and Paris define it.

    ``ranks`` (n,) are the ranks, from 0, of all n photos that should be found, ``junk`` (m,) those of photos that are
    taken out of the ranking. With ``r_j`` the j-th of the ranks that are left, j from 0::

        AP = 1/n · Σ_j ( P⁻(j) + P(j) ) / 2,   P(j) = (j + 1) / (r_j + 1),   P⁻(j) = j / r_j, and 1 if r_j = 0

    It is nan where there is nothing to be found. Radenović et al., CVPR 2018; the trapezoidal rule is that of
    Philbin et al., CVPR 2007.
    """
    r = without_junk(ranks, junk)
    j = np.arange(len(r))
    before = np.divide(j, r, out=np.ones(len(r)), where=r > 0)
    return mean((before + (j + 1) / (r + 1)) / 2)


def precision_at(ranks: Integers, junk: Integers, k: int) -> float:
    """Return the precision among the first k photos of a ranking without junk, as the same benchmarks define it.

    ``P@k = |{j: r_j < k'}| / k'`` with ``k' = min(k, last r_j + 1)``: where everything is found earlier, only that
    much of the ranking counts. Arguments are those of :func:`trapezoid_precision`; nan where nothing can be found.
    """
    r = without_junk(ranks, junk)
    if not len(r):
        return math.nan
    depth = min(k, int(r[-1]) + 1)
    return float(np.count_nonzero(r < depth) / depth)


def without_junk(ranks: Integers, junk: Integers) -> Integers:
    """Return ascending ranks (n,) as they are once the photos at the ranks ``junk`` (m,) are gone."""
    ordered = np.sort(ranks)
    left: Integers = ordered - np.searchsorted(np.sort(junk), ordered)
    return left


def mean(values: Booleans | Floats) -> float:
    """Return the mean of (N,), nan for none."""
    return float(values.mean()) if len(values) else math.nan


def divide(part: int, whole: int) -> float:
    """Return part / whole, nan for 0 / 0."""
    return part / whole if whole else math.nan
