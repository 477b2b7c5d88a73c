"""The rows of GLDv2's tables that list photos: those that can be used, and what is wrong with the others."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from obelisk.data.formats.csv import (
    MAX_LINES,
    MAX_LISTED,
    begin_runs,
    describe_run_together,
    describe_wrong_id,
    scan_table,
    shorten_cells,
    to_id,
)
from obelisk.errors import DataError

AT_ONCE = 100_000
SHARES = 16
MAX_TOGETHER = 6_000_000  # rows of train.csv and photos of train_clean.csv; GLDv2 has 4,132,914 and 1,580,470
HEX_ID = "^[0-9a-f]{16}$"


@dataclass(frozen=True, kw_only=True, eq=False)
class PhotoRows:
    """The rows of a table: the sound ones, those that repeat a photo, and the faulty ones, which can't be used.

    ``distinct`` is a frame (row, image_id, landmark_id), or (row, image_id, landmark_ids, usage) of the solution.
    ``repeated`` has these columns, too, and ``first``: where in ``distinct`` the photo is.
    ``faulty`` is a frame (row, image_id, landmark, lines); ``landmark`` is the cell, or the first wrong word in it.
    A faulty row lacks a photo id, has a landmark id that isn't one, or is several that a stray quote runs together.
    """

    distinct: pl.DataFrame
    repeated: pl.DataFrame
    faulty: pl.DataFrame

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


def read_train_clean(path: Path, *, max_photos: int = MAX_LINES) -> PhotoRows:
    """Read train_clean.csv, which has a row per landmark, into a row per photo."""
    landmark = pl.col("landmark_id")
    parts = (
        part.select(
            "row", to_id(landmark), "lines", image_id=pl.col("images").str.extract_all(r"\S+"), landmark="landmark_id"
        ).explode("image_id")
        for part in limit_words(scan_table(path, required=("landmark_id", "images")), "images", max_photos, path)
    )
    return collect_rows(parts, landmark.is_null(), "landmark_id")


def read_solution(path: Path) -> PhotoRows:
    """Read recognition_solution_v2.1.csv; a query without landmarks has an empty list."""
    table = scan_table(path, required=("id", "landmarks", "Usage"), max_lines=MAX_LISTED)
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
        for part in limit_words(table, "landmarks", MAX_LINES, path)
    )
    return collect_rows(parts, listed.list.eval(pl.element().is_null()).list.any(), "landmark_ids", "usage")


def limit_words(parts: Iterable[pl.DataFrame], column: str, most: int, path: Path) -> Iterator[pl.DataFrame]:
    """Yield the parts of a table; raise DataError once the cells of a column have more words than that in all."""
    words = 0
    for part in parts:
        words += int(part[column].str.count_matches(r"\S+").sum())
        if words > most:
            raise DataError(f"the column `{column}` has more than {most:,} ids", where=path, fix="leave rows out")
        yield part


def collect_rows(parts: Iterable[pl.DataFrame], wrong: pl.Expr, *truth: str) -> PhotoRows:
    """Part the rows of a table; ``wrong`` tells those without a usable landmark.

    Columns whose chunks differ would be copied whenever some of them are selected.
    """
    faulty = pl.col("image_id").is_null() | pl.col("lines").is_not_null() | wrong
    sound, unusable = [], []
    for part in parts:
        sound.append(part.filter(~faulty).select("row", "image_id", *truth).rechunk())
        unusable.append(part.filter(faulty).select("row", "image_id", "landmark", "lines").rechunk())
    distinct, repeated = part_repeated(sound)
    return PhotoRows(distinct=distinct, repeated=repeated, faulty=pl.concat(unusable))


def part_repeated(parts: list[pl.DataFrame]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Part rows from those that repeat a photo of an earlier one, which get a column ``first``.

    Tables may have millions of rows, so each part is let go when it is copied, and the list is empty in the end.
    """
    first = find_first(pl.concat(part["image_id"] for part in parts))
    new = first == np.arange(len(first), dtype=np.uint32)
    number = np.cumsum(new, dtype=np.uint32) - 1
    distinct, repeated = [], []
    begin = 0
    while parts:
        part = parts.pop(0)
        mask, earlier = (array[begin : begin + part.height] for array in (new, first))
        begin += part.height
        distinct.append(part if mask.all() else part.filter(mask).rechunk())
        repeated.append(part.filter(~mask).with_columns(first=pl.Series(number[earlier[~mask]])).rechunk())
    return pl.concat(distinct), pl.concat(repeated)


def find_first(ids: pl.Series) -> NDArray[np.uint32]:
    """Return for each row the first one that has its id."""
    count, bits = len(ids), len(ids).bit_length()
    # Hash and row share 64 bits, so that sorting them in place keeps equal hashes in the order of their rows. A random
    # seed keeps a table from being made of ids whose hashes are equal.
    seed, mask = secrets.randbits(64), np.uint64((1 << bits) - 1)
    packed = np.arange(count, dtype=np.uint64)
    for start in range(0, count, AT_ONCE):
        packed[start : start + AT_ONCE] |= ids[start : start + AT_ONCE].hash(seed=seed).to_numpy() << bits
    packed.sort()
    rows = np.empty(count, dtype=np.uint32)
    np.bitwise_and(packed, mask, out=rows, casting="unsafe")
    packed >>= bits
    begins = begin_runs(packed)
    del packed
    first = np.empty(count, dtype=np.uint32)
    first[rows] = rows[begins][np.cumsum(begins, dtype=np.uint32) - 1]
    del rows
    again = np.flatnonzero(first != np.arange(count, dtype=np.uint32)).astype(np.uint32)
    parts = np.split(again, range(AT_ONCE, len(again), AT_ONCE))
    rest = np.concatenate([part[(ids[part] != ids[first[part]]).to_numpy()] for part in parts])
    if len(rest):  # two ids have one hash
        first[rest] = rest[find_first(ids[rest])]
    return first


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


def join_in_parts(rows: pl.DataFrame, others: pl.DataFrame, how: Literal["inner", "semi", "anti"]) -> pl.DataFrame:
    """Join rows with others by image id, in the order of the rows; millions of rows take less memory in parts."""
    step = max(AT_ONCE, others.height)  # each part hashes all the others
    joined = (part.join(others, on="image_id", how=how, maintain_order="left") for part in rows.iter_slices(step))
    return pl.concat([rows.clear().join(others.clear(), on="image_id", how=how), *joined])


def split_by_id(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield rows in SHARES frames, those of one image id together: joined one by one they take less memory."""
    shares = rows["image_id"].hash().to_numpy() % SHARES
    shares = shares.astype(np.uint8)
    for share in range(SHARES):
        yield rows.filter(shares == share)
