"""The embedding of second order: after training, the covariance of early stages, whitened over the reference photos.

Nothing here is trained. It is fitted last, because fine-tuning may have moved the stages that it reads.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from obelisk.config import Recipe
from obelisk.records import Progress, no_progress
from obelisk.training.export.restore import freeze_tuned
from obelisk.training.loading.features import ReferenceFeatures, extract_again
from obelisk.training.model.backbones import FrozenBackbone
from obelisk.training.model.network import PhotoEmbedder
from obelisk.training.model.whitening import pca_whitening


def check_second_order(recipe: Recipe, backbone: FrozenBackbone) -> None:
    """Raise ModelError, before anything is trained, for stages whose covariance a backbone does not give."""
    trial = copy.copy(backbone.module)  # of the same weights
    trial.second_order = recipe.second_order.stages
    trial.measure_parts(recipe.photos.size)


def fit_second_order(
    recipe: Recipe,
    before: FrozenBackbone,
    embedder: PhotoEmbedder,
    features: ReferenceFeatures,
    progress: Progress = no_progress,
) -> None:
    """Let a trained embedder's only backbone give its covariances, too, and add their whitening to its necks.

    ``before`` is what the backbone started from. Like the neck, the whitening is fitted on all reference photos if the
    recipe refits, otherwise on those not held out. Raises DataError if a photo has vanished since.
    """
    backbone, section = embedder.only_backbone, recipe.second_order
    backbone.second_order = section.stages
    frozen = freeze_tuned(recipe, before, backbone)
    rows = extract_again([frozen], features.paths, progress=progress)[features.choose_trained(recipe)]
    width = sum(frozen.parts[-len(section.stages) :])
    projection, bias = pca_whitening(torch.from_numpy(rows[:, -width:]), section.dimensions)
    whitening = nn.Linear(width, len(projection))
    whitening.load_state_dict({"weight": projection, "bias": bias})
    embedder.necks.add_second_order(whitening, section.weight)
