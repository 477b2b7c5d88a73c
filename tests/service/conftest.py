"""A gallery of made-up places, and a client of a service over it."""

import contextlib
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

import uvicorn
from starlette.testclient import TestClient

from obelisk.bundled import bundled_gallery
from obelisk.data import read_catalog
from obelisk.embedding import Bundle
from obelisk.gallery import build_gallery
from obelisk.service import ServiceSettings, create_app
from obelisk.service.connection_limits import server_options

TOKEN = "a token for tests"
Client = Callable[..., TestClient]


@pytest.fixture(scope="session")
def built_gallery(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = Bundle.load(bundled_gallery() / "model")
    return build_gallery(tmp_path_factory.mktemp("served") / "places", read_catalog(tiny_dataset), model).gallery.path


@pytest.fixture(scope="session")
def photos(tiny_dataset: Path) -> list[Path]:
    return sorted((tiny_dataset / "test").rglob("*.jpg"))[:4]


@pytest.fixture
def own_gallery(built_gallery: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(built_gallery, tmp_path / "own"))


@pytest.fixture
def make_client() -> Iterator[Client]:
    opened: list[TestClient] = []

    def make(gallery: Path, **settings: object) -> TestClient:
        app = create_app(ServiceSettings(galleries=(str(gallery),), token=TOKEN, **settings))  # type: ignore[arg-type]
        client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
        client.__enter__()
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_client: Client, built_gallery: Path) -> TestClient:
    return make_client(built_gallery)


@pytest.fixture
def changer(make_client: Client, own_gallery: Path) -> TestClient:
    """A client that may change its gallery, and says so."""
    client = make_client(own_gallery, allow_changes=True)
    client.headers["Authorization"] = f"Bearer {TOKEN}"
    return client


@pytest.fixture
def run_server() -> Iterator[Callable[..., str]]:
    """Run servers in threads of this process; a call returns the address of one."""
    with running_servers() as run:
        yield run


@contextlib.contextmanager
def running_servers() -> Iterator[Callable[..., str]]:
    """Yield what :func:`run_server` gives; stop the servers afterwards."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def run(gallery: Path, **settings: object) -> str:
        app = create_app(ServiceSettings(galleries=(str(gallery),), **settings))  # type: ignore[arg-type]
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, **server_options()))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield run
    for server, thread in running:
        server.should_exit = True
        thread.join(60)
