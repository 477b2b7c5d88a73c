from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obelisk.data import LANDMARKS, QUERIES, Catalog, assign_folds, split_references
from obelisk.data.splits import assign_splits, draw_number, draw_quota
from obelisk.errors import UsageError

counts_of_landmarks = st.lists(st.integers(1, 25), min_size=1, max_size=8)


def make_photos(counts: list[int]) -> pl.DataFrame:
    rows = [
        {"image_id": f"{landmark:02}-{photo:03}", "path": "", "landmark_id": landmark, "split": "train"}
        for landmark, count in enumerate(counts)
        for photo in range(count)
    ]
    return pl.DataFrame(rows, schema_overrides={"landmark_id": pl.Int64})


def make_catalog(counts: list[int]) -> Catalog:
    return Catalog(
        root=Path("d"),
        references=make_photos(counts),
        queries=pl.DataFrame(schema=QUERIES),
        landmarks=pl.DataFrame(schema=LANDMARKS),
    )


def splits_of(photos: pl.DataFrame) -> dict[str, str]:
    return dict(photos.select("image_id", "split").iter_rows())


@given(counts_of_landmarks, st.sampled_from([0.0, 0.1, 0.15, 0.5, 0.9]), st.integers(0, 2**32), st.data())
@settings(max_examples=150, deadline=None)
def test_groups_stay_whole_and_every_landmark_keeps_a_train_photo(counts, share, seed, data):
    catalog = make_catalog(counts)
    ids = catalog.references["image_id"].to_list()
    # Groups of any shape, also across landmarks: neighbours in the list of ids are joined or not.
    groups: dict[str, str] = {}
    for place, joined in enumerate(data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))):
        if joined and place:
            groups[ids[place]] = groups.setdefault(ids[place - 1], ids[place - 1])
    split = split_references(catalog, validation_share=share, seed=seed, groups=groups).references
    assert split.drop("split").equals(catalog.references.drop("split"))
    assert set(split["split"]) <= {"train", "val"}
    for _, landmark in split.group_by("landmark_id"):
        assert "train" in landmark["split"].to_list()
        assert (landmark["split"] == "val").sum() <= share * landmark.height + 1
    found = splits_of(split)
    assert all(found[member] == found[leader] for member, leader in groups.items())


def test_landmark_with_one_photo_or_one_group_stays_in_train():
    catalog = make_catalog([1, 3])
    groups = {f"01-{photo:03}": "01-000" for photo in range(3)}
    split = split_references(catalog, validation_share=0.9, seed=0, groups=groups).references
    assert split["split"].to_list() == ["train"] * 4


def test_group_that_shows_two_landmarks_stays_in_train():
    catalog = make_catalog([4, 4])
    groups = {"00-000": "00-000", "01-000": "00-000"}
    for seed in range(20):
        found = splits_of(split_references(catalog, validation_share=0.5, seed=seed, groups=groups).references)
        assert found["00-000"] == found["01-000"] == "train"
        assert sorted(found.values()).count("val") in (2, 3, 4)


def test_rare_landmarks_give_their_share_too():
    # 600 landmarks of 3 photos at a share of 0.15: 270 photos are expected, and rounding would give none.
    split = split_references(make_catalog([3] * 600), validation_share=0.15, seed=1, groups={}).references
    taken = (split["split"] == "val").sum()
    assert 225 <= taken <= 315
    assert max(split.group_by("landmark_id").agg((pl.col("split") == "val").sum())["split"]) == 1


def test_seed_decides_and_row_order_does_not():
    photos = make_photos([9, 9, 9])
    shares = {"val": 0.2, "test": 0.2}
    first = assign_splits(photos, shares=shares, seed=1, groups={})
    again = assign_splits(photos.reverse(), shares=shares, seed=1, groups={})
    other = assign_splits(photos, shares=shares, seed=2, groups={})
    assert splits_of(first) == splits_of(again)
    assert splits_of(first) != splits_of(other)


# The first is `printf 0:photo:abc | b2sum -l 64`; another machine, Python or library must draw the same.
GOLDEN_NUMBERS = {
    (0, "photo", "abc"): 18108459312957960764,
    (1, "photo", "abc"): 16308788894869358532,
    (0, "landmark", 108502): 2133557232148361946,
}
GOLDEN_VALIDATION = ["00-000", "00-001", "01-000", "01-001", "01-008", "01-010", "02-000"]


@pytest.mark.parametrize(("parts", "number"), GOLDEN_NUMBERS.items())
def test_drawn_numbers_never_change(parts: tuple[int, str, object], number: int):
    assert draw_number(*parts) == number


def test_split_never_changes():
    split = split_references(make_catalog([6, 12, 2]), validation_share=0.3, seed=7, groups={}).references
    assert split.filter(pl.col("split") == "val")["image_id"].to_list() == GOLDEN_VALIDATION


def test_catalog_with_validation_photos_is_left_as_it_is():
    catalog = split_references(make_catalog([10]), validation_share=0.3, seed=0, groups={})
    assert split_references(catalog, validation_share=0.5, seed=9, groups={}) is catalog


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5])
def test_share_outside_its_range_is_an_error_with_the_value(share: float):
    with pytest.raises(UsageError, match=f"val {share}"):
        split_references(make_catalog([4]), validation_share=share, seed=0, groups={})


@given(st.integers(0, 1000), st.fractions(0, 1, max_denominator=100))
def test_quota_is_the_share_rounded_down_or_up(total: int, share: Fraction):
    low, high = draw_quota(total, share, 0), draw_quota(total, share, 2**64 - 1)
    assert low == int(total * share)
    assert high == -int(-total * share // 1)


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
