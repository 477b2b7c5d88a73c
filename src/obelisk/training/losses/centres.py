"""Cosines with the centres of many landmarks, without the memory that autograd would take for them.

With C = 81,313 landmarks of K = 3 centres, D = 512, the weights are half a gigabyte. Written as
``(l2n(x) @ l2n(W).T).view(N, C, K).amax(2)``, autograd keeps a normalised copy of them, their gradient before the
normalisation, and matrices of N · C · K floats with masks of their size. Here a block of landmarks at a time is
normalised, multiplied and reduced while it is in the processor's cache; what is kept for the way back is which centre
was nearest, one byte a landmark and photo.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from obelisk.training.pooling import l2n

CENTRES_AT_ONCE = 768  # 1.5 MiB of weights at D = 512: a core's own cache


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
        nearest = rows.new_zeros(len(rows), landmarks if centres > 1 else 0, dtype=torch.uint8)
        for columns, block in blocks(weight, centres):
            each = (rows @ l2n(block).T).view(len(rows), -1, centres)
            best = each[..., 0]
            for k in range(1, centres):
                nearest[:, columns].masked_fill_(each[..., k] > best, k)
                best = torch.maximum(best, each[..., k])
            cosines[:, columns] = best
        ctx.save_for_backward(rows, weight, nearest)
        ctx.centres = centres  # type: ignore[attr-defined]
        return cosines

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, slopes: Tensor) -> tuple[Tensor, Tensor, None]:
        """Lead the slopes (N, C) to the centres that were nearest, and through the normalisation of each block."""
        rows, weight, nearest = ctx.saved_tensors  # type: ignore[attr-defined]
        centres: int = ctx.centres  # type: ignore[attr-defined]
        row_slopes, weight_slopes = torch.zeros_like(rows), torch.empty_like(weight)
        for columns, block in blocks(weight, centres):
            each = slopes[:, columns]
            if centres > 1:
                spread = rows.new_zeros(*each.shape, centres)
                each = spread.scatter_(2, nearest[:, columns, None].long(), each[..., None]).flatten(1)
            with torch.enable_grad():
                raw = block.detach().requires_grad_()
                unit = l2n(raw)
            row_slopes.addmm_(each, unit.detach())
            (block_slopes,) = torch.autograd.grad(unit, raw, each.T @ rows)
            weight_slopes[columns.start * centres : columns.stop * centres] = block_slopes
        return row_slopes, weight_slopes, None


def blocks(weight: Tensor, centres: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield weights (C · K, D) by blocks of whole landmarks, each with the slice of its landmarks."""
    landmarks = len(weight) // centres
    step = max(1, CENTRES_AT_ONCE // centres)
    for start in range(0, landmarks, step):
        columns = slice(start, min(start + step, landmarks))
        yield columns, weight[columns.start * centres : columns.stop * centres]
