from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from obelisk.errors import DataError
from obelisk.evaluation import metrics
from obelisk.evaluation.metrics import NO_LANDMARK, gap, retrieval_map

SOLUTION = {"q1": [0, 12], "q2": [100, 200, 300], "q3": [1], "q4": [], "q5": []}
PREDICTIONS = {"q2": (0, 0.01), "q3": (1, 10.0), "q4": (150, 15.0)}

RETRIEVAL_SOLUTION = {"q1": ["a", "b"], "q2": ["a"], "q3": ["c", "d", "e"], "q4": ["c"]}
RETRIEVAL_PREDICTIONS = {"q2": ["x", "a"], "q3": ["d"], "q4": ["c", "d"]}


def literal_gap(solution, predictions, *, ignore_non_landmarks):
    """The definition read out loud: rank by hand, count, add up the precision at every right answer."""
    listed = [(query, landmark, score) for query, (landmark, score) in predictions.items()]
    listed = [row for row in listed if solution[row[0]] or not ignore_non_landmarks]

    def comes_first(a, b):
        return a[2] > b[2] or (a[2] == b[2] and (a[0], a[1]) < (b[0], b[1]))

    total = 0.0
    for row in listed:
        at_least = [other for other in listed if other == row or comes_first(other, row)]
        if row[1] in solution[row[0]]:
            total += sum(other[1] in solution[other[0]] for other in at_least) / len(at_least)
    return total / len([1 for landmarks in solution.values() if landmarks])


@pytest.mark.parametrize(
    ("ignore", "expected"),
    [
        pytest.param(False, 1 / 6, id="the prediction on q4, which has no landmark, ranks first and is wrong"),
        pytest.param(True, 1 / 3, id="queries without a landmark left out"),
    ],
)
def test_gap_of_the_known_case(ignore, expected):
    assert gap(SOLUTION, PREDICTIONS, ignore_non_landmarks=ignore) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("ignore", [False, True])
def test_gap_equals_the_literal_definition_on_random_cases(ignore):
    rng = np.random.default_rng(7)
    for _ in range(1000):
        queries = [f"q{n:02}" for n in rng.permutation(int(rng.integers(1, 14)))]
        solution = {query: rng.choice(6, size=rng.integers(0, 3), replace=False).tolist() for query in queries}
        solution["always"] = [1]
        # Few distinct scores: most are ties.
        predictions = {
            query: (int(rng.integers(6)), float(rng.integers(4)) / 4)
            for query in rng.permutation(queries).tolist()
            if rng.random() < 0.8
        }
        expected = literal_gap(solution, predictions, ignore_non_landmarks=ignore)
        assert gap(solution, predictions, ignore_non_landmarks=ignore) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("solution", "predictions", "expected"),
    [
        pytest.param({"a": [1], "b": [2]}, {"a": (1, 0.9), "b": (2, 0.1)}, 1.0, id="all right"),
        pytest.param({"a": [1], "b": [2]}, {"a": (1, 0.9)}, 0.5, id="a query without prediction is missed"),
        pytest.param({"a": [1], "b": []}, {"a": (1, 0.5), "b": (1, 0.5)}, 1.0, id="a tie: `a` comes before `b`"),
        pytest.param(
            {"b": [1], "a": []}, {"b": (1, 0.5), "a": (1, 0.5)}, 0.5, id="a tie: `a` comes first, and is wrong"
        ),
        pytest.param({"a": [1]}, {}, 0.0, id="no prediction"),
        pytest.param({"a": [1], "b": [2]}, {"a": (1, -1.0), "b": (1, -2.0)}, 0.5, id="negative scores rank too"),
    ],
)
def test_gap_of_small_cases(solution, predictions, expected):
    assert gap(solution, predictions) == pytest.approx(expected)


def test_gap_without_any_landmark_is_undefined():
    assert math.isnan(gap({"a": []}, {"a": (1, 0.5)}))


def test_gap_names_a_prediction_outside_the_solution():
    with pytest.raises(DataError, match="q9"):
        gap(SOLUTION, {"q9": (1, 1.0)})


def test_gap_refuses_a_score_that_is_not_a_number():
    with pytest.raises(DataError, match="score of query `q2` is not a number"):
        gap({"q1": [1], "q2": [2]}, {"q1": (1, 0.5), "q2": (2, float("nan"))})


