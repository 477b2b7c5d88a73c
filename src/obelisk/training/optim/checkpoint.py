"""Checkpoints: everything a training run needs to resume bit for bit, in one safetensors file, written whole.

That is the weights, the optimizer's moments, the scale of half-precision gradients, the state of torch's random
numbers on each process and its GPU, and the :class:`TrainState`. The order of the photos and their views need no
saving: they follow from the seed. So does the learning rate, which follows from the state.
"""

from __future__ import annotations

import dataclasses
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from obelisk.errors import ModelError
from obelisk.files import replace_file
from obelisk.training.distributed import Distributed, find_sharded

TRAIN_AGAIN = "delete it to train this part of the run again"
STATE, OWNER, RANDOM, SCALER, CHECKSUM = "state", "owner", "random", "scaler", "checksum"
OLD_OWNER = "training"  # until 2026-11
NUMBERS: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, int | float | None])


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one step gave: the loss, the gradient's norm before clipping, and how many photos could not be read."""

    loss: float = 0.0
    gradient: float = 0.0
    unreadable: int = 0


@dataclass(kw_only=True)
class TrainState:
    """How far a run is: finished epochs, steps of the current one, and what these steps add up to.

    ``gradient_sum`` and ``largest_gradient`` leave out the steps whose float16 gradients ``overflowed``: they moved
    nothing. ``unreadable`` counts the photos that batches lacked. ``best_epoch`` (0: none yet) and ``best_score``
    outlive the epoch.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    gradient_sum: float = 0.0
    largest_gradient: float = 0.0
    overflowed: int = 0
    unreadable: int = 0
    best_epoch: int = 0
    best_score: float | None = None

    def add(self, result: StepResult) -> None:
        """Count a step."""
        finite = math.isfinite(result.gradient)
        gradient = result.gradient if finite else 0.0
        self.step += 1
        self.loss_sum += result.loss
        self.gradient_sum += gradient
        self.largest_gradient = max(self.largest_gradient, gradient)
        self.overflowed += not finite
        self.unreadable += result.unreadable

    def end_epoch(self) -> None:
        """Move to the start of the next epoch."""
        self.restore(TrainState(epoch=self.epoch + 1, best_epoch=self.best_epoch, best_score=self.best_score))

    def restore(self, other: TrainState) -> None:
        """Take over the values of another state."""
        self.__dict__.update(dataclasses.asdict(other))


@dataclass(frozen=True, kw_only=True)
class CheckpointFile:
    """Where a run's state is kept, and how often it is written: at most ``every`` seconds apart.

    ``each_epoch`` also writes it after every epoch, for epochs that take minutes.
    ``owner`` names the recipe and the photos: no other run can use the checkpoint. One of other photos is refused, or
    ignored and overwritten if it is ``replaceable``. Of several processes that train the same head, each for itself,
    only one ``writes``.
    """

    path: Path
    owner: str
    every: float = 60.0
    each_epoch: bool = False
    replaceable: bool = False
    writes: bool = True


def name_owner(recipe: str, data: str) -> str:
    """Return the owner of a checkpoint, from the fingerprints of its recipe and its photos."""
    return f"recipe {recipe} on photos {data}"


def save_checkpoint(
    file: CheckpointFile,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    state: TrainState,
    *,
    scaler: GradScaler | None = None,
    dist: Distributed | None = None,
) -> None:
    """Write the state; the last checkpoint stays whole until the new one is on the disk.

    All processes of a run call this; the main one writes.
    """
    from safetensors.torch import save_file

    dist = dist or Distributed()
    tensors: dict[str, Any] = {RANDOM: dist.gather(get_random_state(dist.device))}
    for key, module in modules.items():
        tensors |= {f"{key}.{name}": tensor for name, tensor in module.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in slots.items()}
    # Of landmark weights that the processes share, the file holds all: any number of processes can resume from it.
    for name, counts in list_sharded(modules, optimizer, tensors).items():
        tensors[name] = dist.join_shares(tensors[name], counts)
    if not (dist.is_main and file.writes):
        return
    metadata = {STATE: json.dumps(dataclasses.asdict(state)), OWNER: file.owner}
    if scaler and scaler.is_enabled():
        metadata[SCALER] = json.dumps(scaler.state_dict())
    whole = {name: tensor.cpu().contiguous() for name, tensor in tensors.items() if tensor is not None}
    metadata[CHECKSUM] = checksum(metadata, whole)
    # Straight to the file: as bytes first, it would be in memory twice more.
    replace_file(file.path, lambda partial: save_file(whole, partial, metadata=metadata))


def load_checkpoint(
    file: CheckpointFile,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    *,
    scaler: GradScaler | None = None,
    dist: Distributed | None = None,
) -> TrainState:
    """Load the file into modules, optimizer and scaler, and return the state: a new one if there is no file.

    Raises ModelError for a file that is not a checkpoint of this run.
    """
    from safetensors import SafetensorError, safe_open

    dist = dist or Distributed()
    if not file.path.is_file():
        refuse_other_checkpoints(file, dist, TrainState(), "")
        return TrainState()
    try:
        with safe_open(file.path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            if file.replaceable and metadata.get(OWNER) != file.owner:
                refuse_other_checkpoints(file, dist, TrainState(), "")
                return TrainState()
            refuse_other_owner(file, metadata)
            state = TrainState(**NUMBERS.validate_json(metadata[STATE]))
            tensors: dict[str, Tensor] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        found = metadata.pop(CHECKSUM)
        if found != checksum(metadata, tensors):
            raise ValueError("its bytes are not those that were written")
        refuse_other_checkpoints(file, dist, state, found)
        for name, counts in list_sharded(modules, optimizer, tensors).items():
            tensors[name] = torch.split(tensors[name], list(counts))[dist.rank].clone()
        for key, module in modules.items():
            module.load_state_dict(select(tensors, key))
        weights = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in select(tensors, "optimizer").items():
            index, slot = name.split(".")
            slots.setdefault(int(index), {})[slot] = lay_out(tensor, weights[int(index)])
        optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
        random = tensors[RANDOM]
        set_random_state(random[dist.rank % len(random)], dist.device)
        if scaler and scaler.is_enabled():
            scaler.load_state_dict(json.loads(metadata[SCALER]))
    except (SafetensorError, RuntimeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"not a checkpoint of this run: {error}", where=file.path, fix=TRAIN_AGAIN) from error
    return state


def refuse_other_checkpoints(file: CheckpointFile, dist: Distributed, state: TrainState, digest: str) -> None:
    """Raise ModelError unless all processes have the same checkpoint, or all have none."""
    own = torch.tensor([state.epoch, state.step, int(digest or "0", 16), zlib.crc32(file.owner.encode())])
    found = dist.gather(own).cpu()
    if (found == found[0]).all():
        return
    other = int((found != found[0]).any(dim=1).nonzero()[0])
    if (found[0, :3] == found[other, :3]).all():
        what, fix = f"process {other} trains on other photos than process 0", "give all machines the same --data"
    else:
        places = [
            f"process {rank} is at epoch {epoch + 1}, step {step}" if digest else f"process {rank} has none"
            for rank, (epoch, step, digest, _) in ((rank, found[rank].tolist()) for rank in (0, other))
        ]
        what = f"the processes do not see the same checkpoint: {', '.join(places)}"
        fix = "put --out on a file system that all machines share"
    raise ModelError(what, where=file.path, fix=fix)


def list_sharded(
    modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> dict[str, Sequence[int]]:
    """Map the names of those tensors of which each process has some rows to how many each has.

    These are landmark weights and their moments, under the names that a checkpoint gives them.
    """
    found: dict[str, Sequence[int]] = {}
    for key, module in modules.items():
        shared = find_sharded(module)
        found |= {f"{key}.{name}": shared[id(w)] for name, w in module.named_parameters() if id(w) in shared}
    shared = {id_: counts for module in modules.values() for id_, counts in find_sharded(module).items()}
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for index, weight in enumerate(weights):
        if counts := shared.get(id(weight)):
            moments = [name for name in tensors if name.startswith(f"optimizer.{index}.") and tensors[name].ndim]
            found |= dict.fromkeys(moments, counts)
    return found


def refuse_other_owner(file: CheckpointFile, metadata: Mapping[str, str]) -> None:
    """Raise ModelError for the checkpoint of another recipe, of other photos, or of a version before this format."""
    if metadata.get(OLD_OWNER) == file.owner:
        raise ModelError(
            "a checkpoint of an older version of Obelisk, which this one cannot read",
            where=file.path,
            fix=f"finish the run with the version it began with, or {TRAIN_AGAIN}",
        )
    if (found := metadata.get(OWNER, metadata.get(OLD_OWNER))) != file.owner:
        raise ModelError(
            f"not a checkpoint of this run: it belongs to `{found}`, not to `{file.owner}`",
            where=file.path,
            fix=f"give the recipe and the photos, as they were, that it began with; or {TRAIN_AGAIN}",
        )


def checksum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Return the CRC-32 of a checkpoint's contents, which detects damage; it takes 3 ms for 10 MB."""
    found = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for _, tensor in sorted(tensors.items()):
        found = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"


def get_random_state(device: torch.device) -> Tensor:
    """Return the state (n,) of this process's random numbers, followed by that of its GPU, if it has one."""
    own = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return torch.cat([torch.get_rng_state(), *own])


def set_random_state(state: Tensor, device: torch.device) -> None:
    """Restore a state of random numbers; one that was saved without a GPU leaves the GPU's alone."""
    # Copies: torch reads a state from where its storage begins.
    processor, own = (part.clone() for part in state.tensor_split([len(torch.get_rng_state())]))
    torch.set_rng_state(processor)
    if device.type == "cuda" and len(own):
        torch.cuda.set_rng_state(own, device)


def lay_out(tensor: Tensor, weights: Tensor) -> Tensor:
    """Return the moment of some weights in their memory order: a fused step goes through both side by side."""
    return torch.empty_like(weights).copy_(tensor) if tensor.shape == weights.shape else tensor


def select(tensors: Mapping[str, Tensor], key: str) -> dict[str, Tensor]:
    """Return the tensors under one key, by their own names."""
    return {name.removeprefix(f"{key}."): tensor for name, tensor in tensors.items() if name.startswith(f"{key}.")}
