"""Look at a database and its log before SQLite opens them; refuse what is not a gallery, with no byte changed.

SQLite applies a log to whatever database it finds beside it, and folds it in as soon as the last connection closes,
even one that has just refused the database. So everything that may refuse a gallery is read here, from the bytes.

A log belongs to a database if it begins at a state that the database file has been in, or has been folded into it as
far as one of its own transactions: then all pages that differ from its end are in the log. Every change gives its
state a random name in ``about``, and notes the name of the state before; see docs/gallery-format.md.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
import stat
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import BinaryIO

from obelisk.errors import GalleryError
from obelisk.gallery.columns import WITHOUT_ROWID, describe_foreign_schema
from obelisk.gallery.connections import open_hardened
from obelisk.gallery.open_files import open_beside_sqlite, open_to_read
from obelisk.gallery.pages import HEADER_SIZE, FileHeader, ReadPage, Value, parse_file_header, read_rows
from obelisk.gallery.schema import (
    DATABASE,
    About,
    check_format,
    damage_error,
    not_ours_error,
    parse_about,
    rebuild_advice,
)
from obelisk.gallery.write_ahead_log import Commit, read_commits

SETTLED = 0.1  # s that nothing changes before a gallery is refused: others may be writing to it
LONGEST_WAIT = 60.0  # s
PAUSE = 0.01  # s
MOST_PAGES_OF_A_FILE = 1 << 32
LARGEST_TRIAL = 64 << 20  # bytes of a log that is tried on a copy; SQLite folds one in from 4 MiB on

Entries = Mapping[str, str]
"""The table ``about``: key → value."""


def refuse_strange_files(folder: Path) -> About | None:
    """Raise :class:`GalleryError` unless the files in the folder are a gallery's database, and its own log if any.

    Returns what the gallery says about itself, None if only SQLite can read it.
    """
    started = unchanged_since = time.monotonic()
    before = file_states(folder)
    while True:
        looked = time.monotonic()
        try:
            return look_at_files(folder)
        except (GalleryError, FileNotFoundError):
            # While somebody writes, the database and the log may be of different moments, or the log just folded in.
            found = file_states(folder)
            if (found == before and looked - unchanged_since > SETTLED) or looked - started > LONGEST_WAIT:
                raise
        if found != before:
            before, unchanged_since = found, time.monotonic()
        time.sleep(PAUSE)


def file_states(folder: Path) -> tuple[int, ...]:
    """Return what changes when one of the files does."""
    states: list[int] = []
    for path in database_files(folder):
        try:
            found = path.stat()
        except FileNotFoundError:
            states.append(0)
        else:
            states += (found.st_ino, found.st_size, found.st_mtime_ns)
    return tuple(states)


def database_files(folder: Path) -> tuple[Path, Path, Path]:
    """Return the paths of the database, its log and a journal, which lie beside the file that a link leads to."""
    path = folder / DATABASE
    path = path.resolve() if path.is_symlink() else path
    return path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-journal")


def look_at_files(folder: Path) -> About | None:
    """Raise :class:`GalleryError` for anything in the files, as they are now, that no gallery has."""
    path, log_path, journal = database_files(folder)
    with ExitStack() as opened:
        database = opened.enter_context(open_beside_sqlite(path))
        try:
            header = parse_file_header(database.read(HEADER_SIZE))
        except ValueError:
            header = None
        if header is None:
            raise not_ours_error(folder)
        check_format(header.application_id, header.user_version, folder)
        if holds_bytes(journal):
            fix = f"open it once with the program that left this file: `sqlite3 {shlex.quote(str(path))} .tables`"
            raise GalleryError("another program was interrupted while it changed the gallery", where=journal, fix=fix)
        log = opened.enter_context(open_to_read(log_path)) if holds_bytes(log_path) else None
        pages = Pages(database, log, header, folder)
        belongs = pages.log_belongs()
        if belongs is False:
            raise log_error("the log beside the database is of another database, or of another state of it", log_path)
        try:
            about = pages.read_sound_about()
        except ValueError as error:
            raise damage_error(str(error), folder) from error
        if belongs is None and not fits_in_a_copy(database, log_path, pages.about_of_file()):
            raise log_error("the log beside the database is of another database, or damaged", log_path)
    return about


def holds_bytes(path: Path) -> bool:
    """Return whether a file beside the database holds anything."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode):
        fix = f"move it away: `mv {shlex.quote(str(path))} {shlex.quote(str(path))}.old`"
        raise GalleryError("a file that SQLite would write to is no ordinary file", where=path, fix=fix)
    return found.st_size > 0


