from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score

from obelisk.evaluation import collect_predictions, metrics
from obelisk.evaluation.outcomes import judge

PHOTOS = {1: 2, 2: 10, 3: 30}  # tail, mid, head
TRUTHS = {
    "a": [1],
    "b": [2],
    "c": [3, 2],  # two landmarks
    "d": [99, 3],  # the first of them is not in the gallery
    "e": [99],  # an unknown landmark
    "f": [],  # no landmark
}
ANSWERS = {"a": [1, 2], "b": [3, 2], "c": [2, 1], "d": [3, 1], "e": [3, 1], "f": [1, 2]}
CONFIDENCE = {"a": 0.9, "b": 0.5, "c": 0.8, "d": 0.7, "e": 0.6, "f": 0.1}


def answer(answers=ANSWERS, truths=TRUTHS, neighbors=None):
    return collect_predictions(
        query_ids=list(truths),
        truths=list(truths.values()),
        candidates=[answers[query] for query in truths],
        scores=[[1.0 / (rank + 1) for rank in range(len(answers[query]))] for query in truths],
        confidence=[CONFIDENCE[query] for query in truths],
        neighbors=[(neighbors or {}).get(query, []) for query in truths],
        similarities=[[0.5] * len((neighbors or {}).get(query, [])) for query in truths],
    )


@pytest.fixture
def outcomes(make_catalog):
    return judge(answer(), make_catalog(PHOTOS, TRUTHS, areas=[3]))


def test_every_query_is_judged(outcomes):
    assert outcomes.known.tolist() == [True, True, True, True, False, False]
    assert outcomes.unknown.tolist() == [False, False, False, False, True, False]
    assert outcomes.right.tolist() == [True, False, True, True, False, False]
    assert outcomes.landmarks.tolist() == [1, 2, 3, 3, -1, -1]
    assert outcomes.counted.tolist()[:4] == [1, 2, 2, 3]
    assert outcomes.buckets.tolist() == ["tail", "mid", "head", "head", "", ""]
    assert outcomes.point_like.tolist() == [True, True, False, False, False, False]
    assert outcomes.clusters[2] == outcomes.clusters[3], "two queries of landmark 3 are drawn together"
    assert len(np.unique(outcomes.clusters)) == 5


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("top1", 3 / 4, id="over the queries of known landmarks"),
        pytest.param("top5", 1.0, id="any true landmark among the candidates"),
        pytest.param("f1_macro", (1 + 2 / 3 + 2 / 3) / 3, id="c counts for 2, which its answer names"),
        pytest.param(
            "gap", (1 + 1 + 1) / 5, id="e has a landmark and is missed; its answer comes after the right ones"
        ),
        pytest.param("auroc_distractors", 7 / 8, id="b is below e, all others above e and f"),
        pytest.param("auroc_unknown", 3 / 4, id="against e alone"),
        pytest.param("head", 1.0, id="c and d"),
        pytest.param("mid", 0.0, id="b"),
        pytest.param("tail", 1.0, id="a"),
        pytest.param("point_like", 1 / 2, id="a and b: landmark 3 is an area"),
        pytest.param("map100", math.nan, id="too few neighbors listed"),
    ],
)
def test_metrics_by_hand(outcomes, name, expected):
    assert outcomes.measure()[name] == pytest.approx(expected, nan_ok=True)


def test_precision_and_recall_are_of_the_answers_that_the_threshold_lets_through(outcomes):
    measured = outcomes.measure(threshold=0.6)
    assert (measured["precision"], measured["recall"]) == (3 / 4, 3 / 4)
    measured = outcomes.measure()
    assert measured["precision"] == outcomes.right.sum() / (outcomes.answers != -1).sum()
    assert measured["recall"] == measured["top1"]


def test_without_labels_of_unknown_landmarks_their_auroc_is_undefined(make_catalog):
    truths = TRUTHS | {"e": []}
    measured = judge(answer(truths=truths), make_catalog(PHOTOS, truths)).measure()
    assert math.isnan(measured["auroc_unknown"])
    assert measured["auroc_distractors"] == 7 / 8


def test_a_query_that_could_not_be_read_is_missed_and_makes_no_answer(make_catalog):
    failed = ANSWERS | {"e": []}
    measured = judge(answer(failed), make_catalog(PHOTOS, TRUTHS)).measure()
    assert measured["gap"] == pytest.approx(3 / 5)
    failed = ANSWERS | {"a": []}
    measured = judge(answer(failed), make_catalog(PHOTOS, TRUTHS)).measure()
    # Without an answer to `a`, the answers to c and d are the first and second.
    assert measured["gap"] == pytest.approx(2 / 5)
    assert measured["top1"] == 2 / 4


