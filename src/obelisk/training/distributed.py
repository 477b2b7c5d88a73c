"""The processes that train together: one by default, as many as ``torchrun`` starts otherwise.

Each computes its share of every batch; gradients are averaged over them (Li et al., *PyTorch Distributed*, VLDB 2020).
On GPUs they talk by NCCL, on processors by gloo.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


def is_first_process() -> bool:
    """Tell whether this is the process that writes files and speaks: the only one, or torchrun's first."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True, kw_only=True)
class World:
    """One of ``size`` processes, numbered by ``rank`` from 0, and the device that it computes on."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    @property
    def shares_cores(self) -> bool:
        """Whether the network computes on the cores that load its photos."""
        return self.device.type == "cpu"

    def sum(self, *values: float) -> list[float]:
        """Return the sums of some numbers over all processes."""
        if self.size == 1:
            return [float(value) for value in values]
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return total.tolist()

    def gather(self, row: Tensor) -> Tensor:
        """Return the rows (n,) of all processes, one below the other."""
        if self.size == 1:
            return row[None]
        rows = [torch.empty_like(row, device=self.device) for _ in range(self.size)]
        distributed.all_gather(rows, row.to(self.device))
        return torch.stack(rows).cpu()

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return a module whose gradients are averaged over all processes, beginning with the first one's weights."""
        return DistributedDataParallel(module, broadcast_buffers=False) if self.size > 1 else module


@contextmanager
def join_world() -> Iterator[World]:
    """Join the processes that torchrun has started, or stay alone; the device is a GPU where there is one."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(device=device)
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(rank=distributed.get_rank(), size=size, device=device)
    finally:
        distributed.destroy_process_group()
