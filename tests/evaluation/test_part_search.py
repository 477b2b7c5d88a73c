"""Ranks and neighbors that are counted part by part are those of a whole sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obelisk.arrays import l2_normalize
from obelisk.evaluation import part_search
from obelisk.evaluation.part_search import PartedRows, find_nearest_rows, find_ranks


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 90), copies=st.booleans())
def test_equals_a_stable_sort_of_all_similarities(seed: int, size: int, copies: bool) -> None:
    rng = np.random.default_rng(seed)
    rows = l2_normalize(rng.normal(size=(size, 4)))
    if copies:  # equal similarities keep the order of the rows
        rows = rows[rng.integers(size, size=size)]
    queries = l2_normalize(rng.normal(size=(3, 4)))
    similarities = (rows.astype(np.float64) @ queries.astype(np.float64).T).astype(np.float32).T
    order = np.argsort(-similarities, axis=1, kind="stable")
    ends = np.sort(rng.integers(size + 1, size=2))
    database = PartedRows(count=size, read=lambda: iter(np.split(rows, ends)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_search, "PAIRS_AT_ONCE", 3 * int(rng.integers(1, 40)))
        wanted = [rng.permutation(size)[: int(rng.integers(size + 1))] for _ in queries]
        ranks = find_ranks(queries, database, wanted)
        nearest = find_nearest_rows(queries, database, 7)
    for found, chosen, whole in zip(ranks, wanted, order, strict=True):
        np.testing.assert_array_equal(found, np.argsort(whole)[chosen])
    np.testing.assert_array_equal(nearest.indices, order[:, :7])
    np.testing.assert_array_equal(nearest.similarities, np.take_along_axis(similarities, order[:, :7], axis=1))
    np.testing.assert_array_equal(nearest.rows, rows[order[:, :7]])
