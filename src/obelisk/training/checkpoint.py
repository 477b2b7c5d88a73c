"""Checkpoints: modules and optimiser as one safetensors file, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from obelisk.errors import ModelError
from obelisk.evaluation.files import replace_file

EPOCH = "epoch"


def save_checkpoint(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, *, epoch: int) -> None:
    """Write the state after an epoch; the last checkpoint stays whole until the new one is on the disk."""
    from safetensors.torch import save

    tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    for place, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{place}.{name}": tensor for name, tensor in slots.items()}
    serialised = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata={EPOCH: str(epoch)})
    replace_file(path, lambda partial: partial.write_bytes(serialised))


def load_checkpoint(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """Load the state into a module and its optimiser, and return its epoch; 0, and nothing loaded, without a file.

    Raises ModelError for a file that is not a checkpoint of this module.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return 0
    slots: dict[int, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            epoch = int(file.metadata()[EPOCH])
            names = list(file.keys())
            module.load_state_dict(
                {name.removeprefix("module."): file.get_tensor(name) for name in names if name.startswith("module.")}
            )
            for name in names:
                if name.startswith("optimiser."):
                    _, place, slot = name.split(".")
                    slots.setdefault(int(place), {})[slot] = file.get_tensor(name)
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        fix = "delete it to begin this part of the training again"
        raise ModelError(f"not a checkpoint of this training: {error}", where=path, fix=fix) from error
    optimiser.load_state_dict({**optimiser.state_dict(), "state": slots})
    return epoch
