"""Check the tables of ``gallery.sqlite``: that every value is one, and that they fit together."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import numpy as np

from obelisk.arrays import row_norms
from obelisk.errors import GalleryError
from obelisk.gallery import schema
from obelisk.gallery.columns import TABLES, columns_of
from obelisk.gallery.embeddings import ROWS_AT_ONCE
from obelisk.gallery.lookup import all_landmarks
from obelisk.gallery.sqlite_tables import SqliteTables
from obelisk.gallery.truth import Tables

WHOLE_NUMBER = re.compile(r"[0-9]{1,16}")
LONGEST_EXAMPLE = 60  # characters
TOLERANCE = 0.01  # of a vector's norm; rounding to float16 changes it by less

ORPHANS = {
    "photos without a landmark": "SELECT id FROM photos WHERE landmark_id NOT IN (SELECT id FROM landmarks)",
    "photos without an embedding": "SELECT id FROM photos WHERE row NOT IN (SELECT row FROM embeddings)",
    "embeddings without a photo": "SELECT row FROM embeddings WHERE row NOT IN (SELECT row FROM photos)",
    "landmarks without a photo": "SELECT name FROM landmarks WHERE id NOT IN (SELECT landmark_id FROM photos)",
}


def check_database(connection: SqliteTables, dimensions: int) -> Iterator[str]:
    """Yield the problems of the file, of the links between the tables, of their values, and of the embeddings."""
    for (finding,) in connection.execute("PRAGMA integrity_check(10)"):
        if finding != "ok":
            yield f"the database is damaged: {finding}"
    yield from check_values(connection)
    yield from check_links(connection, dimensions)


def check_links(connection: Tables, dimensions: int) -> Iterator[str]:
    """Yield what is wrong with numbers and JSON kept as texts, with links between the tables, and with embeddings."""
    yield from check_documents(connection)
    for what, query in ORPHANS.items():
        if found := [str(row[0])[:LONGEST_EXAMPLE] for row in connection.execute(query)]:
            yield f"{what}: {len(found)}, the first is `{found[0]}`"
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for fault, example in check_vectors(connection, dimensions):
        counts[fault] += 1
        examples.setdefault(fault, example)
    for fault, count in counts.items():
        yield f"embeddings of a wrong {fault}: {count}, the first in {examples[fault]}"


def check_values(connection: SqliteTables) -> Iterator[str]:
    """Yield the columns with values of a wrong type, length or range, or texts that are not valid UTF-8."""
    format_number = connection.format
    for table in TABLES:
        columns = columns_of(table, format_number)
        key = next(iter(columns), "")
        for name, column in columns.items():
            wrong = f"NOT coalesce({column.sound.format(name)}, 0)"
            try:
                where = f"FROM {table} WHERE {wrong}"
                count, first = connection.execute(f"SELECT count(*), CAST(min({key}) AS TEXT) {where}").fetchone()
                if column.is_text:
                    for _ in connection.execute(f"SELECT {name} FROM {table}"):
                        pass
            except sqlite3.DatabaseError as error:
                yield f"a value of `{table}.{name}` cannot be read: {error}"
                continue
            if count:
                example = repr(str(first)[:LONGEST_EXAMPLE])
                yield f"values of `{table}.{name}` of a wrong type, length or range: {count}, the first at {example}"


def check_documents(connection: Tables) -> Iterator[str]:
    """Yield what is wrong with numbers and JSON that are kept as texts."""
    about = dict(connection.execute("SELECT key, value FROM about"))
    for key in ("revision", "edited"):
        value = about.get(key, "0")
        if not (isinstance(value, str) and WHOLE_NUMBER.fullmatch(value)):
            yield f"`{key}` of the table `about` is no number: {str(value)[:LONGEST_EXAMPLE]!r}"
    try:
        all_landmarks(connection)
        json.loads((schema.read_own_calibration(connection) or ("{}", 0))[0])
    except GalleryError as error:
        yield error.what
    except ValueError as error:
        yield f"the gallery's calibration is no JSON: {error}"


def check_vectors(connection: Tables, dimensions: int) -> Iterator[tuple[str, str]]:
    """Yield a pair (property, sentence) for each embedding of a wrong size or norm."""
    found = connection.stream("SELECT row, vector FROM embeddings ORDER BY row")
    while rows := list(islice(found, ROWS_AT_ONCE)):
        yield from check_rows([(row, as_bytes(vector)) for row, vector in rows], dimensions)


def as_bytes(value: object) -> bytes:
    """Return a value of the column ``vector`` as bytes, which SQLite lets be anything."""
    return value if isinstance(value, bytes) else str("" if value is None else value).encode("utf-8", "surrogateescape")


def check_rows(rows: list[tuple[int, bytes]], dimensions: int) -> Iterator[tuple[str, str]]:
    """Yield the same for stored embeddings given as (row, vector)."""
    size = schema.STORED.itemsize * dimensions
    for row, vector in rows:
        if len(vector) != size:
            yield "size", f"row {row} has {len(vector)} bytes, not {size}"
    whole = [(row, vector) for row, vector in rows if len(vector) == size]
    values = np.frombuffer(b"".join(vector for _, vector in whole), dtype=schema.STORED).reshape(-1, dimensions)
    lengths = row_norms(values)
    for index in np.flatnonzero(~(np.abs(lengths - 1.0) < TOLERANCE)):
        yield "length", f"row {whole[index][0]} has length {lengths[index]:.4g}, not 1"
