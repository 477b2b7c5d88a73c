"""SIGTERM to a training and all of its processes, as terminals and schedulers send it."""

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


def test_the_whole_group_is_stopped_and_the_training_goes_on_from_there(
    recipe_file: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    log = tmp_path / "run" / "finetuning.jsonl"

    def epochs() -> int:
        return len(log.read_text().splitlines()) if log.is_file() else 0

    def train_until(wanted: int, *options: str) -> None:
        words = ["train", str(recipe_file), "--data", str(tiny_dataset), "--out", str(tmp_path / "run"), *options]
        process = subprocess.Popen(
            [sys.executable, "-m", "obelisk", *words], start_new_session=True, stderr=subprocess.PIPE, text=True
        )
        started = time.monotonic()
        while epochs() < wanted and process.poll() is None and time.monotonic() < started + WAIT:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGTERM)
        _, told = process.communicate(timeout=WAIT)
        assert "Traceback" not in told
        assert process.returncode == 143
        assert (tmp_path / "run" / "finetuning.safetensors").is_file()

    train_until(1)
    # A little more each time, to meet an epoch's start as well as its middle.
    for _ in range(2):
        before = epochs()
        train_until(before + 2, "--resume")
        assert epochs() >= before + 2
