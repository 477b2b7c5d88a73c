"""Answers as a table: one schema, whatever the answers are."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import polars as pl

import obelisk
from obelisk.outputs import ANSWER_SCHEMA
from obelisk.records import Candidate, Neighbor, Recognition

ANSWER = Recognition(
    photo='a "b"\n=1+1 塔.jpg',
    landmark="Dome",
    landmark_id=2**53,
    verdict="sure",
    confidence=0.97,
    latitude=47.6,
    longitude=-122.3,
    links=("https://commons.wikimedia.org/wiki/Category:Dome", "https://en.wikipedia.org/wiki/Dome"),
    candidates=(Candidate(landmark="Dome", landmark_id=2**53, score=0.9, latitude=47.6, gallery="bundled"),),
    neighbours=(
        Neighbor(
            id="d1",
            landmark="Dome",
            landmark_id=2**53,
            similarity=0.5,
            source="https://x.org/1",
            author="Ánn",
            licence="CC BY 4.0",
        ),
    ),
    threshold=0.83,
    model="tiny@0123456789ab",
    warning="the JPEG was cut off",
)


def test_a_table_without_answers_has_all_columns() -> None:
    table = obelisk.to_polars([])
    assert (table.height, table.schema) == (0, ANSWER_SCHEMA)


def test_the_columns_are_the_keys_of_the_json() -> None:
    assert list(ANSWER_SCHEMA) == list(json.loads(ANSWER.to_json()))


def test_every_value_of_an_answer_stands_in_its_row() -> None:
    failed = Recognition.failed("gone.jpg", "no such photo · gone.jpg")
    table = obelisk.to_polars(iter([ANSWER, failed]))
    assert table.schema == ANSWER_SCHEMA
    uncredited = replace(ANSWER, neighbours=(replace(ANSWER.neighbours[0], author=None),))
    rows = obelisk.to_polars([ANSWER, uncredited, failed]).to_dicts()
    assert (rows[0], rows[2]) == (json.loads(ANSWER.to_json()), json.loads(failed.to_json()))
    assert (rows[1]["neighbours"][0]["author"], rows[1]["neighbours"][0]["licence"]) == (None, "CC BY 4.0")


def test_a_table_survives_parquet() -> None:
    table = obelisk.to_polars([ANSWER])
    written = io.BytesIO()
    table.write_parquet(written)
    assert pl.read_parquet(io.BytesIO(written.getvalue())).equals(table)


def test_a_single_answer_is_a_table_of_one_row() -> None:
    assert obelisk.to_polars(ANSWER).equals(obelisk.to_polars([ANSWER]))


def test_many_answers_are_taken_in_blocks() -> None:
    table = obelisk.to_polars(replace(ANSWER, photo=str(number)) for number in range(2500))
    assert table["photo"].to_list() == [str(number) for number in range(2500)]


def test_bytes_of_a_path_that_are_no_text_become_escapes() -> None:
    (neighbor,) = ANSWER.neighbours
    odd = replace(ANSWER, photo="\udcff.jpg", neighbours=(replace(neighbor, source="/photos/\udcfe.jpg"),))
    (row,) = obelisk.to_polars([odd]).to_dicts()
    assert row["photo"] == r"\udcff.jpg"
    assert row["neighbours"][0]["source"] == r"/photos/\udcfe.jpg"
