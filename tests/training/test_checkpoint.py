"""Checkpoints: what they hold, and which are refused."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.amp.grad_scaler import GradScaler

from obelisk.errors import ModelError
from obelisk.training.optim.checkpoint import (
    CheckpointFile,
    StepResult,
    TrainState,
    load_checkpoint,
    save_checkpoint,
)


def file_in(folder: Path, owner: str = "a") -> CheckpointFile:
    return CheckpointFile(path=folder / "state.safetensors", owner=owner)


def test_the_scale_of_half_precision_gradients_is_in_the_checkpoint(tmp_path: Path) -> None:
    file, module = file_in(tmp_path), torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(module.parameters())
    scaler = GradScaler("cpu", init_scale=1024.0)
    scaler.scale(module(torch.full((1, 3), torch.inf)).sum()).backward()
    scaler.step(optimizer)
    scaler.update()  # gradients that overflow halve it
    save_checkpoint(file, {"module": module}, optimizer, TrainState(), scaler=scaler)
    other = GradScaler("cpu")
    load_checkpoint(file, {"module": module}, optimizer, scaler=other)
    assert other.get_scale() == scaler.get_scale() == 512.0
    # What was trained in another precision has no scale to go on with.
    save_checkpoint(file, {"module": module}, optimizer, TrainState())
    with pytest.raises(ModelError, match="not a checkpoint of this run"):
        load_checkpoint(file, {"module": module}, optimizer, scaler=other)


def test_gradients_that_overflow_in_float16_are_not_logged() -> None:
    state = TrainState()
    state.add(StepResult(loss=1.0, gradient=2.0))
    state.add(StepResult(loss=1.0, gradient=math.inf))
    assert (state.step, state.gradient_sum, state.largest_gradient, state.overflowed) == (2, 2.0, 2.0, 1)


def test_the_state_comes_back_whole(tmp_path: Path) -> None:
    file, module = file_in(tmp_path), torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(module.parameters())
    state = TrainState(epoch=2, step=5, loss_sum=0.1 + 0.2, best_epoch=1, best_score=1 / 3, largest_gradient=7.0)
    save_checkpoint(file, {"module": module}, optimizer, state)
    assert load_checkpoint(file, {"module": module}, optimizer) == state


def test_without_a_file_the_run_begins(tmp_path: Path) -> None:
    module = torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(module.parameters())
    assert load_checkpoint(file_in(tmp_path), {"module": module}, optimizer) == TrainState()


def test_a_process_that_does_not_write_leaves_the_file_to_others(tmp_path: Path) -> None:
    module = torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(module.parameters())
    file = dataclasses.replace(file_in(tmp_path), writes=False)
    save_checkpoint(file, {"module": module}, optimizer, TrainState())
    assert not file.path.exists()


@pytest.mark.parametrize("damage", ["bytes of something else", "overwritten bytes", "another module", "another recipe"])
def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path, damage: str) -> None:
    file, module = file_in(tmp_path), torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(module.parameters())
    other = torch.nn.Linear(2, 2) if damage == "another module" else module
    owner = "b" if damage == "another recipe" else "a"
    save_checkpoint(file_in(tmp_path, owner), {"module": other}, optimizer, TrainState())
    if damage == "bytes of something else":
        file.path.write_bytes(b"not safetensors")
    if damage == "overwritten bytes":
        file.path.write_bytes(file.path.read_bytes()[:-8] + b"overwrit")
    with pytest.raises(ModelError, match="not a checkpoint of this run"):
        load_checkpoint(file, {"module": module}, optimizer)


def test_a_checkpoint_of_an_older_version_says_what_to_do(tmp_path: Path) -> None:
    file, module = file_in(tmp_path), torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(module.parameters())
    save_checkpoint(file, {"module": module}, optimizer, TrainState())
    with safe_open(file.path, framework="pt") as opened:
        metadata = opened.metadata()
    # As version 0.1.0 wrote it: `training` for the owner, `position` for the state.
    old = {"training": metadata["owner"], "position": json.dumps({"epoch": 1, "step": 0, "total": 0.0})}
    save_file(load_file(file.path), file.path, metadata=old)
    with pytest.raises(ModelError, match=r"older version of Obelisk.*finish the run with the version it began with"):
        load_checkpoint(file, {"module": module}, optimizer)
