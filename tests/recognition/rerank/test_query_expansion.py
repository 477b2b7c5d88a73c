"""Query expansion and database-side augmentation against literal loops; neither changes what is shown."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from obelisk.errors import UsageError
from obelisk.gallery import ExactSearch, HeldLabels
from obelisk.recognition import KNNClassifier
from obelisk.recognition.rerank import ExpandedSearch, augment_references, expand_search
from obelisk.recognition.rerank.query_expansion import ALPHA

D = 6


def random_rows(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    rows = rng.normal(size=(count, D))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def lean_literally(row: NDArray[np.float32], others: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """The equation at the top of query_expansion.py."""
    nearest = sorted(others, key=lambda other: -float(row @ other))[:count]
    leaning = row.astype(np.float64) + sum(max(float(row @ other), 0.0) ** ALPHA * other for other in nearest)
    return leaning / np.linalg.norm(leaning)


@pytest.mark.parametrize("size", [pytest.param(40, id="many"), pytest.param(2, id="fewer than are asked for")])
def test_a_query_leans_on_its_three_nearest(size: int) -> None:
    rng = np.random.default_rng(0)
    references, queries = random_rows(rng, size), random_rows(rng, 5)
    indices, similarities = ExpandedSearch(ExactSearch(references)).nearest(queries, size)
    for query, found, cosines in zip(queries, indices, similarities, strict=True):
        np.testing.assert_allclose(cosines, references[found] @ lean_literally(query, references, 3), atol=1e-6)
        assert (np.diff(cosines) <= 0).all()


def test_a_reference_leans_on_the_ten_nearest_of_its_landmark() -> None:
    rng = np.random.default_rng(1)
    landmark_ids = rng.permutation(np.repeat([3, 7, 9], [25, 4, 1]))
    rows = random_rows(rng, 30)
    augmented = augment_references(rows, landmark_ids)
    for index, landmark in enumerate(landmark_ids):
        others = rows[(landmark_ids == landmark) & (np.arange(30) != index)]
        expected = lean_literally(rows[index], others, 10) if len(others) else rows[index]
        np.testing.assert_allclose(augmented[index], expected, atol=1e-6)


@pytest.mark.parametrize("vote", ["weighted", "majority", "prototype"])
@pytest.mark.parametrize("expand", ["query", "references"])
def test_neighbours_stay_those_of_the_photo(vote: str, expand: str) -> None:
    rng = np.random.default_rng(2)
    engine, landmark_ids = ExactSearch(random_rows(rng, 50)), np.repeat(np.arange(10), 5)
    queries = random_rows(rng, 20)
    plain = KNNClassifier(engine, landmark_ids, vote=vote).classify(queries)
    expanded = KNNClassifier(engine, landmark_ids, vote=vote, expand=expand).classify(queries)
    np.testing.assert_array_equal(expanded.neighbors, plain.neighbors)
    np.testing.assert_array_equal(expanded.similarities, plain.similarities)
    only_one_each = vote == "prototype" and expand == "references"  # a prototype has no neighbour of its landmark
    assert (expanded.scores != plain.scores).any() != only_one_each


def test_none_is_the_search_itself() -> None:
    engine = ExactSearch(random_rows(np.random.default_rng(3), 4))
    labels = HeldLabels(np.arange(4))
    assert expand_search(engine, labels, "none") == (engine, labels)


def test_unusable_expansions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ExactSearch(random_rows(np.random.default_rng(4), 4))
    with pytest.raises(UsageError, match="unknown expansion `both` · choose one of none, query, references"):
        expand_search(engine, HeldLabels(np.arange(4)), "both")
    monkeypatch.setattr("obelisk.recognition.rerank.query_expansion.MOST_REFERENCES", 3)
    with pytest.raises(UsageError, match="4 references to augment, of at most 3"):
        expand_search(engine, HeldLabels(np.arange(4)), "references")