def test_gap_is_the_one_of_the_definition(make_catalog, make_predictions):
    truths = {f"q{n:02}": [n % 4] if n % 3 else [] for n in range(60)}
    catalog = make_catalog(dict.fromkeys(range(4), 3), truths)
    predictions = make_predictions(catalog, accuracy=0.6)
    listed = zip(predictions.query_ids, predictions.answers, predictions.confidence, strict=True)
    named = {str(query): (int(landmark), float(score)) for query, landmark, score in listed}
    assert judge(predictions, catalog).measure()["gap"] == pytest.approx(metrics.gap(truths, named))


def test_retrieval_counts_photos_of_all_true_landmarks(make_catalog):
    photos = {1: 2, 2: 1}
    truths = {"a": [1], "b": [1, 2], "f": []}
    neighbors = {
        "a": ["r1-000", "r2-000", "r1-001"],  # AP = (1/1 + 2/3) / 2
        "b": ["r2-000", "r1-001", "r1-000"],  # AP = 1
        "f": ["r1-000", "r1-001", "r2-000"],
    }
    outcomes = judge(answer(truths=truths, neighbors=neighbors), make_catalog(photos, truths))
    assert outcomes.average_precision.tolist() == pytest.approx([5 / 6, 1.0, math.nan], nan_ok=True)
    assert outcomes.measure()["map100"] == pytest.approx((5 / 6 + 1) / 2)


def random_outcomes(make_catalog, make_predictions, *, seed=0, landmarks=60):
    rng = np.random.default_rng(seed)
    photos = {landmark: int(rng.integers(1, 40)) for landmark in range(landmarks)}
    of_landmarks = [landmark for landmark in photos for _ in range(int(rng.integers(1, 12)))]
    truths = {f"q{n:04}": [landmark] for n, landmark in enumerate(of_landmarks)}
    truths |= {f"x{n:04}": [] for n in range(80)}
    catalog = make_catalog(photos, truths)
    return judge(make_predictions(catalog, seed=seed), catalog)


def test_f1_of_all_queries_equals_scikit_learn(make_catalog, make_predictions):
    outcomes = random_outcomes(make_catalog, make_predictions)
    truths, answers = outcomes.counted[outcomes.known], outcomes.answers[outcomes.known]
    measured = outcomes.measure()
    for average in ("macro", "weighted"):
        expected = f1_score(truths, answers, labels=np.unique(truths), average=average, zero_division=0)
        assert measured[f"f1_{average}"] == pytest.approx(expected)
    assert outcomes.resampled_f1(np.flatnonzero(outcomes.known)) == pytest.approx(outcomes.f1())


def literal_resampled_f1(outcomes, rows):
    """Make the copies of a landmark landmarks of their own; every false answer counts against each of them."""
    copies = {}
    for row in sorted(set(rows.tolist())):
        copies[int(outcomes.counted[row])] = int((rows == row).sum())
    scores, sizes = [], []
    for landmark, times in copies.items():
        own = [row for row in set(rows.tolist()) if outcomes.counted[row] == landmark]
        TP = sum(outcomes.answers[row] == landmark for row in own)
        FP = sum(outcomes.answers[row] == landmark and outcomes.counted[row] != landmark for row in rows)
        for _ in range(times):
            scores.append(2 * TP / (len(own) + TP + FP))
            sizes.append(len(own))
    return np.mean(scores), np.average(scores, weights=sizes)


def test_f1_of_a_resample_treats_a_landmark_drawn_twice_as_two(make_catalog, make_predictions):
    outcomes = random_outcomes(make_catalog, make_predictions)
    for rows in outcomes.draw_resamples(resamples=10, seed=3):
        known = rows[outcomes.known[rows]]
        assert outcomes.resampled_f1(known) == pytest.approx(literal_resampled_f1(outcomes, known))


def test_f1_of_resamples_spreads_around_the_f1_of_the_data(make_catalog, make_predictions):
    outcomes = random_outcomes(make_catalog, make_predictions, landmarks=120)
    known = [rows[outcomes.known[rows]] for rows in outcomes.draw_resamples(resamples=200, seed=0)]
    estimate = outcomes.measure()["f1_macro"]
    ours = np.array([outcomes.resampled_f1(rows)[0] for rows in known]) - estimate
    merged = (
        np.array([metrics.f1_scores(outcomes.counted[rows], outcomes.answers[rows])[0] for rows in known]) - estimate
    )
    # A little above it: F1 is convex in the false answers, in resamples as in new data.
    assert 0 < ours.mean() < 0.7 * ours.std()
    assert merged.mean() > 2 * ours.mean(), "merging the copies of a landmark would flatter"
    assert merged.std() < ours.std(), "and feign certainty"
