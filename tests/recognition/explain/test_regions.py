"""Regions: contributions add up to the pooled similarity, matches are mutual, odd maps do no harm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obelisk.recognition.explain.regions import (
    LEAST_COSINE,
    MOST_REGIONS,
    compare_maps,
    match_locations,
    weigh_locations,
)

C = 8


def make_map(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((C, height, width)).astype(np.float32)


@given(
    sides=st.tuples(*[st.integers(1, 6)] * 4),
    seed=st.integers(0, 1000),
)
def test_what_locations_add_is_the_cosine_of_the_pooled_maps(sides: tuple[int, int, int, int], seed: int) -> None:
    query, reference = make_map(*sides[:2], seed), make_map(*sides[2:], seed + 1)
    pooled, other = query.mean(axis=(1, 2)).astype(float), reference.mean(axis=(1, 2)).astype(float)
    cosine = pooled @ other / np.linalg.norm(pooled) / np.linalg.norm(other)
    literal = sum(
        float(query[:, row, column].astype(float) @ reference[:, there, across].astype(float))
        for row in range(sides[0])
        for column in range(sides[1])
        for there in range(sides[2])
        for across in range(sides[3])
    ) / (np.linalg.norm(query.sum(axis=(1, 2), dtype=float)) * np.linalg.norm(reference.sum(axis=(1, 2), dtype=float)))
    assert literal == pytest.approx(cosine, rel=1e-6)
    alike = compare_maps(query, reference)
    assert alike.query.shape == sides[:2]
    assert alike.reference.shape == sides[2:]
    expected = np.einsum("chw,c->hw", query.astype(float), reference.sum(axis=(1, 2), dtype=float))
    np.testing.assert_allclose(alike.query, expected / expected.max(), rtol=1e-6)
    for region in alike.regions:
        top, left, bottom, right = region.query
        assert 0 <= top < bottom <= sides[0]
        assert 0 <= left < right <= sides[1]
        assert region.share == pytest.approx(expected[top:bottom, left:right].sum() / expected.sum(), rel=1e-6)


def test_a_patch_that_moved_is_found_where_it_is() -> None:
    query, reference = np.zeros((C, 7, 7)), np.zeros((C, 7, 7))
    for number, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        query[number, 1 + row, 2 + column] = reference[number, 4 + row, 5 + column] = 1.0
    (region,) = compare_maps(query, reference).regions
    assert (region.query, region.reference) == ((1, 2, 3, 4), (4, 5, 6, 7))
    assert region.share == pytest.approx(1.0)


def test_two_patches_are_two_regions_the_weightier_first() -> None:
    query, reference = np.zeros((C, 6, 6)), np.zeros((C, 6, 6))
    query[0, 0, 0] = reference[0, 5, 5] = 1.0
    query[1, 5, 0] = reference[1, 0, 5] = 2.0
    first, second = compare_maps(query, reference).regions
    assert (first.query, first.reference) == ((5, 0, 6, 1), (0, 5, 1, 6))
    assert (second.query, second.reference) == ((0, 0, 1, 1), (5, 5, 6, 6))
    assert first.share == pytest.approx(0.8)


def test_matches_are_mutual_and_alike_enough() -> None:
    rng = np.random.default_rng(0)
    cosines, added = rng.uniform(-1, 1, (30, 40)), rng.random((30, 40))
    pairs = match_locations(cosines, added)
    assert len(pairs)
    for query, reference in pairs:
        assert cosines[query, reference] == cosines[query].max() == cosines[:, reference].max() >= LEAST_COSINE
    weights = [cosines[query, reference] * added[query, reference] for query, reference in pairs]
    assert weights == sorted(weights, reverse=True)


@pytest.mark.parametrize(
    "features",
    [
        pytest.param(np.zeros((C, 3, 3)), id="nothing seen"),
        pytest.param(np.full((C, 3, 3), np.nan), id="not numbers"),
        pytest.param(np.full((C, 3, 3), np.inf), id="infinite"),
        pytest.param(-np.ones((C, 3, 3)), id="negative"),
        pytest.param(np.ones((C, 1, 1)), id="one location"),
        pytest.param(np.ones((C, 1, 9)), id="one row"),
    ],
)
def test_odd_maps_do_no_harm(features: np.ndarray) -> None:
    for query, reference in ((features, make_map(4, 5, 0)), (make_map(4, 5, 0), features), (features, features)):
        alike = compare_maps(query, reference)
        assert len(alike.regions) <= MOST_REGIONS
        for heat in (alike.query, alike.reference, weigh_locations(features)):
            assert np.isfinite(heat).all()
            assert 0.0 <= heat.min() <= heat.max() <= 1.0
