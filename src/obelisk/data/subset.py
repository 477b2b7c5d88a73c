"""Subsets: landmarks sampled so that the long tail keeps its shape, or a whole dataset without some photos."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from obelisk.data.catalog import Catalog
from obelisk.data.duplicates import NearDuplicates, find_near_duplicates
from obelisk.data.splits import assign_splits, draw_number
from obelisk.data.stats import ks_distance, photos_per_landmark, take_percentiles
from obelisk.errors import DataError, UsageError
from obelisk.records import Progress, no_progress

VALIDATION_SHARE: Final = 0.15
TEST_SHARE: Final = 0.2
DISTRACTOR: Final = "distractor"
PHOTO_COLUMNS: Final = ("image_id", "path", "landmark_id", "split")


@dataclass(frozen=True, kw_only=True, eq=False)
class Subset:
    """A part of a dataset, with splits.

    ``photos`` is a frame (image_id, path, landmark_id, split) sorted by image id; the split is ``train``, ``val``,
    ``test`` or ``distractor`` (landmark_id null). ``landmarks`` is as in a catalog. The percentiles are of photos per
    landmark in the source and here; ``ks_distance`` in [0, 1] is the largest gap between the two distributions.
    ``cleaning`` records how photos with doubtful labels were excluded; it is empty if labels were not checked.
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
        """Return the fields of the manifest as plain values, for JSON."""
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
    progress: Progress = no_progress,
) -> Subset:
    """Sample landmarks uniformly at random, and split the photos of each into train, val and test.

    All landmarks are equally likely, so the distribution of photos per landmark is kept. The landmarks of a smaller
    subset are among those of a larger one with the same seed. Near-duplicates share a split; every landmark with a val
    or test photo has a train photo. Queries without a landmark stay as distractors unless they copy a photo in train,
    val or test; queries with a landmark are not used. Unreadable photos are excluded, with a note. The same catalog and
    seed give the same subset on every machine.

    Raises UsageError for fewer than one landmark, or more than there are.
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
    return make_subset(
        catalog,
        members,
        pl.concat([members, distractors], how="diagonal"),
        seed=seed,
        found=found,
        landmarks=catalog.landmarks.filter(pl.col("landmark_id").is_in(members["landmark_id"].unique().to_list())),
        notes=tuple(f"left out: {reason}" for reason in found.unreadable.values()),
    )


def exclude_photos(
    catalog: Catalog, excluded: Collection[str], *, seed: int, found: NearDuplicates, cleaning: Mapping[str, Any]
) -> Subset:
    """Return the whole catalog as a subset, without the reference photos whose image ids are excluded.

    References keep their split. A query becomes ``test`` with its landmark, or ``distractor`` without one. Of several
    landmarks the first one with references is kept, with a note; queries whose usage is ``Ignored`` are excluded.
    ``seed``, ``found`` and ``cleaning`` go into the manifest.

    Raises DataError if no reference photo is left.
    """
    members = catalog.references.filter(~pl.col("image_id").is_in(list(excluded)))
    if members.is_empty():
        raise DataError("no reference photo is left", where=catalog.root, fix="see `obelisk data check`")
    known = set(members["landmark_id"].to_list())
    queries = catalog.queries.filter(pl.col("usage").ne_missing("Ignored"))
    truth = queries["landmark_ids"].to_list()
    shown = [first_known_landmark(landmarks, known) for landmarks in truth]
    labelled = queries.select(
        "image_id",
        "path",
        pl.Series("landmark_id", shown, dtype=pl.Int64),
        pl.Series("split", [DISTRACTOR if landmark is None else "test" for landmark in shown], dtype=pl.String),
    )
    several = sum(len(landmarks) > 1 for landmarks in truth)
    note = f"{several} queries show several landmarks; a subset keeps one of each"
    return make_subset(
        catalog,
        members,
        pl.concat([members.select(PHOTO_COLUMNS), labelled]),
        seed=seed,
        found=found,
        landmarks=catalog.landmarks,
        notes=(note,) if several else (),
        cleaning=cleaning,
    )


def make_subset(
    catalog: Catalog,
    members: pl.DataFrame,
    photos: pl.DataFrame,
    *,
    seed: int,
    found: NearDuplicates,
    landmarks: pl.DataFrame,
    notes: tuple[str, ...] = (),
    cleaning: Mapping[str, Any] | None = None,
) -> Subset:
    """Return these photos as a subset; its distribution is that of ``members``, the labelled ones."""
    before, after = photos_per_landmark(catalog.references), photos_per_landmark(members)
    return Subset(
        seed=seed,
        photos=photos.select(PHOTO_COLUMNS).sort("image_id"),
        landmarks=landmarks,
        source_percentiles=take_percentiles(before),
        percentiles=take_percentiles(after),
        ks_distance=round(ks_distance(before, after), 6),
        near_duplicate_groups=len(set(found.groups.values())),
        notes=notes,
        cleaning=cleaning or {},
    )


def choose_landmarks(known: list[int], *, landmarks: int, seed: int) -> list[int]:
    """Return the first landmarks of an order drawn from the seed."""
    if landmarks < 1:
        raise UsageError(f"{landmarks} landmarks were asked for", where="--landmarks", fix="ask for at least 1")
    if landmarks > len(known):
        fix = f"ask for at most {len(known)}, which is all there are"
        raise UsageError(f"{landmarks} landmarks were asked for", where="--landmarks", fix=fix)
    return sorted(known, key=lambda landmark: (draw_number(seed, "landmark", landmark), landmark))[:landmarks]


def first_known_landmark(landmarks: list[int], known: Collection[int]) -> int | None:
    """Return the first known landmark of a query, else the first one, None if it has none."""
    return next((landmark for landmark in landmarks if landmark in known), landmarks[0] if landmarks else None)


def drop_unreadable(photos: pl.DataFrame, found: NearDuplicates) -> pl.DataFrame:
    """Keep the photos that can be read."""
    return photos.filter(~pl.col("image_id").is_in(list(found.unreadable)))


def drop_copies(distractors: pl.DataFrame, members: pl.DataFrame, found: NearDuplicates) -> pl.DataFrame:
    """Keep the distractors that aren't copies of a landmark's photo."""
    taken = {found.groups[image_id] for image_id in members["image_id"].to_list() if image_id in found.groups}
    copies = [image_id for image_id in distractors["image_id"].to_list() if found.groups.get(image_id) in taken]
    return distractors.filter(~pl.col("image_id").is_in(copies))
