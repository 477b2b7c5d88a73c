"""A gallery in a folder: ``gallery.sqlite`` and ``model/``."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from hashlib import blake2b
from pathlib import Path

from obelisk.arrays import Embeddings, Integers
from obelisk.bundled import name_gallery
from obelisk.embedding import Bundle
from obelisk.embedding.user_cache import cache_folder
from obelisk.errors import ModelError
from obelisk.files import growing_beside, move_folder, read_limited, replace_file
from obelisk.gallery import database, schema
from obelisk.gallery.ann.index_file import INDEX
from obelisk.gallery.embeddings import normalize_stored, pick_embeddings
from obelisk.gallery.models import adopt_attachments
from obelisk.gallery.schema import About
from obelisk.gallery.sqlite_check import check_database
from obelisk.gallery.sqlite_tables import SqliteTables
from obelisk.gallery.truth import State

MODEL = "model"


class SqliteTruth:
    """The truth of a gallery on one machine; see :class:`~obelisk.gallery.truth.Truth`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        """How the gallery is called: ``bundled``, or its path."""
        return name_gallery(self.folder)

    def create(self, about: About, bundle: Bundle) -> None:
        """Write an empty gallery; its folder appears complete or not at all."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=growing_beside(self.folder), prefix=f".{self.folder.name}.") as made:
            folder = Path(made) / self.folder.name
            bundle.save_to(folder / MODEL)
            database.create_database(folder, about)
            move_folder(folder, self.folder)

    def exists(self) -> bool:
        """Return whether the folder looks like a gallery's."""
        return (self.folder / MODEL).is_dir()

    def about(self) -> About:
        """Return what the gallery says about itself; raise :class:`GalleryError` if there is none."""
        return database.read_about(self.folder)

    def reading(self) -> AbstractContextManager[SqliteTables]:
        """Begin a transaction that sees one moment; works on read-only folders, too."""
        return database.reading(self.folder)

    def writing(self) -> AbstractContextManager[SqliteTables]:
        """Begin a transaction that changes the gallery."""
        return database.writing(self.folder)

    def may_write(self) -> bool:
        """Return whether the gallery may be changed; the bundled one never may."""
        return database.may_write(self.folder)

    def state(self) -> State:
        """Return the state of the files."""
        return database.stat_database(self.folder)

    def shows_later_changes(self, state: State) -> bool:
        """Return whether a change made from now on is sure to show in :meth:`state`."""
        return database.shows_later_changes(state)

    def reader(self, dimensions: int) -> SqliteRowReader:
        """Return a reader of rows, whose embeddings have D dimensions."""
        return SqliteRowReader(self.folder, dimensions)

    def load_bundle(self, about: About) -> Bundle:
        """Load the gallery's own copy of its model; raise :class:`ModelError` if it is damaged or missing."""
        folder = self.folder / MODEL
        if not folder.is_dir():
            what = f"the gallery's model `{about.model}` (fingerprint {about.fingerprint}) is missing"
            raise ModelError(what, where=folder, fix="put the folder back: a backup of the gallery has it")
        return Bundle.load(folder)

    def adopt_attachments(self, about: About, bundle: Bundle) -> None:
        """Bring the gallery's copy of its model up to date."""
        adopt_attachments(self.load_bundle(about), bundle)

    def read_file(self, name: str, largest: int) -> bytes | None:
        """Return a file of the folder, or None; raise OSError if it can't be read, or is larger."""
        path = self.folder / name
        return read_limited(path, largest) if path.is_file() else None

    def write_file(self, name: str, content: bytes) -> None:
        """Write a file of the folder."""
        replace_file(self.folder / name, lambda partial: partial.write_bytes(content))

    def index_paths(self) -> list[Path]:
        """Return the paths where a search index may lie; the last is in the cache if the gallery is read-only."""
        if self.may_write():
            return [self.folder / INDEX]
        name = blake2b(str(self.folder.resolve()).encode(), digest_size=16).hexdigest()
        return [self.folder / INDEX, cache_folder() / "galleries" / name / INDEX]

    def count_rows_at_most(self, dimensions: int) -> int:
        """Return the most rows that an index of the gallery can sensibly have."""
        with self.reading() as connection:
            (last,) = connection.execute("SELECT max(row) FROM photos").fetchone()
        # A photo takes more bytes than its embedding, and an index holds at most twice the photos.
        size = database.stat_database(self.folder)[2]
        return min(last or 0, 2 * size // (schema.STORED.itemsize * dimensions))

    def check_tables(self, dimensions: int) -> Iterator[str]:
        """Yield one sentence for each problem of the tables and of the embeddings in them."""
        with self.reading() as connection:
            yield from check_database(connection, dimensions)

    def count_bytes(self) -> int:
        """Return the number of bytes in all files of the folder."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())


class SqliteRowReader:
    """Reads rows by their numbers, each time from the gallery as it is at that moment.

    Its connection stays open if the database may be written to, because opening one takes longer than searching a
    million photos. Threads may share a reader.
    """

    def __init__(self, folder: Path, dimensions: int) -> None:
        self.folder, self.dimensions = folder, dimensions
        self._lock = threading.Lock()
        self._connection: SqliteTables | None = None
        self._process = 0

    def read(self, rows: Sequence[int]) -> tuple[Integers, Embeddings]:
        """Return those of the rows that the gallery has, ascending, and their unit-norm embeddings (M, D)."""
        with self.asking() as connection:
            found, stored = pick_embeddings(connection, rows, self.dimensions)
        return found, normalize_stored(stored, self.folder)

    @contextmanager
    def asking(self) -> Iterator[SqliteTables]:
        """Return the connection that stays open, or one for this block."""
        with self._lock, database.translating_errors(self.folder):
            connection = self._open()
            if connection:
                yield connection
            else:
                with database.reading(self.folder) as connection:
                    yield connection

    def _open(self) -> SqliteTables | None:
        """Return this process's connection, or None if it must not stay open."""
        if self._process != os.getpid():  # a connection does not survive a fork
            connection, mode = database.open_snapshot(self.folder)
            connection.execute("COMMIT")
            if mode == database.IMMUTABLE:
                connection.close()
                return None
            weakref.finalize(self, connection.close)
            self._connection, self._process = connection, os.getpid()
        return self._connection
