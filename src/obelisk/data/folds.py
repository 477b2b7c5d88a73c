"""Folds of photos, so that each can be judged by photos of other folds; by hashes alone: every machine folds alike."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from obelisk.data.splits import draw_number
from obelisk.errors import UsageError


def assign_folds(photos: pl.DataFrame, *, folds: int, seed: int, groups: Mapping[str, str]) -> pl.DataFrame:
    """Return the photos, a frame (image_id, landmark_id, …), with a column ``fold`` in 0 … ``folds`` − 1.

    ``groups`` (image id → group, of :func:`~obelisk.data.duplicates.find_near_duplicates`; a photo not in it is a
    group of its own) are never divided. The groups of a landmark are dealt out one by one, in an order drawn from the
    seed and from a fold drawn from it: a landmark of no more groups than folds has each in a fold of its own, so that
    its few photos can all speak for one another. A group that shows several landmarks is dealt with the smallest.

    Raises UsageError for fewer than 2 folds.
    """
    check_folds(folds)
    groups_of = [groups.get(image_id, image_id) for image_id in photos["image_id"].to_list()]
    landmark_of: dict[str, int] = {}
    for group, landmark in zip(groups_of, photos["landmark_id"].to_list(), strict=True):
        landmark_of[group] = min(landmark, landmark_of.get(group, landmark))
    dealt: dict[str, int] = {}
    next_fold: dict[int, int] = {}
    for group in sorted(landmark_of, key=lambda group: (draw_number(seed, "fold", group), group)):
        landmark = landmark_of[group]
        start = next_fold.setdefault(landmark, draw_number(seed, "first fold", landmark) % folds)
        dealt[group] = start
        next_fold[landmark] = (start + 1) % folds
    return photos.with_columns(pl.Series("fold", [dealt[group] for group in groups_of], dtype=pl.Int64))


def check_folds(folds: int) -> None:
    """Refuse a number of folds in which nothing is judged by others."""
    if folds < 2:
        raise UsageError(f"{folds} folds", where="--folds", fix="give at least 2: a photo is judged by other folds")
