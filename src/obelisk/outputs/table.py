"""Answers as a table, one row each: the schema that data frames, Parquet and CSV share."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import polars as pl

from obelisk.markup import escape_surrogates
from obelisk.records import Recognition

CANDIDATE = pl.Struct(
    {
        "landmark": pl.String,
        "landmark_id": pl.Int64,
        "score": pl.Float64,
        "latitude": pl.Float64,
        "longitude": pl.Float64,
        "gallery": pl.String,
    }
)
NEIGHBOR = pl.Struct(
    {
        "id": pl.String,
        "landmark": pl.String,
        "landmark_id": pl.Int64,
        "similarity": pl.Float64,
        "distance": pl.Float64,
        "source": pl.String,
        "gallery": pl.String,
        "author": pl.String,
        "licence": pl.String,
    }
)
COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "photo": pl.String,
    "landmark": pl.String,
    "landmark_id": pl.Int64,
    "verdict": pl.String,
    "confidence": pl.Float64,
    "latitude": pl.Float64,
    "longitude": pl.Float64,
    "links": pl.List(pl.String),
    "candidates": pl.List(CANDIDATE),
    "neighbours": pl.List(NEIGHBOR),
    "threshold": pl.Float64,
    "model": pl.String,
    "distance_km": pl.Float64,
    "position_helped": pl.Boolean,
    "warning": pl.String,
    "error": pl.String,
}
ANSWER_SCHEMA = pl.Schema(COLUMNS)
"""The columns of a table of answers, with the names and the order of the keys of ``recognize --json``."""

ROWS_AT_ONCE = 1024  # that stand in memory as Python objects


def to_polars(answers: Recognition | Iterable[Recognition]) -> pl.DataFrame:
    """Return answers as a table, one row each, with the columns of :data:`ANSWER_SCHEMA` even if there are none.

    ``candidates`` and ``neighbours`` are lists of structs. Bytes of a path that are not UTF-8 become backslash escapes.

    Example::

        table = obelisk.to_polars(recognizer.recognize(photos))
        print(table.group_by("landmark").len())
        table.write_parquet("answers.parquet")
    """
    listed = [answers] if isinstance(answers, Recognition) else answers
    rows = (encodable(answer.to_dict()) for answer in listed)
    blocks = [pl.DataFrame(schema=ANSWER_SCHEMA)]
    while block := list(islice(rows, ROWS_AT_ONCE)):
        blocks.append(pl.DataFrame(block, schema=ANSWER_SCHEMA))
    return pl.concat(blocks)


def encodable(value: Any) -> Any:
    """Return a value whose texts UTF-8 can encode: surrogates, which stand for a path's bytes, become escapes."""
    if isinstance(value, str):
        return escape_surrogates(value)
    if isinstance(value, list):
        return [encodable(one) for one in value]
    return {key: encodable(one) for key, one in value.items()} if isinstance(value, dict) else value
