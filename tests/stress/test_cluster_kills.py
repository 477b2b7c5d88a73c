"""Kills of the database server, of writers and of pushes lose nothing that was acknowledged."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
from tests.cluster.conftest import DIMENSIONS, Server, bundle, server, url

from obelisk.embedding import Bundle
from obelisk.errors import GalleryError
from obelisk.gallery import Gallery, check_gallery, open_truth, push_gallery
from obelisk.gallery.push import BATCH

pytestmark = pytest.mark.stress

__all__ = ["bundle", "server", "url"]  # fixtures

SEED = int(os.environ.get("OBELISK_STRESS_SEED", "0"))
KILLS = int(os.environ.get("OBELISK_KILLS", "200"))
WRITERS = 4
BATCHES_OF_A_WRITER, PHOTOS_OF_A_BATCH = 100, 10
# Adds one photo after the other and prints each once it is acknowledged; what fails is tried again.
WRITER = f"""
import sys, time
import numpy as np
from obelisk.errors import GalleryError
from obelisk.gallery import Gallery
url, name = sys.argv[1:]
rng = np.random.default_rng(hash(name) % 2**32)
number = 0
while True:
    row = rng.normal(size=(1, {DIMENSIONS}))
    while True:
        try:
            gallery = Gallery.open(url) if number == 0 else gallery
            gallery.add(row, ["L" + name], [f"{{name}}.{{number}}"], replace=True)
            break
        except GalleryError as error:
            assert error.exit_code == 1, error
            time.sleep(0.05)
    print(f"{{name}}.{{number}}", flush=True)
    number += 1
"""


def start_writer(url: str, name: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen([sys.executable, "-c", WRITER, url, name], stdout=out)


def kill_a_backend(server: Server) -> None:
    """Kill the process that serves a client: PostgreSQL then ends all others at once, and recovers from its log."""
    with contextlib.suppress(Exception):
        found = server.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'obelisk' LIMIT 1")
        for (pid,) in found:
            os.kill(int(str(pid)), signal.SIGKILL)


def wait_for_more(log: Path, count: int, seconds: float = 60) -> None:
    """Wait until so many more photos were acknowledged: kills come while writers write, however slow the machine is."""
    enough = log.read_bytes().count(b"\n") + count
    started = time.monotonic()
    while log.read_bytes().count(b"\n") < enough and time.monotonic() - started < seconds:
        time.sleep(0.02)


@pytest.fixture
def writers(url: str, bundle: Bundle, tmp_path: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    Gallery.create(url, bundle)
    running = {f"w{n}": start_writer(url, f"w{n}", tmp_path / "acknowledged") for n in range(WRITERS)}
    yield running
    for writer in running.values():
        writer.kill()
        writer.wait(timeout=60)


def until_done(act: Callable[[], object], seconds: float = 60) -> object:
    """Try again while the server recovers."""
    started = time.monotonic()
    while True:
        try:
            return act()
        except GalleryError as error:
            if error.exit_code != 1 or time.monotonic() - started > seconds:
                raise
            time.sleep(0.1)


def test_no_acknowledged_photo_is_lost(
    server: Server, url: str, writers: dict[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    reader = Gallery.open(url)
    for kill in range(KILLS):
        wait_for_more(tmp_path / "acknowledged", 1 + rng.randrange(4))
        time.sleep(rng.uniform(0.0, 0.1))
        if kill % 2:
            kill_a_backend(server)
        else:
            name = rng.choice(sorted(writers))
            writers[name].kill()
            writers[name].wait(timeout=60)
            new = f"w{kill + WRITERS}"
            del writers[name]
            writers[new] = start_writer(url, new, tmp_path / "acknowledged")
        if kill % 10 == 9:
            until_done(reader.references)
    for writer in writers.values():
        writer.kill()
        writer.wait(timeout=60)
    acknowledged = (tmp_path / "acknowledged").read_text().split()
    photos = {photo.id for photo in until_done(lambda: Gallery.open(url).photos)}  # type: ignore[attr-defined]
    print(f"{KILLS} kills, {len(acknowledged)} acknowledged, {len(set(acknowledged) - photos)} lost")
    assert len(acknowledged) > KILLS
    assert set(acknowledged) <= photos
    assert check_gallery(url) == []


BATCHES = f"""
import sys
import numpy as np
from obelisk.gallery import Gallery
gallery, name = Gallery.open(sys.argv[1]), sys.argv[2]
for batch in range({BATCHES_OF_A_WRITER}):
    rows = np.random.default_rng([int(name), batch]).normal(size=({PHOTOS_OF_A_BATCH}, {DIMENSIONS}))
    ids = [f"{{name}}.{{batch}}.{{one}}" for one in range({PHOTOS_OF_A_BATCH})]
    gallery.add(rows, ["L" + name] * {PHOTOS_OF_A_BATCH}, ids)
