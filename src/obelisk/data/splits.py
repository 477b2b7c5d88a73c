"""Splitting the photos of each landmark, by integers and hashes alone: every machine splits alike."""

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
    """Return a number in [0, 2⁶⁴) that depends on the seed and the parts only: the same on every machine."""
    text = ":".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def split_references(catalog: Catalog, *, validation_share: float, seed: int, groups: Mapping[str, str]) -> Catalog:
    """Carve validation photos out of the reference photos of each landmark.

    About ``validation_share`` (in [0, 1)) of each landmark's photos become ``val``: the fraction of a photo that is
    left over becomes one with just that probability, so that rare landmarks take their part too and the long tail
    keeps its shape. ``groups`` (image id → group, of :func:`~obelisk.data.duplicates.find_near_duplicates`; a photo
    not in it is a group of its own) are never divided. A landmark with one photo or one group stays in ``train``, and
    so does a group that shows several landmarks. A catalog that already has validation photos is returned as it is.

    Raises UsageError for a share outside [0, 1).
    """
    if catalog.references.filter(pl.col("split") == "val").height:
        return catalog
    split = assign_splits(catalog.references, shares={"val": validation_share}, seed=seed, groups=groups)
    return dataclasses.replace(catalog, references=split)


def assign_splits(
    photos: pl.DataFrame, *, shares: Mapping[str, float], seed: int, groups: Mapping[str, str]
) -> pl.DataFrame:
    """Return the photos, a frame (image_id, landmark_id, …), with ``split`` set to a key of ``shares`` or ``train``.

    Inside each landmark the groups stand in an order drawn from the seed; each share in turn takes groups that fit
    into its quota, and at least one photo is left for ``train``.
    """
    exact = {split: Fraction(str(share)) for split, share in shares.items()}
    if any(share < 0 for share in exact.values()) or sum(exact.values()) >= 1:
        listed = ", ".join(f"{split} {share}" for split, share in shares.items())
        raise UsageError(f"the shares are {listed}", fix="each must be at least 0, and all together less than 1")
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

    ``units`` are its groups with their sizes; ``total`` counts all its photos, also those not to be divided.
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
    """Return ⌊total · share + u⌋ with u = drawn / 2⁶⁴ in [0, 1): its mean over u is total · share."""
    return int((total * share + Fraction(drawn, HASH_RANGE)) // 1)
