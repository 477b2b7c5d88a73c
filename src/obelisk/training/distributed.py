"""The processes of one training run: a single one, or as many as ``torchrun`` starts.

Each computes its share of every batch; gradients are averaged over all of them (Li et al., *PyTorch Distributed*, VLDB
2020). GPUs communicate by NCCL, processors by gloo.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


def is_main_process() -> bool:
    """Return whether this process writes files and prints: the only one, or torchrun's first."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True, kw_only=True)
class Distributed:
    """One of ``size`` processes, numbered by ``rank`` from 0, and the device it computes on."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    @property
    def shares_cores(self) -> bool:
        """Whether the network computes on the same cores that load its photos."""
        return self.device.type == "cpu"

    def sum(self, *values: float) -> list[float]:
        """Sum each number over all processes."""
        if self.size == 1:
            return [float(value) for value in values]
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return total.tolist()

    def gather(self, row: Tensor) -> Tensor:
        """Stack the rows (n,) of all processes, (size, n)."""
        if self.size == 1:
            return row[None]
        rows = [torch.empty_like(row, device=self.device) for _ in range(self.size)]
        distributed.all_gather(rows, row.to(self.device))
        return torch.stack(rows).cpu()

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()

    def own_path(self, path: Path) -> Path:
        """Return the path of a file that each process writes: the main one's is ``path`` itself."""
        return path if self.is_main else path.with_stem(f"{path.stem}-{self.rank}")

    def wrap(self, module: nn.Module) -> nn.Module:
        """Make a module average its gradients over all processes; it starts from the main process's weights."""
        return DistributedDataParallel(module, broadcast_buffers=False) if self.size > 1 else module


def skip_averaging(module: nn.Module, *, skip: bool) -> AbstractContextManager[None]:
    """Return a context in which a wrapped module keeps its gradients to itself, if ``skip``."""
    return module.no_sync() if skip and isinstance(module, DistributedDataParallel) else nullcontext()


@contextmanager
def join_processes() -> Iterator[Distributed]:
    """Join the processes that torchrun has started, or stay alone; compute on a GPU if there is one."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Distributed(device=device)
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Distributed(rank=distributed.get_rank(), size=size, device=device)
    finally:
        distributed.destroy_process_group()
