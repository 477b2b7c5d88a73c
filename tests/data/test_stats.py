from __future__ import annotations

import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from obelisk.data import (
    MID_PHOTOS,
    TAIL_PHOTOS,
    compute_statistics,
    draw_long_tail,
    ks_distance,
    landmark_buckets,
    photos_per_landmark,
    read_catalog,
    take_percentiles,
)
from obelisk.data.stats import PERCENTILES
from obelisk.errors import MissingExtraError, UsageError

counts_of_landmarks = st.lists(st.integers(1, 300), min_size=1, max_size=60)


def references(counts: dict[int, int]) -> pl.DataFrame:
    return pl.DataFrame({"landmark_id": [landmark for landmark, n in counts.items() for _ in range(n)]})


def test_buckets_change_just_above_their_limits():
    counts = {1: 1, 2: TAIL_PHOTOS, 3: TAIL_PHOTOS + 1, 4: MID_PHOTOS, 5: MID_PHOTOS + 1}
    assert landmark_buckets(references(counts)) == {1: "tail", 2: "tail", 3: "mid", 4: "mid", 5: "head"}


@given(counts_of_landmarks)
@settings(max_examples=50, deadline=None)
def test_counts_are_those_of_each_landmark_most_first(counts: list[int]):
    frame = references(dict(enumerate(counts))).sample(fraction=1, shuffle=True, seed=0)
    assert photos_per_landmark(frame).tolist() == sorted(counts, reverse=True)


@given(counts_of_landmarks)
@settings(max_examples=100, deadline=None)
def test_percentiles_are_numpys_inverted_distribution(counts: list[int]):
    expected = np.percentile(counts, PERCENTILES, method="inverted_cdf").tolist()
    assert list(take_percentiles(np.array(counts)).values()) == expected


@given(counts_of_landmarks, counts_of_landmarks)
@settings(max_examples=100, deadline=None)
def test_ks_distance_is_the_largest_gap_between_the_shares_up_to_any_count(a: list[int], b: list[int]):
    gaps = [abs(sum(n <= x for n in a) / len(a) - sum(n <= x for n in b) / len(b)) for x in range(301)]
    assert ks_distance(np.array(a), np.array(b)) == pytest.approx(max(gaps))


# Two samples and their distance by hand.
@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [([1, 2, 3], [3, 1, 2], 0.0), ([1, 1], [2, 2], 1.0), ([1, 2, 3, 4], [3, 4, 5, 6], 0.5)],
    ids=["the same", "apart", "half over"],
)
def test_ks_distance_of_small_samples(a: list[int], b: list[int], distance: float):
    assert ks_distance(np.array(a), np.array(b)) == distance


def test_summary_counts_photos_queries_and_buckets(tmp_path, make_gldv2):
    labels = {f"a{number:03}": 1 for number in range(7)} | {"bbb0": 2}
    catalog = read_catalog(make_gldv2(tmp_path / "d", labels, {"ccc0": "1", "ddd0": "", "eee0": ""}))
    assert compute_statistics(catalog).to_fields() == {
        "landmarks": 2,
        "references": 8,
        "queries": 3,
        "queries_with_landmark": 1,
        "distractors": 2,
        "single_photo_landmarks": 1,
        "percentiles": {"p0": 1, "p10": 1, "p25": 1, "p50": 1, "p75": 7, "p90": 7, "p99": 7, "p100": 7},
        "buckets": {"head": 0, "mid": 1, "tail": 1},
    }


def test_figure_is_a_picture_and_the_same_each_time(tmp_path):
    counts = np.array([200, 60, 12, 8, 5, 3, 1])
    first = draw_long_tail({"all": counts}, tmp_path / "deep" / "a.png")
    second = draw_long_tail({"all": counts}, tmp_path / "b.png")
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(1_000_000)) > 10


def test_figure_of_one_landmark_and_two_distributions_can_be_drawn(tmp_path):
    one = np.array([4])
    assert draw_long_tail({"source": one, "subset": one}, tmp_path / "a.png").is_file()


def test_figure_that_is_no_png_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"\.png"):
        draw_long_tail({"all": np.array([1])}, tmp_path / "a.xlsx")


def test_figure_without_matplotlib_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[train\]"):
        draw_long_tail({"all": np.array([1])}, tmp_path / "a.png")
