"""SQLite connections that trust nothing in the file, and that a signal can interrupt.

See https://www.sqlite.org/security.html: the schema may not call what it likes, lengths are limited, and cells of
pages are checked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

Connection = TypeVar("Connection", bound=sqlite3.Connection)

LONGEST_VALUE = 2 << 20  # bytes of a text, a blob or a row
STATEMENT_LENGTH = 1 << 16  # bytes
STEPS = 50_000  # of SQLite's machine, some milliseconds, between two looks for a signal
LOCK_SECONDS = 0.1  # that SQLite itself waits for a lock; no signal is heard meanwhile

_interruptions: list[BaseException] = []
"""What signal handlers raised inside of a statement: Python runs them on the main thread only."""


def open_hardened(path: Path, mode: str, kind: type[Connection]) -> Connection:
    """Open a database in an SQLite URI mode, as a connection of some kind."""
    address = f"{path.resolve().as_uri()}?{mode}"
    # Threads may share a connection as long as they take turns.
    connection = sqlite3.connect(
        address, uri=True, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False, factory=kind
    )
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, STATEMENT_LENGTH)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1)
    connection.set_progress_handler(watch_for_signals().__next__, STEPS)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def watch_for_signals() -> Iterator[int]:
    """Yield 0 for as long as SQLite is to go on, and 1 when a signal handler has raised an exception.

    Python runs signal handlers where it resumes a generator, and SQLite's module drops what they raise there: it is
    kept, and raised again by :func:`raising_interruptions`.
    """
    stop = 0
    while True:
        try:
            while True:
                yield stop
                stop = 0
        except GeneratorExit:
            return
        except BaseException as interruption:
            _interruptions.append(interruption)
            stop = 1


@contextmanager
def raising_interruptions() -> Iterator[None]:
    """Raise what a signal handler raised inside of a statement of the block."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if _interruptions and getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            raise _interruptions.pop() from error
        raise


@contextmanager
def allowing_length(connection: sqlite3.Connection, length: int) -> Iterator[None]:
    """Allow values of so many bytes inside of the block, if that is more."""
    before = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(length, LONGEST_VALUE))
    try:
        yield
    finally:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)


def primary_code(error: sqlite3.DatabaseError) -> int:
    """Return SQLite's result code without its details, or 0 if the error did not come from SQLite itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
