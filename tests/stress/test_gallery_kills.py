"""Processes that write to a gallery and are killed at any moment: nothing that they acknowledged is lost."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from obelisk.cli.gallery import gallery_app
from obelisk.embedding import Bundle, Embedded
from obelisk.gallery import Gallery, check_gallery, database
from obelisk.gallery import add as additions
from obelisk.photos import content_hash, read_bytes

pytestmark = pytest.mark.stress

D = 64
WRITERS = 4
KILLS = 200
LEAST_BUILD_KILLS = 5
PHOTOS = 60
COMMIT_EVERY = 4


class TinyEmbedder:
    """Stands in for the runtime: rows drawn from the photo's content; notes each photo in a file beside its bundle."""

    computes_with = "noise"

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._log = bundle.folder.with_suffix(".embedded")

    def embed(self, sources: Iterable[Path]) -> Iterator[Embedded]:
        for path in sources:
            digest = content_hash(read_bytes(path))
            row = np.random.default_rng(int(digest, 16)).normal(size=D).astype(np.float32)
            with self._log.open("a") as log:
                log.write(f"{path}\n")
            yield Embedded(path=path, content_hash=digest, embedding=row)


def run_command(words: list[str], output: Path, ready: Event) -> None:
    """Run ``obelisk gallery`` with the tiny model and small batches, its output into a file."""
    for module in (additions, sys.modules["obelisk.gallery.build_gallery"]):
        module.Embedder = TinyEmbedder  # type: ignore[misc, assignment]
    for module in (additions, sys.modules["obelisk.gallery.follow_plan"]):
        module.COMMIT_EVERY = COMMIT_EVERY
    os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), 1)
    app = typer.Typer()
    app.add_typer(gallery_app)
    ready.set()
    app(["gallery", *words])


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that have all modules at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["obelisk.gallery", "obelisk.cli.gallery", "obelisk.data", "PIL.Image", "pytest"])
    return context


@pytest.fixture
def bundle(tmp_path: Path, write_any_bundle: Callable[..., Bundle]) -> Bundle:
    return write_any_bundle(tmp_path / "model", b"drawn from the content", resize="squash", dimensions=D)


def save_photos(folder: Path, count: int, seed: int) -> None:
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(seed).integers(0, 256, size=(count, 8, 8, 3), dtype=np.uint8)
    for number, values in enumerate(pixels):
        Image.fromarray(values).save(folder / f"{number:03}.png")


def start_command(processes: ForkServerContext, words: list[str], output: Path) -> BaseProcess:
    """Start a process that runs a command, and wait until it does."""
    ready = processes.Event()
    process = processes.Process(target=run_command, args=(words, output, ready))
    process.start()
    assert ready.wait(60)
    return process


def kill_after(process: BaseProcess, seconds: float) -> bool:
    """Kill a process unless it ends before that; say whether it was killed."""
    process.join(max(0.0, seconds))
    process.kill()
    process.join(60)
    return process.exitcode != 0


def acknowledged(output: Path) -> dict[str, str]:
    """Return the photos whose lines were printed whole, id → landmark."""
    text = output.read_text() if output.exists() else ""
    return dict(re.findall(r"added as `(.+)` of `(.+)` \(id \d+\)\n", text))


def shown(path: Path) -> dict[str, str]:
    with database.reading(path) as connection:
        return dict(connection.execute("SELECT p.id, l.name FROM photos p JOIN landmarks l ON l.id = p.landmark_id"))


def test_no_acknowledged_photo_is_lost_in_200_kills(
    tmp_path: Path, bundle: Bundle, processes: ForkServerContext
) -> None:
    city = Gallery.create(tmp_path / "city", bundle).path
    rng = random.Random(0)
    safe: dict[str, str] = {}
    killed = started = 0
    whole = 60.0  # seconds that the writers take if they are let; the first are, and show it
    while killed < KILLS:
        outputs = [tmp_path / f"output {started + number}" for number in range(WRITERS)]
        writers = [start_writer(processes, city, started + number, output) for number, output in enumerate(outputs)]
        begun = time.monotonic()
        moments = sorted(rng.uniform(0.0, whole) if started else whole for _ in writers)
        for writer, moment in zip(writers, moments, strict=True):
            killed += kill_after(writer, begun + moment - time.monotonic())
        whole = whole if started else time.monotonic() - begun
        started += WRITERS
        for output in outputs:
            safe |= acknowledged(output)
        found = shown(city)
        assert {photo: found.get(photo) for photo in safe} == safe
        assert check_gallery(city) == []
    assert len(Gallery.open(city)) >= len(safe) > 0
    print(f"{killed} of {started} writers killed; {len(safe)} photos acknowledged, 0 lost, {len(found)} there")


def start_writer(processes: ForkServerContext, city: Path, number: int, output: Path) -> BaseProcess:
    folder = output.with_name(f"photos {number}")
    save_photos(folder, PHOTOS, seed=number)
    return start_command(processes, ["add", str(city), str(folder), "--landmark", f"place {number % 10}"], output)


def test_a_build_killed_again_and_again_loses_one_batch_a_time(
    tmp_path: Path, bundle: Bundle, processes: ForkServerContext
) -> None:
    for number in range(10):
        save_photos(tmp_path / "places" / f"place {number}", 180, seed=number)
    city, growing, log = tmp_path / "city", tmp_path / "city.partial", bundle.folder.with_suffix(".embedded")
    words = ["build", str(city), "--data", str(tmp_path / "places"), "--model", str(bundle.folder)]
    rng = random.Random(1)
    log.touch()  # a build that is killed before its first batch leaves none
    kept = kills = 0
    while not city.exists():
        process = start_command(processes, words, tmp_path / "output")
        if not kill_after(process, rng.uniform(0.0, 0.5)) or not growing.exists():
            continue
        kills += 1
        there = len(shown(growing))
        assert there >= kept, "what was kept stays"
        kept = there
        assert len(log.read_text().splitlines()) <= kept + kills * COMMIT_EVERY
    assert len(Gallery.open(city)) == 1800
    assert check_gallery(city) == []
    assert kills >= LEAST_BUILD_KILLS, "the build was over before it was killed often enough"
    print(f"{kills} kills; {len(log.read_text().splitlines())} photos embedded for 1800")


def add_one_by_one(path: Path, writer: int, count: int) -> None:
    gallery = Gallery.open(path)
    for number in range(count):
        digest = hashlib.md5(f"{writer} {number}".encode()).digest()
        rows = np.random.default_rng(list(digest)).normal(size=(2, D))
        gallery.add(rows, [f"place {writer}"] * 2, [f"{writer} {number} {half}" for half in "ab"])


def test_eight_processes_add_a_thousand_times_each(
    tmp_path: Path, bundle: Bundle, processes: ForkServerContext
) -> None:
    city = Gallery.create(tmp_path / "city", bundle).path
    writers = [processes.Process(target=add_one_by_one, args=(city, writer, 1000)) for writer in range(8)]
    begun = time.monotonic()
    for writer in writers:
        writer.start()
    readings = 0
    while any(writer.is_alive() for writer in writers):
        assert time.monotonic() < begun + 3600
        with database.reading(city) as connection:
            counts = connection.execute("SELECT count(*) FROM photos GROUP BY landmark_id").fetchall()
        assert all(count % 2 == 0 for (count,) in counts), "half a batch was seen"
        readings += 1
        time.sleep(0.05)
    assert [writer.exitcode for writer in writers] == [0] * 8
    assert len(shown(city)) == 16000
    assert check_gallery(city) == []
    print(f"8,000 additions in {time.monotonic() - begun:.0f} s beside {readings} readings")
