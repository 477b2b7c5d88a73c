"""The one L2 normalization, and what is derived from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obelisk.arrays import has_direction, l2_normalize, paired_cosines, row_norms
from obelisk.errors import UsageError

ROWS = np.array([[3.0, 4.0], [0.0, 0.0], [np.inf, 1.0], [1e200, 1e200]])


def test_rows_without_a_direction_are_refused_with_their_number() -> None:
    with pytest.raises(UsageError, match="zero or not finite · row 1"):
        l2_normalize(ROWS)


def test_rows_without_a_direction_can_be_let_through() -> None:
    units = l2_normalize(ROWS[:3], strict=False)
    assert units[:2].tolist() == [[np.float32(0.6), np.float32(0.8)], [0.0, 0.0]]
    assert np.isnan(units[2]).any()
    assert units.dtype == np.float32


def test_norms_say_which_rows_have_a_direction() -> None:
    norms = row_norms(ROWS)
    assert norms[:2].tolist() == [5.0, 0.0]
    assert has_direction(norms).tolist() == [True, False, False, False]


def test_a_float16_row_has_a_norm_beyond_the_range_of_float16() -> None:
    assert row_norms(np.array([[6e4, 6e4]], dtype=np.float16))[0] == pytest.approx(6e4 * 2**0.5, rel=1e-3)


@given(st.integers(1, 40), st.integers(1, 600), st.integers(0, 10))
def test_paired_cosines_are_those_of_the_definition(count: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, others = rng.normal(size=(2, count, width)).astype(np.float32)
    expected = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in zip(rows, others, strict=True)]
    np.testing.assert_allclose(paired_cosines(rows, others), expected, atol=1e-6)


def test_the_cosine_with_a_zero_row_is_zero_and_with_an_infinite_one_undefined() -> None:
    cosines = paired_cosines(ROWS[:3], np.ones((3, 2)))
    assert cosines[1] == 0
    assert np.isnan(cosines[2])
