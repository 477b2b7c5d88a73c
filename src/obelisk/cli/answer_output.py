"""How ``obelisk recognize`` hands over its answers: lines for people, JSON, CSV, or a Parquet file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from obelisk.cli.answer_lines import AnswerLines
from obelisk.cli.console import count_of, result, writing_output
from obelisk.errors import UsageError
from obelisk.markup import visible
from obelisk.records import Recognition

Show = Callable[[Recognition], None]


@contextmanager
def open_output(*, as_json: bool, as_csv: bool, parquet: Path | None, details: bool, summary: bool) -> Iterator[Show]:
    """Yield what takes each answer: lines for people, unless an option asks for something else.

    Raises UsageError if several options do.
    """
    wanted = {"--json": as_json, "--csv": as_csv, "--parquet": parquet, "--details": details, "--summary": summary}
    given = [name for name, value in wanted.items() if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} each ask for another output", fix="give one of them")
    if parquet:
        from obelisk.outputs import ParquetFile

        with ParquetFile(parquet) as table:
            yield table.add
        result(f"{parquet}: {count_of(len(table), 'answer')}")
    elif as_csv:
        from obelisk.outputs import csv_header, csv_line

        print_raw(csv_header())
        yield lambda answer: print_raw(csv_line(answer))
    elif as_json:
        yield lambda answer: result(answer.to_json())
    else:
        lines = AnswerLines(details=details, summary=summary)
        yield lines.show
        lines.close()


def print_raw(line: str) -> None:
    """Write a line to stdout as it is, so that names arrive unchanged; a terminal gets what is visible of it."""
    with writing_output():
        sys.stdout.write(visible(line.rstrip("\n")) + "\n" if sys.stdout.isatty() else line)
        sys.stdout.flush()
