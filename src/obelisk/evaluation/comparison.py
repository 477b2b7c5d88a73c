"""Runs side by side on the same queries: which one wins, by how much, and whether that is more than chance.

Every run is judged on the same gallery and queries and measured on the same bootstrap resamples, so that
differences are paired. The command line's JSON and the HTML report both come from one :class:`Comparison`.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from obelisk.arrays import Floats
from obelisk.data import Catalog
from obelisk.defaults import K
from obelisk.errors import DataError, UsageError
from obelisk.evaluation.intervals import LEVEL, RESAMPLES, Difference, Interval, paired_difference
from obelisk.evaluation.metrics import NO_LANDMARK
from obelisk.evaluation.outcomes import Outcomes, judge
from obelisk.evaluation.predictions import Predictions
from obelisk.evaluation.protocol import Metrics, measure_resamples, plain, plain_interval, summarize

DECIDING = "top1"  # the metric that orders the runs
LOWER_IS_BETTER = frozenset({"ece"})

LogRow = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class RunResult:
    """A run to compare: its name, what it is, what it said, and how its training went.

    ``title`` is one line for people; ``recipe`` its settings in words (name → value), shown as they are.
    ``k`` is how many neighbors voted, ``threshold`` the confidence below which answers are rejected. ``judged`` is the
    catalog whose reference photos made its gallery, if that is not the comparison's own; ``merged`` are its landmarks
    that are one in that gallery, as :func:`~obelisk.evaluation.outcomes.judge` takes them.
    ``log`` has one row per epoch: ``epoch``, ``train_loss``, ``val_loss``, ``val_top1``, ``learning_rate``.
    """

    name: str
    title: str
    recipe: Mapping[str, str]
    predictions: Predictions
    k: int = K
    threshold: float | None = None
    judged: Catalog | None = None
    merged: Mapping[int, int] = field(default_factory=dict)
    log: Sequence[LogRow] = ()


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Queries of one landmark that were named as another."""

    landmark_id: int
    named_id: int
    count: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Arm:
    """A run in a comparison: the outcome of every query, and how good they are."""

    run: RunResult
    outcomes: Outcomes
    metrics: Metrics
    samples: Mapping[str, Floats]

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.run.name

    def minus(self, other: Arm) -> dict[str, Difference]:
        """Return how much higher each metric is than in the other arm, with paired intervals."""
        return {
            name: paired_difference(value, other.metrics.values[name], self.samples[name], other.samples[name])
            for name, value in self.metrics.values.items()
        }

    def find_confusions(self) -> list[Confusion]:
        """Return the pairs (true landmark, named landmark) of wrong answers to known queries, most frequent first."""
        wrong = self.outcomes.known & ~self.outcomes.right & (self.outcomes.answers != NO_LANDMARK)
        pairs = zip(self.outcomes.landmarks[wrong].tolist(), self.outcomes.answers[wrong].tolist(), strict=True)
        ordered = sorted(Counter(pairs).items(), key=lambda item: (-item[1], item[0]))
        return [Confusion(landmark_id=true, named_id=named, count=count) for (true, named), count in ordered]


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Arms on the same queries, in the order given. ``best`` has the highest top-1 (ties: macro F1, then order)."""

    arms: tuple[Arm, ...]
    resamples: int
    seed: int

    @property
    def first(self) -> Arm:
        """The first arm: the one to start from."""
        return self.arms[0]

    @property
    def best(self) -> Arm:
        """The arm with the highest top-1."""
        return self.ranked()[0]

    def ranked(self) -> list[Arm]:
        """Return the arms, best first."""
        return sorted(self.arms, key=lambda arm: (-order_value(arm, DECIDING), -order_value(arm, "f1_macro")))

    def headline(self) -> str:
        """Say which run wins by top-1, by how much, and whether that is more than chance."""
        best, *others = self.ranked()
        metrics = best.metrics
        if not metrics.known_queries:
            return "No query shows a landmark of the gallery: there is nothing to compare."
        right = f"{percent(metrics.values[DECIDING])} of {metrics.known_queries:,} queries named right"
        if not others:
            low, high = metrics.intervals[DECIDING]
            return f"{best.name}: {right} (95 % interval {percent(low)} to {percent(high)})."
        difference = best.minus(others[0])[DECIDING]
        if difference.value == 0:
            return f"{best.name} and {others[0].name} are level: {right} by each."
        verdict = "wins" if difference.excludes_zero else "is ahead, which may be chance"
        return f"{best.name} {verdict}: {right}, {say_difference(difference, others[0].name)}."

    def _repr_html_(self) -> str:
        from obelisk.evaluation.tables import tabulate_briefly

        return tabulate_briefly(self)

    def to_fields(self) -> dict[str, object]:
        """Return the comparison as plain values for JSON."""
        return {
            "best": self.best.name,
            "headline": self.headline(),
            "resamples": self.resamples,
            "seed": self.seed,
            "level": LEVEL,
            "runs": [
                {"run": arm.name, "title": arm.run.title, "metrics": arm.metrics.to_fields()} for arm in self.arms
            ],
            "differences": [
                {"run": arm.name, "against": against.name, "metrics": plain_differences(arm.minus(against))}
                for against in dict.fromkeys((self.first, self.best))
                for arm in self.arms
                if arm is not against
            ],
        }

    def to_json(self) -> str:
        """Return one line of JSON, as ``obelisk compare --json`` prints it."""
        return json.dumps(self.to_fields(), ensure_ascii=False)


def compare_runs(
    runs: Sequence[RunResult],
    catalog: Catalog,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Measure runs on the same queries and resamples.

    ``catalog`` is the one whose reference photos made every run's gallery, unless a run names another. Raises
    UsageError for no run or two of one name, DataError for runs that were evaluated on different queries, or whose
    galleries know the landmarks of different ones.
    """
    check_comparable(runs)
    arms: list[Arm] = []
    for run in runs:
        judged = run.judged or catalog
        outcomes = judge(run.predictions, judged, run.merged)
        if arms and not np.array_equal(outcomes.known, arms[0].outcomes.known):
            what = f"the galleries of `{run.name}` and `{arms[0].name}` know the landmarks of different queries"
            raise DataError(what, fix="compare galleries of the same landmarks")
        samples = measure_resamples(outcomes, threshold=run.threshold, resamples=resamples, seed=seed)
        landmarks = judged.references["landmark_id"].n_unique()
        metrics = summarize(outcomes, samples, landmarks=landmarks, threshold=run.threshold)
        arms.append(Arm(run=run, outcomes=outcomes, metrics=metrics, samples=samples))
    return Comparison(arms=tuple(arms), resamples=resamples, seed=seed)


