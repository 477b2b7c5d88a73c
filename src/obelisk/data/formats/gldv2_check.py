"""Checking the tables of a GLDv2 dataset, and the folders against them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from obelisk.data.formats.csv import SAVE_AS_UTF8, shorten_cells
from obelisk.data.formats.gldv2 import (
    IGNORED,
    Gldv2Rows,
    Gldv2Tables,
    describe_misnamed,
    find_misnamed,
    list_by_id,
    standard_path,
)
from obelisk.data.formats.gldv2_rows import (
    AT_ONCE,
    MAX_TOGETHER,
    PhotoRows,
    explain_faulty,
    join_in_parts,
    read_train_clean,
    split_by_id,
)
from obelisk.data.formats.labels import (
    explain_details,
    explain_lost_letters,
    find_faulty_details,
    find_lost_letters,
    read_names,
    sort_distinct,
)
from obelisk.data.issues import Issue, IssueRows, make_issue
from obelisk.photos import PhotoFilter


@dataclass(frozen=True, kw_only=True)
class ListedPhotos:
    """The rows of one table that lists photos, and the folder of these photos."""

    table: Path
    folder: str
    rows: PhotoRows


def check_gldv2(directory: Path, rows: Gldv2Rows, photo_filter: PhotoFilter) -> Iterator[Sequence[Issue]]:
    """Yield the issues of the tables, those of one kind together; no photo is opened."""
    tables = rows.tables
    listed = [ListedPhotos(table=tables.train or tables.train_clean or directory, folder="train", rows=rows.labels)]
    if tables.solution is not None and rows.solution is not None:
        listed.append(ListedPhotos(table=tables.solution, folder="test", rows=rows.solution))
    for table in listed:
        yield IssueRows(kind="malformed", rows=table.rows.faulty, where=at_row(table.table), what=explain_faulty())
        yield from find_repeated_rows(table)
        yield from find_missing_and_orphans(directory, table, photo_filter)
    if tables.train is not None and tables.train_clean is not None:
        yield from compare_clean(rows.labels, tables.train_clean)
    if tables.details is not None:
        faults = find_faulty_details(tables.details)
        fix = "correct the cell, or leave it empty"
        yield IssueRows(kind="malformed", rows=faults, where=at_row(tables.details), what=explain_details(), fix=fix)
    for path, column in tables.named.items():
        lost = find_lost_letters(path, column)
        yield IssueRows(kind="malformed", rows=lost, where=at_row(path), what=explain_lost_letters(), fix=SAVE_AS_UTF8)
    known = sort_distinct(rows.labels.distinct["landmark_id"])
    yield from find_unnamed(known, tables, directory)
    if tables.solution is not None and rows.solution is not None:
        yield find_unknown_landmarks(rows.solution.usable, known, tables.solution)


def at_row(table: Path, row: str = "row") -> pl.Expr:
    """Return the locations of rows, for messages; ``row`` is the column of their numbers."""
    return pl.format("{}, row {}", pl.lit(table.name), row)


def find_repeated_rows(listed: ListedPhotos) -> Iterator[IssueRows]:
    """Yield the rows that repeat a photo, with the same landmark or another one."""
    distinct, repeated = listed.rows.distinct, listed.rows.repeated
    truth = "landmark_ids" if "landmark_ids" in distinct.columns else "landmark_id"

    def look_up(rows: pl.DataFrame) -> pl.DataFrame:
        here = repeated[rows["index"]]
        there = distinct[here["first"]]
        return here.select("row", "image_id", show_landmarks(here[truth]).alias("here")).with_columns(
            there["row"].alias("first"), show_landmarks(there[truth]).alias("there")
        )

    if repeated.is_empty():
        return
    same = pl.concat(part[truth] == distinct[truth][part["first"]] for part in repeated.iter_slices(AT_ONCE))
    alike, different = (pl.DataFrame({"index": found.arg_true()}) for found in (same, ~same))
    photo, where = shorten_cells(pl.col("image_id")), at_row(listed.table)
    what = pl.format("photo {} is listed in row {} already", photo, "first")
    yield IssueRows(kind="duplicate", rows=alike, look_up=look_up, where=where, what=what)
    what = pl.format("photo {} shows landmark {} here, {} in row {}", photo, "here", "there", "first")
    yield IssueRows(kind="mislabelled", rows=different, look_up=look_up, where=where, what=what)


def show_landmarks(landmarks: pl.Series) -> pl.Series:
    """Return landmark ids for messages, of a column with one or a list in each row."""
    if isinstance(landmarks.dtype, pl.List):
        return landmarks.cast(pl.List(pl.String)).list.join(" ").replace("", "none")
    return landmarks


def find_missing_and_orphans(directory: Path, listed: ListedPhotos, photo_filter: PhotoFilter) -> Iterator[IssueRows]:
    """Yield the listed photos that are not on disk, and the photos on disk that are not listed."""
    missing = listed.rows.distinct.select("row", "image_id")
    present = list_by_id(directory, listed.folder, photo_filter)
    if not present.is_empty():
        faulty = listed.rows.faulty.filter(pl.col("image_id").is_not_null() & pl.col("lines").is_null())
        faulty = faulty.select("row", "image_id")
        again = find_misnamed(faulty, present).unique("image_id", keep="first", maintain_order=True)
        misnamed = pl.concat([find_misnamed(missing, present), again]).sort("row")
        yield IssueRows(kind="malformed", rows=misnamed, where=at_row(listed.table), what=describe_misnamed())
        found = pl.concat(join_in_parts(rows.select("image_id"), present, "semi") for rows in (missing, faulty))
        orphans = present.join(found, on="image_id", how="anti").join(misnamed, on="path", how="anti").sort("path")
        missing = join_in_parts(missing, pl.concat([found, misnamed.select("image_id")]), "anti")
        what = pl.lit(f"not listed in {listed.table.name}")
        yield IssueRows(kind="orphan", rows=orphans, where=pl.col("path"), what=what)
    what = pl.format("no such file, listed in {}", at_row(listed.table))
    yield IssueRows(kind="missing", rows=missing, where=standard_path(listed.folder), what=what)


def compare_clean(labels: PhotoRows, train_clean: Path) -> Iterator[IssueRows]:
    """Yield the disagreements of train_clean.csv with train.csv: another landmark, or an unlisted photo."""
    known = labels.distinct.select("image_id", train="landmark_id")
    count = labels.distinct.height + labels.repeated.height + labels.faulty.height
    clean = read_train_clean(train_clean, max_photos=MAX_TOGETHER - count)
    where, photo = at_row(train_clean), shorten_cells(pl.col("image_id"))
    photoless = pl.col("image_id").is_null() & pl.col("lines").is_null() & pl.col("landmark").is_not_null()
    told = pl.format("landmark {} has no photos", shorten_cells(pl.col("landmark")))
    what = pl.coalesce(pl.when(photoless).then(told), explain_faulty())
    yield IssueRows(kind="malformed", rows=clean.faulty, where=where, what=what)
    unlisted, mislabelled = [], []
    for part in (clean.distinct, clean.repeated.drop("first")):
        for rows, train in zip(split_by_id(part), split_by_id(known), strict=True):
            both = rows.join(train, on="image_id", how="left")
            unlisted.append(both.filter(pl.col("train").is_null()).drop("train", "landmark_id"))
            mislabelled.append(both.filter(pl.col("landmark_id") != pl.col("train")))
    what = pl.format("photo {} is not listed in train.csv", photo)
    found = pl.concat(unlisted).sort("row", maintain_order=True)
    yield IssueRows(kind="malformed", rows=found, where=where, what=what)
    what = pl.format("photo {} shows landmark {} here, {} in train.csv", photo, "landmark_id", "train")
    found = pl.concat(mislabelled).sort("row", maintain_order=True)
    yield IssueRows(kind="mislabelled", rows=found, where=where, what=what)


def find_unnamed(known: pl.Series, tables: Gldv2Tables, directory: Path) -> Iterator[Sequence[Issue]]:
    """Yield the landmarks without a name; one issue for all of them if there is no table of names."""
    sources = list(tables.named)
    if not sources:
        missing = "no table of names: neither landmarks.csv nor train_label_to_category.csv is there"
        yield [make_issue("unnamed", where=str(directory), what=missing)]
        return
    names = read_names(details=tables.details, categories=tables.categories, hierarchy=tables.hierarchy)
    named = names.filter(pl.col("name").is_not_null())["landmark_id"]
    unnamed = known.filter(~known.is_in(named.implode())).alias("landmark_id").to_frame()
    where = pl.lit(", ".join(path.name for path in sources))
    what = pl.format("landmark {} has photos but no name", "landmark_id")
    yield IssueRows(kind="unnamed", rows=unnamed, where=where, what=what)


def find_unknown_landmarks(queries: pl.DataFrame, known: pl.Series, solution: Path) -> IssueRows:
    """Return the queries that can't be answered: none of their landmarks has a reference photo."""
    listed = pl.col("landmark_ids")
    asked = queries.filter((listed.list.len() > 0) & (pl.col("usage") != IGNORED))
    answered = asked.explode("landmark_ids").filter(pl.col("landmark_ids").is_in(known.implode()))["row"]
    what = pl.format(
        "query {} shows landmark {}, of which there is no reference photo",
        shorten_cells(pl.col("image_id")),
        listed.cast(pl.List(pl.String)).list.join(" "),
    )
    unknown = asked.filter(~pl.col("row").is_in(answered.implode()))
    return IssueRows(kind="unknown landmark", rows=unknown, where=at_row(solution), what=what)
