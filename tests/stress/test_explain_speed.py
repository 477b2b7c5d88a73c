"""What pictures that explain answers cost: with them, a command takes at most twice the processor time."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.stress

ROUNDS = 3


def run_and_time(*words: object) -> tuple[float, bytes]:
    """Run a command; return the seconds of all cores that it took, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "obelisk", "recognize", "--json", *map(str, words)]
    printed = subprocess.run(command, check=True, timeout=300, capture_output=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, printed


def make_photos(
    folder: Path, count: int, size: tuple[int, int] = (224, 224), *, grains: tuple[int, int] = (45, 60), seed: int = 0
) -> None:
    """Save photos of colored noise, of so many grains, as JPEGs; those of one seed are the same."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (*grains, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number:03}.jpg", quality=85)


def compare_times(folder: Path, out: Path, *words: object) -> float:
    """Return the time of a command with pictures as a multiple of that without; its answers must be the same."""
    plain, explained = [], []
    for attempt in range(ROUNDS):  # in turn: the machine may be busy with something else for a while
        seconds, answers = run_and_time(folder, *words)
        plain.append(seconds)
        seconds, same = run_and_time(folder, *words, "--explain", out / str(attempt))
        explained.append(seconds)
        assert same == answers
    print(plain, explained, min(explained) / min(plain))
    return min(explained) / min(plain)


@pytest.mark.parametrize("size", [(224, 224), (640, 480), (4032, 3024)], ids=str)
def test_pictures_take_no_longer_than_answers(size: tuple[int, int], tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 60 if max(size) > 1000 else 200, size)
    run_and_time(tmp_path / "photos" / "000.jpg")  # the model is tried once on each machine
    assert compare_times(tmp_path / "photos", tmp_path) <= 2


@pytest.mark.parametrize(
    ("count", "size", "references"),
    [
        pytest.param(60, (224, 224), 40, id="60 small ones"),
        pytest.param(200, (224, 224), 40, id="200 small ones"),
        pytest.param(40, (4032, 3024), 8, id="40 large ones"),
    ],
)
def test_pictures_with_the_files_of_the_references_take_no_longer(
    count: int, size: tuple[int, int], references: int, tmp_path: Path
) -> None:
    grains = (24, 32)  # a JPEG of 224 pixels is then as large as those of real photos, 13 kB
    make_photos(tmp_path / "photos", count, size, grains=grains)
    for landmark in range(10):
        make_photos(tmp_path / "places" / str(landmark), references, size, grains=grains, seed=landmark)
    command = [sys.executable, "-m", "obelisk", "gallery", "build", tmp_path / "city", "--data", tmp_path / "places"]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    assert compare_times(tmp_path / "photos", tmp_path, "--gallery", tmp_path / "city") <= 2
