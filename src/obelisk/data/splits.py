"""Splitting the photos of each landmark with integers and hashes alone, so that every machine splits them alike."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from fractions import Fraction

import polars as pl

from obelisk.data.catalog import Catalog
from obelisk.errors import UsageError

HASH_RANGE = 2**64


def draw_number(seed: int, *parts: object) -> int:
    """Return a number in [0, 2⁶⁴) that depends on the seed and the parts only; it is the same on every machine."""
    text = ":".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def split_references(catalog: Catalog, *, validation_share: float, seed: int, groups: Mapping[str, str]) -> Catalog:
    """Move some reference photos of each landmark to the split ``val``.

    ``validation_share`` in [0, 1) is the expected share of each landmark's photos: a fraction of a photo is rounded up
    with that probability, so rare landmarks are sampled too and the long tail keeps its shape. ``groups`` maps image
    ids to groups that must not be divided, see :func:`~obelisk.data.duplicates.find_near_duplicates`; a photo not in it
    is a group of its own. Landmarks with a single group, and groups that show several landmarks, stay in ``train``. A
    catalog that already has validation photos is returned unchanged.

    Raises UsageError for a share outside [0, 1).
    """
    if catalog.references.filter(pl.col("split") == "val").height:
        return catalog
    split = assign_splits(catalog.references, shares={"val": validation_share}, seed=seed, groups=groups)
    return dataclasses.replace(catalog, references=split)


def assign_splits(
    photos: pl.DataFrame, *, shares: Mapping[str, float], seed: int, groups: Mapping[str, str]
) -> pl.DataFrame:
    """Return the photos, a frame (image_id, landmark_id, …), with ``split`` set to a key of ``shares`` or to ``train``.

    The groups of a landmark are shuffled by the seed; each share in turn takes the groups that fit into its quota, and
    at least one photo is left for ``train``.
    """
    exact = {split: Fraction(str(share)) for split, share in shares.items()}
    if any(share < 0 for share in exact.values()) or sum(exact.values()) >= 1:
        listed = ", ".join(f"{split} {share}" for split, share in shares.items())
        raise UsageError(f"the shares are {listed}", fix="each must be at least 0, and their sum less than 1")
    members = photos.select(
        "image_id",
        "landmark_id",
        pl.col("image_id").replace(groups).alias("group") if groups else pl.col("image_id").alias("group"),
    )
    divisible = members.join(
        members.group_by("group")
        .agg(pl.col("landmark_id").n_unique().alias("landmarks"))
        .filter(pl.col("landmarks") == 1),
        on="group",
    )
    sizes = divisible.group_by("landmark_id", "group").agg(pl.len().alias("size"))
    totals = dict(members.group_by("landmark_id").agg(pl.len()).iter_rows())
    chosen: dict[str, str] = {}
    for (landmark_id,), rows in sizes.group_by(["landmark_id"]):
        units = list(rows.select("group", "size").iter_rows())
        chosen |= choose_groups(units, total=totals[landmark_id], landmark=landmark_id, shares=exact, seed=seed)
    split = members["group"].replace_strict(chosen, default="train", return_dtype=pl.String)
    return photos.with_columns(split.alias("split"))


def choose_groups(
    units: list[tuple[str, int]], *, total: int, landmark: object, shares: Mapping[str, Fraction], seed: int
) -> dict[str, str]:
    """Choose the groups of one landmark that leave ``train``: group → split.

    ``units`` are its divisible groups with their sizes; ``total`` counts all its photos, indivisible ones included.
    """
    ordered = sorted(units, key=lambda unit: (draw_number(seed, "photo", unit[0]), unit[0]))
    left = total
    chosen: dict[str, str] = {}
    for split, share in shares.items():
        room = draw_quota(total, share, draw_number(seed, split, landmark))
        for group, size in ordered:
            if group not in chosen and size <= room and size < left:
                chosen[group] = split
                room -= size
                left -= size
    return chosen


def draw_quota(total: int, share: Fraction, drawn: int) -> int:
    """Return ⌊total · share + u⌋ with u = drawn / 2⁶⁴ in [0, 1); its mean over u is total · share."""
    return int((total * share + Fraction(drawn, HASH_RANGE)) // 1)


def assign_folds(photos: pl.DataFrame, *, folds: int, seed: int, groups: Mapping[str, str]) -> pl.DataFrame:
    """Return the photos, a frame (image_id, landmark_id, …), with a column ``fold`` in 0 … ``folds`` − 1.

    ``groups`` are never divided, see :func:`split_references`. The groups of a landmark are shuffled by the seed and
    dealt to the folds in turn, from a random fold on. A landmark with no more groups than folds has each group in a
    fold of its own, so its few photos can all be judged by one another. A group that shows several landmarks is dealt
    with the smallest landmark id.

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
    """Raise UsageError for fewer than 2 folds."""
    if folds < 2:
        fix = "give at least 2: photos of other folds judge a photo"
        raise UsageError(f"{folds} folds", where="--folds", fix=fix)
