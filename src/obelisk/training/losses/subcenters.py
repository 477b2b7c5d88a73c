"""Cosines with the sub-centers of many landmarks, without the memory and the passes that autograd would need.

With C = 81,313 landmarks of K = 3 sub-centers, D = 512, the weights are half a gigabyte. Written as
``(l2n(x) @ l2n(W).T).view(N, C, K).amax(2)``, autograd keeps a normalized copy of them, their gradient before the
normalization, and matrices of N · C · K floats with masks of their size. Here weights are never normalized: with unit
rows x, lengths ‖w‖ and gradients s of the cosines, s = 0 where another sub-center was nearer ::

    cos_nj = x_n · w_j / ‖w_j‖
    ∂L/∂x_n = Σ_j s_nj w_j / ‖w_j‖
    ∂L/∂w_j = Σ_n s_nj x_n / ‖w_j‖  −  w_j · Σ_n s_nj cos_nj / ‖w_j‖²

a block of landmarks at a time, so that everything around the three products stays in the processor's cache. Kept for
the backward pass are the lengths, the cosines, and which sub-center was nearest, one byte per landmark and photo.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from obelisk.training.model.pooling import l2n

BLOCK = 3072  # sub-centers per block: smaller products are slower, larger ones leave the cache
SHORTEST = 1e-12  # gives a zero sub-center cosines of zero


def nearest_cosines(features: Tensor, weight: Tensor, subcenters: int) -> Tensor:
    """Return cos θ (N, C) of features (N, D) with the nearest of each landmark's K sub-centers, ``weight`` (C · K, D).

    Computed in float32 or finer: half precision cannot tell the cosines of eighty thousand landmarks apart.
    """
    with torch.autocast(features.device.type, enabled=False):
        wide = features if features.dtype == torch.float64 else features.float()
        cosines: Tensor = NearestCosines.apply(l2n(wide), weight, subcenters)
    return cosines


class NearestCosines(torch.autograd.Function):
    """Unit rows (N, D) and weights (C · K, D) of any length → cosines (N, C) with the nearest sub-center."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, weight: Tensor, subcenters: int) -> Tensor:
        """Fill the cosines block by block, and note which sub-center each comes from."""
        landmarks = len(weight) // subcenters
        cosines = rows.new_empty(len(rows), landmarks)
        nearest = rows.new_empty(len(rows), landmarks, dtype=torch.uint8)
        inverse = rows.new_empty(len(weight))
        for columns, own in blocks(landmarks, subcenters):
            torch.linalg.vector_norm(weight[own], dim=1, out=inverse[own])
            inverse[own].clamp_(min=SHORTEST).reciprocal_()
            each = (rows @ weight[own].T).mul_(inverse[own])
            cosines[:, columns], nearest[:, columns] = each.view(len(rows), -1, subcenters).max(dim=2)
        ctx.save_for_backward(rows, weight, inverse, cosines, nearest)
        ctx.subcenters = subcenters  # type: ignore[attr-defined]
        return cosines

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        """Route the gradients (N, C) to the sub-centers that were nearest."""
        rows, weight, inverse, cosines, nearest = ctx.saved_tensors  # type: ignore[attr-defined]
        subcenters: int = ctx.subcenters  # type: ignore[attr-defined]
        row_gradient, weight_gradient = torch.zeros_like(rows), torch.empty_like(weight)
        numbers = torch.arange(subcenters, dtype=torch.uint8, device=rows.device)
        for columns, own in blocks(len(weight) // subcenters, subcenters):
            each = gradients[:, columns, None] * (nearest[:, columns, None] == numbers)
            lengthwise = (each * cosines[:, columns, None]).sum(dim=0).flatten()
            each = each.flatten(1).mul_(inverse[own])
            row_gradient.addmm_(each, weight[own])
            torch.mm(each.T, rows, out=weight_gradient[own])
            weight_gradient[own].addcmul_(weight[own], (lengthwise * inverse[own] ** 2)[:, None], value=-1)
        return row_gradient, weight_gradient, None


def blocks(landmarks: int, subcenters: int) -> Iterator[tuple[slice, slice]]:
    """Yield blocks of whole landmarks: the slice of the landmarks, and that of their sub-centers."""
    step = max(1, BLOCK // subcenters)
    for start in range(0, landmarks, step):
        stop = min(start + step, landmarks)
        yield slice(start, stop), slice(start * subcenters, stop * subcenters)
