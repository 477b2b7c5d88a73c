"""Answers in a Parquet file, however many they are."""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl

from obelisk.errors import UsageError, quote
from obelisk.files import naming_full_disk, replace_file
from obelisk.outputs.table import ROWS_AT_ONCE, to_polars
from obelisk.records import Recognition


class ParquetFile:
    """Writes answers to a Parquet file, whole or not at all; use it as a context manager.

    Until then, blocks of answers lie beside it in a hidden folder, so that memory does not grow with their number. If
    the block of the context raises, no file is written.

    Raises UsageError for a folder, and OSError where nothing can be written.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            fix = f"name a file: --parquet {quote(str(path / 'answers.parquet'))}"
            raise UsageError("the table would replace a folder", where=path, fix=fix)
        self.path = path
        self._count = 0
        self._waiting: list[Recognition] = []
        self._blocks: list[Path] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._folder = tempfile.TemporaryDirectory(prefix=f".{path.name[:40]}.", suffix=".partial", dir=path.parent)
        except OSError as error:
            error.filename = str(path)
            raise

    def __enter__(self) -> ParquetFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *reason: object) -> None:
        with self._folder:
            if kind is None:
                self._write_block()
                replace_file(self.path, self._join)

    def __len__(self) -> int:
        return self._count

    def add(self, answer: Recognition) -> None:
        """Add an answer as the last row."""
        self._count += 1
        self._waiting.append(answer)
        if len(self._waiting) == ROWS_AT_ONCE:
            self._write_block()

    def _write_block(self) -> None:
        block = Path(self._folder.name) / f"{len(self._blocks)}.parquet"
        with naming_full_disk(self.path):
            to_polars(self._waiting).write_parquet(block)
        self._blocks.append(block)
        self._waiting.clear()

    def _join(self, target: Path) -> None:
        pl.scan_parquet(self._blocks, glob=False).sink_parquet(target, row_group_size=ROWS_AT_ONCE)
