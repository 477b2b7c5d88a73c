"""The classifier against a slow double loop, against scikit-learn, and for what its callers rely on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from obelisk.arrays import l2_normalize
from obelisk.errors import GalleryError, UsageError
from obelisk.gallery import ExactSearch
from obelisk.recognition import KNNClassifier, recognize_embeddings

Rows = NDArray[np.float32]


def random_rows(rng: np.random.Generator, count: int, dimensions: int, *, copies: bool = False) -> Rows:
    rows = rng.normal(size=(count, dimensions))
    if copies:  # equal rows make equal similarities
        rows = rows[rng.integers(0, max(1, count // 3), size=count)]
    return l2_normalize(rows, dimensions=dimensions)


def recognize_slowly(
    query: Rows, references: Rows, landmark_ids: NDArray[np.int64], *, k: int, top: int, vote: str, p: float
) -> list[tuple[int, float]]:
    """Say the equations at the top of votes.py word by word, for one query."""
    similarity = []
    for row in references:
        total = sum(float(a) * float(b) for a, b in zip(query, row, strict=True))
        similarity.append(float(np.float32(min(1.0, max(-1.0, total)))))
    nearest = sorted(range(len(references)), key=lambda i: (-similarity[i], i))
    agreement = [(1 + s) / 2 for s in similarity]
    ranked = []
    for landmark in sorted(set(landmark_ids.tolist())):
        photos = [i for i in nearest if landmark_ids[i] == landmark]
        best = similarity[photos[0]]
        votes = [i for i in nearest[:k] if landmark_ids[i] == landmark]
        if vote == "weighted" and votes:
            score = (sum(agreement[i] ** p for i in votes) / k) ** (1 / p)
        elif vote == "weighted":
            score = (((1 + best) / 2) ** p / 2 / k) ** (1 / p)
        elif vote == "majority":
            score = (len(votes) + (1 + best) / 2) / (k + 1)
        else:
            mean = references[landmark_ids == landmark].astype(np.float64).sum(axis=0)
            score = best = (1 + float(query @ mean / np.linalg.norm(mean))) / 2
        ranked.append((-score, -best, landmark))
    return [(landmark, -score) for score, _, landmark in sorted(ranked)[:top]]


@pytest.mark.parametrize("vote", ["weighted", "majority", "prototype"])
@pytest.mark.parametrize(
    ("references", "landmarks", "k", "top"),
    [
        pytest.param(40, 12, 3, 5, id="the defaults"),
        pytest.param(40, 12, 1, 1, id="the nearest photo alone"),
        pytest.param(30, 25, 10, 3, id="more voters than candidates"),
        pytest.param(30, 3, 5, 5, id="fewer landmarks than candidates"),
        pytest.param(20, 20, 20, 20, id="everybody votes, everybody is listed"),
        pytest.param(300, 2, 3, 2, id="the second landmark is far down the list"),
        pytest.param(1, 1, 1, 5, id="one photo"),
    ],
)
def test_agrees_with_a_literal_double_loop(vote: str, references: int, landmarks: int, k: int, top: int) -> None:
    rng = np.random.default_rng(7)
    rows = random_rows(rng, references, 6)
    landmark_ids = rng.integers(0, landmarks, size=references) * 11
    queries = random_rows(rng, 20, 6)
    ranking = recognize_embeddings(queries, rows, landmark_ids, k=k, top=top, vote=vote, exponent=3.0)
    for number, query in enumerate(queries):
        expected = recognize_slowly(query, rows, landmark_ids, k=k, top=top, vote=vote, p=3.0)
        assert ranking.candidates[number].tolist() == [landmark for landmark, _ in expected]
        np.testing.assert_allclose(ranking.scores[number], [score for _, score in expected], atol=1e-6)


@pytest.mark.parametrize("vote", ["weighted", "majority"])
def test_agrees_with_the_loop_where_similarities_are_equal(vote: str) -> None:
    rng = np.random.default_rng(3)
    rows = random_rows(rng, 90, 4, copies=True)
    landmark_ids = rng.integers(0, 30, size=90)
    queries = np.concatenate([rows[:10], random_rows(rng, 10, 4)])
    ranking = recognize_embeddings(queries, rows, landmark_ids, k=4, top=6, vote=vote)
    for number, query in enumerate(queries):
        expected = recognize_slowly(query, rows, landmark_ids, k=4, top=6, vote=vote, p=8.0)
        assert ranking.candidates[number].tolist() == [landmark for landmark, _ in expected]


def test_majority_agrees_with_scikit_learn_where_one_landmark_wins() -> None:
    rng = np.random.default_rng(1)
    rows = random_rows(rng, 200, 8)
    landmark_ids = rng.integers(0, 6, size=200)
    queries = random_rows(rng, 300, 8)
    reference = KNeighborsClassifier(n_neighbors=5, metric="euclidean").fit(rows, landmark_ids)
    shares = reference.predict_proba(queries)
    clear = (shares == shares.max(axis=1, keepdims=True)).sum(axis=1) == 1
    ranking = recognize_embeddings(queries, rows, landmark_ids, k=5, vote="majority")
    assert clear.sum() > 100
    np.testing.assert_array_equal(ranking.candidates[clear, 0], reference.predict(queries)[clear])
    distances, neighbours = reference.kneighbors(queries)
    np.testing.assert_array_equal(ranking.neighbors, neighbours)
    np.testing.assert_allclose(np.sqrt(2 - 2 * ranking.similarities), distances, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 40),
    landmarks=st.integers(1, 12),
    k=st.integers(1, 40),
    top=st.integers(1, 15),
    vote=st.sampled_from(["weighted", "majority", "prototype"]),
    exponent=st.sampled_from([0.5, 1.0, 8.0, 100.0]),
)
def test_what_always_holds(seed: int, size: int, landmarks: int, k: int, top: int, vote: str, exponent: float) -> None:
    k = min(k, size)
    rng = np.random.default_rng(seed)
    rows = random_rows(rng, size, 8)
    landmark_ids = rng.integers(-3, landmarks, size=size)
    queries = random_rows(rng, 5, 8)
    ranking = recognize_embeddings(queries, rows, landmark_ids, k=k, top=top, vote=vote, exponent=exponent)
    expected_top = min(top, len(set(landmark_ids.tolist())))
    assert ranking.candidates.shape == ranking.scores.shape == (5, expected_top)
    assert ranking.neighbors.shape == ranking.similarities.shape == (5, k)
    assert ((ranking.scores >= 0) & (ranking.scores <= 1)).all()
    assert (np.diff(ranking.scores, axis=1) < 0).all(), "different evidence, different scores"
    assert all(len(set(row)) == expected_top for row in ranking.candidates.tolist())
    if vote != "prototype":
        for ranked, near in zip(ranking.candidates.tolist(), ranking.neighbors.tolist(), strict=True):
            voted_for = set(landmark_ids[near].tolist())
            listed = [landmark in voted_for for landmark in ranked]
            assert listed == sorted(listed, reverse=True), "voted landmarks come first"


def test_a_query_does_not_depend_on_the_others() -> None:
    rng = np.random.default_rng(5)
    rows = random_rows(rng, 500, 64)
    landmark_ids = rng.integers(0, 60, size=500)
    queries = random_rows(rng, 64, 64)
    together = recognize_embeddings(queries, rows, landmark_ids)
    for size, start in itertools.product((1, 7, 33), (0, 20)):
        alone = recognize_embeddings(queries[start : start + size], rows, landmark_ids)
        for field in ("candidates", "scores", "confidence", "neighbors", "similarities"):
            np.testing.assert_array_equal(getattr(alone, field), getattr(together, field)[start : start + size])


def test_parts_that_fill_the_memory_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    rows, queries = random_rows(rng, 120, 8), random_rows(rng, 50, 8)
    landmark_ids = rng.integers(0, 4, size=120)
    whole = recognize_embeddings(queries, rows, landmark_ids)
    monkeypatch.setattr("obelisk.recognition.classifier.PAIRS_AT_ONCE", 64)
    monkeypatch.setattr("obelisk.gallery.exact.PAIRS_AT_ONCE", 64)
    parts = recognize_embeddings(queries, rows, landmark_ids)
    np.testing.assert_array_equal(parts.candidates, whole.candidates)
    np.testing.assert_array_equal(parts.scores, whole.scores)


def test_no_query_gives_empty_columns() -> None:
    rows = random_rows(np.random.default_rng(0), 9, 4)
    ranking = KNNClassifier(ExactSearch(rows), np.arange(9)).classify(rows[:0])
    assert ranking.candidates.shape == (0, 5)
    assert ranking.neighbors.shape == (0, 3)
    assert ranking.confidence.shape == (0,)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        pytest.param({"k": 10}, GalleryError, "k = 10 neighbors, but only 9 reference photos", id="k above N"),
        pytest.param({"k": 0}, UsageError, "k = 0 neighbors", id="k below 1"),
        pytest.param({"top": 0}, UsageError, "top = 0 candidates", id="top below 1"),
        pytest.param({"exponent": 0.0}, UsageError, "exponent = 0.0", id="exponent 0"),
        pytest.param({"exponent": float("nan")}, UsageError, "exponent = nan", id="exponent not a number"),
        pytest.param({"vote": "wieghted"}, UsageError, "did you mean `weighted`", id="mistyped vote"),
        pytest.param(
            {"vote": "x"}, UsageError, "choose one of blended, weighted, majority, prototype", id="unknown vote"
        ),
    ],
)
def test_unusable_values_are_refused_by_name(options: dict[str, object], error: type[UsageError], text: str) -> None:
    rows = random_rows(np.random.default_rng(0), 9, 4)
    with pytest.raises(error, match=text.replace("(", r"\(")):
        recognize_embeddings(rows, rows, np.arange(9), **options)


@pytest.mark.parametrize(
    ("queries", "landmarks", "text"),
    [
        pytest.param(np.ones((1, 4)), 9, r"an embedding of length 2 · row 0 · make it of length 1", id="too long"),
        pytest.param(np.full((1, 4), np.nan), 9, "an embedding of length nan", id="not a number"),
        pytest.param(np.eye(3), 9, r"shape \(3, 3\) · give an array of shape \(N, 4\)", id="another D"),
        pytest.param(np.eye(4), 8, "9 references and 8 landmark ids do not belong together", id="a landmark too few"),
    ],
)
def test_unusable_arrays_are_refused(queries: NDArray[np.float64], landmarks: int, text: str) -> None:
    rows = random_rows(np.random.default_rng(0), 9, 4)
    with pytest.raises(UsageError, match=text):
        recognize_embeddings(queries, rows, np.arange(landmarks))


def test_float64_embeddings_are_taken() -> None:
    rows = random_rows(np.random.default_rng(0), 9, 4)
    ranking = recognize_embeddings(rows.astype(np.float64), rows, np.arange(9), k=1)
    assert ranking.candidates[:, 0].tolist() == list(range(9))
