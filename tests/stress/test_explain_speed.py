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


@pytest.mark.parametrize("size", [(224, 224), (640, 480), (4032, 3024)], ids=str)
def test_pictures_take_no_longer_than_answers(size: tuple[int, int], tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(60 if max(size) > 1000 else 200):
        coarse = Image.fromarray(rng.integers(0, 256, (45, 60, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number:03}.jpg", quality=85)
    run_and_time(folder / "000.jpg")  # the model is tried once on each machine
    plain, explained = [], []
    for attempt in range(ROUNDS):  # in turn: the machine may be busy with something else for a while
        seconds, answers = run_and_time(folder)
        plain.append(seconds)
        seconds, same = run_and_time(folder, "--explain", tmp_path / str(attempt))
        explained.append(seconds)
        assert same == answers
    print(size, plain, explained)
    assert min(explained) <= 2 * min(plain), (plain, explained)
