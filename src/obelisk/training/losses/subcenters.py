"""Cosines with the centres of many landmarks, without the memory and the passes that autograd would take for them.

With C = 81,313 landmarks of K = 3 centres, D = 512, the weights are half a gigabyte. Written as
``(l2n(x) @ l2n(W).T).view(N, C, K).amax(2)``, autograd keeps a normalised copy of them, their gradient before the
normalisation, and matrices of N · C · K floats with masks of their size. Here weights are never normalised: with unit
rows x, lengths ‖w‖ and slopes s of the cosines, s = 0 where another centre was nearer ::

    cos_nj = x_n · w_j / ‖w_j‖
    ∂L/∂x_n = Σ_j s_nj w_j / ‖w_j‖
    ∂L/∂w_j = Σ_n s_nj x_n / ‖w_j‖  −  w_j · Σ_n s_nj cos_nj / ‖w_j‖²

a block of landmarks at a time, so that what surrounds the three products is done in the processor's cache. Kept for the
way back are the lengths, the cosines, and which centre was nearest, a byte a landmark and photo.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from obelisk.training.model.pooling import l2n

CENTRES_AT_ONCE = 3072  # products of fewer are slower, more leave the cache
SHORTEST = 1e-12  # a zero centre has cosines of zero


def compare(features: Tensor, weight: Tensor, centres: int) -> Tensor:
    """Return cos θ (N, C) of features (N, D) with the nearest of each landmark's K centres, ``weight`` (C · K, D).

    Always in float32 or finer: half precision does not tell the cosines of eighty thousand landmarks apart.
    """
    with torch.autocast(features.device.type, enabled=False):
        wide = features if features.dtype == torch.float64 else features.float()
        cosines: Tensor = NearestCosines.apply(l2n(wide), weight, centres)
    return cosines


class NearestCosines(torch.autograd.Function):
    """Unit rows (N, D) and weights (C · K, D) of any length → cosines (N, C) with the nearest centre."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, weight: Tensor, centres: int) -> Tensor:
        """Fill the cosines block by block, and note which centre each is from."""
        landmarks = len(weight) // centres
        cosines = rows.new_empty(len(rows), landmarks)
        nearest = rows.new_empty(len(rows), landmarks, dtype=torch.uint8)
        inverse = rows.new_empty(len(weight))
        for columns, own in blocks(landmarks, centres):
            torch.linalg.vector_norm(weight[own], dim=1, out=inverse[own])
            inverse[own].clamp_(min=SHORTEST).reciprocal_()
            each = (rows @ weight[own].T).mul_(inverse[own])
            cosines[:, columns], nearest[:, columns] = each.view(len(rows), -1, centres).max(dim=2)
        ctx.save_for_backward(rows, weight, inverse, cosines, nearest)
        ctx.centres = centres  # type: ignore[attr-defined]
        return cosines

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, slopes: Tensor) -> tuple[Tensor, Tensor, None]:
        """Lead the slopes (N, C) to the centres that were nearest."""
        rows, weight, inverse, cosines, nearest = ctx.saved_tensors  # type: ignore[attr-defined]
        centres: int = ctx.centres  # type: ignore[attr-defined]
        row_slopes, weight_slopes = torch.zeros_like(rows), torch.empty_like(weight)
        numbers = torch.arange(centres, dtype=torch.uint8, device=rows.device)
        for columns, own in blocks(len(weight) // centres, centres):
            each = slopes[:, columns, None] * (nearest[:, columns, None] == numbers)
            lengthwise = (each * cosines[:, columns, None]).sum(dim=0).flatten()
            each = each.flatten(1).mul_(inverse[own])
            row_slopes.addmm_(each, weight[own])
            torch.mm(each.T, rows, out=weight_slopes[own])
            weight_slopes[own].addcmul_(weight[own], (lengthwise * inverse[own] ** 2)[:, None], value=-1)
        return row_slopes, weight_slopes, None


def blocks(landmarks: int, centres: int) -> Iterator[tuple[slice, slice]]:
    """Yield blocks of whole landmarks: the slice of the landmarks, and that of their centres."""
    step = max(1, CENTRES_AT_ONCE // centres)
    for start in range(0, landmarks, step):
        stop = min(start + step, landmarks)
        yield slice(start, stop), slice(start * centres, stop * centres)
