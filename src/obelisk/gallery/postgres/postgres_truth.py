"""The truth of a gallery in a PostgreSQL database."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from psycopg import sql

from obelisk.arrays import Embeddings, Integers
from obelisk.embedding import Bundle
from obelisk.embedding.user_cache import cache_folder
from obelisk.errors import GalleryError, ModelError
from obelisk.files import move_folder
from obelisk.gallery import schema
from obelisk.gallery.address import DatabaseAddress
from obelisk.gallery.ann.index_file import INDEX
from obelisk.gallery.columns import FORMAT, MAX_DIMENSIONS
from obelisk.gallery.embeddings import join_blobs, normalize_stored
from obelisk.gallery.models import adopt_attachments
from obelisk.gallery.postgres.pool import Connection, ConnectionPool, prepare_connection
from obelisk.gallery.postgres.postgres_tables import PostgresTables, creating_statements, with_values
from obelisk.gallery.postgres.server_errors import missing_gallery_error
from obelisk.gallery.schema import About
from obelisk.gallery.sqlite_check import check_links
from obelisk.gallery.truth import State

BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# Who writes holds this row from the beginning, so rows of photos are drawn, and seen, in the order of the commits.
LOCK = "SELECT value FROM about WHERE key = 'revision' FOR UPDATE"
LIMITS = "SET LOCAL lock_timeout = '60s'; SET LOCAL idle_in_transaction_session_timeout = '10min'"
STATE = (
    "SELECT (SELECT value FROM about WHERE key = 'identity'), (SELECT value FROM about WHERE key = 'state'),"
    " pg_postmaster_start_time()::text, coalesce(inet_server_addr()::text, '')"
)
MAY_WRITE = "SELECT NOT pg_is_in_recovery() AND has_table_privilege('photos', 'INSERT')"
MODEL_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,93}")
MANIFEST = "bundle.json"
BESIDE = "gallery/"  # begins the names of files that are the gallery's, not its model's
PUT_FILE = "INSERT INTO model_files VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET content = excluded.content"
MOST_HALFVEC = 16_000  # dimensions, pgvector's limit


class PostgresTruth:
    """The truth of a gallery in PostgreSQL; see :class:`~obelisk.gallery.truth.Truth`."""

    folder = None

    def __init__(self, address: DatabaseAddress) -> None:
        self.address = address
        self.pool = ConnectionPool(address)

    @property
    def name(self) -> str:
        """How the gallery is called: its address without a password."""
        return self.address.shown

    def create(self, about: About, bundle: Bundle) -> None:
        """Make the tables of an empty gallery, and put the files of its model there: all or nothing."""
        if about.dimensions > min(MOST_HALFVEC, MAX_DIMENSIONS):
            what = f"the model gives {about.dimensions} dimensions, PostgreSQL takes {MOST_HALFVEC}"
            raise GalleryError(what, where=self.name, fix="keep this gallery in a folder")
        with self.pool.transaction("BEGIN") as connection:
            tables = PostgresTables(connection, self.address)
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self.address.schema)))
            self._provide_vectors(connection)
            if connection.execute("SELECT to_regclass('about')").fetchone() != (None,):
                raise GalleryError(
                    "there is a gallery already", where=self.name, fix="name another schema: ?schema=NAME"
                )
            for statement in creating_statements(about.dimensions):
                tables.execute(statement)
            schema.write_about(tables, about)
            tables.executemany("INSERT INTO about VALUES (?, ?)", [("format", str(FORMAT)), ("revision", "0")])
            put_model(tables, bundle)

    def _provide_vectors(self, connection: Connection) -> None:
        """Make sure that the database has the type ``halfvec``."""
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public")
        prepare_connection(connection, self.address.schema)
        if connection.execute("SELECT to_regtype('halfvec')").fetchone() == (None,):
            fix = "update it to 0.7 or newer, then `ALTER EXTENSION vector UPDATE`"
            raise GalleryError("the extension pgvector of the database is too old", where=self.name, fix=fix)

    def discard(self) -> None:
        """Remove the tables of a gallery that was never finished."""
        with self.pool.transaction("BEGIN") as connection:
            tables = "model_files, calibration, embeddings, photos, folders, landmarks, about"
            connection.execute(f"DROP TABLE IF EXISTS {tables}")

    def exists(self) -> bool:
        """Return whether there is a gallery, finished or not."""
        return bool(self.pool.fetch("SELECT to_regclass('about') IS NOT NULL")[0][0])

    def about(self) -> About:
        """Return what the gallery says about itself; raise :class:`GalleryError` if there is none."""
        if not self.exists():
            raise missing_gallery_error(self.address)
        with self.reading() as tables:
            return schema.about_of(tables)

    @contextmanager
    def reading(self) -> Iterator[PostgresTables]:
        """Begin a transaction that sees one moment."""
        with self.pool.transaction(BEGIN_READING) as connection:
            yield PostgresTables(connection, self.address)

    @contextmanager
    def writing(self) -> Iterator[PostgresTables]:
        """Begin a transaction that changes the gallery; it waits for its turn."""
        with self.pool.transaction("BEGIN") as connection:
            connection.execute(LIMITS)
            connection.execute(LOCK)
            tables = PostgresTables(connection, self.address)
            tables.migrate(schema.about_of(tables).dimensions)
            yield tables
            schema.sign_change(tables)

    @contextmanager
    def locking_builds(self) -> Iterator[bool]:
        """Hold the gallery's build lock; yield False if another build holds it."""
        key = int.from_bytes(blake2b(f"build {self.address.schema}".encode(), digest_size=8).digest(), signed=True)
        with self.pool.transaction("BEGIN") as connection:
            (acquired,) = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (key,)).fetchone() or (False,)
            yield bool(acquired)

    def may_write(self) -> bool:
        """Return whether the gallery may be changed."""
        return bool(self.pool.fetch(MAY_WRITE)[0][0])

    def state(self) -> State:
        """Return which gallery of which server this is, and its state."""
        identity, state, started, server = self.pool.fetch(STATE)[0]
        # Another server, or one that was started again, may have lost changes that a reader has seen.
        return (identity, started, server), state

    def shows_later_changes(self, state: State) -> bool:
        """Return True: every change gives the gallery a new state."""
        return True

    def reader(self, dimensions: int) -> PostgresRowReader:
        """Return a reader of rows, whose embeddings have D dimensions."""
        return PostgresRowReader(self.pool, dimensions)

    def load_bundle(self, about: About) -> Bundle:
        """Load the gallery's copy of its model, which is kept in the user's cache, by fingerprint."""
        with self.reading() as tables:
            found = tables.execute("SELECT content FROM model_files WHERE name = ?", (MANIFEST,)).fetchone()
            if not found:
                what = f"the gallery's model `{about.model}` (fingerprint {about.fingerprint}) is missing"
                raise ModelError(what, where=self.name, fix="put back a backup of the database")
            digest = blake2b(found[0], digest_size=8).hexdigest()
            folder = cache_folder() / "models" / f"{about.fingerprint}-{digest}"
            if not (folder / MANIFEST).is_file():
                folder.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".model.") as made:
                    get_model(tables, Path(made) / "model")
                    try:
                        move_folder(Path(made) / "model", folder)
                    except OSError:  # another process was faster
                        if not (folder / MANIFEST).is_file():
                            raise
        return Bundle.load(folder)

    def adopt_attachments(self, about: About, bundle: Bundle) -> None:
        """Bring the gallery's copy of its model up to date."""
        own = self.load_bundle(about)
        if own.manifest.files | bundle.manifest.files == own.manifest.files:
            return
        with tempfile.TemporaryDirectory(prefix="obelisk.") as made:
            copy = own.save_to(Path(made) / "model")
            adopt_attachments(copy, bundle)
            with self.writing() as tables:
                put_model(tables, Bundle.load(copy.folder))

    def read_file(self, name: str, largest: int) -> bytes | None:
        """Return a file that was kept beside the tables, or None."""
        select = "SELECT content FROM model_files WHERE name = %s AND length(content) <= %s"
        found = self.pool.fetch(select, (BESIDE + name, largest))
        return found[0][0] if found else None

    def write_file(self, name: str, content: bytes) -> None:
        """Keep a file beside the tables."""
        with self.writing() as tables:
            tables.execute(PUT_FILE, (BESIDE + name, content))

    def index_paths(self) -> list[Path]:
        """Return where this machine keeps the search index: in the user's cache."""
        with self.reading() as tables:
            identity = schema.read_identity(tables)
        name = blake2b(identity.encode(), digest_size=16).hexdigest()
        return [cache_folder() / "galleries" / name / INDEX]

    def count_rows_at_most(self, dimensions: int) -> int:
        """Return the most rows that an index of the gallery can sensibly have."""
        return int(self.pool.fetch("SELECT coalesce(max(row), 0) FROM photos")[0][0])

    def check_tables(self, dimensions: int) -> Iterator[str]:
        """Yield one sentence for each problem of what the server does not check by itself."""
        with self.reading() as tables:
            yield from check_links(tables, dimensions)

    def count_bytes(self) -> int:
        """Return the bytes of the tables and their indexes."""
        size = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class"
        return int(
            self.pool.fetch(
                f"{size} WHERE relkind = 'r' AND relnamespace = to_regnamespace(%s)",
                (quote_identifier(self.address.schema),),
            )[0][0]
        )


