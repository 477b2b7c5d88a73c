"""Handicaps of the true landmark in cosines (N, C)."""

from __future__ import annotations

import torch
from torch import Tensor

EDGE = 1e-6  # keeps acos away from ±1, where its slope is infinite


def add_angular_margin(cosines: Tensor, landmarks: Tensor, margins: Tensor) -> Tensor:
    """Replace each true cosine, cos θ_y, by cos(θ_y + m_y) in cosines (N, C).

    ``landmarks`` (N,) are the true columns, ``margins`` (N,) radians. Past θ + m = π the cosine would rise again
    and reward a worse angle; there the handicap is ``cos θ − m · sin m`` instead, which goes on falling, as the
    authors' code does. Deng, Guo, Xue, Zafeiriou, *ArcFace*, CVPR 2019, equation 3.
    """
    true = cosines.gather(1, landmarks[:, None]).squeeze(1).clamp(-1 + EDGE, 1 - EDGE)
    handicapped = torch.cos(torch.acos(true) + margins)
    past_the_turn = true < -torch.cos(margins)
    handicapped = torch.where(past_the_turn, true - margins * torch.sin(margins), handicapped)
    return cosines.scatter(1, landmarks[:, None], handicapped[:, None])


def add_cosine_margin(cosines: Tensor, landmarks: Tensor, margins: Tensor) -> Tensor:
    """Replace each true cosine by cos θ_y − m_y, with ``margins`` (N,) in units of the cosine.

    Wang, Wang, Zhou, Ji, Gong, Zhou, Li, Liu, *CosFace*, CVPR 2018, equation 4.
    """
    return cosines.scatter_add(1, landmarks[:, None], -margins[:, None])


def raise_hard_negatives(handicapped: Tensor, landmarks: Tensor, t: Tensor) -> Tensor:
    """Replace cos θ_j by cos θ_j · (t + cos θ_j) wherever it exceeds the handicapped true cosine of its row.

    ``t`` () is near 0 early in training, which plays hard negatives down, and grows towards 1, which plays them up.
    Huang, Wang, Tai, Liu, Shen, Li, Li, Huang, *CurricularFace*, CVPR 2020, equation 6.
    """
    true = handicapped.gather(1, landmarks[:, None])
    return torch.where(handicapped > true, handicapped * (t + handicapped), handicapped)


def dynamic_margins(photo_counts: Tensor, smallest: float, extra: float) -> Tensor:
    """Give each landmark a margin (C,) from its number of reference photos, ``photo_counts`` (C,).

    ``m_c = smallest + extra · minmax(n_c^(−1/4))``: the most photographed landmark gets ``smallest``, the least
    photographed ``smallest + extra``. Ha, Liu, Kim, Lee, Park, *Google Landmark Recognition 2020 Competition Third
    Place Solution*, arXiv:2010.05350, section 2.2.
    """
    rarity = photo_counts.clamp(min=1).to(torch.float32).pow(-0.25)
    span = rarity.max() - rarity.min()
    if span == 0:
        return torch.full_like(rarity, smallest)
    return smallest + extra * (rarity - rarity.min()) / span
