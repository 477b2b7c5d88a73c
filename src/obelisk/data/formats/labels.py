"""Landmark names and coordinates, from those of GLDv2's label tables that exist."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import polars as pl

from obelisk.data.catalog import LANDMARKS
from obelisk.data.formats.csv import read_table

CATEGORY_MARK = "Category:"


def name_category(category: str) -> str:
    """Return the plain name in a Wikimedia Commons category or its URL: the text after ``Category:``."""
    _, mark, tail = category.partition(CATEGORY_MARK)
    return unquote(tail if mark else category).replace("_", " ").strip()


def build_landmark_table(
    landmark_ids: pl.Series, *, details: Path | None, categories: Path | None, hierarchy: Path | None
) -> pl.DataFrame:
    """Return one row per landmark id, sorted by id, with everything the tables know.

    ``details`` is a landmarks.csv, ``categories`` a train_label_to_category.csv, ``hierarchy`` a
    train_label_to_hierarchical.csv; each may be None. The name is that of the first table, in this order, that has
    one; a landmark without a name is called ``landmark 123``.
    """
    known = read_names(details=details, categories=categories, hierarchy=hierarchy)
    landmarks = pl.DataFrame({"landmark_id": landmark_ids.unique().sort()}).join(known, on="landmark_id", how="left")
    unnamed = pl.format("landmark {}", "landmark_id")
    return (
        landmarks.with_columns(pl.coalesce("name", unnamed).alias("name")).select(list(LANDMARKS)).sort("landmark_id")
    )


def read_names(*, details: Path | None, categories: Path | None, hierarchy: Path | None) -> pl.DataFrame:
    """Return a row for each landmark in the tables; the name is null if none of them has one."""
    tables = [
        read(path)
        for read, path in ((read_details, details), (read_categories, categories), (read_hierarchy, hierarchy))
        if path is not None
    ]
    rows = pl.concat([pl.DataFrame(schema=LANDMARKS), *tables], how="diagonal")
    # The tables are in order of trust, so the first value that is not null wins.
    facts = [pl.col(column).drop_nulls().first() for column in LANDMARKS if column != "landmark_id"]
    return rows.filter(pl.col("landmark_id").is_not_null()).group_by("landmark_id", maintain_order=True).agg(facts)


def read_details(path: Path) -> pl.DataFrame:
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
    """Return the name in a category, or None."""
    return (name_category(category) or None) if category else None
