"""The state of every file of a download, in SQLite: it survives a kill, a full disk and a power cut."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

from obelisk.errors import DataError, DownloadError, ObeliskError
from obelisk.files import grants_locks

STATE_FILE: Final = ".download.sqlite"
STATE_FORMAT: Final = 1


@dataclass(frozen=True, kw_only=True)
class FileState:
    """The state of one file; the fields are the columns of the table ``parts``.

    ``bytes`` and ``validator`` (ETag or date) identify the version on the server. ``md5`` is the checksum that was
    found, ``mismatch`` whether it differs from the listed one. ``choice`` names the photos that were extracted,
    ``max_side`` their size (0: full size).
    """

    path: str
    progress: Literal["fetching", "whole", "extracted", "failed"] = "fetching"
    bytes: int | None = None
    validator: str | None = None
    md5: str | None = None
    mismatch: bool = False
    choice: str | None = None
    max_side: int = 0
    error: str | None = None


COLUMNS: Final = tuple(field.name for field in dataclasses.fields(FileState))


class DownloadState:
    """The states of all files of one folder; while it is open, no other process can download into the folder."""

    def __init__(self, directory: Path, *, keep: bool = True) -> None:
        """Open the state of a folder, or create it; without ``keep``, nothing is created.

        Raises DownloadError if another download is running in the folder, DataError if the file is damaged.
        """
        self._path = directory / STATE_FILE
        self._lock = threading.Lock()
        if keep:
            directory.mkdir(parents=True, exist_ok=True)
        database = self._path if keep or self._path.exists() else ":memory:"
        self._database = sqlite3.connect(database, timeout=0.5, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise self._explain(error) from error

    def __enter__(self) -> DownloadState:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._database.close()

    def _prepare(self) -> None:
        """Lock the file for as long as it is open, and create the table."""
        self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute("BEGIN EXCLUSIVE")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version > STATE_FORMAT:
            self._database.execute("ROLLBACK")
            raise DataError(f"the format has version {version}, this is {STATE_FORMAT}", where=self._path)
        listed = ", ".join(f"{name} PRIMARY KEY" if name == "path" else name for name in COLUMNS)
        self._database.execute(f"CREATE TABLE IF NOT EXISTS parts ({listed})")
        self._database.execute(f"PRAGMA user_version={STATE_FORMAT}")
        self._database.execute("COMMIT")

    def _explain(self, error: sqlite3.DatabaseError) -> ObeliskError:
        """Return the error of a state that can't be read or written."""
        code = getattr(error, "sqlite_errorcode", None)  # None if a text is not UTF-8
        if code is None or not isinstance(error, sqlite3.OperationalError):
            fix = "delete it: the next run checks the files that are there"
            return DataError(f"the state of the download is damaged: {error}", where=self._path, fix=fix)
        if code == sqlite3.SQLITE_BUSY and grants_locks(self._path.parent):
            fix = "wait until it is done, or stop it"
            return DownloadError("another download is running in this folder", where=self._path.parent, fix=fix)
        fix = "free some space there; if it is a network share without locks, download to a local disk"
        return DownloadError(f"the state cannot be saved: {error}", where=self._path, fix=fix)

    def read(self, path: str) -> FileState:
        """Return the state of a file; a new state if there is none. Raises DataError if the database is damaged."""
        found = self._execute(f"SELECT {', '.join(COLUMNS)} FROM parts WHERE path = ?", path)
        if found is None:
            return FileState(path=path)
        fields = dict(zip(COLUMNS, found, strict=True))
        return FileState(**fields | {"mismatch": bool(fields["mismatch"])})

    def write(self, state: FileState) -> None:
        """Save the state of a file; it is on disk when this returns.

        Raises DownloadError if the disk is full, and keeps the previous state; DataError if the database is damaged.
        """
        values = dataclasses.astuple(state)
        marks = ", ".join("?" * len(values))
        self._execute(f"INSERT OR REPLACE INTO parts VALUES ({marks})", *values)

    def list_extracted(self) -> list[FileState]:
        """Return the states of the files from which photos were extracted."""
        statement = "SELECT json_group_array(path) FROM parts WHERE progress = 'extracted'"
        (paths,) = self._execute(statement) or ("[]",)
        return [self.read(path) for path in json.loads(paths)]

    def forget(self, path: str) -> None:
        """Delete the state of a file."""
        self._execute("DELETE FROM parts WHERE path = ?", path)

    def _execute(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        """Execute a statement and return the first row that it finds."""
        try:
            with self._lock:
                found: tuple[Any, ...] | None = self._database.execute(statement, values).fetchone()
        except sqlite3.DatabaseError as error:
            raise self._explain(error) from error
        return found
