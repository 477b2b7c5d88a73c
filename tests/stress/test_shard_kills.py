"""Shards that are killed, again and again, make what one process makes; and Ray is as fast as plain processes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

pytestmark = pytest.mark.stress

KILLS = 20
PHOTOS = 1024  # four parts
SEED = int(os.environ.get("OBELISK_STRESS_SEED", "0"))


@pytest.fixture(scope="module")
def photos(real_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per landmark, of real photos."""
    data = tmp_path_factory.mktemp("data") / "places"
    for number, path in enumerate(sorted((real_photos / "train").rglob("*.jpg"))[:PHOTOS]):
        target = data / f"place {number % 40}" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return data


def start(data: Path, out: Path, *words: str, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "obelisk", "embed", str(data), "--out", str(out), *words]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file)


def parts_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "parts").glob("*.parquet")}


def run_all(data: Path, out: Path, *shards: list[str], log: Path) -> float:
    """Run a process for each shard at once; return the seconds that they took."""
    begun = time.monotonic()
    for process in [start(data, out, *words, log=log) for words in shards]:
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


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'obelisk-landmarks[ray]'")
def test_ray_is_as_fast_as_plain_processes(photos: Path, tmp_path: Path) -> None:
    """In turns; the time that a cluster takes to start is left out of neither."""
    log, times = tmp_path / "log", {"ray": 0.0, "plain": 0.0}
    for turn in range(2):
        times["plain"] += run_all(photos, tmp_path / f"plain {turn}", ["--shard", "1/2"], ["--shard", "2/2"], log=log)
        times["ray"] += run_all(photos, tmp_path / f"ray {turn}", ["--engine", "ray"], log=log)
        assert parts_of(tmp_path / f"ray {turn}") == parts_of(tmp_path / f"plain {turn}")
    sys.stdout.write(f"Ray has {times['plain'] / times['ray']:.2f} of the throughput of plain processes: {times}\n")
    assert times["plain"] / times["ray"] >= 0.9
