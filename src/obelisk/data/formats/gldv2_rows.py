"""The rows of GLDv2's tables that list photos: those that can be used, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from obelisk.arrays import Booleans
from obelisk.data.formats.csv import (
    MAX_LISTED,
    describe_run_together,
    describe_wrong_id,
    scan_table,
    shorten_cells,
    to_id,
)

AT_ONCE = 500_000
HEX_ID = "^[0-9a-f]{16}$"


@dataclass(frozen=True, kw_only=True, eq=False)
class PhotoRows:
    """The rows of a table: the sound ones, whose photo ids may repeat, and the faulty ones, which can't be used.

    ``sound`` is a frame (row, image_id, landmark_id), or (row, image_id, landmark_ids, usage) of the solution.
    ``faulty`` is a frame (row, image_id, landmark, lines); ``landmark`` is the cell, or the first wrong word in it.
    A faulty row lacks a photo id, has a landmark id that isn't one, or is several that a stray quote runs together.
    """

    sound: pl.DataFrame
    faulty: pl.DataFrame

    @cached_property
    def repeated(self) -> pl.DataFrame:
        """The sound rows whose photo an earlier row has, as a frame (index, first): where both are in ``sound``."""
        ids = self.sound["image_id"]
        keys = ids.hash().rechunk()
        ordered = keys.sort().to_numpy()
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        twice = twice[begin_runs(twice)]
        del ordered  # tables may have millions of rows
        # No row is left of most tables.
        chosen = keys.is_in(pl.Series(twice).implode()).arg_true()
        if chosen.is_empty():
            return pl.DataFrame(schema={"index": pl.UInt32, "first": pl.UInt32})
        keys = keys[chosen]
        found, ids = find_earlier(chosen, keys), ids.rechunk()
        alike = pl.concat(ids[part["index"]] == ids[part["first"]] for part in found.iter_slices(AT_ONCE))
        if not alike.all():  # two ids have one hash
            rest = found.filter(~alike)["index"]
            found = pl.concat([found.filter(alike), find_earlier(rest, ids[rest])])
        return found.sort("index")

    @cached_property
    def distinct(self) -> pl.DataFrame:
        """The sound rows without those that repeat a photo."""
        if self.repeated.is_empty():
            return self.sound
        kept = np.ones(self.sound.height, dtype=bool)
        kept[self.repeated["index"].to_numpy()] = False
        return self.sound.filter(pl.Series(kept))

    @property
    def usable(self) -> pl.DataFrame:
        """The distinct rows, sorted by image id."""
        return sort_by_id(self.distinct)

    def first_fault(self) -> tuple[int, str] | None:
        """Return the first faulty row and what is wrong with it."""
        for row, what in self.faulty.head(1).select("row", explain_faulty()).iter_rows():
            return row, what
        return None


def explain_faulty() -> pl.Expr:
    """Return what is wrong with faulty rows."""
    photo = pl.format("photo {}: ", shorten_cells(pl.col("image_id")))
    landmark = pl.col("landmark")
    return pl.coalesce(
        describe_run_together(pl.col("lines")),
        pl.when(pl.col("image_id").is_null()).then(pl.lit("the photo has no id")),
        photo + pl.coalesce(describe_wrong_id(landmark), pl.lit("it has no landmark")),
    ).alias("what")


def read_train(path: Path) -> PhotoRows:
    """Read train.csv."""
    landmark = pl.col("landmark_id")
    parts = (
        part.select("row", to_id(landmark), "lines", image_id="id", landmark="landmark_id")
        for part in scan_table(path, required=("id", "landmark_id"))
    )
    return collect_rows(parts, landmark.is_null(), "landmark_id")


def read_train_clean(path: Path) -> PhotoRows:
    """Read train_clean.csv, which has a row per landmark, into a row per photo."""
    landmark = pl.col("landmark_id")
    parts = (
        part.select(
            "row", to_id(landmark), "lines", image_id=pl.col("images").str.extract_all(r"\S+"), landmark="landmark_id"
        ).explode("image_id")
        for part in scan_table(path, required=("landmark_id", "images"))
    )
    return collect_rows(parts, landmark.is_null(), "landmark_id")


def read_solution(path: Path) -> PhotoRows:
    """Read recognition_solution_v2.1.csv; a query without landmarks has an empty list."""
    word = pl.element()
    listed = pl.col("landmark_ids")
    parts = (
        part.select("row", "lines", pl.col("landmarks").fill_null("").str.extract_all(r"\S+"), "id", "Usage").select(
            "row",
            "lines",
            image_id="id",
            landmark_ids=pl.col("landmarks").list.eval(to_id(word)),
            landmark=pl.col("landmarks").list.eval(word.filter(to_id(word).is_null())).list.first(),
            usage=pl.col("Usage").fill_null(""),
        )
        for part in scan_table(path, required=("id", "landmarks", "Usage"), max_lines=MAX_LISTED)
    )
    return collect_rows(parts, listed.list.eval(pl.element().is_null()).list.any(), "landmark_ids", "usage")


def collect_rows(parts: Iterable[pl.DataFrame], wrong: pl.Expr, *truth: str) -> PhotoRows:
    """Part the rows of a table; ``wrong`` tells those without a usable landmark.

    Columns whose chunks differ would be copied whenever some of them are selected.
    """
    faulty = pl.col("image_id").is_null() | pl.col("lines").is_not_null() | wrong
    sorted_out = [
        (
            part.filter(~faulty).select("row", "image_id", *truth).rechunk(),
            part.filter(faulty).select("row", "image_id", "landmark", "lines").rechunk(),
        )
        for part in parts
    ]
    sound, unusable = zip(*sorted_out, strict=True)
    return PhotoRows(sound=pl.concat(sound), faulty=pl.concat(unusable))


def find_earlier(index: pl.Series, keys: pl.Series) -> pl.DataFrame:
    """Return the rows whose key an earlier row has, a frame (index, first); ``index`` ascends."""
    order = stable_order(keys)
    begins = begin_runs(keys[order].to_numpy())
    index = index[order]
    first = index.filter(pl.Series(begins))[np.cumsum(begins, dtype=np.uint32)[~begins] - 1]
    return pl.DataFrame({"index": index.filter(pl.Series(~begins)), "first": first})


def begin_runs(values: NDArray[Any]) -> Booleans:
    """Return which values differ from the one before."""
    begins = np.ones(len(values), dtype=bool)
    begins[1:] = values[1:] != values[:-1]
    return begins


def sort_by_id(rows: pl.DataFrame) -> pl.DataFrame:
    """Sort rows by image id, stably."""
    ids = rows["image_id"]
    if ids.str.contains(HEX_ID).all():
        # GLDv2's ids are 64-bit hex numbers: as integers they have the same order, and sort far faster.
        ids = ids.str.decode("hex").bin.reinterpret(dtype=pl.UInt64, endianness="big")
    order = stable_order(ids)
    # Rows of a column in many chunks are found slowly.
    return pl.DataFrame([column.rechunk()[order] for column in rows])


def stable_order(keys: pl.Series) -> pl.Series:
    """Return the indices that sort keys, equal ones in their order."""
    if keys.dtype.is_integer():  # on one thread, and with less memory than Polars takes
        return pl.Series(np.argsort(keys.to_numpy(), kind="stable").astype(np.uint32))
    return keys.to_frame("key").with_row_index("index").sort("key", maintain_order=True)["index"]
