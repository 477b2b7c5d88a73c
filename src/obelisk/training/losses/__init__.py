"""Losses on a batch of N embeddings of C landmarks.

Letters, the same everywhere: x a feature row (D,), W_j the weights of landmark j (D,), θ_j the angle between them,
y the true landmark, s the scale, m the margin. Losses take features of any length and measure angles.

The family of margin softmax losses is cross entropy over logits ``s · cos θ_j`` in which the true landmark
gets a handicap that training must overcome::

    ArcFace               cos θ_y  →  cos(θ_y + m)
    CosFace               cos θ_y  →  cos θ_y − m
    CurricularFace        as ArcFace, and cos θ_j  →  cos θ_j · (t + cos θ_j) where j beats the handicapped y
    sub-center ArcFace    cos θ_j  =  max over the landmark's K centres
    dynamic margins       m        →  m_y, larger for landmarks with fewer photos

Pair losses compare the embeddings of a batch with each other, or with those of the batches before; they come from
pytorch-metric-learning.
"""

from obelisk.training.losses.build import build_loss
from obelisk.training.losses.margin_softmax import CosFace, CurricularFace, MarginSoftmax
from obelisk.training.losses.margins import add_angular_margin, add_cosine_margin, dynamic_margins
from obelisk.training.losses.pairs import CrossBatch, MultiSimilarity, PairLoss, Triplet
from obelisk.training.losses.softmax import Softmax

__all__ = [
    "CosFace",
    "CrossBatch",
    "CurricularFace",
    "MarginSoftmax",
    "MultiSimilarity",
    "PairLoss",
    "Softmax",
    "Triplet",
    "add_angular_margin",
    "add_cosine_margin",
    "build_loss",
    "dynamic_margins",
]
