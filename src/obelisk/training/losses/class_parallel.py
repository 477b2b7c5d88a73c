"""Landmark weights shared out over P processes, and what a step exchanges for that: class-parallel Partial FC.

An et al., *Killing Two Birds with One Stone: Efficient and Robust Training of Face Recognition CNNs by Partial FC*,
CVPR 2022 (arXiv:2203.15565). Each process keeps C / P landmarks, with their gradients and moments. All gather the
batch's B features, compare them with their own landmarks, and join the softmax by three sums over landmarks::

    max_j z_nj,   Σ_j exp(z_nj − max),   z_ny   →   L_n = log Σ − (z_ny − max)
    ∂L_n/∂z_nj = softmax_nj − [j = y]            needs nothing of the others
    ∂L_n/∂x_n  = the sum of what each process finds, scattered to the process that has photo n

A step sends B · D floats of features, as many of their gradients, and a few numbers per photo, instead of the
C · K · D gradients of the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from obelisk.training.distributed import Distributed


class GatherRows(torch.autograd.Function):
    """Rows (n, D) of this process → the rows (N, D) of all; gradients are summed and scattered.

    The gradient is multiplied by P: the modules below average their gradients over the processes, and each of these
    holds a part of the sum.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, dist: Distributed, counts: list[int]) -> Tensor:
        """Gather the rows."""
        ctx.dist, ctx.counts = dist, counts  # type: ignore[attr-defined]
        return dist.gather_rows(rows, counts)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradients: Tensor) -> tuple[Tensor, None, None]:
        """Sum the gradients of this process's rows over all processes."""
        dist: Distributed = ctx.dist  # type: ignore[attr-defined]
        return dist.scatter_sum(gradients, ctx.counts) * dist.size, None, None  # type: ignore[attr-defined]


class ShardedCrossEntropy(torch.autograd.Function):
    """Logits (N, C / P) of this process's landmarks → the losses (N,) over the landmarks of all processes.

    ``columns`` (N,) are the true landmarks among this process's, where ``mine`` (N,) says that it has them. Losses are
    used by one process each, so their gradients, zero in the others, are summed.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, columns: Tensor, mine: Tensor, dist: Distributed) -> Tensor:
        """Join the softmax of all processes."""
        largest = dist.reduce(logits.amax(dim=1), largest=True)
        powers = (logits - largest[:, None]).exp_()
        true = logits.gather(1, columns[:, None]).squeeze(1)
        total = dist.reduce(powers.sum(dim=1))
        true = dist.reduce(torch.where(mine, true - largest, 0.0))
        ctx.save_for_backward(powers, total, columns, mine)
        ctx.dist = dist  # type: ignore[attr-defined]
        return total.log() - true

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient of the logits: softmax minus one at the true landmark."""
        powers, total, columns, mine = ctx.saved_tensors  # type: ignore[attr-defined]
        dist: Distributed = ctx.dist  # type: ignore[attr-defined]
        weights = dist.reduce(gradients.clone()) / dist.size
        found = powers * (weights / total)[:, None]
        return found.scatter_add_(1, columns[:, None], -(weights * mine)[:, None]), None, None, None
