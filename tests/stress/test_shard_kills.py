"""Shards that are killed, again and again, make what one process makes; and Ray is as fast as plain processes."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

pytestmark = pytest.mark.stress

KILLS = 20
PHOTOS = 1024  # four parts
MANY_PHOTOS = 3_800
SEED = int(os.environ.get("OBELISK_STRESS_SEED", "0"))


@pytest.fixture(scope="module")
def photos(real_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per landmark, of real photos."""
    return copy_photos(real_photos, tmp_path_factory.mktemp("data") / "places", PHOTOS)


def copy_photos(real_photos: Path, data: Path, count: int) -> Path:
    for number, path in enumerate(sorted((real_photos / "train").rglob("*.jpg"))[:count]):
        target = data / f"place {number % 40}" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return data


def start(data: Path, out: Path, *words: str, log: Path, core: int | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "obelisk", "embed", str(data), "--out", str(out), *words]
    if core is not None:
        command = ["taskset", "--cpu-list", str(core), *command]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file)


def parts_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "parts").glob("*.parquet")}


def run_all(data: Path, out: Path, *shards: list[str], log: Path, pinned: bool = False) -> float:
    """Run a process for each shard at once, each on a core of its own if ``pinned``; return the seconds they took."""
    cores = sorted(os.sched_getaffinity(0)) if pinned else [None] * len(shards)
    begun = time.monotonic()
    for process in [start(data, out, *words, log=log, core=core) for words, core in zip(shards, cores, strict=False)]:
        assert process.wait(timeout=900) == 0, log.read_text()
    return time.monotonic() - begun


def count_rows(out: Path) -> int:
    return sum(pl.scan_parquet(path).select(pl.len()).collect().item() for path in (out / "parts").glob("*.parquet"))


def test_killed_shards_make_what_one_process_makes(photos: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    run_all(photos, tmp_path / "whole", [], log=log)
    rng, kills = random.Random(SEED), 0
    out = tmp_path / "killed"
    while kills < KILLS:
        running = [start(photos, out, "--shard", f"{number}/2", log=log) for number in (1, 2)]
        time.sleep(rng.uniform(0.5, 12.0))
        victim = rng.choice(running)
        if victim.poll() is None:
            victim.send_signal(signal.SIGKILL)
            kills += 1
        for process in running:
            if process.poll() is None and rng.random() < 0.5:
                process.send_signal(signal.SIGKILL)
                kills += 1
            process.wait(timeout=900)
        if count_rows(out) == PHOTOS:  # done: lose some, so that there is work to kill
            for path in rng.sample(sorted((out / "parts").glob("*.parquet")), 2):
                path.unlink()
    run_all(photos, out, ["--shard", "1/2"], ["--shard", "2/2"], log=log)
    assert parts_of(out) == parts_of(tmp_path / "whole")
    assert not list((out / "parts").glob(".*.partial"))
    sys.stdout.write(f"{kills} kills\n")


def processes_of(mark: str, name: str) -> list[int]:
    """Return the processes of a cluster, by its folder, that have a name."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes()
            if mark.encode() in words and name.encode() in words:
                found.append(int(folder.name))
    return found


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Start Ray clusters of two cores, and end them; a call gives the folder of a new one."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'obelisk-landmarks[ray]'")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # by default, workers give way to everything else on the machine
    folders: list[str] = []

    def end() -> None:
        for number in [number for folder in folders for number in processes_of(folder, "")]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    def begin() -> str:
        end()
        folders.append(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # a short path: sockets are in it
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        words = ["--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false", f"--temp-dir={folders[-1]}"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *words]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        return folders[-1]

    yield begin
    end()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def test_ray_is_as_fast_as_plain_processes(cluster: Callable[[], str], real_photos: Path, tmp_path: Path) -> None:
    """In turns, on a cluster that runs already; plain processes have a core each, as actors have.

    Actors take two seconds to start, so the photos are many.
    """
    cluster()
    photos = copy_photos(real_photos, tmp_path / "places", MANY_PHOTOS)
    shards = [["--shard", f"{number}/2"] for number in (1, 2)]
    log, times = tmp_path / "log", {"ray": 0.0, "plain": 0.0}
    for turn in range(2):
        times["plain"] += run_all(photos, tmp_path / f"plain {turn}", *shards, log=log, pinned=True)
        times["ray"] += run_all(photos, tmp_path / f"ray {turn}", ["--engine", "ray"], log=log)
        assert parts_of(tmp_path / f"ray {turn}") == parts_of(tmp_path / f"plain {turn}")
    sys.stdout.write(f"Ray has {times['plain'] / times['ray']:.2f} of the throughput of plain processes: {times}\n")
    assert times["plain"] / times["ray"] >= 0.9


def test_ray_goes_on_without_a_worker_and_again_without_its_head(
    cluster: Callable[[], str], photos: Path, tmp_path: Path
) -> None:
    run_all(photos, tmp_path / "whole", [], log=tmp_path / "log")
    out, said = tmp_path / "ray", tmp_path / "ray.log"

    def wait_for(parts: int) -> None:
        deadline = time.monotonic() + 300
        while len(parts_of(out)) < parts:
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.2)

    mark = cluster()
    process = start(photos, out, "--engine", "ray", log=said)
    wait_for(1)
    # Ray names its workers after their actors; their session's folder is in no argument, so they are this head's.
    os.kill(processes_of("ray::PartWorker", "")[0], signal.SIGKILL)
    wait_for(2)
    os.kill(processes_of(mark, "gcs_server")[0], signal.SIGKILL)
    assert process.wait(timeout=300) == 1
    assert said.read_text().count("error: the Ray cluster has lost its head") == 1
    assert "Traceback" not in said.read_text()
    cluster()
    run_all(photos, out, ["--engine", "ray"], log=said)
    assert parts_of(out) == parts_of(tmp_path / "whole")
