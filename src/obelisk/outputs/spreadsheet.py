"""Answers for spreadsheets: a line of CSV each, in which no cell is a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from obelisk.markup import escape_surrogates
from obelisk.records import Recognition

CSV_COLUMNS = (
    "photo",
    "landmark",
    "landmark_id",
    "verdict",
    "confidence",
    "candidate",
    "latitude",
    "longitude",
    "links",
    "threshold",
    "model",
    "distance_km",
    "position_helped",
    "warning",
    "error",
)
"""The columns of ``recognize --csv``: keys of the JSON, and ``candidate``, the name of the first candidate."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets take for the beginning of one

Cell = str | int | float | None


def csv_header() -> str:
    """Return the names of the columns as a line of CSV."""
    return format_line(CSV_COLUMNS)


def csv_line(answer: Recognition) -> str:
    """Return an answer as a line of CSV.

    Links have spaces between them. A text that a spreadsheet would take for a formula begins with an apostrophe;
    numbers stay as they are. Bytes of a path that are not UTF-8 become backslash escapes.
    """
    cells: dict[str, Cell] = {
        **{name: value for name, value in vars(answer).items() if name in CSV_COLUMNS},
        "candidate": answer.candidates[0].landmark if answer.candidates else None,
        "links": " ".join(answer.links),
    }
    return format_line([cells[name] for name in CSV_COLUMNS])


def format_line(cells: Sequence[Cell]) -> str:
    """Return cells as a line of CSV with its end."""
    written = io.StringIO()
    # The csv module quotes what its own line ends consist of, and a lone CR needs quotes, too.
    writer = csv.writer(written, lineterminator="\r\n")
    writer.writerow([defuse(cell) if isinstance(cell, str) else cell for cell in cells])
    return written.getvalue().removesuffix("\r\n") + "\n"


def defuse(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula and that UTF-8 can encode."""
    plain = escape_surrogates(text)
    return f"'{plain}" if plain.startswith(FORMULA) else plain
