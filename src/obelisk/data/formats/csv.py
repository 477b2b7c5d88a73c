"""Reading CSV files from anywhere: a BOM, CRLF, quotes and extra columns are fine.

A stranger's table is looked through before it is parsed: its size is limited, compressed data is refused rather than
unpacked, and rows that a stray quote runs together are found.
"""

from __future__ import annotations

import codecs
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from obelisk.arrays import Booleans, Integers
from obelisk.errors import DataError, near_names, quote

HEADER_LINES: Final = 1
# Google Landmarks v2 has 4,132,914 rows in 0.5 GB; a parsed row takes about 70 bytes, however short it is.
MAX_BYTES: Final = 2 * 2**30
MAX_LINES: Final = 4_800_000
MAX_LISTED: Final = 1_000_000  # lines of a table of landmarks or queries; GLDv2 has 203,094 and 117,577
MAX_HEADER_BYTES: Final = 2**22
MAX_ROW_BYTES: Final = 2**24
MAX_SPANNING_ROWS: Final = 100_000  # rows with line ends in their cells
SPARE_BLANK_LINES: Final = 100_000  # beyond one for each row, as Windows programs write them
MAX_ID: Final = 2**53 - 1  # the largest whole number that JSON carries safely
CHUNK: Final = 2**22
SHOWN: Final = 60  # characters of a cell in a message
LINE_END, QUOTE, CARRIAGE_RETURN = b'\n"\r'
# A quote that neither begins nor ends a cell, nor stands for one in a quoted cell.
INNER_QUOTE: Final = re.compile(rb'(?<=[^,"\r\n])"(?=[^,"\r\n])')

SAVE_AS_UTF8: Final = "save it as UTF-8"
UNPACK: Final = "unpack it: mv {{0}} {{0}}.{0} && {1} {{0}}.{0}"
# How files begin that are no tables, whatever their name says.
FOREIGN: Final = {
    b"\x1f\x8b": ("the table is compressed with gzip", UNPACK.format("gz", "gunzip")),
    b"\x28\xb5\x2f\xfd": ("the table is compressed with zstd", UNPACK.format("zst", "unzstd")),
    b"BZh": ("the table is compressed with bzip2", UNPACK.format("bz2", "bunzip2")),
    b"\xfd7zXZ": ("the table is compressed with xz", UNPACK.format("xz", "unxz")),
    **dict.fromkeys((b"\x78\x01", b"\x78\x9c", b"\x78\xda"), ("the table is compressed with zlib", "unpack it")),
    b"PK\x03\x04": ("this is a ZIP archive or a spreadsheet", "unpack it, or save the sheet as CSV"),
    **dict.fromkeys((b"\xff\xfe", b"\xfe\xff"), ("the table is UTF-16 text", SAVE_AS_UTF8)),
}


def read_table(
    path: Path, *, required: Sequence[str], optional: Sequence[str] = (), max_lines: int | None = None
) -> pl.DataFrame:
    """Read the named columns of a CSV file whole, as :func:`scan_table` describes them."""
    return pl.concat(scan_table(path, required=required, optional=optional, max_lines=max_lines))


def scan_table(
    path: Path, *, required: Sequence[str], optional: Sequence[str] = (), max_lines: int | None = None
) -> Iterator[pl.DataFrame]:
    """Read the named columns of a CSV file as text, plus the columns ``row`` and ``lines``, in parts of whole rows.

    Names and cells are stripped; an empty cell is null, and so is every cell of an optional column that the file lacks.
    ``row`` is the row's number as in a spreadsheet: the first one after the header is row 2. ``lines`` is null save in
    a row that most likely are several, run together by a stray quote: there it is the lines, as ``3 to 5``. Bytes that
    are not UTF-8 are replaced. There is at least one part.

    Raises DataError if the file can't be read, is empty, compressed or too large, or lacks a required column.
    """
    names = check_header(path, required)
    columns = {name: names[name] for name in (*required, *optional) if name in names}
    found = TableLines()
    try:
        for part in split_rows(path, found, max_lines or MAX_LINES):
            frame = parse_rows(found.header + part, columns, found.first_row)
            frame = frame.with_columns(pl.lit(None, dtype=pl.String).alias(c) for c in optional if c not in columns)
            yield found.add_lines(frame).select("row", *required, *optional, "lines")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise unreadable_table(path, error) from error


