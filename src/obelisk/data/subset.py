"""Sampling a subset whose long tail has the shape of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from obelisk.data.catalog import Catalog
from obelisk.data.duplicates import NearDuplicates, find_near_duplicates
from obelisk.data.progress import Progress, keep_silent
from obelisk.data.splits import assign_splits, draw_number
from obelisk.data.stats import count_photos, ks_distance, take_percentiles
from obelisk.errors import UsageError

VALIDATION_SHARE: Final = 0.15
TEST_SHARE: Final = 0.2
DISTRACTOR: Final = "distractor"


@dataclass(frozen=True, kw_only=True, eq=False)
class Subset:
    """A sampled and split part of a dataset.

    ``photos`` is a frame (image_id, path, landmark_id, split) sorted by image id, whose split is ``train``, ``val``,
    ``test`` or ``distractor`` (landmark_id null); ``landmarks`` as in a catalog. The percentiles are of photos per
    landmark in the source and here; ``ks_distance``, in [0, 1], is the largest gap between the two distributions.
    ``cleaning`` says how photos with doubtful labels were left out, and how many; empty where nobody looked.
    """

    seed: int
    photos: pl.DataFrame
    landmarks: pl.DataFrame
    source_percentiles: Mapping[str, int]
    percentiles: Mapping[str, int]
    ks_distance: float
    near_duplicate_groups: int
    notes: tuple[str, ...] = ()
    cleaning: Mapping[str, Any] = field(default_factory=dict)

    def count_splits(self) -> dict[str, int]:
        """Return the number of photos of each split."""
        counts = dict(self.photos.group_by("split").len().iter_rows())
        return {split: counts.get(split, 0) for split in ("train", "val", "test", DISTRACTOR)}

    def to_fields(self) -> dict[str, Any]:
        """Return what the manifest tells of the subset as plain values, for JSON."""
        return {
            "seed": self.seed,
            "landmarks": self.landmarks.height,
            "photos": self.count_splits(),
            "near_duplicate_groups": self.near_duplicate_groups,
            "photos_per_landmark": {"source": dict(self.source_percentiles), "subset": dict(self.percentiles)},
            "ks_distance": self.ks_distance,
            **({"cleaning": dict(self.cleaning)} if self.cleaning else {}),
        }


def sample_subset(
    catalog: Catalog,
    *,
    landmarks: int,
    seed: int,
    validation_share: float = VALIDATION_SHARE,
    test_share: float = TEST_SHARE,
    progress: Progress = keep_silent,
) -> Subset:
    """Sample landmarks uniformly at random, and split the photos of each into train, val and test.

    Every landmark is as likely as any other, so the photos per landmark keep their distribution; the landmarks of
    a smaller subset are among those of a larger one of the same seed. Near-duplicates share a split; every landmark
    with a val or test photo has a train photo. The queries without a landmark stay as distractors, except copies of
    a photo in train, val or test; queries with a landmark are left to the source. Photos that cannot be read are
    left out and noted. The same catalog and seed give the same subset on every machine.

    Raises UsageError when fewer landmarks are there than asked for, or none is asked for.
    """
    chosen = choose_landmarks(catalog.references["landmark_id"].unique().to_list(), landmarks=landmarks, seed=seed)
    members = catalog.references.filter(pl.col("landmark_id").is_in(chosen)).drop("split")
    distractors = catalog.select_distractors().select(
        "image_id", "path", pl.lit(None, dtype=pl.Int64).alias("landmark_id")
    )
    found = find_near_duplicates(catalog.root, pl.concat([members, distractors]), progress=progress)
    members, distractors = (drop_unreadable(photos, found) for photos in (members, distractors))
    shares = {"val": validation_share, "test": test_share}
    members = assign_splits(members, shares=shares, seed=seed, groups=found.groups)
    distractors = drop_copies(distractors, members, found).with_columns(pl.lit(DISTRACTOR).alias("split"))
    photos = pl.concat([members, distractors], how="diagonal").sort("image_id")
    before, after = count_photos(catalog.references), count_photos(members)
    return Subset(
        seed=seed,
        photos=photos.select("image_id", "path", "landmark_id", "split"),
        landmarks=catalog.landmarks.filter(pl.col("landmark_id").is_in(members["landmark_id"].unique().to_list())),
        source_percentiles=take_percentiles(before),
        percentiles=take_percentiles(after),
        ks_distance=round(ks_distance(before, after), 6),
        near_duplicate_groups=len(set(found.groups.values())),
        notes=tuple(f"left out: {reason}" for reason in found.unreadable.values()),
    )


def choose_landmarks(known: list[int], *, landmarks: int, seed: int) -> list[int]:
    """Return the landmarks that come first in the order drawn from the seed."""
    if landmarks < 1:
        raise UsageError(f"{landmarks} landmarks were asked for", where="--landmarks", fix="ask for at least 1")
    if landmarks > len(known):
        fix = f"ask for at most {len(known)}, which is all there are"
        raise UsageError(f"{landmarks} landmarks were asked for", where="--landmarks", fix=fix)
    return sorted(known, key=lambda landmark: (draw_number(seed, "landmark", landmark), landmark))[:landmarks]


def drop_unreadable(photos: pl.DataFrame, found: NearDuplicates) -> pl.DataFrame:
    """Keep the photos that could be read."""
    return photos.filter(~pl.col("image_id").is_in(list(found.unreadable)))


def drop_copies(distractors: pl.DataFrame, members: pl.DataFrame, found: NearDuplicates) -> pl.DataFrame:
    """Keep the distractors that are no copy of a landmark's photo."""
    taken = {found.groups[image_id] for image_id in members["image_id"].to_list() if image_id in found.groups}
    copies = [image_id for image_id in distractors["image_id"].to_list() if found.groups.get(image_id) in taken]
    return distractors.filter(~pl.col("image_id").is_in(copies))
