"""The outcome of every query, and the metrics of any subset of queries.

A *known* query shows a landmark of the gallery: accuracy, F1 and retrieval are over these. Every other
query is a *distractor*: it shows no landmark, or one that the gallery lacks (an *unknown* landmark, where
the dataset tells). GAP alone follows its definition to the letter: queries of unknown landmarks are
missed, not distractors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from obelisk.arrays import Booleans, Floats, Integers
from obelisk.data import Catalog, landmark_buckets
from obelisk.evaluation import metrics
from obelisk.evaluation.intervals import RESAMPLES, draw_resamples
from obelisk.evaluation.metrics import NO_LANDMARK
from obelisk.evaluation.predictions import Predictions, Strings

BUCKETS = ("head", "mid", "tail")
RETRIEVED = 100  # the depth of mAP@100


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes:
    """The outcomes of Q queries, in the order of their ids.

    =====================  ======  ==================================================================
    ``known``              (Q,)    shows a landmark of the gallery
    ``unknown``            (Q,)    shows landmarks, none of them in the gallery
    ``landmarks``          (Q,)    its first landmark of the gallery, or ``NO_LANDMARK``
    ``counted``            (Q,)    the landmark it counts for in F1 (:func:`metrics.counted_landmarks`)
    ``clusters``           (Q,)    queries of one landmark share a number, every other has its own
    ``answers``            (Q,)    first candidate
    ``hits``               (Q, 5)  which of the first five candidates are true
    ``confidence``         (Q,)    of the first candidate
    ``buckets``            (Q,)    "head", "mid" or "tail": how many reference photos ``landmarks`` has
    ``point_like``         (Q,)    ``landmarks`` is a building or similar, not a park, bay or district
    ``average_precision``  (Q,)    of the first 100 neighbors; nan where it is undefined
    =====================  ======  ==================================================================
    """

    known: Booleans
    unknown: Booleans
    landmarks: Integers
    counted: Integers
    clusters: Integers
    answers: Integers
    hits: Booleans
    confidence: Floats
    buckets: Strings
    point_like: Booleans
    average_precision: Floats

    @property
    def right(self) -> Booleans:
        """Whether the first candidate is true: (Q,)."""
        return self.hits[:, 0]

    def measure(self, rows: Integers | None = None, *, threshold: float | None = None) -> dict[str, float]:
        """Return all metrics, nan where undefined, of all queries or of a resample.

        ``rows`` (any number) are ascending indices of queries, repeated where a resample drew them
        more than once. Precision and recall are of the answers of at least the ``threshold``; without one, of all.
        """
        resampled = rows is not None
        rows = np.arange(len(self.known)) if rows is None else rows
        is_known = self.known[rows]
        known, distractors = rows[is_known], rows[~is_known]
        right, confidence = self.right[rows], self.confidence[rows]
        f1_macro, f1_weighted = self.resampled_f1(known) if resampled else self.f1()
        measured = {
            "top1": metrics.top_k_accuracy(self.hits[known], 1),
            "top5": metrics.top_k_accuracy(self.hits[known], 5),
            "f1_macro": f1_macro,
            "f1_weighted": f1_weighted,
            "gap": metrics.ranked_gap(
                right, self.answers[rows] != NO_LANDMARK, confidence, int((is_known | self.unknown[rows]).sum())
            ),
            "auroc_distractors": metrics.auroc(self.confidence[known], self.confidence[distractors]),
            "auroc_unknown": metrics.auroc(
                self.confidence[known], self.confidence[distractors[self.unknown[distractors]]]
            ),
            "ece": metrics.expected_calibration_error(confidence, right),
        }
        for bucket in BUCKETS:
            measured[bucket] = metrics.mean(self.right[known[self.buckets[known] == bucket]])
        measured["point_like"] = metrics.mean(self.right[known[self.point_like[known]]])
        measured["map100"] = metrics.mean(self.average_precision[known])
        # A query without a candidate has no answer, whatever the threshold.
        given = np.where(self.answers[rows] != NO_LANDMARK, confidence, -1.0)
        answers = metrics.precision_and_recall(right, given, is_known, threshold or 0.0)
        measured["precision"], measured["recall"] = answers
        return measured

    def f1(self) -> tuple[float, float]:
        """Return macro and weighted F1 of the known queries."""
        return metrics.f1_scores(self.counted[self.known], self.answers[self.known])

    def resampled_f1(self, rows: Integers) -> tuple[float, float]:
        """Return macro and weighted F1 of known queries, rows repeated where a resample drew them again.

        A landmark that was drawn twice stands for two landmarks, each with its own queries and with all
        false answers of the others. Merging the copies would share those false answers out between them,
        and count the landmark once in the macro mean: the F1 of resamples would come out too high and too
        much alike. Hence, with c's queries drawn w_c times::

            F1_c  = 2·TP / (TP + FN + TP + FP),   TP and FN of one copy, FP of all that was drawn
            macro = Σ w_c · F1_c / Σ w_c
        """
        queries, w = np.unique(rows, return_counts=True)
        if not len(queries):
            return math.nan, math.nan
        landmarks, truth = np.unique(self.counted[queries], return_inverse=True)
        C = len(landmarks)
        answers = self.answers[queries]
        answer = np.minimum(np.searchsorted(landmarks, answers), C - 1)
        false = (landmarks[answer] == answers) & (answer != truth)
        n = np.bincount(truth, minlength=C)  # TP + FN
        TP = np.bincount(truth[self.right[queries]], minlength=C)
        FP = np.bincount(answer[false], weights=w[false], minlength=C)
        drawn = np.bincount(truth, weights=w, minlength=C)  # w_c · n_c
        F1 = 2 * TP / (n + TP + FP)
        return float(drawn / n @ F1 / (drawn / n).sum()), float(drawn @ F1 / drawn.sum())

    def draw_resamples(self, *, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[Integers]:
        """Yield the rows of bootstrap resamples: landmarks with their queries, and distractors one by one."""
        return draw_resamples(self.clusters, self.known.astype(np.int64), resamples=resamples, seed=seed)


def judge(predictions: Predictions, catalog: Catalog, merged: Mapping[int, int] | None = None) -> Outcomes:
    """Compare predictions with the truth. The gallery holds all reference photos of ``catalog``.

    ``merged`` maps those landmarks that are one in the gallery to the one that stands for them there: who shows one of
    them shows that one. Queries are drawn by what they show before that, so that runs stay comparable.
    """
    gallery = catalog.references["landmark_id"].unique().sort().to_numpy()
    shown = predictions.truths.copy()
    for landmark, same in (merged or {}).items():
        shown[predictions.truths == landmark] = same
    for column in range(1, shown.shape[1]):
        shown[(shown[:, :column] == shown[:, column : column + 1]).any(axis=1), column] = NO_LANDMARK
    in_gallery = np.isin(shown, gallery)
    labelled: Booleans = np.any(shown != NO_LANDMARK, axis=1)
    known: Booleans = np.any(in_gallery, axis=1)
    # Truths that the gallery lacks are taken out, and the others moved to the front in their order.
    order = np.argsort(~in_gallery, axis=1, kind="stable")
    truths = np.take_along_axis(np.where(in_gallery, shown, NO_LANDMARK), order, axis=1)
    hits = metrics.find_hits(predictions.candidates[:, :5], truths)
    landmarks = truths[:, 0]
    buckets = landmark_buckets(catalog.references)
    points = catalog.landmarks.filter(pl.col("area_level") == 0)["landmark_id"].to_numpy()
    first = np.take_along_axis(predictions.truths, order, axis=1)[:, 0]
    return Outcomes(
        known=known,
        unknown=labelled & ~known,
        landmarks=landmarks,
        counted=metrics.counted_landmarks(truths, predictions.answers),
        clusters=np.where(labelled, first, -2 - np.arange(len(first))),
        answers=predictions.answers,
        hits=hits,
        confidence=predictions.confidence,
        buckets=np.array([buckets.get(landmark, "") for landmark in landmarks.tolist()], dtype=np.str_),
        point_like=np.isin(landmarks, points),
        average_precision=retrieve(predictions, truths, catalog),
    )


def retrieve(predictions: Predictions, truths: Integers, catalog: Catalog) -> Floats:
    """Return the average precision (Q,) at 100: nan for distractors, and where fewer neighbors are listed."""
    Q, K = predictions.neighbors.shape
    photos = catalog.references["image_id"].to_numpy().astype(np.str_)
    landmarks = catalog.references["landmark_id"].to_numpy()
    needed = min(RETRIEVED, len(photos))
    if needed > K:
        return np.full(Q, np.nan)
    order = np.argsort(photos)
    sorted_rows = np.minimum(np.searchsorted(photos, predictions.neighbors, sorter=order), len(photos) - 1)
    found = order[sorted_rows]
    near = np.where(photos[found] == predictions.neighbors, landmarks[found], NO_LANDMARK)
    names, counts = np.unique(landmarks, return_counts=True)
    sizes = np.append(counts, 0)
    # A query's relevant photos are those of all its landmarks; the filler NO_LANDMARK finds the 0 at the end.
    totals = sizes[np.where(truths == NO_LANDMARK, len(names), np.searchsorted(names, truths))].sum(axis=1)
    return metrics.average_precision(metrics.find_hits(near, truths), totals, RETRIEVED)
