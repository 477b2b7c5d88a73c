"""Losses on a batch of N embeddings of C landmarks.

Letters, the same everywhere: x a feature row (D,), W_j the weights of landmark j (D,), θ_j the angle between them,
y the true landmark, s the scale, m the margin. Losses take features of any length; margin and pair losses normalize
them.

The margin softmax losses are cross entropy over logits ``s · cos θ_j``, with a margin that makes the true landmark's
logit smaller, so that training must overcome it::

    ArcFace               cos θ_y  →  cos(θ_y + m)
    CosFace               cos θ_y  →  cos θ_y − m
    CurricularFace        as ArcFace, and cos θ_j  →  cos θ_j · (t + cos θ_j) where j beats y with its margin
    sub-center ArcFace    cos θ_j  =  max over the landmark's K sub-centers
    dynamic margins       m        →  m_y, larger for landmarks with fewer photos

Pair losses compare the embeddings of a batch with each other, or with those of the batches before; they come from
pytorch-metric-learning.

Instance discrimination goes beside any of them, and compares two views of each photo.
"""

from obelisk.training.losses.build import build_loss
from obelisk.training.losses.instance import InstanceDiscrimination
from obelisk.training.losses.loss import Loss
from obelisk.training.losses.margin_softmax import (
    ArcFace,
    CosFace,
    CurricularFace,
    MarginSoftmax,
    SubCenterArcFace,
    add_angular_margin,
    add_cosine_margin,
    dynamic_margins,
    sample_landmarks,
)
from obelisk.training.losses.pairs import CrossBatch, MultiSimilarity, PairLoss, Triplet
from obelisk.training.losses.softmax import Softmax
from obelisk.training.losses.subcenters import nearest_cosines

__all__ = [
    "ArcFace",
    "CosFace",
    "CrossBatch",
    "CurricularFace",
    "InstanceDiscrimination",
    "Loss",
    "MarginSoftmax",
    "MultiSimilarity",
    "PairLoss",
    "Softmax",
    "SubCenterArcFace",
    "Triplet",
    "add_angular_margin",
    "add_cosine_margin",
    "build_loss",
    "dynamic_margins",
    "nearest_cosines",
    "sample_landmarks",
]
