"""The retrieval benchmark of Google Landmarks v2: ``retrieval_solution_v2.1.csv``, photos of ``index`` and ``test``.

A row of the solution has the id of a query, the ids of the index photos that show its landmark, and its usage: Public,
Private or Ignored. Tars that were not unpacked are read in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from obelisk.data.formats.csv import MAX_LINES, MAX_LISTED, scan_table
from obelisk.data.formats.gldv2 import IGNORED, find_table, list_by_id, place_photos
from obelisk.data.formats.gldv2_rows import collect_rows, limit_words
from obelisk.errors import DataError

SOLUTION_FILE: Final = "retrieval_solution_v2.1.csv"
USAGES: Final = ("Public", "Private")
NOTHING: Final = "None"  # stands for no photos
TOLERATED: Final = 0.01  # share of the photos to be found, or of the queries, that may be missing on disk


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalDataset:
    """The index photos, a frame (image_id, path), and the queries, a frame (image_id, path, images, usage).

    Both are sorted by id; ``images`` lists the ids that should be found. Paths are relative to ``root``.
    """

    root: Path
    index: pl.DataFrame
    queries: pl.DataFrame
    notes: tuple[str, ...] = ()

    def locate(self, photos: pl.DataFrame) -> list[Path]:
        """Return the files of the photos in a frame with a column ``path``."""
        return [self.root / path for path in photos["path"].to_list()]


def read_retrieval(directory: Path) -> RetrievalDataset:
    """Read the benchmark; queries whose usage is Ignored are left out.

    Raises DataError if the solution or the index is missing, if a row of the solution can't be used, and if more than
    one in a hundred of the queries or of the photos to be found is not on disk.
    """
    solution = read_retrieval_solution(find_solution(directory))
    index = list_by_id(directory, "index").sort("image_id")
    if index.is_empty():
        fix = "put images_000.tar … of the index there, or unpack them"
        raise DataError("no photo of the index", where=directory / "index", fix=fix)
    wanted = solution.select(pl.col("images").explode().unique().alias("image_id"))
    absent = wanted.join(index, on="image_id", how="anti").height
    placed = place_photos(solution, directory, "test")
    missing = solution.height - placed.photos.height
    notes = [
        note_missing(absent, wanted.height, "index photos to be found", directory / "index"),
        note_missing(missing, solution.height, "query photos", directory / "test"),
    ]
    return RetrievalDataset(
        root=directory,
        index=index,
        queries=placed.photos.select("image_id", "path", "images", "usage"),
        notes=tuple(note for note in notes if note),
    )


def find_solution(directory: Path) -> Path:
    """Return the path of the retrieval solution."""
    if path := find_table(directory, SOLUTION_FILE):
        return path
    fix = "put it there, or into its folder `metadata`"
    raise DataError(f"`{SOLUTION_FILE}` is missing", where=directory, fix=fix)


def read_retrieval_solution(path: Path) -> pl.DataFrame:
    """Read the solution: a frame (row, image_id, images, usage), without ignored queries."""
    table = scan_table(path, required=("id", "images", "Usage"), max_lines=MAX_LISTED)
    parts = (
        part.select(
            "row",
            "lines",
            image_id="id",
            images=pl.when(pl.col("images") == NOTHING)
            .then(pl.lit(""))
            .otherwise(pl.col("images").fill_null(""))
            .str.extract_all(r"\S+"),
            landmark=pl.col("Usage"),
            usage=pl.col("Usage").fill_null(""),
        )
        for part in limit_words(table, "images", MAX_LINES, path)
    )
    known = pl.col("usage").is_in([*USAGES, IGNORED])
    empty = (pl.col("usage") != IGNORED) & (pl.col("images").list.len() == 0)
    rows = collect_rows(parts, ~known | empty, "images", "usage")
    if rows.faulty.height:
        row, usage = rows.faulty.row(0, named=True)["row"], rows.faulty["landmark"][0]
        what = f"{rows.faulty.height:,} rows that can't be used; the first is row {row}, of usage {usage!r}"
        fix = f"each needs an id, the ids of index photos, and one of {', '.join([*USAGES, IGNORED])}"
        raise DataError(what, where=path, fix=fix)
    if not rows.repeated.is_empty():
        raise DataError(f"{rows.repeated.height:,} queries stand twice", where=path, fix="keep one row for each query")
    asked = rows.distinct.filter(pl.col("usage") != IGNORED)
    if asked.is_empty():
        raise DataError("no query that is not ignored", where=path, fix="use the published file")
    return asked


def note_missing(missing: int, count: int, what: str, where: Path) -> str | None:
    """Return a note on missing photos; raise DataError if they are many."""
    if missing > TOLERATED * count:
        fix = "unpack all photos of the benchmark there, and see that the solution is that of this dataset"
        raise DataError(f"{missing:,} of {count:,} {what} are not on disk", where=where, fix=fix)
    if not missing:
        return None
    return f"{missing:,} of {count:,} {what} are not on disk: figures can't be compared with published ones"
