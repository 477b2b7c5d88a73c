"""Check that everything in a gallery is there, and that it fits together."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from obelisk.arrays import row_norms
from obelisk.embedding import Bundle
from obelisk.errors import GalleryError, ObeliskError, quote
from obelisk.gallery import database, schema
from obelisk.gallery.ann.indexed import describe_index
from obelisk.gallery.columns import TABLES, columns_of
from obelisk.gallery.gallery import MODEL
from obelisk.gallery.lookup import all_landmark_names, all_landmarks, select_photos
from obelisk.gallery.schema import About

WHOLE_NUMBER = re.compile(r"[0-9]{1,16}")
LONGEST_EXAMPLE = 60  # characters
NAMED_COPIES = 3  # of a photo that is under two landmarks
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
    """Yield the problems of the file, of the links between the tables, of their values, and of the embeddings."""
    for (finding,) in connection.execute("PRAGMA integrity_check(10)"):
        if finding != "ok":
            yield f"the database is damaged: {finding}"
    yield from check_values(connection)
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


def check_values(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield the columns with values of a wrong type, length or range, or texts that are not valid UTF-8."""
    format_number = schema.read_format(connection)
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


def check_documents(connection: sqlite3.Connection) -> Iterator[str]:
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


def check_labels(path: Path | str) -> str | None:
    """Look for photos whose bytes are under two landmarks; return a sentence, or None if there are none."""
    shared = (
        "SELECT content_hash FROM photos WHERE content_hash != '' GROUP BY content_hash"
        " HAVING min(landmark_id) != max(landmark_id) ORDER BY min(row)"
    )
    with database.reading(Path(path)) as connection:
        found = connection.execute(shared).fetchall()
        if not found:
            return None
        photos = [photo for _, photo in select_photos(connection, "content_hash = ? ORDER BY row", found[0])]
        names = all_landmark_names(connection)
    where = " and ".join(f"`{photo.id}` of `{names[photo.landmark_id or 0]}`" for photo in photos[:NAMED_COPIES])
    count = f"{len(found)} photo{' is' if len(found) == 1 else 's are'}"
    fix = f"see which label is right, and `obelisk gallery remove {quote(str(path))} --photo ID` the other"
    return f"{count} in it under two landmarks with the same bytes: {where} · {fix}"
