from __future__ import annotations

import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obelisk.errors import DataError
from obelisk.evaluation import collect_predictions, read_predictions, write_predictions
from obelisk.evaluation.predictions import Predictions

ROWS = {
    "query_ids": ["b", "a"],
    "truths": [[7, 8], []],
    "candidates": [[7, 9], [9]],
    "scores": [[0.75, 0.25], [0.5]],
    "confidence": [0.75, 0.125],
    "neighbors": [["r1", "r22", "r3"], []],
    "similarities": [[0.5, 0.25, 0.125], []],
}


def equal(a: Predictions, b: Predictions) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in Predictions.__dataclass_fields__)


def test_rows_are_sorted_by_id_and_filled_up():
    predictions = collect_predictions(**ROWS)
    assert predictions.query_ids.tolist() == ["a", "b"]
    assert predictions.truths.tolist() == [[-1, -1], [7, 8]]
    assert predictions.candidates.tolist() == [[9, -1], [7, 9]]
    assert predictions.answers.tolist() == [9, 7]
    assert predictions.neighbors.tolist() == [["", "", ""], ["r1", "r22", "r3"]]
    assert predictions.similarities.tolist() == [[0, 0, 0], [0.5, 0.25, 0.125]]


IDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
FLOATS = st.floats(0, 1, width=32)


@st.composite
def row_sets(draw):
    ids = draw(st.lists(IDS, min_size=1, max_size=8, unique=True))
    lists = [draw(st.lists(st.tuples(st.integers(0, 2**60), FLOATS), max_size=6)) for _ in ids]
    near = [draw(st.lists(st.tuples(IDS, FLOATS), max_size=4)) for _ in ids]
    return {
        "query_ids": ids,
        "truths": [draw(st.lists(st.integers(0, 2**60), max_size=3)) for _ in ids],
        "candidates": [[landmark for landmark, _ in row] for row in lists],
        "scores": [[score for _, score in row] for row in lists],
        "confidence": [draw(st.floats(0, 1)) for _ in ids],
        "neighbors": [[photo for photo, _ in row] for row in near],
        "similarities": [[similarity for _, similarity in row] for row in near],
        "made_by": draw(IDS),
    }


@given(row_sets())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_back(tmp_path, rows):
    predictions = collect_predictions(**rows)
    assert equal(read_predictions(write_predictions(tmp_path / "p.parquet", predictions)), predictions)


def test_equal_predictions_give_equal_bytes_in_any_order_and_process(tmp_path):
    first = write_predictions(tmp_path / "a.parquet", collect_predictions(**ROWS)).read_bytes()
    turned = {name: rows[::-1] for name, rows in ROWS.items()}
    assert write_predictions(tmp_path / "b.parquet", collect_predictions(**turned)).read_bytes() == first
    script = (
        "import pathlib, sys; from obelisk.evaluation import *; p = pathlib.Path(sys.argv[1]);"
        "write_predictions(p.with_name('c.parquet'), read_predictions(p))"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.parquet")], check=True, timeout=300)
    assert (tmp_path / "c.parquet").read_bytes() == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({name: [] for name in ROWS}, "no query", id="empty"),
        pytest.param({"query_ids": ["a", "a"]}, "query `a` is listed 2 times", id="an id twice"),
        pytest.param({"confidence": [0.5]}, "2 queries", id="columns of different lengths"),
    ],
)
def test_unusable_rows_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        collect_predictions(**(ROWS | change))


def write_garbage(path):
    path.write_bytes(b"PAR1 but not really")


def write_changed(**columns):
    """A way to write a file in which these columns are others."""

    def write(path):
        write_predictions(path, collect_predictions(**ROWS))
        frame = pl.read_parquet(path)
        values = [pl.Series(name, rows, frame.schema[name]) for name, rows in columns.items()]
        frame.with_columns(values).write_parquet(path)

    return write


def write_other_table(path):
    pl.DataFrame({"query_id": ["a"]}).write_parquet(path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(lambda path: None, "no predictions here", id="missing"),
        pytest.param(write_garbage, "unreadable predictions", id="not parquet"),
        pytest.param(write_other_table, "`landmark_ids`", id="another table"),
        pytest.param(lambda path: path.mkdir(), "no predictions here", id="a folder"),
        pytest.param(write_changed(confidence=[0.5, float("nan")]), "not finite", id="not a number"),
        pytest.param(write_changed(confidence=[0.5, None]), "unreadable predictions", id="an empty cell"),
        pytest.param(write_changed(landmark_ids=[[1], [None]]), "unreadable predictions", id="an empty landmark"),
        pytest.param(write_changed(candidate_scores=[[], []]), "differ in length", id="candidates without scores"),
    ],
)
def test_an_unusable_file_is_named(tmp_path, write, message):
    path = tmp_path / "p.parquet"
    write(path)
    with pytest.raises(DataError, match=message) as raised:
        read_predictions(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(("limit", "said"), [("LARGEST", "bytes"), ("MOST_QUERIES", ""), ("MOST_CELLS", "cells")])
def test_predictions_beyond_a_limit_are_refused(tmp_path, monkeypatch, limit, said):
    path = write_predictions(tmp_path / "p.parquet", collect_predictions(**ROWS))
    monkeypatch.setattr(f"obelisk.evaluation.predictions.{limit}", 1)
    with pytest.raises(DataError, match=rf"more than 1\b.*{said}"):
        read_predictions(path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = write_predictions(tmp_path / "p.parquet", collect_predictions(**ROWS))
    before = path.read_bytes()

    def fail(frame, target, **options):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", fail)
    with pytest.raises(OSError, match="No space"):
        write_predictions(path, collect_predictions(**ROWS))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["p.parquet"]
