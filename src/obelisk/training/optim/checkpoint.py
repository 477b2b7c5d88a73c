"""Checkpoints: all that a training needs to go on as if it had not stopped, in one safetensors file, written whole.

That is the weights, the optimizer's slots, the scale of half-precision gradients, the state of torch's random numbers
on each process and its GPU, and the place in the epoch. The order of the photos and their views need no saving: they
depend on the seed and the epoch alone. The learning rate depends on the place.
"""

from __future__ import annotations

import dataclasses
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from obelisk.errors import ModelError
from obelisk.files import replace_file
from obelisk.training.distributed import World

BEGIN_AGAIN = "delete it to begin this part of the training again"
POSITION, TRAINING, RANDOM, SCALER, CHECKSUM = "position", "training", "random", "scaler", "checksum"


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far a training is: whole epochs, steps in the one that goes on, and what those steps add up to.

    ``total`` is the sum of their losses, ``gradients`` that of their gradient norms, but for steps that ``overflowed``
    and moved nothing; ``unreadable`` counts the photos they lacked. ``best_epoch`` (0: none yet) and its ``best_score``
    outlive the epoch.
    """

    epoch: int = 0
    step: int = 0
    total: float = 0.0
    gradients: float = 0.0
    largest_gradient: float = 0.0
    overflowed: int = 0
    unreadable: int = 0
    best_epoch: int = 0
    best_score: float | None = None

    def after_step(self, *, loss: float, gradient: float, unreadable: int) -> Position:
        """Return the position one step further."""
        measured = math.isfinite(gradient)
        gradient = gradient if measured else 0.0
        return dataclasses.replace(
            self,
            step=self.step + 1,
            total=self.total + loss,
            gradients=self.gradients + gradient,
            largest_gradient=max(self.largest_gradient, gradient),
            overflowed=self.overflowed + (not measured),
            unreadable=self.unreadable + unreadable,
        )

    def after_epoch(self) -> Position:
        """Return the start of the next epoch."""
        return Position(epoch=self.epoch + 1, best_epoch=self.best_epoch, best_score=self.best_score)


def save_checkpoint(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    position: Position,
    *,
    training: str,
    scaler: GradScaler | None = None,
    world: World | None = None,
) -> None:
    """Write the state; the last checkpoint stays whole until the new one is on the disk.

    Of several processes, all call this, and the first one writes.
    ``training`` names recipe and photos: a checkpoint serves no other training.
    """
    from safetensors.torch import save_file

    world = world or World()
    tensors = {RANDOM: world.gather(take_chance(world.device))}
    if not world.is_first:
        return
    for key, module in modules.items():
        tensors |= {f"{key}.{name}": tensor for name, tensor in module.state_dict().items()}
    for place, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{place}.{name}": tensor for name, tensor in slots.items()}
    metadata = {POSITION: json.dumps(dataclasses.asdict(position)), TRAINING: training}
    if scaler and scaler.is_enabled():
        metadata[SCALER] = json.dumps(scaler.state_dict())
    whole = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    metadata[CHECKSUM] = sum_up(metadata, whole)
    # Straight to the file: as bytes first, it would be in memory twice more.
    replace_file(path, lambda partial: save_file(whole, partial, metadata=metadata))


def load_checkpoint(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    *,
    training: str,
    scaler: GradScaler | None = None,
    world: World | None = None,
) -> Position:
    """Load the state into modules, optimizer and scaler, and return its position: the start, where there is no file.

    Raises ModelError for a file that is not a checkpoint of this training.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return Position()
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            refuse_other(path, metadata.get(TRAINING), training)
            position = Position(**json.loads(metadata[POSITION]))
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.pop(CHECKSUM) != sum_up(metadata, tensors):
            raise ValueError("its bytes are not those that were written")
        for key, module in modules.items():
            module.load_state_dict(take(tensors, key))
        weights = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in take(tensors, "optimizer").items():
            place, slot = name.split(".")
            slots.setdefault(int(place), {})[slot] = lay_out(tensor, weights[int(place)])
        optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
        world = world or World()
        chances = tensors[RANDOM]
        give_chance(chances[world.rank % len(chances)], world.device)
        if scaler and scaler.is_enabled():
            scaler.load_state_dict(json.loads(metadata[SCALER]))
    except (SafetensorError, RuntimeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"not a checkpoint of this training: {error}", where=path, fix=BEGIN_AGAIN) from error
    return position


def sum_up(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Return the CRC-32 of what a checkpoint holds, which a damaged one betrays: 3 ms for 10 MB."""
    found = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for _, tensor in sorted(tensors.items()):
        found = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"


def take_chance(device: torch.device) -> Tensor:
    """Return the state (n,) of this process's random numbers, and behind it that of its GPU, where it has one."""
    own = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return torch.cat([torch.get_rng_state(), *own])


def give_chance(state: Tensor, device: torch.device) -> None:
    """Go on from a state of random numbers; what was saved without a GPU says nothing of that of one."""
    # Copies: torch reads a state from where its storage begins.
    processor, own = (part.clone() for part in state.tensor_split([len(torch.get_rng_state())]))
    torch.set_rng_state(processor)
    if device.type == "cuda" and len(own):
        torch.cuda.set_rng_state(own, device)


def refuse_other(path: Path, found: str | None, training: str) -> None:
    """Raise ModelError for a checkpoint in which another recipe or other photos are found."""
    if found != training:
        raise ModelError(
            f"not a checkpoint of this training: it belongs to `{found}`, not to `{training}`",
            where=path,
            fix=f"give the recipe and the photos, as they were, that it began with; or {BEGIN_AGAIN}",
        )


def lay_out(tensor: Tensor, weights: Tensor) -> Tensor:
    """Return the moment of some weights in their order of memory: a fused step goes through both side by side."""
    return torch.empty_like(weights).copy_(tensor) if tensor.shape == weights.shape else tensor


def take(tensors: Mapping[str, Tensor], key: str) -> dict[str, Tensor]:
    """Return the tensors of one part, under their own names."""
    return {name.removeprefix(f"{key}."): tensor for name, tensor in tensors.items() if name.startswith(f"{key}.")}
