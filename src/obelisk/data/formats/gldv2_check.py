"""Checking the tables of a GLDv2 dataset, and the folders against them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from obelisk.data.formats.gldv2 import (
    IGNORED,
    Gldv2Tables,
    describe_misnamed,
    explain_malformed,
    find_malformed,
    find_misnamed,
    find_tables,
    list_by_id,
    read_labels,
    read_solution,
    read_train_clean,
    select_sound,
    standard_path,
)
from obelisk.data.formats.labels import find_faulty_details, read_names
from obelisk.data.issues import Issue, make_issue
from obelisk.photos import PhotoFilter


@dataclass(frozen=True, kw_only=True)
class LabeledRows:
    """The rows of one table that lists photos, and the folder of these photos."""

    table: Path
    folder: str
    rows: pl.DataFrame


def check_gldv2(directory: Path, photo_filter: PhotoFilter) -> Iterator[Issue]:
    """Yield the issues of the tables; no photo is opened."""
    tables = find_tables(directory)
    labels = read_labels(directory, tables)
    listed = [LabeledRows(table=tables.train or tables.train_clean or directory, folder="train", rows=labels)]
    if tables.solution is not None:
        listed.append(LabeledRows(table=tables.solution, folder="test", rows=read_solution(tables.solution)))
    for table in listed:
        yield from find_malformed_rows(table)
        yield from find_repeated_rows(table)
        yield from find_missing_and_orphans(directory, table, photo_filter)
    if tables.train is not None and tables.train_clean is not None:
        yield from compare_clean(select_sound(labels), tables.train_clean)
    if tables.details is not None:
        yield from find_faulty_positions(tables.details)
    known = select_sound(labels)["landmark_id"].unique().sort()
    yield from find_unnamed(known, tables, directory)
    if tables.solution is not None:
        yield from find_unknown_landmarks(select_sound(listed[-1].rows), known, tables.solution)


def at_row(table: Path, row: int) -> str:
    """Return the location of a row, for a message."""
    return f"{table.name}, row {row}"


def find_malformed_rows(listed: LabeledRows) -> Iterator[Issue]:
    """Yield the rows that can't be used."""
    for row, what in explain_malformed(listed.rows):
        yield make_issue("malformed", where=at_row(listed.table, row), what=what)


def find_repeated_rows(listed: LabeledRows) -> Iterator[Issue]:
    """Yield the rows that repeat a photo, with the same landmark or another one."""
    truth = "landmark_ids" if "landmark_ids" in listed.rows.columns else "landmark_id"
    sound = listed.rows.filter(~find_malformed(listed.rows)).select("row", "image_id", truth)
    repeated = sound.filter(pl.col("image_id").is_duplicated())
    first: dict[str, tuple[int, object]] = {}
    for row, image_id, landmark in repeated.iter_rows():
        if image_id not in first:
            first[image_id] = (row, landmark)
            continue
        earlier, shown = first[image_id]
        where = at_row(listed.table, row)
        if landmark == shown:
            yield make_issue("duplicate", where=where, what=f"photo {image_id} is listed in row {earlier} already")
        else:
            what = f"photo {image_id} shows landmark {landmark} here, {shown} in row {earlier}"
            yield make_issue("mislabelled", where=where, what=what)


def find_missing_and_orphans(directory: Path, listed: LabeledRows, photo_filter: PhotoFilter) -> Iterator[Issue]:
    """Yield the listed photos that are not on disk, and the photos on disk that are not listed."""
    rows = listed.rows.filter(pl.col("image_id").is_not_null() & pl.col("lines").is_null())
    rows = rows.unique("image_id", keep="first", maintain_order=True)
    present = list_by_id(directory, listed.folder, photo_filter)
    misnamed = find_misnamed(rows, present)
    for row, image_id, path in misnamed.iter_rows():
        yield make_issue("malformed", where=at_row(listed.table, row), what=describe_misnamed(image_id, path))
    missing = rows.filter(~find_malformed(rows)).join(present, on="image_id", how="anti", maintain_order="left")
    missing = missing.join(misnamed, on="image_id", how="anti", maintain_order="left")
    for row, path in missing.select("row", standard_path(listed.folder)).iter_rows():
        yield make_issue("missing", where=path, what=f"no such file, listed in {at_row(listed.table, row)}")
    orphans = present.join(rows, on="image_id", how="anti").join(misnamed, on="path", how="anti").sort("path")
    for path in orphans["path"].to_list():
        yield make_issue("orphan", where=path, what=f"not listed in {listed.table.name}")


def find_faulty_positions(details: Path) -> Iterator[Issue]:
    """Yield the rows of landmarks.csv with cells that can't be used."""
    for row, what in find_faulty_details(details):
        yield make_issue("malformed", where=at_row(details, row), what=what, fix="correct the cell, or leave it empty")


def compare_clean(labels: pl.DataFrame, train_clean: Path) -> Iterator[Issue]:
    """Yield the disagreements of train_clean.csv with train.csv: another landmark, or an unlisted photo."""
    clean = read_train_clean(train_clean)
    both = clean.join(labels, on="image_id", how="left", suffix="_train", maintain_order="left")
    differing = both.filter(pl.col("landmark_id").ne_missing(pl.col("landmark_id_train")))
    columns = ("row", "image_id", "landmark", "landmark_id_train")
    for row, image_id, landmark, other in differing.select(columns).iter_rows():
        where = at_row(train_clean, row)
        if image_id is None:
            yield make_issue("malformed", where=where, what=f"landmark {landmark} has no photos")
        elif other is None:
            yield make_issue("malformed", where=where, what=f"photo {image_id} is not listed in train.csv")
        else:
            what = f"photo {image_id} shows landmark {landmark} here, {other} in train.csv"
            yield make_issue("mislabelled", where=where, what=what)


def find_unnamed(known: pl.Series, tables: Gldv2Tables, directory: Path) -> Iterator[Issue]:
    """Yield the landmarks without a name; one issue for all of them if there is no table of names."""
    sources = [path for path in (tables.details, tables.categories, tables.hierarchy) if path is not None]
    if not sources:
        what = "no table of names: neither landmarks.csv nor train_label_to_category.csv is there"
        yield make_issue("unnamed", where=str(directory), what=what)
        return
    names = read_names(details=tables.details, categories=tables.categories, hierarchy=tables.hierarchy)
    named = names.filter(pl.col("name").is_not_null())["landmark_id"]
    for landmark in known.filter(~known.is_in(named.to_list())).to_list():
        names_tables = ", ".join(path.name for path in sources)
        yield make_issue("unnamed", where=names_tables, what=f"landmark {landmark} has photos but no name")


def find_unknown_landmarks(queries: pl.DataFrame, known: pl.Series, solution: Path) -> Iterator[Issue]:
    """Yield the queries that can't be answered: none of their landmarks has a reference photo."""
    asked = queries.filter((pl.col("landmark_ids").list.len() > 0) & (pl.col("usage") != IGNORED))
    gallery = set(known.to_list())
    for row, image_id, landmarks in asked.select("row", "image_id", "landmark_ids").iter_rows():
        if gallery.isdisjoint(landmarks):
            listed = " ".join(map(str, landmarks))
            what = f"query {image_id} shows landmark {listed}, of which there is no reference photo"
            yield make_issue("unknown landmark", where=at_row(solution, row), what=what)
