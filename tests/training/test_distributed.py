"""Two processes that train together do what one does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from obelisk.config import Recipe
from obelisk.evaluation.run_reader import Run
from obelisk.training.distributed import Distributed


def test_alone_nothing_is_sent() -> None:
    dist = Distributed()
    assert dist.is_main
    assert dist.sum(2, 0.5) == [2.0, 0.5]
    dist.barrier()


SHARE = """
import torch
from obelisk.training.losses import CurricularFace
from obelisk.training.distributed import join_processes

torch.manual_seed(0)
loss = CurricularFace(8, torch.full((5,), 0.5), scale=16.0)
features, landmarks = torch.randn(11, 8), torch.randint(5, (11,))
with join_processes() as dist:
    for _ in range(3):
        # Shares of 6 and 5 photos: the mean of their means is not the mean.
        loss(features.tensor_split(dist.size)[dist.rank], landmarks.tensor_split(dist.size)[dist.rank])
        loss.after_step(dist.sum)
    if dist.is_main:
        print(repr(loss.t.item()))
"""


def test_curricularface_has_one_t_on_all_processes(tmp_path: Path) -> None:
    script = tmp_path / "share.py"
    script.write_text(SHARE)

    def run(*start: str) -> float:
        words = [sys.executable, *start, str(script)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        return float(done.stdout)

    alone = run()
    assert alone != 0.0
    together = run("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    assert together == pytest.approx(alone, rel=1e-5)


STOP = """
import signal
import sys
from pathlib import Path
from obelisk.config import load_recipe
from obelisk.data import read_catalog
from obelisk.training.train import train_run

recipe, data, out, last = sys.argv[1:]

def stop(report):
    if report.step == int(last):
        signal.raise_signal(signal.SIGTERM)  # in the main process alone: all stop

if __name__ == "__main__":  # and not in a process that loads photos
    train_run(load_recipe(recipe), read_catalog(Path(data)), Path(out), resume=Path(out).exists(), watch=stop)
"""


def test_two_processes_stopped_in_mid_epoch_resume_to_the_same_weights(
    tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBELISK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    script, recipe = tmp_path / "stop.py", tmp_path / "tiny.toml"
    script.write_text(STOP)
    section = tiny_recipe.finetuning.model_copy(update={"epochs": 1, "batch_size": 16})
    neck = tiny_recipe.neck.model_copy(update={"dropout": 0.5})
    recipe.write_text(tiny_recipe.model_copy(update={"finetuning": section, "neck": neck}).to_toml())

    def train(out: Path, last: int) -> str:
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        words = [sys.executable, *start, str(script), str(recipe), str(tiny_dataset), str(out), str(last)]
        return subprocess.run(words, capture_output=True, text=True, timeout=240, check=False).stderr

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(whole, 0)
    train(stopped, 2)
    assert (stopped / "finetuning.safetensors").is_file()
    reported = train(stopped, 0)
    assert (stopped / "run.json").is_file(), reported
    for name in ("backbone.safetensors", "head.safetensors", "finetuning.jsonl"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes(), name


def test_two_processes_have_the_losses_of_one(
    tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBELISK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    section = tiny_recipe.finetuning.model_copy(
        update={
            "epochs": 2,
            "batch_size": 16,
            "ema_decay": 0.5,
            "micro_batches": 2,
            "start_size": 32,
            "mixup": 0.5,
            "cutmix": 1.0,
            "learned_exponent": True,
        }
    )
    chosen = {
        "finetuning": section,
        "loss": tiny_recipe.loss.model_copy(update={"kind": "curricularface"}),
        "backbone": tiny_recipe.backbone.model_copy(update={"pooling": "gem"}),
    }
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(tiny_recipe.model_copy(update=chosen).to_toml())

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
    bundle = Run.open(tmp_path / "together").bundle
    assert bundle.dimensions == 16
    assert "GeM exponents, learned, finest stage first: " in bundle.read_card()
    assert not list((tmp_path / "together").glob("*-1.*"))