def parse_rows(data: bytes, columns: Mapping[str, str], row: int) -> pl.DataFrame:
    """Parse a header and rows, the first of which has this number; ``columns`` maps names to those in the header."""
    frame = pl.read_csv(
        data,
        columns=list(columns.values()),
        infer_schema=False,
        encoding="utf8-lossy",
        truncate_ragged_lines=True,
        row_index_name="row",
        row_index_offset=row,
    )
    stripped = (pl.col(raw).str.strip_chars().replace("", None).alias(name) for name, raw in columns.items())
    # A blank line is read as a row of nulls, and is dropped.
    return frame.select("row", *stripped).filter(~pl.all_horizontal(pl.col(name).is_null() for name in columns))


def check_header(path: Path, required: Sequence[str]) -> dict[str, str]:
    """Map the stripped column names of a CSV file to those in it; raise DataError if it lacks a required one."""
    found: dict[str, str] = {}
    for name in read_column_names(path):
        found.setdefault(name.strip(), name)
    for column in required:
        if column not in found:
            names = list(found)
            listed = ", ".join(f"`{shorten(name)}`" for name in names[:20]) + (" …" if len(names) > 20 else "")
            hint = near_names(column, names[:1000])
            fix = f"the columns found are {listed}" + (f"; {hint}" if hint else "")
            raise DataError(f"column `{column}` is missing", where=path, fix=fix)
    return found


def read_column_names(path: Path) -> list[str]:
    """Return the column names of a CSV file."""
    try:
        refuse_foreign(path)
        return pl.read_csv(
            path, n_rows=0, infer_schema=False, encoding="utf8-lossy", truncate_ragged_lines=True
        ).columns
    except pl.exceptions.NoDataError:
        raise DataError("the file is empty", where=path, fix="download it again") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise unreadable_table(path, error) from error


def refuse_foreign(path: Path) -> None:
    """Raise DataError for a file that is too large for a table, or that begins as something else."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise DataError("not a regular file", where=path, fix="put the table itself there")
    if found.st_size > MAX_BYTES:
        what = f"the table has {found.st_size:,} bytes, more than {MAX_BYTES:,}"
        raise DataError(what, where=path, fix="leave out columns that are not needed, or rows")
    with path.open("rb") as file:
        start = file.readline(MAX_HEADER_BYTES + 1)
    for magic, (what, fix) in FOREIGN.items():
        if start.startswith(magic):
            raise DataError(what, where=path, fix=fix.format(quote(path.name)))
    if b"\r" in start.rstrip(b"\r\n"):
        what = "its lines end with a carriage return (CR) alone, as on old Macs"
        raise DataError(what, where=path, fix="save it as UTF-8 with line feeds")
    if start.removeprefix(codecs.BOM_UTF8).startswith(b"sep="):
        raise DataError("the first line is no header: it names the separator", where=path, fix="delete that line")
    if len(start) > MAX_HEADER_BYTES:
        what = f"the first line has more than {MAX_HEADER_BYTES:,} bytes"
        raise DataError(what, where=path, fix="check that this is a CSV file")
    if b"\0" in start:
        raise DataError("the first line holds NUL bytes, so this is no UTF-8 text", where=path, fix=SAVE_AS_UTF8)


@dataclass(kw_only=True)
class TableLines:
    """What was found in the lines of a table so far.

    ``run_together`` maps the number of a row that stray quotes made of several, as in a spreadsheet, to its lines, as
    ``3 to 5``; of the current part only.
    """

    header: bytes = b""
    lines: int = 0
    blank: int = 0
    rows: int = 0  # with the header and blank lines
    first_row: int = 1  # of the current part
    first_doubtful: int = 0  # the line where the first row begins that is run together
    spanning: int = 0  # rows with line ends in their cells
    run_together: dict[int, str] = field(default_factory=dict)

    def add_lines(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Add the column ``lines`` to the rows of the current part."""
        if not self.run_together:
            return frame.with_columns(pl.lit(None, dtype=pl.String).alias("lines"))
        rows = {"row": list(self.run_together), "lines": list(self.run_together.values())}
        lines = pl.DataFrame(rows, schema={"row": pl.UInt32, "lines": pl.String})
        return frame.join(lines, on="row", how="left", maintain_order="left")