class Pages:
    """The pages of a database, as it is without its log, and after each transaction of the log."""

    def __init__(self, database: BinaryIO, log: BinaryIO | None, header: FileHeader, folder: Path) -> None:
        self.folder = folder
        self._database, self._log, self._header = database, log, header
        self._commits: list[Commit] = []
        self._latest: Commit = {}
        if log:
            try:
                self._commits = read_commits(log, header.page_size)
            except ValueError as error:
                raise log_error(f"the log cannot be read: {error}", database_files(folder)[1]) from error
        for commit in self._commits:
            self._latest |= commit

    def read(self, number: int) -> bytes:
        """Return a page as it is after the whole log."""
        return self._read_from_log(self._latest[number]) if number in self._latest else self._read_from_file(number)

    def _read_from_log(self, offset: int) -> bytes:
        assert self._log
        self._log.seek(offset)
        return self._log.read(self._header.page_size)

    def _read_from_file(self, number: int) -> bytes:
        if not 0 < number < MOST_PAGES_OF_A_FILE:
            raise ValueError(f"it refers to a page {number}")
        self._database.seek((number - 1) * self._header.page_size)
        return self._database.read(self._header.page_size)

    def log_belongs(self) -> bool | None:
        """Return whether the log belongs to the database; None if the log does not tell."""
        if not self._commits:
            return True
        root, found = self._about_root(), self.about_of_file()
        images = [self._read_from_log(commit[root]) for commit in self._commits if root in commit]
        alone = [defaultdict(bytes, {root: image}) for image in images]
        chain = [entries for page in alone if (entries := read_entries(page.__getitem__, root))]
        return continues(found, chain) if found and chain else None

    def about_of_file(self) -> Entries:
        """Return the entries of ``about`` in the file without its log, or none if they cannot be read."""
        return read_entries(self._read_from_file, self._about_root())

    def _about_root(self) -> int:
        """Return the number of the page of ``about`` in the file without its log, or 0 if there is none."""
        try:
            rows = list(read_rows(self._read_from_file, 1))
        except ValueError:
            return 0
        return next((row[3] for row in rows if row[1] == WITHOUT_ROWID and isinstance(row[3], int)), 0)

    def read_sound_about(self) -> About | None:
        """Return what ``about`` says, None if it has grown beyond a page.

        Raises :class:`GalleryError` for pages that are missing, a schema that is not ours, and an unusable ``about``,
        and ValueError if they cannot be read.
        """
        header = parse_file_header(self.read(1)[:HEADER_SIZE])
        if header is None:
            raise not_ours_error(self.folder)
        found = check_format(header.application_id, header.user_version, self.folder)
        self._refuse_truncated(header)
        rows = [(*row, *[None] * 5)[:5] for row in read_rows(self.read, 1)]
        strange = describe_foreign_schema(((*row[:3], row[4]) for row in rows), found)
        if strange:
            what = f"the database is not that of a gallery: it has {strange}"
            raise GalleryError(what, where=self.folder / DATABASE, fix="use a gallery that you trust")
        root = next(row[3] for row in rows if row[1] == WITHOUT_ROWID)
        entries = read_entries(self.read, root)
        return parse_about(entries, found, self.folder) if entries else None

    def _refuse_truncated(self, header: FileHeader) -> None:
        """Raise :class:`GalleryError` if a page is neither in the file nor in the log: SQLite would read zeros."""
        size = os.fstat(self._database.fileno()).st_size
        whole = size // self._header.page_size
        in_log = sum(number > whole for number in self._latest)
        if header.pages and header.pages > whole + in_log:
            what = f"the gallery is damaged: it has {size} of {header.pages * self._header.page_size} bytes"
            raise GalleryError(what, where=self.folder / DATABASE, fix=rebuild_advice(self.folder))


def log_error(what: str, log: Path) -> GalleryError:
    """Return the error for a log that SQLite must not apply."""
    aside = " ".join(shlex.quote(str(log.with_name(log.name[:-4] + ending))) for ending in ("-wal", "-shm"))
    fix = (
        f"if you put a backup back, the log is what was left of the former gallery: move it away, `mv {aside} "
        "ELSEWHERE`; if not, put back the database that it belongs to"
    )
    return GalleryError(what, where=log, fix=fix)


def read_entries(read_page: ReadPage, root: Value) -> Entries:
    """Return the entries of ``about``, or none if they cannot be read."""
    try:
        rows = list(read_rows(read_page, root)) if isinstance(root, int) and root > 0 else []
        return {key: value for key, value in rows if isinstance(key, str) and isinstance(value, str)}
    except ValueError:
        return {}


def continues(found: Entries, chain: Sequence[Entries]) -> bool:
    """Return whether a log, whose transactions left ``about`` as the chain says, belongs to a file where it is so.

    The first change to a gallery of an older format is the first that names its state; before, revisions are all that
    there is to go by.
    """
    if "state" in found:
        named = [entries for entries in chain if "state" in entries]
        return bool(named) and found["state"] in {named[0].get("state_before"), *(one["state"] for one in named)}
    revisions = [number_in(entries, "revision") for entries in (found, chain[0], chain[-1])]
    same = all(entries.get("fingerprint") == found.get("fingerprint") for entries in chain)
    return same and revisions[1] - 1 <= revisions[0] <= revisions[2] and not chain[0].get("state_before")


def number_in(entries: Entries, key: str) -> int:
    """Return a number of ``about``, or 0 if there is none."""
    value = entries.get(key, "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else 0


def fits_in_a_copy(database: BinaryIO, log: Path, found: Entries) -> bool:
    """Return whether a copy of the database and its log is a sound gallery, and no older than the database alone.

    That is the test of a log that another program wrote, or a version of Obelisk that did not name states.
    """
    if log.stat().st_size > LARGEST_TRIAL:
        return False
    with tempfile.TemporaryDirectory(prefix="obelisk.") as scratch:
        copy = Path(scratch, DATABASE)
        database.seek(0)
        with copy.open("wb") as file:
            shutil.copyfileobj(database, file)
        shutil.copyfile(log, copy.with_name(f"{DATABASE}-wal"))
        try:
            with closing(open_hardened(copy, "mode=rw", sqlite3.Connection)) as connection:
                (number,) = connection.execute("PRAGMA user_version").fetchone()
                schema = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
                if describe_foreign_schema(schema, number):
                    return False
                sound = connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)
                linked = not connection.execute("PRAGMA foreign_key_check").fetchone()
                after = dict(connection.execute("SELECT key, value FROM about"))
        except sqlite3.DatabaseError:
            return False
    same = all(after.get(key) == found[key] for key in ("fingerprint", "identity") if key in found)
    return sound and linked and same and number_in(after, "revision") >= number_in(found, "revision")
