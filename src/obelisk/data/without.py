"""A dataset without some of its photos, as a subset: the same landmarks, splits and queries."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import polars as pl

from obelisk.data.catalog import Catalog
from obelisk.data.duplicates import NearDuplicates
from obelisk.data.stats import count_photos, ks_distance, take_percentiles
from obelisk.data.subset import DISTRACTOR, Subset
from obelisk.errors import DataError


def leave_out(
    catalog: Catalog, dropped: Collection[str], *, seed: int, found: NearDuplicates, cleaning: Mapping[str, Any]
) -> Subset:
    """Return the whole catalog as a subset, without the reference photos of these image ids.

    References keep their split. A query becomes ``test`` with its landmark, or ``distractor`` without one; of several
    landmarks the first that has references is kept, and noted; queries whose usage is ``Ignored`` are left out.
    ``seed``, ``found`` and ``cleaning`` are what the manifest tells.

    Raises DataError when no reference photo is left.
    """
    members = catalog.references.filter(~pl.col("image_id").is_in(list(dropped)))
    if members.is_empty():
        raise DataError("no reference photo is left", where=catalog.root, fix="see `obelisk data check`")
    known = set(members["landmark_id"].to_list())
    queries = catalog.queries.filter(pl.col("usage").ne_missing("Ignored"))
    shown = [choose_landmark(landmarks, known) for landmarks in queries["landmark_ids"].to_list()]
    several = sum(len(landmarks) > 1 for landmarks in queries["landmark_ids"].to_list())
    asked = queries.select(
        "image_id",
        "path",
        pl.Series("landmark_id", shown, dtype=pl.Int64),
        pl.Series("split", [DISTRACTOR if landmark is None else "test" for landmark in shown], dtype=pl.String),
    )
    before, after = count_photos(catalog.references), count_photos(members)
    note = f"{several} queries show several landmarks; a subset names one of each"
    return Subset(
        seed=seed,
        photos=pl.concat([members.select("image_id", "path", "landmark_id", "split"), asked]).sort("image_id"),
        landmarks=catalog.landmarks,
        source_percentiles=take_percentiles(before),
        percentiles=take_percentiles(after),
        ks_distance=round(ks_distance(before, after), 6),
        near_duplicate_groups=len(set(found.groups.values())),
        notes=(note,) if several else (),
        cleaning=cleaning,
    )


def choose_landmark(landmarks: list[int], known: Collection[int]) -> int | None:
    """Return the first of a query's landmarks that is known, else the first, None of none."""
    return next((landmark for landmark in landmarks if landmark in known), landmarks[0] if landmarks else None)
