"""Connections to PostgreSQL that stay open between two transactions, shared by the threads of a process."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
from psycopg import sql
from psycopg.adapt import Loader
from psycopg.pq import Format

from obelisk.gallery.address import DatabaseAddress
from obelisk.gallery.postgres.server_errors import translating_server_errors

Connection = psycopg.Connection[Any]

MOST_IDLE = 8  # connections kept open
CONNECT_SECONDS = 10
FIND_HALFVEC = (
    "SELECT t.oid, n.nspname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace"
    " JOIN pg_extension e ON e.extnamespace = n.oid WHERE e.extname = 'vector' AND t.typname = 'halfvec'"
)
# A commit that is not flushed may be lost after it was acknowledged.
FLUSH_COMMITS = (
    "SELECT CASE current_setting('synchronous_commit') WHEN 'off'"
    " THEN set_config('synchronous_commit', 'on', false) END"
)


class HalfvecLoader(Loader):
    """Loads a ``halfvec`` as the bytes that SQLite keeps: float16, little-endian."""

    format = Format.BINARY

    def load(self, data: Any) -> bytes:
        """Return the bytes without the header, swapped."""
        return np.frombuffer(data, dtype=">f2", offset=4).astype("<f2").tobytes()


class ConnectionPool:
    """Lends connections; those of another process, from before a fork, are left alone."""

    def __init__(self, address: DatabaseAddress) -> None:
        self.address = address
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._process = os.getpid()
        weakref.finalize(self, close_all, self._idle, self._process)

    @contextmanager
    def transaction(self, begin: str) -> Iterator[Connection]:
        """Run a block in a transaction that begins with this statement; the block commits, or all is rolled back."""
        with translating_server_errors(self.address):
            connection = self._begin(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(psycopg.Error):
                    connection.execute("ROLLBACK")
                self._give_back(connection)
                raise
            self._give_back(connection)

    def fetch(self, statement: str, values: Sequence[Any] | None = None) -> list[Any]:
        """Return what one statement finds at this moment, which is a transaction of its own."""
        with translating_server_errors(self.address):
            while True:
                connection, fresh = self._take()
                try:
                    found = connection.execute(statement, values, binary=True).fetchall()
                except psycopg.OperationalError:
                    if fresh or not connection.broken:
                        self._give_back(connection)
                        raise
                else:
                    self._give_back(connection)
                    return found

    def run(self, statement: str) -> None:
        """Run one statement that must not be in a transaction."""
        with translating_server_errors(self.address):
            connection = connect_to_server(self.address)
            try:
                connection.execute(statement)
            finally:
                connection.close()

    def _begin(self, statement: str) -> Connection:
        """Begin a transaction; a connection that broke while it was idle is replaced."""
        while True:
            connection, fresh = self._take()
            try:
                connection.execute(statement)
                return connection
            except psycopg.OperationalError:
                if fresh or not connection.broken:
                    self._give_back(connection)
                    raise

    def _take(self) -> tuple[Connection, bool]:
        """Return an idle connection or a new one, and whether it is new."""
        with self._lock:
            if self._process != os.getpid():
                self._idle, self._process = [], os.getpid()
            if self._idle:
                return self._idle.pop(), False
        return connect_to_server(self.address), True

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if not connection.closed and len(self._idle) < MOST_IDLE:
                self._idle.append(connection)
                return
        connection.close()


def close_all(connections: list[Connection], process: int) -> None:
    """Close the connections of this process."""
    if os.getpid() == process:
        for connection in connections:
            connection.close()


def connect_to_server(address: DatabaseAddress) -> Connection:
    """Connect to the database of a gallery."""
    given = psycopg.conninfo.conninfo_to_dict(address.url)
    options = {"connect_timeout": CONNECT_SECONDS, "application_name": "obelisk"} | given
    logger = logging.getLogger("psycopg")
    if not logger.handlers:  # else a lost connection is told on stderr, beside the error that says so
        logger.addHandler(logging.NullHandler())
    connection = psycopg.connect(**options, autocommit=True)  # type: ignore[arg-type]
    try:
        prepare_connection(connection, address.schema)
    except BaseException:
        connection.close()
        raise
    return connection


def prepare_connection(connection: Connection, schema: str) -> None:
    """Let a connection find the tables of a schema, and the type of the embeddings if the server has it."""
    connection.execute(FLUSH_COMMITS)
    found = connection.execute(FIND_HALFVEC).fetchone()
    schemas = [schema, *(found[1:] if found else ())]
    connection.execute(sql.SQL("SET search_path TO {}").format(sql.SQL(", ").join(map(sql.Identifier, schemas))))
    if found:
        connection.adapters.register_loader(found[0], HalfvecLoader)
