"""The tables of ``gallery.sqlite`` in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Integers, indices_of
from obelisk.errors import GalleryError
from obelisk.gallery.columns import FORMAT, INSERT_PHOTO, migration_statements
from obelisk.gallery.connections import allowing_length, primary_code
from obelisk.gallery.schema import check_format

LAST_ROW = 2**63 - 1  # SQLite's largest
ROWS_OF_A_TEXT = 1 << 22  # SQLite takes no text above a billion bytes
LONGEST_NUMBER = 26  # characters of a number in SQL, and a comma


class SqliteTables(sqlite3.Connection):
    """A connection with what a :class:`~obelisk.gallery.truth.Tables` has; it serves one transaction."""

    place: Path  # as errors name it

    @property
    def folder(self) -> Path:
        """The gallery's folder."""
        return Path(self.execute("PRAGMA database_list").fetchone()[2]).parent

    @property
    def format(self) -> int:
        """The format number that the database states."""
        return int(self.execute("PRAGMA user_version").fetchone()[0])

    def refuse_foreign(self) -> None:
        """Raise :class:`GalleryError` for another program's file, and for a format that we can't read."""
        (application_id,) = self.execute("PRAGMA application_id").fetchone()
        check_format(application_id, self.format, self.place)

    def migrate(self) -> None:
        """Bring a database of an older format up to the current one."""
        self.refuse_foreign()
        for version in range(self.format, FORMAT):
            for statement in migration_statements(version):
                self.execute(statement)
            self.execute(f"PRAGMA user_version = {version + 1}")

    def stream(self, statement: str) -> Iterator[Any]:
        """Yield the rows that a statement finds."""
        return iter(self.execute(statement))

    def insert_references(self, photos: Sequence[Sequence[object]], vectors: NDArray[np.float16]) -> list[int]:
        """Insert photos, given by the columns after ``row``, and their embeddings (N, D); return their rows."""
        rows = []
        for values, vector in zip(photos, vectors, strict=True):
            row = self._insert_photo(values)
            self.execute("INSERT INTO embeddings VALUES (?, ?)", (row, vector.tobytes()))
            rows.append(row)
        return rows

    def _insert_photo(self, values: Sequence[object]) -> int:
        """Insert a row of ``photos``; return its number. Raises :class:`GalleryError` if all numbers are used up."""
        try:
            return int(self.execute(INSERT_PHOTO, tuple(values)).lastrowid or 0)
        except sqlite3.DatabaseError as error:
            if primary_code(error) == sqlite3.SQLITE_FULL:  # the disk is, or the numbers are used up
                used = self.execute("SELECT seq FROM sqlite_sequence WHERE name = 'photos'").fetchone()
                if used == (LAST_ROW,):
                    what, fix = "the gallery has used up its search ids", "build a new one: they begin with 1 again"
                    raise GalleryError(f"{what}, up to {LAST_ROW}", fix=fix) from error
            raise

    def read_photo_rows(self, *, after: int | None) -> tuple[Integers, Integers]:
        """Return the rows (N,) above ``after``, or all, ascending, and their landmark ids (N,); -1 if one is none."""
        return read_all_photo_rows(self) if after is None else read_new_photo_rows(self, after=after)


def read_new_photo_rows(connection: sqlite3.Connection, *, after: int) -> tuple[Integers, Integers]:
    """Return rows (N,) above ``after``, ascending, and their landmark ids (N,).

    A landmark id that is not an integer becomes -1.
    """
    number = "iif(typeof(landmark_id) = 'integer', landmark_id, -1)"
    found = connection.execute(f"SELECT row, {number} FROM photos WHERE row > ? ORDER BY row", (after,))
    pairs = np.fromiter(found, dtype=np.dtype([("row", np.int64), ("landmark_id", np.int64)]))
    return pairs["row"].copy(), pairs["landmark_id"].copy()


def read_all_photo_rows(connection: sqlite3.Connection) -> tuple[Integers, Integers]:
    """Return all rows (N,), ascending, and their landmark ids (N,).

    If one landmark id is not an integer, all become -1.
    """
    # In SQLite's order texts and blobs are above all numbers: if the largest is an integer, the others are integers,
    # NULL, or fractions, which show by their decimal point.
    (kind,) = connection.execute("SELECT typeof(max(landmark_id)) FROM photos").fetchone()
    number = "landmark_id" if kind == "integer" else "NULL"
    (count,) = connection.execute("SELECT count(*) FROM photos").fetchone()
    if count <= ROWS_OF_A_TEXT:
        rows, shown = read_pair(connection, number, "photos", count)
    else:  # a text has an end, and so have the rows in one
        rows, shown = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        while len(rows) < count:
            after = int(rows[-1]) if len(rows) else -LAST_ROW
            part = f"(SELECT row, landmark_id FROM photos WHERE row > {after} ORDER BY row LIMIT {ROWS_OF_A_TEXT})"
            more = read_pair(connection, number, part, ROWS_OF_A_TEXT)
            rows, shown = np.concatenate([rows, more[0]]), np.concatenate([shown, more[1]])
    if len(shown) != len(rows):
        shown = np.full(len(rows), -1)
    ids, landmark_ids = np.sort(rows), np.empty_like(rows)
    landmark_ids[indices_of(ids, rows)] = shown
    return ids, landmark_ids


def read_pair(connection: sqlite3.Connection, number: str, table: str, count: int) -> tuple[Integers, Integers]:
    """Return the rows of a table, and what an expression gives for them; nothing of it that is not an integer.

    Two long texts are read in a third of the time of a million pairs, and other threads run meanwhile.
    """
    select = f"SELECT coalesce(group_concat(row), ''), coalesce(group_concat({number}), '') FROM {table}"
    with allowing_length(connection, LONGEST_NUMBER * count):
        rows, shown = (parse_integers(text) for text in connection.execute(select).fetchone())
    return rows, shown


def parse_integers(text: str) -> Integers:
    """Return the integers of a comma-separated text, or none of them if one is not an integer."""
    if text.encode().translate(None, b"-,0123456789"):
        return np.empty(0, dtype=np.int64)
    return np.fromstring(text, dtype=np.int64, sep=",")
