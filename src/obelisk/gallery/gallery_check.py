"""Check that everything in a gallery is there, and that it fits together."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from obelisk.arrays import row_norms
from obelisk.embedding import Bundle
from obelisk.errors import GalleryError, ObeliskError
from obelisk.gallery import database, schema
from obelisk.gallery.ann.indexed import describe_index
from obelisk.gallery.gallery import MODEL
from obelisk.gallery.schema import About

TOLERANCE = 0.01  # of a vector's norm; rounding to float16 changes it by less

ORPHANS = {
    "photos without a landmark": "SELECT id FROM photos WHERE landmark_id NOT IN (SELECT id FROM landmarks)",
    "photos without an embedding": "SELECT id FROM photos WHERE row NOT IN (SELECT row FROM embeddings)",
    "embeddings without a photo": "SELECT row FROM embeddings WHERE row NOT IN (SELECT row FROM photos)",
    "landmarks without a photo": "SELECT name FROM landmarks WHERE id NOT IN (SELECT landmark_id FROM photos)",
}


def check_gallery(path: Path | str) -> list[str]:
    """Check a gallery; return one sentence per problem, or an empty list.

    Raises :class:`GalleryError` if there is no gallery, or one of a newer format.
    """
    path = Path(path)
    about = database.read_about(path)
    problems = [] if about.complete else ["it is only half-built: run the same `gallery build` again"]
    problems += check_model_copy(path / MODEL, about)
    try:
        with database.reading(path) as connection:
            problems += check_database(connection, about.dimensions)
    except GalleryError as error:
        problems.append(str(error))
    return problems


def check_index(path: Path | str) -> str | None:
    """Check a gallery's search index; return a sentence, or None if it is sound. The next search repairs it."""
    with database.reading(Path(path)) as connection:
        return describe_index(Path(path), connection)


def check_model_copy(folder: Path, about: About) -> list[str]:
    """Check that the gallery's copy of its bundle is sound, and the bundle that made the embeddings."""
    try:
        bundle = Bundle.load(folder)
        bundle.verify_attachments()
    except ObeliskError as error:
        return [f"the copy of the model cannot be used: {error}"]
    if bundle.fingerprint != about.fingerprint:
        return [f"the copy of the model has fingerprint {bundle.fingerprint}, the embeddings {about.fingerprint}"]
    if bundle.dimensions != about.dimensions:
        return [f"the copy of the model gives {bundle.dimensions} dimensions, the gallery has {about.dimensions}"]
    return []


def check_database(connection: sqlite3.Connection, dimensions: int) -> Iterator[str]:
    """Yield the problems of the file, of the links between the tables, of the texts, and of the embeddings."""
    for (finding,) in connection.execute("PRAGMA integrity_check(10)"):
        if finding != "ok":
            yield f"the database is damaged: {finding}"
    for what, query in ORPHANS.items():
        if found := [str(row[0]) for row in connection.execute(query)]:
            yield f"{what}: {len(found)}, the first is `{found[0]}`"
    yield from check_texts(connection)
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for fault, example in check_vectors(connection, dimensions):
        counts[fault] += 1
        examples.setdefault(fault, example)
    for fault, count in counts.items():
        yield f"embeddings of a wrong {fault}: {count}, the first in {examples[fault]}"


def check_texts(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield the tables with texts that are not valid UTF-8."""
    for table in ("landmarks", "photos"):
        try:
            for _ in connection.execute(f"SELECT {schema.select_columns(connection, table)} FROM {table}"):
                pass
        except sqlite3.OperationalError as error:
            yield f"a text of `{table}` cannot be read: {error}"


def check_vectors(connection: sqlite3.Connection, dimensions: int) -> Iterator[tuple[str, str]]:
    """Yield a pair (property, sentence) for each embedding of a wrong size or norm."""
    select = "SELECT row, CAST(coalesce(vector, '') AS BLOB) FROM embeddings ORDER BY row"
    cursor = connection.execute(select)
    while rows := cursor.fetchmany(database.ROWS_AT_ONCE):
        yield from check_rows(rows, dimensions)


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