def test_ranked_gap_equals_gap():
    rng = np.random.default_rng(3)
    for _ in range(200):
        Q = int(rng.integers(1, 20))
        ids = [f"{n:03}" for n in range(Q)]
        truths = rng.integers(-1, 4, size=(Q, 1))
        answers = rng.integers(-1, 4, size=Q)
        confidence = rng.integers(0, 4, size=Q) / 4
        solution = {query: [t for t in row.tolist() if t >= 0] for query, row in zip(ids, truths, strict=True)}
        listed = zip(ids, answers.tolist(), confidence.tolist(), strict=True)
        predictions = {query: (answer, score) for query, answer, score in listed if answer >= 0}
        right = metrics.find_hits(answers[:, None], truths)[:, 0]
        found = metrics.ranked_gap(right, answers >= 0, confidence, int((truths >= 0).sum()))
        assert found == pytest.approx(gap(solution, predictions), nan_ok=True)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=30), st.integers(-3, 3))
@settings(max_examples=100, deadline=None)
def test_gap_does_not_depend_on_the_scale_of_scores(rows, power):
    solution = {f"{n:03}": [1] for n in range(len(rows))}
    predictions = {f"{n:03}": (1 if right else 2, score) for n, (right, score) in enumerate(rows)}
    scaled = {query: (landmark, score * 2.0**power) for query, (landmark, score) in predictions.items()}
    # Subnormal scores may merge when scaled down; those are no two scores to begin with.
    if len({score for _, score in scaled.values()}) == len({score for _, score in predictions.values()}):
        assert gap(solution, scaled) == gap(solution, predictions)


@pytest.mark.parametrize(
    ("candidates", "truths", "expected"),
    [
        pytest.param([[1, 2, 3]], [[1, -1]], [[True, False, False]], id="the first"),
        pytest.param([[1, 2, 3]], [[2, 3]], [[False, True, True]], id="several true landmarks"),
        pytest.param([[1, -1, -1]], [[-1, -1]], [[False, False, False]], id="fillers never match"),
    ],
)
def test_find_hits(candidates, truths, expected):
    assert metrics.find_hits(np.array(candidates), np.array(truths)).tolist() == expected


def test_top_k_accuracy_is_any_hit_among_the_first_k():
    hits = np.array([[1, 0, 0], [0, 0, 1], [0, 1, 1], [0, 0, 0]], dtype=bool)
    assert [metrics.top_k_accuracy(hits, k) for k in (1, 2, 3, 9)] == [0.25, 0.5, 0.75, 0.75]
    assert math.isnan(metrics.top_k_accuracy(hits[:0], 1))


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(-1, 9)), min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
def test_f1_equals_scikit_learn_over_the_landmarks_that_have_queries(rows):
    truths, answers = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    labels = np.unique(truths)
    expected = [
        f1_score(truths, answers, labels=labels, average=average, zero_division=0) for average in ("macro", "weighted")
    ]
    assert metrics.f1_scores(truths, answers) == pytest.approx(expected)


def test_f1_by_hand():
    # Landmark 1: TP 1, FN 1, FP 1, F1 1/2. Landmark 2: TP 0, FN 1, FP 1, F1 0. Landmark 3: F1 0, and 7 has no query.
    found = metrics.f1_scores(np.array([1, 1, 2, 3]), np.array([1, 2, 1, 7]))
    assert found == pytest.approx((0.5 / 3, 0.25))
    assert all(math.isnan(value) for value in metrics.f1_scores(np.array([], np.int64), np.array([], np.int64)))


def test_a_query_of_several_landmarks_counts_for_the_one_named_else_for_the_first():
    truths = np.array([[5, 3], [5, 3], [5, NO_LANDMARK]])
    assert metrics.counted_landmarks(truths, np.array([3, 4, NO_LANDMARK])).tolist() == [3, 5, 5]


SCORES = st.lists(st.integers(0, 8).map(lambda n: n / 8), min_size=1, max_size=30)


@given(SCORES, SCORES)
@settings(max_examples=200, deadline=None)
def test_auroc_equals_scikit_learn_and_the_share_of_pairs(positives, negatives):
    found = metrics.auroc(np.array(positives), np.array(negatives))
    pairs = [(p > n) + 0.5 * (p == n) for p in positives for n in negatives]
    labels = [1] * len(positives) + [0] * len(negatives)
    assert found == pytest.approx(sum(pairs) / len(pairs))
    assert found == pytest.approx(roc_auc_score(labels, positives + negatives))


def test_auroc_without_distractors_is_undefined():
    assert math.isnan(metrics.auroc(np.array([0.5]), np.array([])))


