"""Two processes that train together do what one does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from obelisk.config import Recipe
from obelisk.data import read_catalog
from obelisk.evaluation.run_reader import Run
from obelisk.training.distributed import Distributed
from obelisk.training.train import train_run

# Starting two processes takes longer than all that they do here, so they start once, and load their photos themselves.
# Only the run that resumes has processes for that, as every run of a user's.
BOTH = """
import json
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import torch

from obelisk.cli.main import run_arguments
from obelisk.config import load_recipe
from obelisk.data import read_catalog
from obelisk.training import train
from obelisk.training.distributed import Distributed, join_processes
from obelisk.training.loading import photo_batches
from obelisk.training.loading.loader import BatchReader, load_batches, prepare_batch
from obelisk.training.losses import CurricularFace
from obelisk.training.export.write_bundle import write_tensors


def share_t(dist):
    torch.manual_seed(0)
    loss = CurricularFace(8, torch.full((5,), 0.5), scale=16.0)
    features, landmarks = torch.randn(11, 8), torch.randint(5, (11,))
    for _ in range(3):
        # Shares of 6 and 5 photos: the mean of their means is not the mean.
        loss(features.tensor_split(dist.size)[dist.rank], landmarks.tensor_split(dist.size)[dist.rank])
        loss.after_step(dist.sum)
    return loss.t.item()


def load_in_process(requests, *, aside):
    reader = BatchReader()
    yield from (prepare_batch(reader[request]) for request in requests)


def write_weights(folder, recipe, backbones, embedder, *rest):
    write_tensors(folder / "backbone.safetensors", embedder.only_backbone.tuned_state())


def run(out, last):
    def stop(report):
        if report.step == last:
            signal.raise_signal(signal.SIGTERM)  # in the main process alone: all stop

    train.train_run(load_recipe(folder / "stopping.toml"), data, out, resume=out.exists(), watch=stop)


if __name__ == "__main__":  # and not in a process that loads photos
    folder, data, found = Path(sys.argv[1]), read_catalog(Path(sys.argv[2])), {}
    photo_batches.load_batches = load_in_process
    with join_processes() as dist:
        train.join_processes = lambda: nullcontext(dist)  # they part at the end
        found["t"] = share_t(Distributed()), share_t(dist)
        write_model, train.write_model = train.write_model, write_weights  # nobody looks at these models
        run(folder / "whole", 0)
        try:
            run(folder / "stopped", 2)
        except SystemExit as stopped:
            found["stopped"] = stopped.code
        dist.barrier()
        found["saved"] = (folder / "stopped" / "finetuning.safetensors").is_file()
        photo_batches.load_batches = load_batches
        run(folder / "stopped", 0)
        photo_batches.load_batches, train.write_model = load_in_process, write_model
        (folder / f"{dist.rank}.json").write_text(json.dumps(found))
        words = [folder / "together.toml", "--data", sys.argv[2], "--out", folder / "together"]
        run_arguments(["train", *map(str, words)])
"""


@pytest.fixture(scope="module")
def together(tiny_recipe: Recipe) -> Recipe:
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
    return tiny_recipe.model_copy(update=chosen)


@pytest.fixture(scope="module")
def both(
    tiny_recipe: Recipe, together: Recipe, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """The folder of what two processes did, and what they printed."""
    folder = tmp_path_factory.mktemp("both")
    section = tiny_recipe.finetuning.model_copy(update={"epochs": 1, "batch_size": 16})
    neck = tiny_recipe.neck.model_copy(update={"dropout": 0.5})
    stopping = tiny_recipe.model_copy(update={"finetuning": section, "neck": neck})
    for name, text in {
        "both.py": BOTH,
        "stopping.toml": stopping.to_toml(),
        "together.toml": together.to_toml(),
    }.items():
        (folder / name).write_text(text)
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = [sys.executable, *start, str(folder / "both.py"), str(folder), str(tiny_dataset)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        done = subprocess.run(words, capture_output=True, text=True, timeout=480, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def read_losses(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "finetuning.jsonl").read_text().splitlines()]


def test_alone_nothing_is_sent() -> None:
    dist = Distributed()
    assert dist.is_main
    assert dist.sum(2, 0.5) == [2.0, 0.5]
    dist.barrier()


def test_curricularface_has_one_t_on_all_processes(both: tuple[Path, str]) -> None:
    for rank in range(2):
        alone, shared = json.loads((both[0] / f"{rank}.json").read_text())["t"]
        assert alone != 0.0
        assert shared == pytest.approx(alone, rel=1e-5)


def test_two_processes_stopped_in_mid_epoch_resume_to_the_same_weights(both: tuple[Path, str]) -> None:
    folder, _ = both
    for rank in range(2):
        found = json.loads((folder / f"{rank}.json").read_text())
        assert (found["stopped"], found["saved"]) == (143, True)
    assert (folder / "stopped" / "run.json").is_file()
    for name in ("backbone.safetensors", "head.safetensors", "finetuning.jsonl"):
        assert (folder / "stopped" / name).read_bytes() == (folder / "whole" / name).read_bytes(), name


@pytest.mark.usefixtures("loads_in_process")
def test_two_processes_have_the_losses_of_one(
    both: tuple[Path, str], together: Recipe, tiny_dataset: Path, tmp_path: Path
) -> None:
    folder, printed = both
    assert printed.splitlines() == [str(folder / "together")], "one process speaks"
    train_run(together, read_catalog(tiny_dataset), tmp_path / "alone")
    for one, other in zip(read_losses(tmp_path / "alone"), read_losses(folder / "together"), strict=True):
        assert other["epoch"] == one["epoch"]
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)
    bundle = Run.open(folder / "together").bundle
    assert bundle.dimensions == 16
    assert "GeM exponents, learned, finest stage first: " in bundle.read_card()
    assert not list((folder / "together").glob("*-1.*"))
