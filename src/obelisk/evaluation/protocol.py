"""The second stage of an evaluation: from predictions on disk to metrics with intervals, and their JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from obelisk.arrays import Floats
from obelisk.data import Catalog
from obelisk.evaluation.intervals import RESAMPLES, Interval, bootstrap, percentile_interval
from obelisk.evaluation.outcomes import BUCKETS, Outcomes, judge
from obelisk.evaluation.predictions import Predictions
from obelisk.files import replace_file

# Sums of floats differ in their last digits between processors; nine decimals are the same everywhere.
DECIMALS = 9


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The metrics of one run on one set of queries.

    ``queries`` = ``known_queries`` (of a landmark of the gallery) + ``distractors``; ``landmarks`` counts
    the gallery's. ``values`` and ``intervals`` (95 %) have the same keys:

    =====================================  =====================================================
    ``top1`` ``top5``                      share of known queries answered right
    ``f1_macro`` ``f1_weighted``           over landmarks that have queries; first candidate
    ``gap``                                global average precision, distractors among the queries
    ``auroc_distractors``                  confidence of known queries against all distractors
    ``auroc_unknown``                      the same against landmarks that the gallery lacks
    ``ece``                                expected calibration error over all queries (lower is better)
    ``head`` ``mid`` ``tail``              top-1 where the landmark has many, some, few photos
    ``point_like``                         top-1 without parks, bays, districts and similar
    ``map100``                             retrieval mAP@100 over known queries
    ``precision`` ``recall``               of the answers of at least ``threshold``; without one, of all
    =====================================  =====================================================

    What the data cannot determine is nan here and null in JSON.
    """

    queries: int
    known_queries: int
    distractors: int
    landmarks: int
    values: Mapping[str, float]
    intervals: Mapping[str, Interval]
    threshold: float | None = None

    def to_fields(self) -> dict[str, object]:
        """Return the metrics as plain values for JSON, in a fixed order: the buckets under ``buckets``."""
        values = {name: plain(value) for name, value in self.values.items()}
        buckets = {bucket: values.pop(bucket) for bucket in BUCKETS}
        return {
            "queries": self.queries,
            "landmarks": self.landmarks,
            **values,
            "threshold": self.threshold,
            "buckets": buckets,
            "known_queries": self.known_queries,
            "distractors": self.distractors,
            "intervals": {name: plain_interval(interval) for name, interval in self.intervals.items()},
        }

    def to_json(self) -> str:
        """Return one line of JSON, as ``obelisk evaluate --json`` prints it."""
        return json.dumps(self.to_fields())


def measure(
    predictions: Predictions,
    catalog: Catalog,
    *,
    threshold: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    merged: Mapping[int, int] | None = None,
) -> Metrics:
    """Measure predictions against the catalog whose reference photos made the gallery.

    Equal arguments give equal metrics. Precision and recall are of the answers of at least the ``threshold``, on
    confidence; without one, of all answers. ``merged`` is that of :func:`~obelisk.evaluation.outcomes.judge`.
    """
    outcomes = judge(predictions, catalog, merged)
    samples = measure_resamples(outcomes, threshold=threshold, resamples=resamples, seed=seed)
    return summarize(outcomes, samples, landmarks=catalog.references["landmark_id"].n_unique(), threshold=threshold)


def measure_resamples(
    outcomes: Outcomes, *, threshold: float | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Floats]:
    """Return every metric on each of R bootstrap resamples: name → (R,).

    Outcomes of the same queries are measured on the same resamples.
    """
    return bootstrap(
        lambda rows: outcomes.measure(rows, threshold=threshold),
        outcomes.draw_resamples(resamples=resamples, seed=seed),
    )


def summarize(
    outcomes: Outcomes, samples: Mapping[str, Floats], *, landmarks: int, threshold: float | None = None
) -> Metrics:
    """Put counts, metrics and the intervals of resampled metrics together."""
    known = int(outcomes.known.sum())
    return Metrics(
        queries=len(outcomes.known),
        known_queries=known,
        distractors=len(outcomes.known) - known,
        landmarks=landmarks,
        values=outcomes.measure(threshold=threshold),
        intervals={name: percentile_interval(values) for name, values in samples.items()},
        threshold=threshold,
    )


def write_metrics(path: Path, metrics: Metrics) -> Path:
    """Write the metrics as indented JSON, whole or not at all; equal metrics give equal bytes."""
    text = json.dumps(metrics.to_fields(), indent=1) + "\n"
    return replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8", newline="\n"))


def plain(value: float) -> float | None:
    """Return a number for JSON: rounded, None where it is undefined."""
    return None if math.isnan(value) else round(value, DECIMALS)


def plain_interval(interval: Interval) -> list[float | None] | None:
    """Return an interval for JSON, None where it is undefined."""
    return None if math.isnan(interval[0]) else [plain(bound) for bound in interval]
