"""The command itself, and what only a real connection shows."""

import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

Start = Callable[..., tuple["subprocess.Popen[str]", str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start ``obelisk serve`` on a free port; return the process and its address."""
    started: list[subprocess.Popen[str]] = []

    def run(*words: str, **environment: str) -> tuple[subprocess.Popen[str], str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "obelisk", "serve", "--port", str(port), *words]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
        started.append(process)
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                if httpx.get(f"{address}/readyz", timeout=60).status_code == 200:
                    return process, address
            except httpx.TransportError:
                assert process.poll() is None, process.stderr and process.stderr.read()
                time.sleep(0.1)
        raise AssertionError("the service did not start")

    yield run
    for process in started:
        process.kill()
        process.communicate(timeout=60)


def test_sigterm_answers_what_was_accepted(start: Start, built_gallery: Path, photos: list[Path]) -> None:
    process, address = start("--gallery", str(built_gallery))
    parts = [("photos", (photo.name, photo.read_bytes())) for photo in photos] * 8
    answers: list[httpx.Response] = []
    asking = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{address}/v1/recognize", files=parts, timeout=120))
    )
    asking.start()
    for _ in range(1200):
        if "obelisk_queue_photos 32.0" in httpx.get(f"{address}/metrics", timeout=60).text or answers:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    asking.join(120)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert len(answers[0].json()["answers"]) == 32


def test_workers_count_together_and_take_the_token(start: Start, built_gallery: Path, photos: list[Path]) -> None:
    process, address = start("--gallery", str(built_gallery), "--workers", "2")
    for _ in range(4):
        httpx.post(f"{address}/v1/recognize", files={"photos": photos[0].read_bytes()}, timeout=60).raise_for_status()
    counted = httpx.get(f"{address}/metrics", timeout=60).text
    assert re.search(r'obelisk_requests_total\{method="POST",route="/v1/recognize",status="200"\} 4.0', counted)
    process.send_signal(signal.SIGTERM)
    process.wait(60)


def test_the_bundled_gallery_is_never_changed() -> None:
    command = [sys.executable, "-m", "obelisk", "serve", "--allow-changes"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert refused.returncode == 2
    assert "the bundled gallery can't be changed" in refused.stderr


@pytest.fixture
def address(run_server: Callable[..., str], built_gallery: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A server in a thread of this process, at which bodies may take a fifth of a second."""
    monkeypatch.setattr("obelisk.service.uploads.READING_SECONDS", 0.2)
    return run_server(built_gallery).removeprefix("http://")


def test_a_body_that_drips_is_refused(address: str) -> None:
    host, port = address.split(":")
    head = "POST /v1/recognize HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 100\r\n\r\nx"
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(head.encode())
        assert b" 408 " in client.recv(100)


def test_a_client_that_hangs_up_leaves_nothing_behind(address: str, photos: list[Path]) -> None:
    host, port = address.split(":")
    head = "POST /v1/recognize HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 100\r\n\r\nx"
    for _ in range(5):
        with socket.create_connection((host, int(port)), timeout=60) as client:
            client.sendall(head.encode())
    answer = httpx.post(f"http://{address}/v1/recognize", files={"photos": photos[0].read_bytes()}, timeout=60)
    assert len(answer.json()["answers"]) == 1


def test_the_example_asks_a_service(
    address: str, photos: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["http_client.py", f"http://{address}", str(photos[0])])
    runpy.run_path(str(Path(__file__).resolve().parents[2] / "examples" / "http_client.py"))
    assert capsys.readouterr().out.startswith(str(photos[0]))