"""


def test_readers_beside_eight_writers_see_whole_batches(url: str, bundle: Bundle) -> None:
    Gallery.create(url, bundle)
    writers = [subprocess.Popen([sys.executable, "-c", BATCHES, url, str(n)]) for n in range(8)]
    readers, looks, before = [Gallery.open(url) for _ in range(2)], 0, 0
    while any(writer.poll() is None for writer in writers):
        for reader in readers:
            found = reader.references()
            ids = [photo.id.rpartition(".")[0] for photo in found.photos(range(before, len(found)))]
            assert all(ids.count(batch) == PHOTOS_OF_A_BATCH for batch in set(ids)), "no half batch"
            looks += 1
        before = len(found)
    assert [writer.returncode for writer in writers] == [0] * 8
    print(f"{looks} looks, {len(readers[0])} photos")
    assert len(readers[0]) == 8 * BATCHES_OF_A_WRITER * PHOTOS_OF_A_BATCH
    assert check_gallery(url) == []


PUSH = """
import sys
from obelisk.gallery import Gallery, open_truth, push_gallery
push_gallery(Gallery.open(sys.argv[1]), open_truth(sys.argv[2]), recall=False)
"""
ROWS = int(os.environ.get("OBELISK_PUSHED_ROWS", "100000"))


def count_commits(server: Server, url: str) -> int:
    """Return how many changes a gallery in the database has seen; 0 before it is made."""
    with contextlib.suppress(psycopg.errors.UndefinedTable):
        schema = url.rpartition("=")[2]
        found = server.execute(f"SELECT value FROM {schema}.about WHERE key = 'revision'")
        return int(str(found[0][0]))
    return 0


def test_a_push_killed_ten_times_ends_with_the_same_content(
    server: Server, url: str, tmp_path: Path, write_any_bundle: Callable[..., Bundle]
) -> None:
    wide = write_any_bundle(tmp_path / "wide", dimensions=512)
    gallery = Gallery.create(tmp_path / "city", wide)
    draw = np.random.default_rng(0)
    for start in range(0, ROWS, 20_000):
        count = min(20_000, ROWS - start)
        names = [f"L{(start + n) // 20}" for n in range(count)]
        gallery.add(draw.normal(size=(count, 512)), names, [f"p{start + n}" for n in range(count)])
    rng, batches, kills = random.Random(SEED), ROWS // BATCH, 0
    while kills < 10:
        before = count_commits(server, url)
        pushing = subprocess.Popen([sys.executable, "-c", PUSH, str(gallery.path), url])
        wanted = before + rng.randint(1, max(1, batches // 10))
        deadline = time.monotonic() + 600
        while pushing.poll() is None and count_commits(server, url) < wanted:
            assert time.monotonic() < deadline
            time.sleep(rng.uniform(0.0, 0.05))
        if pushing.poll() is not None:
            break
        pushing.kill()
        pushing.wait(timeout=60)
        kills += 1
    started = time.perf_counter()
    done = push_gallery(gallery, open_truth(url), recall=ROWS <= 200_000)
    print(f"{kills} kills; then {done.new} new, {done.unchanged} there: {time.perf_counter() - started:.1f} s")
    assert kills == 10
    assert done.same
    assert done.unchanged > 0
    assert (done.photos, done.more) == (ROWS, 0)


@pytest.fixture
def small_disk(server: Server, tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB, which the server knows as the tablespace `small`."""
    place = server.data.parent / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, timeout=60, check=False).returncode:
        pytest.skip("a small file system can only be mounted by root")
    shutil.chown(place, server.data.owner())
    server.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
    yield place
    server.execute("DROP TABLESPACE small")
    subprocess.run(["umount", str(place)], check=True, timeout=60)


def test_a_push_into_a_full_database_says_so_and_goes_on_when_there_is_room(
    server: Server, url: str, small_disk: Path, tmp_path: Path, write_any_bundle: Callable[..., Bundle]
) -> None:
    wide, count = write_any_bundle(tmp_path / "wide", dimensions=512), 3 * BATCH
    gallery = Gallery.create(tmp_path / "city", wide)
    draw = np.random.default_rng(0)
    gallery.add(draw.normal(size=(count, 512)), ["A"] * count, [f"p{n}" for n in range(count)])
    address = f"{url}&options=-c%20default_tablespace%3Dsmall"
    with pytest.raises(GalleryError, match="run out of room: could not extend file") as caught:
        push_gallery(gallery, open_truth(address))
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    schema = url.rpartition("=")[2]
    there = server.execute(f"SELECT count(*) FROM {schema}.photos")[0][0]
    assert int(str(there)) % BATCH == 0, "whole batches"
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True, timeout=60)
    done = push_gallery(gallery, open_truth(address))
    assert (done.photos, done.unchanged, done.same) == (count, there, True)
    server.execute(f"DROP SCHEMA {schema} CASCADE")
