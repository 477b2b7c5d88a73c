"""A training run killed at fifty random steps ends with the very weights of one that was not."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from obelisk.config import Recipe

pytestmark = pytest.mark.stress

KILLS = 50
LIMIT = 3600.0  # s


def begin(recipe: Path, data: Path, run: Path, *options: str) -> subprocess.Popen[bytes]:
    words = ["train", str(recipe), "--data", str(data), "--out", str(run), *options]
    if (run / "recipe.toml").is_file():
        words.append("--resume")
    return subprocess.Popen([sys.executable, "-m", "obelisk", *words])


@pytest.mark.parametrize("keep", ["last", "best", "head"])
def test_fifty_kills_change_no_bit(
    tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str
) -> None:
    monkeypatch.setenv("OBELISK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    if keep == "head":  # nothing is fine-tuned: the kills meet the head and its refit
        keys = {"epochs": 400, "patience": 400, "batch_size": 8, "ema_decay": 0.9}
        changed: dict[str, object] = {"training": tiny_recipe.training.model_copy(update=keys)}
    else:
        data = tiny_recipe.data.model_copy(update={"refit": keep == "last"})
        keys = {"epochs": 60, "batch_size": 8, "ema_decay": 0.9, "keep": keep}
        changed = {"finetuning": tiny_recipe.finetuning.model_copy(update=keys), "data": data}
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(tiny_recipe.model_copy(update=changed).to_toml())
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert begin(recipe, tiny_dataset, whole).wait(LIMIT) == 0

    rng, kills = random.Random(0), 0
    while kills < KILLS:
        process = begin(recipe, tiny_dataset, killed, "--checkpoint-every", "0")
        before = written(killed)
        begun = time.monotonic()
        while process.poll() is None and written(killed) == before and time.monotonic() < begun + LIMIT:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        if process.poll() is not None:
            break
        process.kill()
        process.wait(LIMIT)
        kills += 1
    assert begin(recipe, tiny_dataset, killed).wait(LIMIT) == 0
    print(f"{kills} kills")
    assert kills == KILLS, "the training ended before all kills: give it more epochs"
    names = ("head.safetensors", "log.jsonl", "refit.jsonl" if keep == "head" else "finetuning.jsonl")
    for name in names if keep == "head" else (*names, "backbone.safetensors"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def written(run: Path) -> int:
    """When a checkpoint was written last."""
    paths = (*run.glob("checkpoint-head*.safetensors"), run / "finetuning.safetensors")
    return max(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)
