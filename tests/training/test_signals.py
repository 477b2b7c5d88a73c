"""SIGTERM to a training and all of its processes, as terminals and schedulers send it; SIGKILL to the training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from obelisk.config import Recipe

WAIT = 120.0  # seconds for an epoch, on a machine that has other work


@pytest.fixture
def recipe_file(tiny_recipe: Recipe, tmp_path: Path) -> Path:
    section = tiny_recipe.finetuning.model_copy(update={"epochs": 500, "batch_size": 8})
    path = tmp_path / "tiny.toml"
    path.write_text(tiny_recipe.model_copy(update={"finetuning": section}).to_toml())
    return path


class Training:
    """``obelisk train`` with its processes, in a group of their own."""

    def __init__(self, recipe: Path, data: Path, run: Path) -> None:
        self.words = ["train", str(recipe), "--data", str(data), "--out", str(run)]
        self.log = run / "finetuning.jsonl"

    def epochs(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.is_file() else 0

    def run_until(self, wanted: int, *options: str) -> subprocess.Popen[str]:
        """Start, and return when so many epochs are done."""
        process = subprocess.Popen(
            [sys.executable, "-m", "obelisk", *self.words, *options],
            start_new_session=True,
            stderr=subprocess.PIPE,
            text=True,
        )
        started = time.monotonic()
        while self.epochs() < wanted and process.poll() is None and time.monotonic() < started + WAIT:
            time.sleep(0.02)
        return process


def test_the_whole_group_is_stopped_and_the_training_goes_on_from_there(
    recipe_file: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    training = Training(recipe_file, tiny_dataset, tmp_path / "run")

    def train_until(wanted: int, *options: str) -> None:
        process = training.run_until(wanted, *options)
        os.killpg(process.pid, signal.SIGTERM)
        _, reported = process.communicate(timeout=WAIT)
        assert "Traceback" not in reported
        assert "to go on, add --resume" in reported
        assert process.returncode == 143
        assert (tmp_path / "run" / "finetuning.safetensors").is_file()

    train_until(1)
    # A little more each time, to meet an epoch's start as well as its middle.
    for _ in range(2):
        before = training.epochs()
        train_until(before + 2, "--resume")
        assert training.epochs() >= before + 2


def has_processes(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_no_process_outlives_a_training_that_is_killed(recipe_file: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    process = Training(recipe_file, tiny_dataset, tmp_path / "run").run_until(1)
    process.kill()
    process.communicate(timeout=WAIT)
    started = time.monotonic()
    while has_processes(process.pid) and time.monotonic() < started + WAIT:
        time.sleep(0.1)
    assert not has_processes(process.pid)
