"""A softmax layer on embeddings that are finished: what a linear classifier can read from them.

Losses that compare photos with each other give no probabilities. A probe does, on any embedding, and leaves that as it
is (Alain & Bengio, *Understanding intermediate layers using linear classifier probes*, ICLR 2017 workshop).
"""

from __future__ import annotations

import torch
from torch import nn

from obelisk.config import Recipe
from obelisk.training.losses import Softmax
from obelisk.training.machine import be_deterministic, one_thread
from obelisk.training.model.network import Necks
from obelisk.training.necks import TrainingPhotos, run_epoch
from obelisk.training.optim.optimizer import build_adamw


@one_thread()
def train_probe(recipe: Recipe, necks: Necks, photos: TrainingPhotos, landmarks: int) -> Softmax:
    """Train a softmax layer of C ``landmarks`` on the unit embeddings of all views of the photos; return it.

    As the softmax layer of a cross entropy loss is trained: every photo once an epoch, for all epochs of the recipe,
    at ``training.classifier_learning_rate``. There is no early stop, since its problem is convex and has one solution.
    It is found in as many steps as that layer needs when the embeddings have its features' length, about √D; the
    weights that are returned read embeddings of unit length.
    """
    be_deterministic()
    torch.manual_seed(recipe.seed)
    chance = torch.Generator().manual_seed(recipe.seed)
    natural = recipe.training.model_copy(update={"sampling": "natural", "photos_per_landmark": 0})
    recipe = recipe.model_copy(update={"training": natural})
    with torch.no_grad():
        rows = torch.stack([necks.eval().embed(view.float()) for view in photos.views]) * necks.dimensions**0.5
    embedded = TrainingPhotos(views=rows, landmarks=photos.landmarks)
    layer = Softmax(necks.dimensions, landmarks, label_smoothing=recipe.loss.label_smoothing).train()
    optimizer = build_adamw(
        [
            {
                "params": list(layer.parameters()),
                "peak": natural.classifier_learning_rate,
                "weight_decay": natural.weight_decay,
            }
        ]
    )
    for epoch in range(natural.epochs):
        run_epoch(recipe, embedded, nn.Identity(), layer, optimizer, epoch, chance)
    with torch.no_grad():
        layer.classifier.weight.mul_(necks.dimensions**0.5)
    return layer.eval()
