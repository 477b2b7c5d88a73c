"""The processes of one training run: a single one, or as many as ``torchrun`` starts.

Each computes its share of every batch; gradients are averaged over all of them (Li et al., *PyTorch Distributed*, VLDB
2020). GPUs communicate by NCCL, processors by gloo.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from obelisk.errors import ModelError


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

    def share(self, count: int) -> range:
        """Return this process's share of ``count`` things, as even as it can be."""
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def share_sizes(self, count: int) -> list[int]:
        """Return how many of ``count`` things each process has."""
        return [len(replace(self, rank=rank).share(count)) for rank in range(self.size)]

    def reduce(self, values: Tensor, *, largest: bool = False) -> Tensor:
        """Sum values over all processes in place, or take the ``largest``, and return them."""
        if self.size > 1:
            distributed.all_reduce(values, distributed.ReduceOp.MAX if largest else distributed.ReduceOp.SUM)
        return values

    def count_rows(self, rows: Tensor) -> list[int]:
        """Return how many rows each process has."""
        counts = self.gather(torch.tensor([len(rows)], device=self.device)).flatten()
        return [int(count) for count in counts]

    def gather_rows(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Join the rows (n, …) of all processes to (N, …), of which each has as many as ``counts`` says."""
        if self.size == 1:
            return rows
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        found = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(found, padded)
        return torch.cat([part[:count] for part, count in zip(found, counts, strict=True)])

    def scatter_sum(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Sum rows (N, …) over all processes, and return this process's (n, …): the reverse of :meth:`gather_rows`."""
        if self.size == 1:
            return rows
        padded = rows.new_zeros(self.size, max(counts), *rows.shape[1:])
        for part, own in zip(padded, torch.split(rows, list(counts)), strict=True):
            part[: len(own)] = own
        found = torch.empty_like(padded[0])
        distributed.reduce_scatter(found, list(padded))
        return found[: counts[self.rank]]

    def join_shares(self, rows: Tensor, counts: Sequence[int]) -> Tensor | None:
        """Join the rows of all processes, as many of each as ``counts`` says, in the main one; None in the others."""
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        found = [torch.empty_like(padded) for _ in counts] if self.is_main else None
        distributed.gather(padded, found)
        return torch.cat([part[:count].cpu() for part, count in zip(found, counts, strict=True)]) if found else None

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()

    def own_path(self, path: Path) -> Path:
        """Return the path of a file that each process writes: the main one's is ``path`` itself."""
        return path if self.is_main else path.with_stem(f"{path.stem}-{self.rank}")

    def wrap(self, module: nn.Module) -> nn.Module:
        """Make a module average its gradients over all processes; it starts from the main process's weights."""
        if self.size == 1:
            return module
        shared = find_sharded(module)
        own = [name for name, weight in module.named_parameters() if id(weight) in shared]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, own)  # type: ignore[no-untyped-call]
        return DistributedDataParallel(module, broadcast_buffers=False)


class ShardedWeight(nn.Module):
    """A module of which each process may keep a share of the ``weight``: so many rows in each, or all if None."""

    weight: nn.Parameter
    row_counts: Sequence[int] | None = None


def find_sharded(module: nn.Module) -> dict[int, Sequence[int]]:
    """Map the id of each weight in a module that is one process's share to the rows that each process has."""
    parts = (part for part in module.modules() if isinstance(part, ShardedWeight))
    return {id(part.weight): part.row_counts for part in parts if part.row_counts is not None}


def refuse_unshared_folder(dist: Distributed, file: Path, *, patience: int = 60) -> None:
    """Raise ModelError unless all processes see a file of the run, or none does.

    File systems on a network may show a new file late; ``patience`` is in seconds.
    """
    while 0 < dist.sum(file.is_file())[0] < dist.size:
        if not patience:
            what = f"some of the {dist.size} processes do not see what the run has written"
            raise ModelError(what, where=file, fix="put --out on a file system that all machines share")
        time.sleep(1.0)
        patience -= 1


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
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Distributed(rank=distributed.get_rank(), size=size, device=device)
    finally:
        distributed.destroy_process_group()
