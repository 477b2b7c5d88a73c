from __future__ import annotations

import math

import numpy as np
import pytest

from obelisk.evaluation.intervals import Difference, bootstrap, draw_resamples, paired_difference, percentile_interval


def simulate(rng, *, landmarks, of_landmark=8, spread=0.25, truth=0.7):
    """Queries of landmarks that are each easier or harder as a whole: (clusters, right)."""
    rates = np.clip(truth + spread * rng.uniform(-1, 1, size=landmarks), 0, 1)
    clusters = np.repeat(np.arange(landmarks), of_landmark)
    return clusters, rng.random(len(clusters)) < rates[clusters]


def interval_of_mean(values, clusters, *, seed=0, resamples=200):
    rows = draw_resamples(clusters, np.zeros(len(clusters), dtype=np.int64), resamples=resamples, seed=seed)
    return percentile_interval(bootstrap(lambda r: {"mean": float(values[r].mean())}, rows)["mean"])


def test_resamples_draw_whole_clusters_within_strata():
    clusters = np.array([4, 4, 9, 9, 9, 2, -5, -6, -7])
    strata = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0])
    for rows in draw_resamples(clusters, strata, resamples=50, seed=1):
        counts = np.bincount(rows, minlength=len(clusters))
        assert (np.diff(rows) >= 0).all()
        assert counts[0] == counts[1]
        assert counts[2] == counts[3] == counts[4]
        assert counts[0] + counts[2] + counts[5] == 3, "as many landmarks as there are"
        assert counts[6:].sum() == 3, "as many distractors as there are"


def test_equal_seeds_draw_alike_and_others_do_not():
    clusters, strata = np.arange(20), np.zeros(20, dtype=np.int64)

    def drawn(seed):
        return [rows.tolist() for rows in draw_resamples(clusters, strata, resamples=5, seed=seed)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert len({tuple(rows) for rows in drawn(1)}) == 5


def test_draws_of_landmarks_do_not_depend_on_the_distractors():
    clusters = np.array([1, 1, 2, 3, 3, 3])
    without = [rows.tolist() for rows in draw_resamples(clusters, np.ones(6, dtype=np.int64), resamples=9, seed=4)]
    more = np.concatenate([clusters, -np.arange(1, 8)])
    strata = np.array([1] * 6 + [0] * 7)
    with_distractors = [rows[rows < 6].tolist() for rows in draw_resamples(more, strata, resamples=9, seed=4)]
    assert with_distractors == without


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        clusters, right = simulate(rng, landmarks=40)
        low, high = interval_of_mean(right, clusters, seed=trial)
        covered += low <= 0.7 <= high
    # 95 % of 200 is 190, with a standard error of 3; 40 clusters are few, and cost a little.
    assert 178 <= covered <= 199


def test_ignoring_the_clusters_would_give_too_narrow_an_interval():
    clusters, right = simulate(np.random.default_rng(1), landmarks=60, of_landmark=40)
    low, high = interval_of_mean(right, clusters)
    naive_low, naive_high = interval_of_mean(right, np.arange(len(clusters)))
    assert high - low > 1.5 * (naive_high - naive_low)


def test_percentiles_leave_out_undefined_resamples():
    values = np.array([math.nan, *np.linspace(0, 1, 101)])
    assert percentile_interval(values) == pytest.approx((0.025, 0.975))
    assert all(math.isnan(bound) for bound in percentile_interval(np.array([math.nan])))


def test_the_paired_interval_of_correlated_runs_is_narrower_than_the_unpaired_one():
    rng = np.random.default_rng(2)
    clusters, right = simulate(rng, landmarks=60)
    better = right | (rng.random(len(right)) < 0.2)
    strata = np.zeros(len(clusters), dtype=np.int64)

    def samples(values, seed):
        rows = draw_resamples(clusters, strata, resamples=400, seed=seed)
        return bootstrap(lambda r: {"mean": float(values[r].mean())}, rows)["mean"]

    paired = paired_difference(better.mean(), right.mean(), samples(better, 0), samples(right, 0))
    low, high = percentile_interval(samples(better, 0) - samples(right, 1))
    assert paired.interval[1] - paired.interval[0] < 0.6 * (high - low)
    assert paired.excludes_zero
    assert paired.interval[0] < paired.value < paired.interval[1]


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        pytest.param((0.1, 0.2), True, id="above"),
        pytest.param((-0.2, -0.1), True, id="below"),
        pytest.param((-0.1, 0.1), False, id="across"),
        pytest.param((0.0, 0.1), False, id="touching"),
        pytest.param((math.nan, math.nan), False, id="undefined"),
    ],
)
def test_excludes_zero(interval, expected):
    assert Difference(value=0.0, interval=interval).excludes_zero is expected
