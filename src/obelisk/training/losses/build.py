"""Build the loss that a recipe names."""

from __future__ import annotations

import torch
from torch import Tensor

from obelisk.config import PAIR_LOSSES, LossSection
from obelisk.errors import RecipeError
from obelisk.training.distributed import Distributed
from obelisk.training.losses.instance import InstanceDiscrimination
from obelisk.training.losses.loss import Loss
from obelisk.training.losses.margin_softmax import (
    ArcFace,
    CosFace,
    CurricularFace,
    MarginSoftmax,
    SubCenterArcFace,
    dynamic_margins,
)
from obelisk.training.losses.pairs import CrossBatch, MultiSimilarity, Triplet
from obelisk.training.losses.softmax import Softmax

MARGIN_CLASSES: dict[str, type[MarginSoftmax]] = {
    "arcface": ArcFace,
    "subcenter_arcface": SubCenterArcFace,
    "cosface": CosFace,
    "curricularface": CurricularFace,
}


def build_loss(
    section: LossSection,
    dimensions: int,
    photo_counts: Tensor,
    *,
    dropout: float = 0.0,
    dist: Distributed | None = None,
) -> Loss:
    """Build the loss of a recipe for features of length D and C landmarks with ``photo_counts`` (C,) references.

    If the recipe shards it, the processes of ``dist`` share the landmarks. Raises RecipeError if they are too few.
    """
    if section.sharded and dist and len(photo_counts) < dist.size:
        what = f"loss.sharded = true shares {len(photo_counts)} landmarks among {dist.size} processes"
        raise RecipeError(what, fix="start fewer processes")
    loss = build_landmark_loss(section, dimensions, photo_counts, dropout, dist if section.sharded else None)
    if not section.instance:
        return loss
    return InstanceDiscrimination(
        loss,
        weight=section.instance,
        temperature=section.instance_temperature,
        entropy=section.instance_entropy,
    )


def build_landmark_loss(
    section: LossSection, dimensions: int, photo_counts: Tensor, dropout: float, dist: Distributed | None
) -> Loss:
    """Build the loss that a recipe's ``loss.kind`` names."""
    if section.kind == "softmax":
        return Softmax(dimensions, len(photo_counts), label_smoothing=section.label_smoothing, dropout=dropout)
    if section.kind in PAIR_LOSSES:
        return build_pair_loss(section, dimensions)
    many = section.kind == "subcenter_arcface"
    margins = (
        dynamic_margins(photo_counts, section.margin, section.margin_range)
        if many
        else torch.full((len(photo_counts),), section.margin)
    )
    return MARGIN_CLASSES[section.kind](
        dimensions,
        margins,
        scale=section.scale,
        subcenters=section.subcenters if many else 1,
        sampled_share=section.sampled_share,
        dist=dist,
    )


def build_pair_loss(section: LossSection, dimensions: int) -> Loss:
    """Build a pair loss, with cross-batch memory if the section asks for it."""
    within_batch = (
        Triplet(section.margin, section.mining)
        if section.kind == "triplet"
        else MultiSimilarity(
            alpha=section.positive_scale,
            beta=section.negative_scale,
            threshold=section.threshold,
            mining=section.mining,
        )
    )
    return CrossBatch(within_batch, dimensions, section.memory) if section.memory else within_batch
