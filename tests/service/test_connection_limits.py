"""What only a real connection shows: clients that keep others waiting, and what is no HTTP."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx2 as httpx
import pytest

HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
Connect = Callable[[], socket.socket]


@pytest.fixture
def address(run_server: Callable[..., str], built_gallery: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("obelisk.service.connection_limits.HEADER_SECONDS", 0.3)
    monkeypatch.setattr("obelisk.service.connection_limits.TAKING_SECONDS", 0.3)
    monkeypatch.setattr("obelisk.service.connection_limits.MOST_CONNECTIONS", 5)
    return run_server(built_gallery)


@pytest.fixture
def connect(address: str) -> Iterator[Connect]:
    host, port = address.removeprefix("http://").split(":")
    with ExitStack() as opened:
        yield lambda: opened.enter_context(socket.create_connection((host, int(port)), timeout=60))


def wait_for_end(client: socket.socket) -> None:
    """Wait until the service ends a connection."""
    with suppress(ConnectionResetError):
        while client.recv(10_000):
            pass


@pytest.mark.parametrize("sent", [b"", HEAD])
def test_a_request_that_does_not_come_is_not_waited_for(connect: Connect, sent: bytes) -> None:
    client = connect()
    client.sendall(sent)
    wait_for_end(client)


def test_the_next_request_of_a_connection_is_waited_for_no_longer(connect: Connect) -> None:
    client = connect()
    client.sendall(HEAD + b"\r\n")
    assert b"200 OK" in client.recv(10_000)
    client.sendall(HEAD)
    wait_for_end(client)


def test_too_many_connections_lose_the_oldest(connect: Connect, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obelisk.service.connection_limits.HEADER_SECONDS", 60)
    clients = [connect() for _ in range(12)]
    assert httpx.get(f"{address}/healthz", timeout=60).status_code == 200
    for client in clients[:8]:
        wait_for_end(client)
    clients[-1].sendall(HEAD + b"\r\n")
    assert b"200 OK" in clients[-1].recv(10_000)


def test_an_answer_that_is_not_taken_is_given_up(connect: Connect) -> None:
    client = connect()
    asked = b"GET /page/leaflet/leaflet.js HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def ask_until_the_end() -> None:
        while True:  # the buffers on the way fill, then the service gives up
            client.sendall(asked * 100)

    with pytest.raises((ConnectionError, TimeoutError)):
        ask_until_the_end()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01",
        HEAD + b"Host: evil.example\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /v1/recognize HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ],
)
def test_what_is_no_http_gets_a_problem(connect: Connect, sent: bytes) -> None:
    client = connect()
    client.sendall(sent)
    head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == 400
