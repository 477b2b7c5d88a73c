"""Pooling: feature maps (N, D, H, W) to rows (N, D)."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = 1e-6


def avg(maps: Tensor) -> Tensor:
    """Average over the positions of a feature map: ``f_d = 1/(HW) · Σ x_dhw``."""
    return maps.mean(dim=(-2, -1))


def gem(maps: Tensor, exponent: float | Tensor = 3.0) -> Tensor:
    """Take the generalized mean: ``f_d = (1/(HW) · Σ x_dhw^p)^(1/p)``.

    p = 1 is the average, p → ∞ the maximum. Radenović, Tolias, Chum, *Fine-tuning CNN Image Retrieval with No
    Human Annotation*, TPAMI 2018, equation 3. Values below 1e-6 are raised to it, as the power needs; half precision,
    which could not hold their powers, is widened first.
    """
    if maps.dtype in (torch.float16, torch.bfloat16):
        maps = maps.float()
    return avg(maps.clamp(min=SMALLEST).pow(exponent)).pow(1.0 / exponent)


def covariance(maps: Tensor) -> Tensor:
    """Take the covariance of the channels over the positions of a feature map: rows (N, D (D + 1) / 2).

    ``Σ = 1/(HW) · Σ_hw (x_hw − μ) (x_hw − μ)ᵀ``, its upper triangle. Tuzel, Porikli, Meer, *Region Covariance: A Fast
    Descriptor for Detection and Classification*, ECCV 2006. Half precision, which could not hold the products, is
    widened first.
    """
    if maps.dtype in (torch.float16, torch.bfloat16):
        maps = maps.float()
    rows = maps.flatten(2)
    rows = rows - rows.mean(dim=2, keepdim=True)
    products = rows @ rows.transpose(1, 2) / rows.shape[2]
    D = products.shape[1]
    upper = torch.triu_indices(D, D, device=maps.device)
    return products.flatten(1).index_select(1, upper[0] * D + upper[1])


def l2n(rows: Tensor) -> Tensor:
    """Scale rows (N, D) to unit length; a zero row stays zero."""
    return torch.nn.functional.normalize(rows, dim=-1)
