"""Bootstrap intervals for queries that come in clusters: landmark by landmark.

Photos of one landmark are alike, so 50 queries of one landmark say less than 50 of fifty landmarks. A resample
therefore draws clusters (landmarks, with all their queries), as many as there are and with replacement;
a query without a landmark is a cluster of its own. Queries with and without a landmark are drawn apart
(strata), so that every resample has as many landmarks and as many distractors as the data.

For the difference of two runs on the same queries both are measured on the same resamples: what makes a
resample hard for both cancels out, and the interval of the difference is narrower than two intervals suggest.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile intervals).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from obelisk.arrays import Floats, Integers

RESAMPLES = 1000
LEVEL = 0.95

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much higher a metric is in one run than in another, with its paired interval."""

    value: float
    interval: Interval

    @property
    def excludes_zero(self) -> bool:
        """Return whether the interval lies on one side of zero; False where it is undefined."""
        low, high = self.interval
        return low > 0 or high < 0


def draw_resamples(
    clusters: Integers, strata: Integers, *, resamples: int = RESAMPLES, seed: int = 0
) -> Iterator[Integers]:
    """Yield the rows of each resample, ascending; a row drawn twice comes twice.

    ``clusters`` (Q,) numbers the cluster of each row and ``strata`` (Q,) its stratum; all rows of a
    cluster are of one stratum. The draws in a stratum depend on the seed and its own clusters only.
    """
    _, first, cluster = np.unique(clusters, return_index=True, return_inverse=True)
    stratum = strata[first]
    members = [np.flatnonzero(stratum == number) for number in np.unique(stratum)]
    rngs = [np.random.default_rng([seed, int(stratum[stratum_rows[0]])]) for stratum_rows in members]
    rows = np.arange(len(clusters))
    copies = np.zeros(len(stratum), dtype=np.int64)
    for _ in range(resamples):
        for stratum_rows, rng in zip(members, rngs, strict=True):
            drawn = rng.integers(len(stratum_rows), size=len(stratum_rows))
            copies[stratum_rows] = np.bincount(drawn, minlength=len(stratum_rows))
        yield np.repeat(rows, copies[cluster])


def bootstrap(statistic: Callable[[Integers], Mapping[str, float]], resamples: Iterable[Integers]) -> dict[str, Floats]:
    """Return each metric of ``statistic(rows)`` on all R resamples: name → (R,)."""
    measured = [statistic(rows) for rows in resamples]
    return {name: np.array([metrics[name] for metrics in measured]) for name in measured[0]} if measured else {}


def percentile_interval(values: Floats, level: float = LEVEL) -> Interval:
    """Return the interval that leaves out (1 − level)/2 of the resampled values (R,) on either side.

    Resamples in which the metric is undefined (nan) are left out; without any other, so is the interval.
    """
    defined = values[~np.isnan(values)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_difference(value: float, other: float, values: Floats, others: Floats) -> Difference:
    """Return ``value − other`` with the interval of ``values − others`` (R,), measured on the same resamples."""
    return Difference(value=value - other, interval=percentile_interval(values - others))
