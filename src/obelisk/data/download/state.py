"""What is known of each part, in an SQLite file: a kill, a full disk or a power cut leave the last whole state."""

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

STATE_FILE: Final = ".download.sqlite"
FORMAT: Final = 1
Progress = Literal["fetching", "whole", "extracted", "failed"]


@dataclass(frozen=True, kw_only=True)
class PartState:
    """How far a part is.

    ``bytes`` and ``validator`` are of the version on the server; ``md5`` is the sum that was found, ``mismatch``
    whether it is not the one in the list. ``choice`` says which photos were extracted, ``max_side`` (0: no limit)
    how large.
    """

    path: str
    progress: Progress = "fetching"
    bytes: int | None = None
    validator: str | None = None
    md5: str | None = None
    mismatch: bool = False
    choice: str | None = None
    max_side: int = 0
    error: str | None = None


COLUMNS = tuple(field.name for field in dataclasses.fields(PartState))


class DownloadState:
    """The states of all parts of one folder; while it is open, no other process downloads into that folder."""

    def __init__(self, directory: Path, *, keep: bool = True) -> None:
        """Open the state of a folder, or begin one; without ``keep`` nothing is written where there is none.

        Raises DownloadError when another download is at work there, DataError when the file is damaged.
        """
        self._path = directory / STATE_FILE
        self._lock = threading.Lock()
        if keep:
            directory.mkdir(parents=True, exist_ok=True)
        place = self._path if keep or self._path.exists() else ":memory:"
        self._database = sqlite3.connect(place, timeout=0.5, isolation_level=None, check_same_thread=False)
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
        """Take the lock for as long as the file is open, and make the table."""
        self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute("BEGIN EXCLUSIVE")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version > FORMAT:
            self._database.execute("ROLLBACK")
            raise DataError(f"the format has version {version}, this is {FORMAT}", where=self._path)
        listed = ", ".join(f"{name} PRIMARY KEY" if name == "path" else name for name in COLUMNS)
        self._database.execute(f"CREATE TABLE IF NOT EXISTS parts ({listed})")
        self._database.execute(f"PRAGMA user_version={FORMAT}")
        self._database.execute("COMMIT")

    def _explain(self, error: sqlite3.DatabaseError) -> ObeliskError:
        """Say in words why the state cannot be read or written."""
        code = getattr(error, "sqlite_errorcode", None)  # none where a text is no UTF-8
        if code is None or not isinstance(error, sqlite3.OperationalError):
            fix = "delete it: what is there is looked over again"
            return DataError(f"the state of the download is damaged: {error}", where=self._path, fix=fix)
        if code == sqlite3.SQLITE_BUSY:
            fix = "wait until it is done, or stop it"
            return DownloadError("another download is at work in this folder", where=self._path.parent, fix=fix)
        return DownloadError(f"the state cannot be kept: {error}", where=self._path, fix="free some space there")

    def read(self, path: str) -> PartState:
        """Return the state of a part; a new one for a part that is not known.

        Raises DataError when the file is damaged.
        """
        found = self._execute(f"SELECT {', '.join(COLUMNS)} FROM parts WHERE path = ?", path)
        if found is None:
            return PartState(path=path)
        fields = dict(zip(COLUMNS, found, strict=True))
        return PartState(**fields | {"mismatch": bool(fields["mismatch"])})

    def write(self, state: PartState) -> PartState:
        """Keep the state of a part; it is on the disk when this returns.

        Raises DownloadError when the disk is full, the last state is then still there; DataError as above.
        """
        values = dataclasses.astuple(state)
        marks = ", ".join("?" * len(values))
        self._execute(f"INSERT OR REPLACE INTO parts VALUES ({marks})", *values)
        return state

    def list_extracted(self) -> list[PartState]:
        """Return the states of what was made photos of. Raises DataError when the file is damaged."""
        statement = "SELECT json_group_array(path) FROM parts WHERE progress = 'extracted'"
        (paths,) = self._execute(statement) or ("[]",)
        return [self.read(path) for path in json.loads(paths)]

    def forget(self, path: str) -> None:
        """Forget a part."""
        self._execute("DELETE FROM parts WHERE path = ?", path)

    def _execute(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        """Do what a statement says, and return the first row that it finds."""
        try:
            with self._lock:
                found: tuple[Any, ...] | None = self._database.execute(statement, values).fetchone()
        except sqlite3.DatabaseError as error:
            raise self._explain(error) from error
        return found
