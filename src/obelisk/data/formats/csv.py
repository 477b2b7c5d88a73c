"""Reading CSV files from anywhere: a BOM, CRLF, quotes and extra columns are fine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from obelisk.errors import DataError, near_names

HEADER_LINES = 1


def read_table(path: Path, *, required: Sequence[str], optional: Sequence[str] = ()) -> pl.DataFrame:
    """Read the named columns of a CSV file as text, plus a column ``row`` with the row numbers.

    Cells are stripped; an empty cell is null, and so is every cell of an optional column that the file lacks. The first
    row after the header is row 2, as in a spreadsheet. Bytes that are not UTF-8 are replaced.

    Raises DataError if the file can't be read, is empty, or lacks a required column.
    """
    found = check_header(path, required)
    wanted = [*required, *(column for column in optional if column in found)]
    frame = read_columns(path, wanted)
    frame = frame.with_columns(pl.lit(None, dtype=pl.String).alias(c) for c in optional if c not in found)
    return frame.select("row", *required, *optional)


def check_header(path: Path, required: Sequence[str]) -> list[str]:
    """Return the column names of a CSV file. Raises DataError if it can't be read or lacks a required column."""
    found = read_column_names(path)
    for column in required:
        if column not in found:
            listed = ", ".join(f"`{name}`" for name in found)
            hint = near_names(column, found)
            fix = f"the columns found are {listed}" + (f"; {hint}" if hint else "")
            raise DataError(f"column `{column}` is missing", where=path, fix=fix)
    return found


def read_column_names(path: Path) -> list[str]:
    """Return the column names of a CSV file."""
    try:
        return pl.read_csv(
            path, n_rows=0, infer_schema=False, encoding="utf8-lossy", truncate_ragged_lines=True
        ).columns
    except pl.exceptions.NoDataError:
        raise DataError("the file is empty", where=path, fix="download it again") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise unreadable_table(path, error) from error


def read_columns(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Read existing columns as stripped text, with empty cells as null."""
    try:
        frame = pl.read_csv(
            path,
            columns=list(columns),
            infer_schema=False,
            encoding="utf8-lossy",
            truncate_ragged_lines=True,
            row_index_name="row",
            row_index_offset=1 + HEADER_LINES,
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise unreadable_table(path, error) from error
    stripped = (pl.col(column).str.strip_chars().replace("", None) for column in columns)
    # A blank line is read as a row of nulls, and is dropped.
    return frame.with_columns(stripped).filter(~pl.all_horizontal(pl.col(c).is_null() for c in columns))


def unreadable_table(path: Path, error: Exception) -> DataError:
    """Return the error of a table that can't be parsed, with the first line of the parser's message."""
    reason = str(error).partition("\n")[0]
    return DataError(f"the table cannot be read: {reason}", where=path, fix="check that it is a comma-separated file")