def inspect_lines(path: Path) -> None:
    """Look through the lines of a table; raises DataError as :func:`split_rows` does."""
    for _ in split_rows(path, TableLines(), MAX_LINES):
        pass


def split_rows(path: Path, found: TableLines, max_lines: int) -> Iterator[bytes]:
    """Yield the whole rows after the header, in parts, and look through their lines.

    Every quote opens or closes quoted text, as Polars has it, and a line end in quoted text belongs to a cell.

    Raises DataError for more or longer rows than a table may have, for too many blank lines, and for a quote that is
    never closed.
    """
    rest = b""
    with path.open("rb") as file:
        while (chunk := file.read(CHUNK)) or rest:
            part = rest + (chunk or b"\n")
            data = np.frombuffer(part, dtype=np.uint8)
            ends = np.flatnonzero(data == LINE_END)
            open_at_end = np.searchsorted(np.flatnonzero(data == QUOTE), ends) % 2 == 1
            complete = np.flatnonzero(~open_at_end)
            count = int(complete[-1]) + 1 if len(complete) else 0
            stop = int(ends[count - 1]) + 1 if count else 0
            found.first_row = found.rows + 1
            begin = 0 if found.header else take_header(part, ends[complete], found)
            look_at_rows(part, ends[:count], open_at_end[:count], found, path)
            if found.lines > max_lines:
                raise DataError(f"the table has more than {max_lines:,} lines", where=path, fix="leave rows out")
            if found.header and count:
                yield part[begin:stop]
            rest = part[stop:]
            if rest and not chunk:
                line = found.first_doubtful or found.lines + 1
                raise DataError(
                    "a quote is never closed", where=f"{path}, line {line}", fix="delete the quote, or close it"
                )
            if len(rest) > MAX_ROW_BYTES:
                what = f"line {found.lines + 1} begins a row of more than {MAX_ROW_BYTES:,} bytes"
                raise DataError(what, where=path, fix="close its quote, or check that this is a CSV file")
    if 2 * found.blank - found.lines > SPARE_BLANK_LINES:
        what = f"{found.blank:,} of the table's {found.lines:,} lines are blank"
        raise DataError(what, where=path, fix="delete the blank lines")


def take_header(part: bytes, row_ends: Integers, found: TableLines) -> int:
    """Note the first row that is not blank as the header; return where it ends, 0 if the part lacks its end."""
    begin = len(part) - len(part.lstrip(b"\r\n"))
    index = int(np.searchsorted(row_ends, begin))
    if index == len(row_ends):
        return 0
    end = int(row_ends[index]) + 1
    found.header = part[begin:end]
    found.first_row += index + HEADER_LINES
    return end


