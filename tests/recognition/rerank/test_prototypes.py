"""Blended similarities against a literal double loop; how many are asked for changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from obelisk.gallery import ExactSearch
from obelisk.recognition import KNNClassifier
from obelisk.recognition.rerank import PrototypeReranker, Shortlist, compute_prototypes, find_shortlist
from obelisk.recognition.rerank.prototypes import PROTOTYPE_WEIGHT, RERANKED

D = 6


def random_rows(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    rows = rng.normal(size=(count, D))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def blend(
    queries: NDArray[np.float32], references: NDArray[np.float32], landmark_ids: NDArray[np.int64], count: int
) -> Shortlist:
    engine = ExactSearch(references)
    return PrototypeReranker(engine, landmark_ids).rerank(queries, find_shortlist(engine, queries, count))


def blend_literally(
    query: NDArray[np.float32], references: NDArray[np.float32], landmark_ids: NDArray[np.int64]
) -> list[float]:
    """The equation at the top of prototypes.py, one pair at a time."""
    blended = []
    for reference, landmark in zip(references, landmark_ids, strict=True):
        mean = references[landmark_ids == landmark].mean(axis=0)
        fit = float(query @ mean / np.linalg.norm(mean))
        blended.append((float(query @ reference) + PROTOTYPE_WEIGHT * fit) / (1 + PROTOTYPE_WEIGHT))
    return blended


def test_prototypes_are_unit_means_in_order_of_the_ids() -> None:
    rows = np.array([[1, 0], [0, 1], [1, 0], [-1, 0]], dtype=np.float32)
    means, landmarks = compute_prototypes(rows, np.array([30, 10, 10, 30]))
    assert landmarks.tolist() == [10, 30]
    # the rows of landmark 30 cancel out: its first row stands for it
    np.testing.assert_allclose(means, [[0.5**0.5, 0.5**0.5], [1, 0]], atol=1e-7)


@pytest.mark.parametrize("size", [pytest.param(1, id="one"), pytest.param(30, id="few"), pytest.param(100, id="all")])
def test_similarities_are_those_of_the_equation(size: int) -> None:
    rng = np.random.default_rng(size)
    references, landmark_ids = random_rows(rng, size), rng.integers(5, 12, size)
    queries = random_rows(rng, 7)
    listed = blend(queries, references, landmark_ids, size)
    assert (listed.bound == -np.inf).all()
    for query, found, shown in zip(queries, listed.indices, listed.similarities, strict=True):
        expected = np.array(blend_literally(query, references, landmark_ids))
        np.testing.assert_allclose(shown, expected[found], atol=1e-6)
        np.testing.assert_allclose(shown, np.sort(expected)[::-1], atol=1e-6)


def test_beyond_the_reranked_rows_the_plain_order_goes_on() -> None:
    rng = np.random.default_rng(1)
    references, landmark_ids = random_rows(rng, 3 * RERANKED), rng.integers(0, 40, 3 * RERANKED)
    queries = random_rows(rng, 5)
    plain, _ = ExactSearch(references).nearest(queries, len(references))
    listed = blend(queries, references, landmark_ids, len(references))
    assert (np.diff(listed.similarities, axis=1) <= 0).all()
    np.testing.assert_array_equal(listed.indices[:, RERANKED:], plain[:, RERANKED:])
    for row, others in zip(listed.indices, plain, strict=True):
        assert set(row[:RERANKED]) == set(others[:RERANKED])


@pytest.mark.parametrize("count", [RERANKED, RERANKED + 20])
def test_above_its_bound_a_shorter_list_is_the_start_of_a_longer_one(count: int) -> None:
    rng = np.random.default_rng(2)
    references, landmark_ids = random_rows(rng, 2 * RERANKED), rng.integers(0, 20, 2 * RERANKED)
    queries = random_rows(rng, 6)
    whole, part = (blend(queries, references, landmark_ids, rows) for rows in (len(references), count))
    np.testing.assert_array_equal(part.indices, whole.indices[:, :count])
    np.testing.assert_array_equal(part.similarities, whole.similarities[:, :count])
    assert (whole.similarities[:, count:] <= part.bound[:, None]).all()


def test_queries_stand_alone() -> None:
    rng = np.random.default_rng(3)
    engine, landmark_ids = ExactSearch(random_rows(rng, 400)), rng.integers(0, 20, 400)
    queries = random_rows(rng, 6)
    together = KNNClassifier(engine, landmark_ids, vote="blended").classify(queries)
    alone = KNNClassifier(engine, landmark_ids, vote="blended").classify(queries[3:4])
    np.testing.assert_array_equal(alone.candidates[0], together.candidates[3])
    np.testing.assert_array_equal(alone.scores[0], together.scores[3])


def test_a_mislabelled_neighbour_is_outvoted_by_the_landmark_that_fits() -> None:
    right = [[0.80, 0.60, 0, 0], [0.80, -0.60, 0, 0], [0.80, 0, 0.60, 0]]
    wrong = [[0.82, 0, 0, 0.5724], [-0.6, 0, 0, 0.8], [-0.8, 0, 0, 0.6]]
    references = np.array(right + wrong, dtype=np.float32)
    references /= np.linalg.norm(references, axis=1, keepdims=True)
    landmark_ids = np.repeat([1, 2], 3)
    query = np.array([[1, 0, 0, 0]], dtype=np.float32)
    for vote, named in (("weighted", 2), ("blended", 1)):
        ranking = KNNClassifier(ExactSearch(references), landmark_ids, vote=vote).classify(query, k=1)
        assert ranking.candidates[0, 0] == named
        assert ranking.neighbors[0, 0] == 3  # what people are shown stays the most similar photo
