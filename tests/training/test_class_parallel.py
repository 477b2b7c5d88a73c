"""Landmark weights that two processes share: losses, gradients, training and checkpoints are those of one process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from obelisk.config import Recipe

# Compares two processes with one, which the main process also is; prints a JSON object.
BOTH = """
import json, sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from obelisk.config import Recipe
from obelisk.errors import ModelError
from obelisk.training.distributed import Distributed, join_processes, refuse_unshared_folder
from obelisk.training.head import TrainingPhotos, train_head
from obelisk.training.losses import ArcFace, CosFace, CurricularFace, SubCenterArcFace, dynamic_margins
from obelisk.training.optim.checkpoint import CheckpointFile

C, D, N = 13, 16, 11
ALONE = Distributed()
folder, found = Path(sys.argv[1]), {}


class Head(nn.Module):
    def __init__(self, neck, loss):
        super().__init__()
        self.neck, self.loss = neck, loss

    def forward(self, rows, landmarks):
        return self.loss(self.neck(rows), landmarks)


def step(kind, subcenters, dist):
    torch.manual_seed(3)
    margins = dynamic_margins(torch.arange(1, C + 1), 0.2, 0.3).double()
    weight, rows, landmarks = torch.randn(C * subcenters, D), torch.randn(N, D), torch.randint(C, (N,))
    shared = {"subcenters": subcenters} if subcenters > 1 else {}
    neck, loss = nn.Linear(D, D), kind(D, margins, scale=16.0, dist=dist, **shared)
    own = slice(loss.own.start * subcenters, loss.own.stop * subcenters)
    loss.weight.data = weight[own].clone()
    if kind is CurricularFace:
        loss.t.fill_(0.4)
    model = dist.wrap(Head(neck, loss))
    rows, landmarks = (each.tensor_split(dist.size)[dist.rank] for each in (rows, landmarks))
    value = model(rows, landmarks) * (dist.size * len(rows) / N)
    value.backward()
    loss.after_step(dist.sum)
    whole = dist.gather_rows(loss.weight.grad, loss.row_counts or [])
    moved = getattr(loss, "t", torch.zeros(()))
    return dist.sum(value.item() / dist.size)[0], neck.weight.grad, whole, moved


def compare_losses(dist):
    for kind, subcenters in ((ArcFace, 1), (CosFace, 1), (SubCenterArcFace, 3), (CurricularFace, 1)):
        both, one = step(kind, subcenters, dist), step(kind, subcenters, ALONE)
        found[kind.__name__] = [float((torch.as_tensor(a) - torch.as_tensor(b)).abs().max()) for a, b in zip(both, one)]


def train(dist, name, *, stop=0, photos_seed=0):
    torch.manual_seed(photos_seed)
    photos = TrainingPhotos(views=torch.randn(2, 61, 24), landmarks=torch.arange(61) % C)
    recipe = Recipe.model_validate({
        "name": "tiny", "neck": {"dimensions": D, "dropout": DROPOUT}, "views": {"count": 1},
        "training": {"epochs": 3, "batch_size": 16, "ema_decay": 0.5},
        "loss": {"kind": "subcenter_arcface", "sharded": True, "margin_range": 0.2},
    })
    file = CheckpointFile(path=folder / name, owner="test", every=0.0, writes=dist.is_main)
    epochs = []

    def log(epoch):
        if len(epochs) + 1 == stop:
            raise KeyboardInterrupt
        epochs.append(epoch.train_loss)

    head = train_head(recipe, photos, (24,), torch.full((C,), 4), checkpoint=file, log=log, dist=dist)
    return epochs, torch.cat([weights.flatten() for weights in head.neck.parameters()])


DROPOUT = 0.0
with join_processes() as dist:
    torch.set_default_dtype(torch.float64)  # so that what is compared is not rounding
    compare_losses(dist)
    torch.set_default_dtype(torch.float32)

    losses, weights = train(dist, "both")
    alone = train(ALONE, f"alone-{dist.rank}")
    found["epochs"] = max(abs(a - b) for a, b in zip(losses, alone[0], strict=True))
    found["neck"] = (weights - alone[1]).abs().max().item()

    try:
        train(dist, "stopped", stop=2)
    except KeyboardInterrupt:
        pass
    dist.barrier()
    saved = (folder / "stopped").read_bytes()
    if dist.is_main:
        (folder / "reshared").write_bytes(saved)
    found["resumed bit for bit"] = bool(torch.equal(train(dist, "stopped")[1], weights))
    dist.barrier()
    if dist.is_main:
        found["one process goes on"] = (train(ALONE, "reshared")[1] - alone[1]).abs().max().item()
    dist.barrier()
    try:  # process 1 sees another folder
        train(dist, "stopped" if dist.is_main else "nowhere")
    except ModelError as error:
        found["refused"] = str(error)
    said = dist.sum("refused" in found)
    try:
        refuse_unshared_folder(dist, folder / ("both.py" if dist.is_main else "nowhere"), patience=1)
    except ModelError as error:
        found["unshared"] = str(error)
    if dist.is_main:
        print(json.dumps({**found, "refusals": said[0]}))
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("both")
    (folder / "both.py").write_text(BOTH)
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = [sys.executable, *start, str(folder / "both.py"), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("kind", ["ArcFace", "CosFace", "SubCenterArcFace", "CurricularFace"])
def test_two_processes_have_the_loss_and_the_gradients_of_one(both: dict[str, Any], kind: str) -> None:
    loss, neck, weights, t = both[kind]
    assert max(loss, neck, weights, t) <= 1e-9


def test_two_processes_train_the_head_of_one(both: dict[str, Any]) -> None:
    assert both["epochs"] <= 1e-4
    assert both["neck"] <= 1e-4


def test_a_stopped_run_resumes_bit_for_bit_and_in_another_number_of_processes(both: dict[str, Any]) -> None:
    assert both["resumed bit for bit"]
    assert both["one process goes on"] <= 1e-4


def test_processes_that_see_other_checkpoints_are_refused(both: dict[str, Any]) -> None:
    assert (
        "the processes do not see the same checkpoint: process 0 is at epoch 4, step 0, process 1 has none"
        in (both["refused"])
    )
    assert both["refusals"] == 2
    assert "some of the 2 processes do not see what the run has written" in both["unshared"]


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"loss": {"kind": "triplet", "sharded": True}, "training": {"photos_per_landmark": 2}}, "margin softmax"),
        ({"loss": {"sharded": True, "sampled_share": 0.5}}, "loss.sampled_share = 1.0"),
        ({"loss": {"sharded": True}, "finetuning": {"epochs": 1, "micro_batches": 2}}, "micro_batches = 1"),
        ({"loss": {"sharded": True}, "finetuning": {"epochs": 1}, "data": {"refit": False}}, "data.refit = true"),
        ({"loss": {"sharded": True}, "finetuning": {"epochs": 1, "precision": "float16"}}, "'bfloat16'"),
    ],
)
def test_what_cannot_be_shared_is_refused(sections: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Recipe.model_validate({"name": "shared", **sections})
