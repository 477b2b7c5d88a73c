"""Two processes that train together do what one does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from obelisk.config import Recipe
from obelisk.training.run import Run
from obelisk.training.world import World


def test_alone_nothing_is_sent() -> None:
    world = World()
    assert world.is_first
    assert world.sum(2, 0.5) == [2.0, 0.5]
    world.wait()


def test_two_processes_have_the_losses_of_one(
    tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBELISK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    section = tiny_recipe.finetuning.model_copy(
        update={"epochs": 2, "batch_size": 16, "average": 0.5, "accumulation": 2}
    )
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(tiny_recipe.model_copy(update={"finetuning": section}).to_toml())

    def train(out: Path, *start: str) -> list[dict[str, float]]:
        words = ["-m", "obelisk", "train", str(recipe), "--data", str(tiny_dataset), "--out", str(out)]
        done = subprocess.run(
            [sys.executable, *start, *words], capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [str(out)]  # one process speaks
        return [json.loads(line) for line in (out / "finetuning.jsonl").read_text().splitlines()]

    alone = train(tmp_path / "alone")
    together = train(tmp_path / "together", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    for one, other in zip(alone, together, strict=True):
        assert other["epoch"] == one["epoch"]
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)
    assert Run.open(tmp_path / "together").bundle.dimensions == 16
    assert not list((tmp_path / "together").glob("*-1.*"))