class PostgresRowReader:
    """Reads rows by their numbers, each time from the gallery as it is at that moment."""

    def __init__(self, pool: ConnectionPool, dimensions: int) -> None:
        self._pool, self._dimensions = pool, dimensions

    @contextmanager
    def asking(self) -> Iterator[AskedServer]:
        """Return what asks the server."""
        yield AskedServer(self._pool)

    def read(self, rows: Sequence[int]) -> tuple[Integers, Embeddings]:
        """Return those of the rows that the gallery has, ascending, and their unit-norm embeddings (M, D)."""
        select = "SELECT row, vector FROM embeddings WHERE row = ANY(%s) ORDER BY row"
        found = self._pool.fetch(select, (list(rows),)) if len(rows) else []
        numbers, blobs = zip(*found, strict=True) if found else ((), ())
        place = self._pool.address.shown
        stored = join_blobs(blobs, (len(found), self._dimensions), place)
        return np.array(numbers, dtype=np.int64), normalize_stored(stored, place)


class AskedServer:
    """Answers each statement in a transaction of its own; see :class:`~obelisk.gallery.truth.Asked`."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool, self.place = pool, pool.address.shown

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> list[Any]:
        """Return the rows that a statement finds."""
        return self._pool.fetch(*with_values(statement, values))


def put_model(tables: PostgresTables, bundle: Bundle) -> None:
    """Write the files of a bundle to the database."""
    with tempfile.TemporaryDirectory(prefix="obelisk.") as made:
        copy = bundle.save_to(Path(made) / "model")
        for file in sorted(copy.folder.iterdir()):
            tables.execute(PUT_FILE, (file.name, file.read_bytes()))


def get_model(tables: PostgresTables, folder: Path) -> None:
    """Write the files of the gallery's model to a new folder."""
    folder.mkdir()
    for name, content in tables.stream("SELECT name, content FROM model_files ORDER BY name"):
        if name.startswith(BESIDE):
            continue
        if not MODEL_FILE.fullmatch(name):
            raise ModelError(f"a file of the gallery's model is called {name[:100]!r}", where=tables.place)
        (folder / name).write_bytes(content)


def quote_identifier(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'
