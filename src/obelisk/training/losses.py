"""Losses on a batch of N embeddings of C landmarks.

Letters, the same everywhere: x a feature row (D,), W_j the weights of landmark j (D,), θ_j the angle between them,
y the true landmark, s the scale, m the margin in radians. Losses take features of any length and measure angles.

The family of margin softmax losses is cross entropy over logits ``s · cos θ_j`` in which the true landmark
gets a handicap that training must overcome::

    ArcFace               cos θ_y  →  cos(θ_y + m)
    sub-center ArcFace    cos θ_j  =  max over the landmark's K centres
    dynamic margins       m        →  m_y, larger for landmarks with fewer photos

Pair losses come from pytorch-metric-learning.
"""

from __future__ import annotations

import torch
from pytorch_metric_learning import losses as pair_losses
from pytorch_metric_learning import miners
from torch import Tensor, nn

from obelisk.config import LossSection
from obelisk.training.pooling import l2n

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


class MarginSoftmax(nn.Module):
    """ArcFace; with several centres a landmark, sub-center ArcFace; with unequal margins, dynamic margins.

    ``margins`` (C,) in radians; ``weight`` (C · K, D) holds the K centres of each landmark one after the other, of any
    length. Deng, Guo, Liu, Gong, Zafeiriou, *Sub-center ArcFace*, ECCV 2020, equation 4.
    """

    margins: Tensor

    def __init__(self, dimensions: int, margins: Tensor, *, scale: float, centres: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(len(margins) * centres, dimensions))
        nn.init.xavier_normal_(self.weight)
        self.register_buffer("margins", margins)
        self.scale = scale
        self.centres = centres

    def cosines(self, features: Tensor) -> Tensor:
        """Return cos θ, (N, C), of each row with the nearest centre of each landmark."""
        each = l2n(features) @ l2n(self.weight).T
        return each.view(len(each), -1, self.centres).amax(dim=2)

    def forward(self, features: Tensor, landmarks: Tensor) -> Tensor:
        """Return the mean loss of features (N, D) with true landmarks (N,)."""
        handicapped = add_angular_margin(self.cosines(features), landmarks, self.margins[landmarks])
        return nn.functional.cross_entropy(self.scale * handicapped, landmarks)


class Softmax(nn.Module):
    """Cross entropy over a dense layer of C landmarks."""

    def __init__(self, dimensions: int, landmarks: int, *, label_smoothing: float = 0.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.classifier = nn.Linear(dimensions, landmarks)
        self.dropout = nn.Dropout(dropout)
        self.label_smoothing = label_smoothing

    def logits(self, features: Tensor) -> Tensor:
        """Return logits (N, C)."""
        scores: Tensor = self.classifier(self.dropout(features))
        return scores

    def forward(self, features: Tensor, landmarks: Tensor) -> Tensor:
        """Return the mean loss of features (N, D) with true landmarks (N,)."""
        return nn.functional.cross_entropy(self.logits(features), landmarks, label_smoothing=self.label_smoothing)


class Triplet(nn.Module):
    """Triplet loss on unit rows with mining inside the batch.

    ``max(0, m + d(a, p) − d(a, n))`` with the L2 distance d, averaged over the mined triplets that are not yet
    satisfied. Schroff, Kalenichenko, Philbin, *FaceNet*, CVPR 2015, equation 3; batch-hard mining is Hermans,
    Beyer, Leibe, arXiv:1703.07737; multi-similarity mining Wang et al., CVPR 2019, section 3.2.
    """

    def __init__(self, margin: float, mining: str) -> None:
        super().__init__()
        self.loss = pair_losses.TripletMarginLoss(margin=margin)
        self.miner: miners.BaseMiner | None = None
        if mining == "semihard":
            self.miner = miners.TripletMarginMiner(margin=margin, type_of_triplets="semihard")
        elif mining == "batch_hard":
            self.miner = miners.BatchHardMiner()
        elif mining == "multi_similarity":
            self.miner = miners.MultiSimilarityMiner()

    def forward(self, features: Tensor, landmarks: Tensor) -> Tensor:
        """Return the mean loss of features (N, D) with true landmarks (N,); zero where no triplet is left."""
        rows = l2n(features)
        mined = self.miner(rows, landmarks) if self.miner else None
        loss: Tensor = self.loss(rows, landmarks, mined)
        return loss


def build_loss(section: LossSection, dimensions: int, photo_counts: Tensor, *, dropout: float = 0.0) -> nn.Module:
    """Build the loss of a recipe for features of length D and C landmarks with ``photo_counts`` (C,) references."""
    landmarks = len(photo_counts)
    if section.kind == "softmax":
        return Softmax(dimensions, landmarks, label_smoothing=section.label_smoothing, dropout=dropout)
    if section.kind == "triplet":
        return Triplet(section.margin, section.mining)
    if section.kind == "arcface":
        return MarginSoftmax(dimensions, torch.full((landmarks,), section.margin), scale=section.scale)
    margins = dynamic_margins(photo_counts, section.margin, section.margin_range)
    return MarginSoftmax(dimensions, margins, scale=section.scale, centres=section.subcenters)
