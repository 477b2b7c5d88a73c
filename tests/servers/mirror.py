"""A web server with a tiny Google Landmarks v2 that misbehaves on request."""

from __future__ import annotations

import hashlib
import io
import re
import socket
import struct
import tarfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong with one answer: another status, a reset after some bytes, silence before it, other bytes."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    reset_after: int | None = None
    end_after: int | None = None
    silence: float = 0.0
    body: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    moment: float


class Mirror:
    """The server; ``files`` and the faults waiting for each path may be changed at any time."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.faults: dict[str, list[Fault]] = {}
        self.ranges = self.etags = self.heads = True
        self.chunk, self.rest = 2**16, 0.0
        self.asked: list[Asked] = []
        self.sent: Counter[str] = Counter()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.make_handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def count(self, path: str, method: str = "GET") -> int:
        return sum(asked.path == path and asked.method == method for asked in self.asked)

    def make_handler(self) -> type[BaseHTTPRequestHandler]:
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words: object) -> None:
                pass

            def do_HEAD(self) -> None:
                mirror.note(self)
                data = mirror.files.get(self.path.lstrip("/"))
                self.send_response(501 if not mirror.heads else 404 if data is None else 200)
                self.send_header("Content-Length", str(len(data or b"") if mirror.heads else 0))
                self.end_headers()

            def do_GET(self) -> None:
                mirror.note(self)
                try:
                    mirror.answer(self)
                except (ConnectionError, TimeoutError):
                    self.close_connection = True

        return Handler

    def note(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(
            Asked(
                method=request.command,
                path=request.path.lstrip("/"),
                headers=dict(request.headers.items()),
                moment=time.monotonic(),
            )
        )

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.lstrip("/")
        waiting = self.faults.get(path)
        fault = waiting.pop(0) if waiting else Fault()
        time.sleep(fault.silence)
        data = fault.body if fault.body is not None else self.files.get(path)
        status = fault.status or (404 if data is None else 200)
        if status != 200:
            request.send_response(status)
            for name, value in {"Content-Length": "0", **fault.headers}.items():
                request.send_header(name, value)
            request.end_headers()
            return
        self.send(request, path, data or b"", fault)

    def send(self, request: BaseHTTPRequestHandler, path: str, data: bytes, fault: Fault) -> None:
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        start = 0
        found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if found and self.ranges and request.headers.get("If-Range") in (None, etag):
            start = int(found[1])
            if start >= len(data):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(data)}")
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            request.send_response(200)
        etags = {"ETag": etag} if self.etags else {}
        for name, value in {"Content-Length": str(len(data) - start), **etags, **fault.headers}.items():
            request.send_header(name, value)
        request.end_headers()
        limits = [limit for limit in (fault.reset_after, fault.end_after) if limit is not None]
        self.send_body(request, path, data[start : start + limits[0]] if limits else data[start:])
        if fault.reset_after is not None:
            # A reset takes away what the other side has not read yet; without lingering, closing sends one.
            time.sleep(0.05)
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if limits:
            request.close_connection = True

    def send_body(self, request: BaseHTTPRequestHandler, path: str, body: bytes) -> None:
        for place in range(0, len(body), self.chunk):
            piece = body[place : place + self.chunk]
            request.wfile.write(piece)
            self.sent[path] += len(piece)
            time.sleep(self.rest)


def draw_photo(seed: int, size: tuple[int, int] = (80, 60)) -> bytes:
    """Draw a JPEG of noise, which does not compress: about two bytes a pixel."""
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "JPEG", quality=95)
    return written.getvalue()


def name_photo(number: int) -> str:
    """Make an id as GLDv2 has them."""
    return hashlib.md5(str(number).encode()).hexdigest()[:16]


def place_photo(image_id: str) -> str:
    return f"{image_id[0]}/{image_id[1]}/{image_id[2]}/{image_id}.jpg"


def pack(members: dict[str, bytes]) -> bytes:
    """Make a tar."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return written.getvalue()


def put_tar(files: dict[str, bytes], split: str, number: int, tar: bytes) -> None:
    """Put a tar and its MD5 sum among a server's files."""
    name = f"images_{number:03}.tar"
    files[f"{split}/{name}"] = tar
    line = f"{hashlib.md5(tar).hexdigest()}  {name}\n"
    files[f"md5sum/{split}/md5.images_{number:03}.txt"] = line.encode()


def make_files(*, tars: int = 3, photos: int = 4, size: tuple[int, int] = (80, 60)) -> dict[str, bytes]:
    """Make the files of a small GLDv2: tars of train, one tar of test; two photos a landmark, a third of them clean."""
    files: dict[str, bytes] = {}
    ids = [name_photo(number) for number in range(tars * photos)]
    data = {image_id: draw_photo(number, size) for number, image_id in enumerate(ids)}
    for tar in range(tars):
        members = ids[tar * photos : (tar + 1) * photos]
        put_tar(files, "train", tar, pack({place_photo(image_id): data[image_id] for image_id in members}))
    files |= {f"commons/{image_id}.jpg": photo for image_id, photo in data.items()}
    queries = [name_photo(1000 + number) for number in range(photos)]
    tests = {place_photo(query): draw_photo(1000 + number, size) for number, query in enumerate(queries)}
    put_tar(files, "test", 0, pack(tests))
    landmarks = {image_id: number // 2 for number, image_id in enumerate(ids)}
    rows = [f"{image_id},ADDRESS/commons/{image_id}.jpg,{landmark}" for image_id, landmark in landmarks.items()]
    clean = [f"{landmark},{ids[2 * landmark]}" for landmark in range(0, len(ids) // 2, 3)]
    tables = {
        "train.csv": ["id,url,landmark_id", *rows],
        "train_clean.csv": ["landmark_id,images", *clean],
        "train_attribution.csv": ["id,url,author,license,title"],
        "train_label_to_category.csv": ["landmark_id,category"],
        "train_label_to_hierarchical.csv": ["landmark_id,category,supercategory,hierarchical_label"],
        "test.csv": ["id", *queries],
        "recognition_solution_v2.1.csv": ["id,landmarks,Usage", *(f"{query},,Public" for query in queries)],
        "retrieval_solution_v2.1.csv": ["id,images,Usage"],
    }
    return files | {f"metadata/{name}": ("\n".join(lines) + "\n").encode() for name, lines in tables.items()}


def open_mirror(**make: object) -> Mirror:
    """Start a server with a small GLDv2 whose tables give the server's own addresses."""
    files = make_files(**make)  # type: ignore[arg-type]
    mirror = Mirror(files)
    files["metadata/train.csv"] = files["metadata/train.csv"].replace(b"ADDRESS", mirror.url.encode())
    return mirror
