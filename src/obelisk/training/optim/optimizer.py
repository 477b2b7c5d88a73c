"""AdamW with a learning rate for each part of the network, and the schedule of these rates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from timm.models import group_parameters
from torch import nn

from obelisk.config import FinetuningSection, TrainingSection
from obelisk.training.model.network import PhotoEmbedder
from obelisk.training.model.pooled_backbone import PooledBackbone, TimmNetwork

LAYER, NECK, LANDMARKS = "backbone", "neck", "landmark weights"  # parts of the optimizer; layer groups are numbered


def build_adamw(groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
    """Build AdamW on the groups that have weights; each names its part, its peak learning rate and its weight decay.

    A fused step takes a sixth of the time, and no memory beyond its moments.
    """
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=True)


def build_head_optimizer(section: TrainingSection, neck: nn.Module, loss: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer of a head: one learning rate for the landmark weights, one for the neck."""
    parts = ((LANDMARKS, loss, section.classifier_learning_rate), (NECK, neck, section.learning_rate))
    return build_adamw(
        [
            {"part": part, "params": list(module.parameters()), "peak": peak, "weight_decay": section.weight_decay}
            for part, module, peak in parts
        ]
    )


def build_finetuning_optimizer(
    section: FinetuningSection, training: TrainingSection, embedder: PhotoEmbedder, loss: nn.Module
) -> torch.optim.Optimizer:
    """Build the optimizer for fine-tuning: a learning rate for each layer group, the neck and the landmark weights.

    The rate decays from the last layer group to the first (layer-wise learning-rate decay). The parameters of the
    frozen groups stop requiring gradients.
    """
    backbone = embedder.only_backbone
    layers = free_layers(backbone, section.frozen_groups)
    groups: list[dict[str, Any]] = [
        {
            "part": f"{LAYER} {depth + 1}",
            "params": layer,
            "peak": section.learning_rate * section.layer_decay ** (len(layers) - 1 - depth),
            "weight_decay": section.weight_decay,
        }
        for depth, layer in enumerate(layers)
        if depth >= section.frozen_groups
    ]
    if backbone.exponents is not None:
        # Ten times the rate and no decay, as in the authors' code: p is a number near 3, not one of many weights.
        peak = 10.0 * section.learning_rate
        groups.append({"part": "exponents", "params": [backbone.exponents], "peak": peak, "weight_decay": 0.0})
    for part, module, peak in (
        (NECK, embedder.necks, training.learning_rate),
        (LANDMARKS, loss, training.classifier_learning_rate),
    ):
        weights, peak = list(module.parameters()), section.head_lr_scale * peak
        groups.append({"part": part, "params": weights, "peak": peak, "weight_decay": training.weight_decay})
    return build_adamw(groups)


def free_layers(backbone: PooledBackbone, frozen: int) -> list[list[nn.Parameter]]:
    """Let the weights of a backbone move, except those of its first ``frozen`` layer groups; return all groups.

    Weights that its descriptors do not depend on stay frozen, too: several processes would wait for their gradients.
    """
    layers = group_layers(backbone.network)
    unused = {id(backbone.network.get_parameter(name)) for name in backbone.find_unused()}
    for depth, layer in enumerate(layers):
        for parameter in layer:
            # Backbones are loaded frozen.
            parameter.requires_grad = depth >= frozen and id(parameter) not in unused
    return [[parameter for parameter in layer if id(parameter) not in unused] for layer in layers]


def group_layers(network: TimmNetwork) -> list[list[nn.Parameter]]:
    """Return the parameters of a timm network by depth: the stem first, then each stage (or block)."""
    parameters = dict(network.named_parameters())
    try:
        groups = group_parameters(network, network.group_matcher(coarse=True))
    except (AttributeError, AssertionError):  # a few networks do not say
        groups = group_by_name(parameters)
    return [[parameters[name] for name in names] for _, names in sorted(groups.items())]


def group_by_name(names: Iterable[str]) -> dict[int, list[str]]:
    """Group the names of parameters by the module that they begin with, such as ``stem`` or ``stages.0``."""
    groups: dict[str, list[str]] = {}
    for name in names:
        first, second, *_ = [*name.split("."), ""]
        groups.setdefault(f"{first}.{second}" if second.isdigit() else first, []).append(name)
    return dict(enumerate(groups.values()))


def set_learning_rates(optimizer: torch.optim.Optimizer, warm_up: float, progress: float) -> None:
    """Set every learning rate for the share of the run that is done: linear warm-up, then half a cosine down to 0."""
    first_step = 0.01
    rise = min(1.0, progress / warm_up + first_step) if warm_up else 1.0
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * rise * 0.5 * (1.0 + math.cos(math.pi * progress))