def check_comparable(runs: Sequence[RunResult]) -> None:
    """Refuse runs with equal names or different queries: they can't be compared in pairs."""
    if not runs:
        raise UsageError("no run to compare", fix="obelisk compare RUN RUN …")
    names = Counter(run.name for run in runs)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise UsageError(f"{names[twice[0]]} runs are called `{twice[0]}`", fix="give each run once, by its own name")
    first = runs[0]
    for run in runs[1:]:
        same = np.array_equal(run.predictions.query_ids, first.predictions.query_ids)
        if not same or not np.array_equal(run.predictions.truths, first.predictions.truths):
            what = f"`{run.name}` and `{first.name}` were evaluated on different queries"
            raise DataError(what, fix="obelisk evaluate both with the same --data")


def order_value(arm: Arm, name: str) -> float:
    """Return a metric for ordering: below all others where it is undefined."""
    value = arm.metrics.values[name]
    return -math.inf if math.isnan(value) else value


def percent(value: float) -> str:
    """Write a share of 1 as a percentage."""
    return "unknown" if math.isnan(value) else f"{100 * value:.1f} %"


def say_difference(difference: Difference, other: str) -> str:
    """Put into words by how much top-1 is above that of another run, with the interval."""
    points = 100 * difference.value
    return f"{points:.1f} points more than {other} (95 % interval {points_between(difference.interval)})"


def points_between(interval: Interval) -> str:
    """Write an interval of differences in points, with signs (a true minus, not a hyphen)."""
    low, high = (f"{100 * bound:+.1f}".replace("-", "−") for bound in interval)
    return f"{low} to {high}"


def plain_differences(differences: Mapping[str, Difference]) -> dict[str, object]:
    """Return differences as plain values for JSON."""
    return {
        name: {
            "difference": plain(difference.value),
            "interval": plain_interval(difference.interval),
            "excludes_zero": difference.excludes_zero,
        }
        for name, difference in differences.items()
    }
