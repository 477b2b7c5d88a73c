"""Landmark names and places, from whichever of GLDv2's label tables are there."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import polars as pl

from obelisk.data.catalog import LANDMARKS
from obelisk.data.formats.csv import read_table

CATEGORY_MARK = "Category:"


def name_category(category: str) -> str:
    """Return the name in a Wikimedia Commons category or its URL: what follows ``Category:``, in plain words."""
    _, mark, tail = category.partition(CATEGORY_MARK)
    return unquote(tail if mark else category).replace("_", " ").strip()


def name_landmarks(
    landmark_ids: pl.Series, *, places: Path | None, categories: Path | None, hierarchy: Path | None
) -> pl.DataFrame:
    """Return a row for each landmark id, with all that the tables tell, sorted by id.

    ``places`` is a landmarks.csv, ``categories`` a train_label_to_category.csv, ``hierarchy`` a
    train_label_to_hierarchical.csv; each may be None. A name comes from the first of them, in this order, that has
    one; a landmark without any is called ``landmark 123``.
    """
    known = read_names(places=places, categories=categories, hierarchy=hierarchy)
    landmarks = pl.DataFrame({"landmark_id": landmark_ids.unique().sort()}).join(known, on="landmark_id", how="left")
    unnamed = pl.format("landmark {}", "landmark_id")
    return (
        landmarks.with_columns(pl.coalesce("name", unnamed).alias("name")).select(list(LANDMARKS)).sort("landmark_id")
    )


def read_names(*, places: Path | None, categories: Path | None, hierarchy: Path | None) -> pl.DataFrame:
    """Return what the tables tell of every landmark they know; a name is null where none of them has one."""
    told = [
        read(path)
        for read, path in ((read_places, places), (read_categories, categories), (read_hierarchy, hierarchy))
        if path is not None
    ]
    rows = pl.concat([pl.DataFrame(schema=LANDMARKS), *told], how="diagonal")
    # Tables stand in order of trust, so the first value that is not null is the one to take.
    facts = [pl.col(column).drop_nulls().first() for column in LANDMARKS if column != "landmark_id"]
    return rows.filter(pl.col("landmark_id").is_not_null()).group_by("landmark_id", maintain_order=True).agg(facts)


def read_places(path: Path) -> pl.DataFrame:
    """Read a landmarks.csv."""
    facts = ("supercategory", "area_level", "latitude", "longitude")
    table = read_table(path, required=("landmark_id", "name"), optional=facts)
    return table.drop("row").with_columns(
        pl.col("landmark_id", "area_level").cast(pl.Int64, strict=False),
        pl.col("latitude", "longitude").cast(pl.Float64, strict=False).fill_nan(None),
    )


def read_categories(path: Path) -> pl.DataFrame:
    """Read a train_label_to_category.csv."""
    table = read_table(path, required=("landmark_id", "category"))
    return table.select(
        pl.col("landmark_id").cast(pl.Int64, strict=False),
        pl.Series("name", map(name_or_none, table["category"].to_list()), dtype=pl.String),
    )


def read_hierarchy(path: Path) -> pl.DataFrame:
    """Read a train_label_to_hierarchical.csv."""
    table = read_table(path, required=("landmark_id",), optional=("category", "supercategory"))
    return table.select(
        pl.col("landmark_id").cast(pl.Int64, strict=False),
        "supercategory",
        pl.Series("name", map(name_or_none, table["category"].to_list()), dtype=pl.String),
    )


def name_or_none(category: str | None) -> str | None:
    """Return the name in a category, None where there is none."""
    return (name_category(category) or None) if category else None
