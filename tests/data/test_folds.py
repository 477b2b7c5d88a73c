"""Folds: near-duplicates stay together, few photos stand apart, and nothing but the seed and the ids decides."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obelisk.data import assign_folds
from obelisk.errors import UsageError


def frame(landmarks: list[int]) -> pl.DataFrame:
    return pl.DataFrame({"image_id": [f"{n:03}" for n in range(len(landmarks))], "landmark_id": landmarks})


@given(
    landmarks=st.lists(st.integers(0, 4), min_size=1, max_size=40),
    folds=st.integers(2, 6),
    seed=st.integers(0, 9),
    joined=st.sets(st.integers(0, 39), max_size=8),
)
@settings(max_examples=50, deadline=None)
def test_groups_are_whole_and_a_landmark_is_spread_evenly(landmarks, folds, seed, joined):
    photos = frame(landmarks)
    members = [f"{n:03}" for n in sorted(joined) if n < len(landmarks)]
    groups = dict.fromkeys(members, members[0]) if members else {}
    dealt = assign_folds(photos, folds=folds, seed=seed, groups=groups)
    fold_of = dict(dealt.select("image_id", "fold").iter_rows())
    assert dealt.drop("fold").equals(photos)
    assert set(fold_of.values()) <= set(range(folds))
    assert len({fold_of[member] for member in members}) <= 1
    for landmark in set(landmarks):
        alone = [fold_of[i] for i, shown in photos.iter_rows() if shown == landmark and i not in groups]
        sizes = [alone.count(fold) for fold in range(folds)]
        assert max(sizes) - min(sizes) <= 2  # a group dealt among them may take one turn
    shuffled = assign_folds(photos.sample(fraction=1, shuffle=True, seed=seed), folds=folds, seed=seed, groups=groups)
    assert dict(shuffled.select("image_id", "fold").iter_rows()) == fold_of


def test_few_photos_stand_in_folds_of_their_own_and_the_seed_moves_them():
    photos = frame([7] * 5)
    assert sorted(assign_folds(photos, folds=5, seed=0, groups={})["fold"].to_list()) == [0, 1, 2, 3, 4]
    drawn = {tuple(assign_folds(photos, folds=5, seed=seed, groups={})["fold"].to_list()) for seed in range(5)}
    assert len(drawn) > 1


def test_one_fold_is_refused():
    with pytest.raises(UsageError, match="1 folds"):
        assign_folds(frame([1]), folds=1, seed=0, groups={})
