"""A Parquet file of answers: all rows in order, in groups, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from obelisk.errors import UsageError
from obelisk.outputs import ANSWER_SCHEMA, ParquetFile, to_polars
from obelisk.records import Candidate, Recognition


def answer(number: int) -> Recognition:
    candidate = Candidate(landmark='塔 "x"\n\u202e\x00', landmark_id=2**53, score=1 / 3, latitude=-0.0)
    return Recognition(
        photo=f"{number}\udcff.jpg",
        landmark=None,
        landmark_id=None,
        verdict="unknown",
        confidence=1 / (number + 3),
        candidates=(candidate,) * (number % 3),
    )


@pytest.mark.parametrize("count", [0, 1, 1024, 2500])
def test_all_rows_come_back_in_order(count: int, tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.parquet"
    with ParquetFile(path) as table:
        for number in range(count):
            table.add(answer(number))
    read = pl.read_parquet(path)
    assert read.schema == ANSWER_SCHEMA
    assert read.equals(to_polars(answer(number) for number in range(count)))
    assert len(table) == count
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_text("old", encoding="utf-8")

    def stop_halfway() -> None:
        with ParquetFile(path) as table:
            for number in range(1500):
                table.add(answer(number))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_halfway()
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_refused_before_anything_is_recognized(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="folder") as refused:
        ParquetFile(tmp_path)
    assert "answers.parquet" in refused.value.fix
