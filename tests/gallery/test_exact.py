"""Exact search against a float64 matrix product with a stable sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obelisk.arrays import l2_normalize
from obelisk.errors import GalleryError, UsageError
from obelisk.gallery import as_stored, nearest_rows


def search_slowly(queries: np.ndarray, references: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    exact = np.clip((queries.astype(np.float64) @ references.astype(np.float64).T).astype(np.float32), -1, 1)
    rows = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(exact, rows, axis=1)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 120),
    dimensions=st.integers(1, 40),
    k=st.integers(1, 120),
    distinct=st.integers(1, 120),
)
def test_finds_what_the_full_matrix_shows(seed: int, size: int, dimensions: int, k: int, distinct: int) -> None:
    rng = np.random.default_rng(seed)
    few = rng.normal(size=(distinct, dimensions))  # fewer distinct rows than rows: equal similarities
    references = l2_normalize(few[rng.integers(0, distinct, size=size)], dimensions=dimensions)
    queries = l2_normalize(rng.normal(size=(9, dimensions)), dimensions=dimensions)
    k = min(k, size)
    rows, similarities = nearest_rows(queries, references, k)
    expected_rows, expected_similarities = search_slowly(queries, references, k)
    np.testing.assert_array_equal(similarities, expected_similarities)
    np.testing.assert_array_equal(rows, expected_rows)


def test_rows_closer_than_float32_can_tell_are_ordered_exactly() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=512)
    # 300 rows around one, nearer to each other than the rounding of a float32 dot product
    references = l2_normalize(one + 1e-7 * rng.normal(size=(300, 512)), dimensions=512)
    queries = l2_normalize(one + 0.1 * rng.normal(size=(30, 512)), dimensions=512)
    rows, _ = nearest_rows(queries, references, 5)
    np.testing.assert_array_equal(rows, search_slowly(queries, references, 5)[0])


def test_a_photo_finds_itself_with_similarity_one_at_most() -> None:
    references = as_stored(np.random.default_rng(1).normal(size=(50, 33)))
    rows, similarities = nearest_rows(references, references, 1)
    np.testing.assert_array_equal(rows[:, 0], np.arange(50))
    assert ((similarities > 0.999999) & (similarities <= 1)).all()


@pytest.mark.parametrize(
    ("embeddings", "text"),
    [
        pytest.param(np.ones((2, 3)), r"shape \(2, 3\) · give an array of shape \(N, 4\)", id="another D"),
        pytest.param(np.ones(4), r"shape \(4,\)", id="a vector"),
        pytest.param(np.array([[1, 0, 0, 0], [0, 0, 0, 0]]), "zero or not finite · row 1", id="a zero row"),
        pytest.param(np.array([[np.nan, 0, 0, 0]]), "zero or not finite · row 0", id="not a number"),
        pytest.param(np.array([[np.inf, 0, 0, 0]]), "zero or not finite · row 0", id="infinite"),
    ],
)
def test_rows_without_a_direction_are_refused(embeddings: np.ndarray, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        l2_normalize(embeddings, dimensions=4)


@pytest.mark.parametrize(
    ("k", "size", "text"),
    [
        (4, 3, "k = 4 neighbors, but only 3 reference photos · give k of at most 3"),
        (2, 1, "but only 1 reference photo · give k of at most 1"),
        (1, 0, "the gallery has no reference photos · add some: `obelisk gallery add"),
    ],
)
def test_more_neighbours_than_references_are_refused(k: int, size: int, text: str) -> None:
    references = np.eye(4, dtype=np.float32)[:size]
    with pytest.raises(GalleryError, match=text):
        nearest_rows(np.eye(4, dtype=np.float32), references, k)
