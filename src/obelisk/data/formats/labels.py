"""Landmark names and coordinates, from those of GLDv2's label tables that exist."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from obelisk.data.catalog import LANDMARKS
from obelisk.data.formats.csv import (
    MAX_LISTED,
    begin_runs,
    describe_run_together,
    describe_wrong_id,
    read_table,
    shorten_cells,
    to_id,
)

CATEGORY_MARK = "Category:"
COMMONS_PAGE = re.compile(r"""https?://(commons\.wikimedia\.org/wiki/Category:[^\s<>"\x00-\x1f\x7f]+)""")
LONGEST_CATEGORY = 3_000  # characters; Wikimedia's titles have up to 255 bytes, 765 with percent signs
REPLACED = "\N{REPLACEMENT CHARACTER}"  # what the reader puts for bytes that are not UTF-8
DEGREES = {"latitude": 90, "longitude": 180}


def name_category(category: str) -> str:
    """Return the plain name in a Wikimedia Commons category or its URL: the text after ``Category:``."""
    _, mark, tail = category.partition(CATEGORY_MARK)
    return unquote((tail if mark else category)[:LONGEST_CATEGORY]).replace("_", " ").strip()


def build_landmark_table(
    landmark_ids: pl.Series, *, details: Path | None, categories: Path | None, hierarchy: Path | None
) -> pl.DataFrame:
    """Return one row per landmark id, sorted by id, with everything the tables know.

    ``details`` is a landmarks.csv, ``categories`` a train_label_to_category.csv, ``hierarchy`` a
    train_label_to_hierarchical.csv; each may be None. The name is that of the first table, in this order, that has
    one; a landmark without a name is called ``landmark 123``.
    """
    known = read_names(details=details, categories=categories, hierarchy=hierarchy)
    landmarks = pl.DataFrame({"landmark_id": sort_distinct(landmark_ids)}).join(known, on="landmark_id", how="left")
    unnamed = pl.format("landmark {}", "landmark_id")
    return (
        landmarks.with_columns(pl.coalesce("name", unnamed).alias("name")).select(list(LANDMARKS)).sort("landmark_id")
    )


def sort_distinct(landmark_ids: pl.Series) -> pl.Series:
    """Return the landmark ids that occur, sorted; of millions, with less memory than Polars takes."""
    ordered = landmark_ids.to_numpy(writable=True)
    ordered.sort()
    return pl.Series(ordered[begin_runs(ordered)], dtype=pl.Int64)


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
    """Read a landmarks.csv; cells that can't be used are null."""
    table = read_details_table(path)
    latitude, longitude = (read_degrees(column, limit) for column, limit in DEGREES.items())
    return table.filter(pl.col("lines").is_null()).select(
        to_id(pl.col("landmark_id")).alias("landmark_id"),
        "name",
        "supercategory",
        pl.col("area_level").cast(pl.Int64, strict=False),
        # Half a position is none.
        pl.when(longitude.is_not_null()).then(latitude).alias("latitude"),
        pl.when(latitude.is_not_null()).then(longitude).alias("longitude"),
    )


def read_details_table(path: Path) -> pl.DataFrame:
    """Read the cells of a landmarks.csv as text."""
    return read_table(
        path, required=("landmark_id", "name"), optional=("supercategory", "area_level", *DEGREES), max_lines=MAX_LISTED
    )


def read_degrees(column: str, limit: int) -> pl.Expr:
    """Read a column as degrees; null where a cell is not a number within ±limit."""
    number = pl.col(column).cast(pl.Float64, strict=False)
    return pl.when(number.is_between(-limit, limit)).then(number)


def find_faulty_details(path: Path) -> pl.DataFrame:
    """Return the faults of a landmarks.csv in their order, a frame (row, column, cell); see explain_details.

    ``column`` is ``lines`` for a row that is several, run together.
    """
    table = read_details_table(path)
    whole = table.filter(pl.col("lines").is_null())
    unread = {
        "landmark_id": to_id(pl.col("landmark_id")),
        "area_level": pl.col("area_level").cast(pl.Int64, strict=False),
        **{column: read_degrees(column, limit) for column, limit in DEGREES.items()},
    }
    columns = pl.Enum(["lines", *unread])

    def pick(rows: pl.DataFrame, column: str, faulty: pl.Expr) -> pl.DataFrame:
        return rows.filter(faulty).select("row", pl.lit(column, dtype=columns).alias("column"), cell=column)

    found = [pick(table, "lines", pl.col("lines").is_not_null())]
    for column, read in unread.items():
        given = pl.col(column).is_not_null() | (column == "landmark_id")
        found.append(pick(whole, column, given & read.is_null()))
    return pl.concat(found).sort("row", "column")


def find_lost_letters(path: Path, column: str) -> pl.DataFrame:
    """Return the rows of a table of landmarks whose names hold bytes that are not UTF-8, a frame (row, cell)."""
    names = read_table(path, required=(), optional=(column,), max_lines=MAX_LISTED)
    return names.filter(pl.col(column).str.contains(REPLACED, literal=True)).select("row", cell=column)


def explain_lost_letters() -> pl.Expr:
    """Return what is wrong with such names, from the column ``cell``."""
    return pl.format("the name `{}` has lost letters, because the table is not UTF-8", shorten_cells(pl.col("cell")))


def explain_details() -> pl.Expr:
    """Return what is wrong with the cells of a landmarks.csv, from their columns ``column`` and ``cell``."""
    column, cell = pl.col("column"), pl.col("cell")
    shown = shorten_cells(cell)
    told = {
        "lines": describe_run_together(cell),
        "landmark_id": pl.coalesce(describe_wrong_id(cell), pl.lit("the landmark has no id")),
        "area_level": pl.format("the area level `{}` is not a whole number", shown),
    }
    for name, limit in DEGREES.items():
        bounds = f"a number from -{limit} to {limit} with a decimal point"
        told[name] = pl.format(f"the {name} `{{}}` is not {bounds}", shown)
    return pl.coalesce(pl.when(column == name).then(what) for name, what in told.items())


def read_categories(path: Path) -> pl.DataFrame:
    """Read a train_label_to_category.csv."""
    table = read_table(path, required=("landmark_id", "category"), max_lines=MAX_LISTED)
    return table.select(
        to_id(pl.col("landmark_id")).alias("landmark_id"),
        pl.Series("name", map(name_or_none, table["category"].to_list()), dtype=pl.String),
    )


def read_hierarchy(path: Path) -> pl.DataFrame:
    """Read a train_label_to_hierarchical.csv."""
    table = read_table(path, required=("landmark_id",), optional=("category", "supercategory"), max_lines=MAX_LISTED)
    return table.select(
        to_id(pl.col("landmark_id")).alias("landmark_id"),
        "supercategory",
        pl.Series("name", map(name_or_none, table["category"].to_list()), dtype=pl.String),
    )


def link_category(category: str | None) -> str | None:
    """Return the address of a category's page at Wikimedia Commons, or None if the cell does not give it."""
    found = COMMONS_PAGE.fullmatch(category) if category and len(category) <= LONGEST_CATEGORY else None
    return f"https://{found[1]}" if found else None


def name_or_none(category: str | None) -> str | None:
    """Return the name in a category, or None."""
    return (name_category(category) or None) if category else None