def literal_ece(confidence, right, bins):
    edges = [m / bins for m in range(bins + 1)]
    total = 0.0
    for m, (low, high) in enumerate(pairwise(edges)):
        inside = [q for q, c in enumerate(confidence) if low < c <= high or (m == 0 and c == 0)]
        if inside:
            accuracy = sum(right[q] for q in inside) / len(inside)
            mean_confidence = sum(confidence[q] for q in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean_confidence)
    return total


# Thirds and fifteenths lie on the edges of bins.
CONFIDENCES = st.one_of(st.floats(0, 1), st.integers(0, 15).map(lambda n: n / 15), st.sampled_from([1 / 3, 2 / 3]))


@given(st.lists(st.tuples(CONFIDENCES, st.booleans()), min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
def test_ece_equals_the_literal_definition(rows):
    confidence, right = (np.array(column) for column in zip(*rows, strict=True))
    expected = literal_ece(confidence.tolist(), right.tolist(), 15)
    assert metrics.expected_calibration_error(confidence, right) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("confidence", "right", "expected"),
    [
        pytest.param([0.8] * 5, [1, 1, 1, 1, 0], 0.0, id="right as often as it says"),
        pytest.param([1.0] * 4, [0, 0, 0, 0], 1.0, id="sure and always wrong"),
        pytest.param([0.0] * 4, [0, 0, 0, 0], 0.0, id="rejected and wrong: as it says"),
        pytest.param([0.9, 0.1], [1, 0], 0.1, id="two bins do not cancel out"),
    ],
)
def test_ece_by_hand(confidence, right, expected):
    found = metrics.expected_calibration_error(np.array(confidence), np.array(right, dtype=bool))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        pytest.param(0.0, (2 / 5, 2 / 4), id="every query is answered: the distractor is a wrong answer"),
        pytest.param(0.5, (1 / 3, 1 / 4), id="a confidence equal to the threshold is an answer"),
        pytest.param(0.95, (math.nan, 0.0), id="no answer: precision is undefined, recall is zero"),
    ],
)
def test_precision_and_recall(threshold, expected):
    right = np.array([1, 0, 0, 1, 0], dtype=bool)
    known = np.array([1, 1, 0, 1, 1], dtype=bool)
    confidence = np.array([0.9, 0.5, 0.6, 0.2, 0.1])
    found = metrics.precision_and_recall(right, confidence, known, threshold)
    assert found == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        pytest.param(100, 0.458333, id="divided by the photos there are, when these are fewer than k"),
        pytest.param(1, 0.5, id="divided by k, when there are more photos"),
    ],
)
def test_retrieval_map_of_the_known_case(k, expected):
    assert retrieval_map(RETRIEVAL_SOLUTION, RETRIEVAL_PREDICTIONS, k=k) == pytest.approx(expected, abs=1e-6)


def literal_map(solution, predictions, k):
    total = 0.0
    for query, wanted in solution.items():
        seen, found, precision = set(), 0, 0.0
        for rank, photo in enumerate(predictions.get(query, [])[:k], start=1):
            if photo in wanted and photo not in seen:
                found += 1
                precision += found / rank
            seen.add(photo)
        total += precision / min(len(wanted), k)
    return total / len(solution)


def test_retrieval_map_equals_the_literal_definition_on_random_cases():
    rng = np.random.default_rng(5)
    for _ in range(1000):
        photos = [f"p{n}" for n in range(8)]
        queries = [f"q{n}" for n in range(int(rng.integers(1, 6)))]
        solution = {q: rng.choice(photos, size=rng.integers(1, 8), replace=False).tolist() for q in queries}
        # Drawn with replacement: some photos are listed twice.
        predictions = {q: rng.choice(photos, size=rng.integers(0, 9)).tolist() for q in queries[1:]}
        k = int(rng.integers(1, 10))
        assert retrieval_map(solution, predictions, k=k) == pytest.approx(literal_map(solution, predictions, k))


def test_retrieval_map_names_a_prediction_outside_the_solution():
    with pytest.raises(DataError, match="q9"):
        retrieval_map(RETRIEVAL_SOLUTION, {"q9": ["a"]})


def test_average_precision_of_a_query_without_relevant_photos_is_undefined():
    found = metrics.average_precision(np.array([[True, False], [False, False]]), np.array([1, 0]), 2)
    assert found.tolist() == pytest.approx([1.0, math.nan], nan_ok=True)