def look_at_rows(part: bytes, ends: Integers, open_at_end: Booleans, found: TableLines, path: Path) -> None:
    """Count the lines of whole rows, and find those rows that a stray quote runs together."""
    found.run_together = {}
    if not len(ends):
        return
    sizes = np.diff(ends, prepend=-1) - 1
    returns = np.frombuffer(part, dtype=np.uint8)[ends - 1] == CARRIAGE_RETURN
    found.blank += int((sizes - (returns & (sizes > 0)) == 0).sum())
    begins = np.flatnonzero(open_at_end & ~np.concatenate([[False], open_at_end[:-1]]))
    closed = np.cumsum(~open_at_end)
    found.spanning += len(begins)
    if found.spanning > MAX_SPANNING_ROWS:
        what = f"more than {MAX_SPANNING_ROWS:,} rows have line ends in quotes"
        raise DataError(what, where=path, fix="check the quotes of the table")
    commas = found.header.count(b",")
    for begin in begins.tolist():
        lines = [part[int(ends[line - 1]) + 1 if line else 0 : int(ends[line])] for line in (begin, begin + 1)]
        if not look_like_rows(lines, commas):
            continue
        stop = begin + int(np.argmin(open_at_end[begin:]))
        found.first_doubtful = found.first_doubtful or found.lines + 1 + begin
        row = found.rows + int(closed[begin]) + HEADER_LINES
        found.run_together[row] = f"{found.lines + 1 + begin} to {found.lines + 1 + stop}"
    found.lines += len(ends)
    found.rows += int(closed[-1])


def look_like_rows(lines: Sequence[bytes], commas: int) -> bool:
    """Return whether the first two lines of a row look like two rows: by their commas and their first cells."""
    first, second = (line.partition(b",")[0].strip(b' "\t') for line in lines)
    alike = len(first) == len(second) or (first.isdigit() and second.isdigit())
    return bool(first) and alike and lines[0].count(b",") == commas and lines[1].count(b",") >= commas


def unreadable_table(path: Path, error: Exception) -> DataError:
    """Return the error of a table that can't be parsed: at its first quote inside a cell, if there is one."""
    if isinstance(error, pl.exceptions.PolarsError):
        with path.open("rb") as file:
            found = next(((number, line) for number, line in enumerate(file, 1) if INNER_QUOTE.search(line)), None)
        if found:
            what = f"a quote stands inside a cell: `{shorten(found[1].decode(errors='replace').strip())}`"
            return DataError(what, where=f"{path}, line {found[0]}", fix="delete the quote, or quote the whole cell")
    reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
    return DataError(f"the table cannot be read: {reason}", where=path, fix="check that it is a comma-separated file")


def to_id(cell: pl.Expr) -> pl.Expr:
    """Return cells as landmark ids; null where a cell is not a whole number from 0 to MAX_ID."""
    number = cell.cast(pl.Int64, strict=False)
    return pl.when(number.is_between(0, MAX_ID)).then(number)


def describe_wrong_id(cell: pl.Expr) -> pl.Expr:
    """Return why cells are not landmark ids."""
    plain = cell.str.extract(r"^([0-9]+)\.0$")
    wrong = pl.format("`{}` is not a landmark id: ", shorten_cells(cell))
    written = pl.format("write `{}`", shorten_cells(plain))
    return wrong + pl.coalesce(written, pl.lit(f"ids are whole numbers from 0 to {MAX_ID:,}"))


def describe_run_together(lines: pl.Expr) -> pl.Expr:
    """Return what is wrong with rows that a stray quote made of several lines."""
    what = "the lines {} are read as one row, because of a quote that opens in the first and closes in the last"
    return pl.format(what, lines)


def begin_runs(values: NDArray[Any]) -> Booleans:
    """Return which of the values, which are sorted, differ from the one before."""
    begins = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    return begins


def shorten(cell: str) -> str:
    """Return a cell for a message."""
    return cell if len(cell) <= SHOWN else f"{cell[:SHOWN]}…"


def shorten_cells(cell: pl.Expr) -> pl.Expr:
    """Return cells for messages."""
    return pl.when(cell.str.len_chars() <= SHOWN).then(cell).otherwise(cell.str.slice(0, SHOWN) + "…")
