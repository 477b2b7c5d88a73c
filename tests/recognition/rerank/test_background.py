"""Normalized similarities: against a literal double loop, and what the background attachment may hold."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from obelisk.embedding import Bundle
from obelisk.errors import ModelError, UsageError
from obelisk.gallery import ExactSearch
from obelisk.recognition import BACKGROUND, Background, KNNClassifier, pack_background, read_background
from obelisk.recognition.rerank import BackgroundReranker, find_shortlist
from obelisk.recognition.rerank.background import QUERY_WEIGHT, REFERENCE_WEIGHT

D = 8


def random_rows(rng: np.random.Generator, count: int, *, common: float = 0.0) -> NDArray[np.float32]:
    """Unit rows; ``common`` draws them towards one direction, as photos that resemble everything are."""
    rows = rng.normal(size=(count, D))
    rows[:, 0] += common
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def mean_of_largest(values: list[float], count: int) -> float:
    largest = sorted(values, reverse=True)[:count]
    return sum(largest) / len(largest)


def normalize_literally(
    query: NDArray[np.float32], references: NDArray[np.float32], background: NDArray[np.float32]
) -> list[float]:
    """The equation at the top of background.py, one pair at a time."""
    of_query = mean_of_largest([float(query @ photo) for photo in background], 10)
    corrected = []
    for reference in references:
        of_reference = max(0.0, mean_of_largest([float(reference @ photo) for photo in background], 5))
        similarity = float(query @ reference) - REFERENCE_WEIGHT * of_reference - QUERY_WEIGHT * of_query
        corrected.append(min(1.0, max(-1.0, similarity)))
    return corrected


@settings(max_examples=40, deadline=None)
@example(seed=0, size=55, photos=1, k=51, common=0.0)  # rows cut to -1 above what the uncut ones would reach
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 300),
    photos=st.integers(1, 30),
    k=st.integers(1, 300),
    common=st.sampled_from([0.0, 3.0]),
)
def test_corrected_similarities_are_the_equation(seed: int, size: int, photos: int, k: int, common: float) -> None:
    rng = np.random.default_rng(seed)
    references, background = random_rows(rng, size, common=common), random_rows(rng, photos, common=common)
    queries, k = random_rows(rng, 4), min(k, size)
    engine = ExactSearch(references)
    listed = BackgroundReranker(engine, Background(background)).rerank(queries, find_shortlist(engine, queries, k))
    for query, found, corrected, bound in zip(queries, *vars(listed).values(), strict=True):
        expected = np.array(normalize_literally(query, references, background))
        np.testing.assert_allclose(corrected, expected[found], atol=1e-5)
        assert (np.diff(corrected) <= 0).all()
        assert len(set(found.tolist())) == k
        assert (np.delete(expected, found) <= bound + 1e-5).all()


def test_a_row_far_down_the_plain_order_comes_up() -> None:
    x, y, z, _ = np.eye(4)  # the query, what all photos have in common, and what only one photo shows
    crowd = np.tile(0.8 * x + 0.6 * y, (500, 1))
    alone = 0.75 * x + np.sqrt(1 - 0.75**2) * z
    references = np.vstack([crowd, alone]).astype(np.float32)
    query = x[None].astype(np.float32)
    assert ExactSearch(references).nearest(query, 501)[0][0, -1] == 500
    classifier = KNNClassifier(ExactSearch(references), np.arange(501), vote="weighted", background=Background(y[None]))
    ranking = classifier.classify(query, k=1, top=1)
    assert ranking.candidates.tolist() == [[500]]
    assert ranking.neighbors.tolist() == [[0]]


def test_a_query_does_not_depend_on_the_others() -> None:
    rng = np.random.default_rng(1)
    engine, background = ExactSearch(random_rows(rng, 400, common=1.0)), Background(random_rows(rng, 40, common=1.0))
    queries = random_rows(rng, 60)
    classifier = KNNClassifier(engine, np.arange(400) // 8, background=background)
    together = classifier.classify(queries)
    for part in (slice(0, 1), slice(3, 30), slice(30, 60)):
        alone = classifier.classify(queries[part])
        np.testing.assert_array_equal(alone.candidates, together.candidates[part])
        np.testing.assert_array_equal(alone.scores, together.scores[part])


@pytest.mark.parametrize("vote", ["weighted", "majority", "prototype"])
def test_the_background_lowers_scores_and_leaves_what_is_shown(vote: str) -> None:
    rng = np.random.default_rng(2)
    engine, landmark_ids = ExactSearch(random_rows(rng, 60, common=2.0)), np.repeat(np.arange(12), 5)
    queries = random_rows(rng, 20, common=2.0)
    plain = KNNClassifier(engine, landmark_ids, vote=vote).classify(queries)
    background = Background(random_rows(rng, 30, common=2.0))
    corrected = KNNClassifier(engine, landmark_ids, vote=vote, background=background).classify(queries)
    np.testing.assert_array_equal(corrected.neighbors, plain.neighbors)
    np.testing.assert_array_equal(corrected.similarities, plain.similarities)
    assert corrected.scores[:, 0].mean() < plain.scores[:, 0].mean()
    assert ((corrected.scores >= 0) & (corrected.scores <= 1)).all()


def test_a_background_comes_back_from_the_bundle(tmp_path: Path, write_any_bundle: Callable[..., Bundle]) -> None:
    rows = random_rows(np.random.default_rng(3), 20)
    found = read_background(
        write_any_bundle(tmp_path / "model", attachments={BACKGROUND: pack_background(rows)}, dimensions=D)
    )
    assert found is not None
    assert len(found) == 20
    np.testing.assert_allclose(found.rows, rows, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found.rows, axis=1), 1.0, atol=1e-6)


def test_a_bundle_without_a_background_works_without(tmp_path: Path, write_any_bundle: Callable[..., Bundle]) -> None:
    assert read_background(write_any_bundle(tmp_path / "model")) is None


def pack(array: NDArray[np.generic], *, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not an array", id="text"),
        pytest.param(pack(np.ones((4, D), np.float16))[:90], id="cut off"),
        pytest.param(pack(np.ones((4, D + 1), np.float16)), id="another network's"),
        pytest.param(pack(np.ones(D, np.float16)), id="one row, flat"),
        pytest.param(pack(np.ones((0, D), np.float16)), id="no photo"),
        pytest.param(pack(np.zeros((4, D), np.float16)), id="a zero row"),
        pytest.param(pack(np.full((4, D), np.nan, np.float16)), id="not a number"),
        pytest.param(pack(np.ones((4, D), np.int64)), id="whole numbers"),
        pytest.param(pack(np.array([{}], dtype=object), allow_pickle=True), id="a pickle"),
        pytest.param(b"PK\x03\x04" + bytes(26), id="a zip archive"),
        pytest.param(pack(np.ones((4, D), np.float16)).replace(b"(4,", b"(9" + b"9" * 11 + b","), id="2 TB claimed"),
    ],
)
def test_a_damaged_background_is_one_clear_error(
    content: bytes, tmp_path: Path, write_any_bundle: Callable[..., Bundle]
) -> None:
    bundle = write_any_bundle(tmp_path / "model", attachments={BACKGROUND: content}, dimensions=D)
    with pytest.raises(ModelError, match="unreadable background"):
        read_background(bundle)


def test_a_background_of_other_dimensions_is_refused() -> None:
    rng = np.random.default_rng(4)
    with pytest.raises(UsageError, match="a background of 3 dimensions for 8"):
        BackgroundReranker(ExactSearch(random_rows(rng, 5)), Background(np.eye(3)))
