from __future__ import annotations

import json
import re

import pytest

from obelisk.errors import DataError, UsageError
from obelisk.evaluation import RunResult, collect_predictions, compare_runs
from obelisk.evaluation.comparison import Confusion


@pytest.fixture
def catalog(make_catalog):
    truths = {f"q{n:03}": [n % 20] for n in range(300)} | {f"x{n:03}": [] for n in range(60)}
    return make_catalog({landmark: 1 + 2 * landmark for landmark in range(20)}, truths)


@pytest.fixture
def make_run(catalog, make_predictions):
    def make(name, **options):
        predictions = make_predictions(catalog, **options)
        return RunResult(name=name, title=f"The run {name}", recipe={}, predictions=predictions)

    return make


def test_the_better_run_wins_and_the_headline_says_by_how_much(catalog, make_run):
    runs = [make_run("weak", accuracy=0.5), make_run("strong", accuracy=0.7, noise_seed=2)]
    comparison = compare_runs(runs, catalog, resamples=200)
    assert comparison.first.name == "weak"
    assert comparison.best.name == "strong"
    difference = comparison.best.minus(comparison.first)["top1"]
    assert difference.excludes_zero
    assert difference.interval[0] < difference.value < difference.interval[1]
    points = f"{100 * difference.value:.1f} points more than weak"
    assert comparison.headline().startswith("strong wins: ")
    assert points in comparison.headline()


def test_runs_that_answer_alike_do_not_differ_at_all(catalog, make_run):
    comparison = compare_runs([make_run("a"), make_run("b")], catalog, resamples=50)
    for name, difference in comparison.arms[0].minus(comparison.arms[1]).items():
        if name not in {"auroc_unknown", "map100"}:
            assert difference.value == 0, name
            assert difference.interval == (0, 0), name
            assert not difference.excludes_zero
    assert re.fullmatch(r"a and b are level: \d\d\.\d % of 300 queries named right by each\.", comparison.headline())
    assert comparison.best.name == "a", "the first of equals"


def test_a_lead_that_may_be_chance_is_called_so(catalog, make_run):
    comparison = compare_runs([make_run("a"), make_run("b", noise_seed=2)], catalog, resamples=50)
    best, other = comparison.ranked()
    assert comparison.headline().startswith(f"{best.name} is ahead, which may be chance: ")
    assert f"points more than {other.name} (95 % interval" in comparison.headline()


def test_a_single_run_is_reported_with_its_interval(catalog, make_run):
    headline = compare_runs([make_run("alone")], catalog, resamples=50).headline()
    assert re.fullmatch(r"alone: \d\d\.\d % of 300 queries named right \(95 % interval .* % to .* %\)\.", headline)


def test_the_json_holds_every_run_and_the_differences_against_the_first_and_the_best(catalog, make_run):
    runs = [make_run("a", accuracy=0.5), make_run("b", accuracy=0.8), make_run("c", accuracy=0.6)]
    line = compare_runs(runs, catalog, resamples=50).to_json()
    fields = json.loads(line)
    assert "\n" not in line
    assert [run["run"] for run in fields["runs"]] == ["a", "b", "c"]
    pairs = [(row["run"], row["against"]) for row in fields["differences"]]
    assert pairs == [("b", "a"), ("c", "a"), ("a", "b"), ("c", "b")]
    assert fields["best"] == "b"
    assert fields["differences"][0]["metrics"]["top1"]["excludes_zero"] is True


def test_confusions_are_counted_most_frequent_first(make_catalog):
    truths = {"a": [1], "b": [1], "c": [2], "d": [3], "e": []}
    answers = [[2], [2], [2], [1], [1]]
    predictions = collect_predictions(
        query_ids=list(truths),
        truths=list(truths.values()),
        candidates=answers,
        scores=[[1.0]] * 5,
        confidence=[0.5] * 5,
        neighbors=[[]] * 5,
        similarities=[[]] * 5,
    )
    run = RunResult(name="run", title="", recipe={}, predictions=predictions)
    arm = compare_runs([run], make_catalog({1: 2, 2: 2, 3: 2}, truths), resamples=5).first
    assert arm.find_confusions() == [
        Confusion(landmark_id=1, named_id=2, count=2),
        Confusion(landmark_id=3, named_id=1, count=1),
    ]


def test_runs_on_other_queries_are_refused(catalog, make_catalog, make_predictions, make_run):
    other = make_predictions(make_catalog({1: 3}, {"q1": [1]}))
    with pytest.raises(DataError, match="`b` and `a` were evaluated on different queries"):
        compare_runs([make_run("a"), RunResult(name="b", title="", recipe={}, predictions=other)], catalog)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param([], "no run", id="none"),
        pytest.param(["a", "b", "a"], "2 runs are called `a`", id="one name twice"),
    ],
)
def test_unusable_sets_of_runs_are_refused(catalog, make_run, names, message):
    with pytest.raises(UsageError, match=message):
        compare_runs([make_run(name) for name in names], catalog)


def test_a_notebook_shows_the_headline_and_every_metric_with_its_interval(catalog, make_run):
    comparison = compare_runs([make_run("<b>a"), make_run("b", accuracy=0.8)], catalog, resamples=50)
    table = comparison._repr_html_()
    (low, high), value = comparison.arms[1].metrics.intervals["top1"], comparison.arms[1].metrics.values["top1"]
    assert f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})" in table
    assert "b wins" in table or "b is ahead" in table
    assert "&lt;b&gt;a" in table
    assert "<b>" not in table
    assert "mAP@100" not in table, "undefined for these runs"
