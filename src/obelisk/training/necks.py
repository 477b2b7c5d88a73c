"""Training necks: cached descriptors and landmarks in, a trained neck out.

Every epoch sees each photo once, in one of its cached views drawn at random. After it, the validation photos
are named by their nearest training photo (or by the softmax layer, where the recipe classifies by it); the
epoch with the best top-1 wins, and ``patience`` epochs without a better one end the training.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from obelisk.config import Recipe
from obelisk.training.loading.samplers import draw_batches
from obelisk.training.losses import Loss, build_loss
from obelisk.training.machine import be_deterministic, one_thread
from obelisk.training.model.network import Neck, build_neck
from obelisk.training.optim.optimizer import build_adamw, refuse_diverged, set_learning_rate


@dataclass(frozen=True, kw_only=True)
class TrainingPhotos:
    """Cached descriptors (V, N, D_in), plain view first, with their landmarks (N,) counted from 0 to C − 1."""

    views: Tensor
    landmarks: Tensor

    def __len__(self) -> int:
        return len(self.landmarks)

    def plain(self) -> Tensor:
        """Return the descriptors of the plain views, (N, D_in) float32."""
        return self.views[0].float()


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one pass did: one line of a run's log. ``member`` counts the necks of an ensemble from 1."""

    member: int
    epoch: int
    train_loss: float
    val_loss: float | None
    val_top1: float | None
    embedding_std: float | None
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A neck and its loss after the best epoch, numbered from 1 (0: nothing was trained)."""

    neck: Neck
    loss: Loss | None
    best_epoch: int


@one_thread()
def train_neck(
    recipe: Recipe,
    photos: TrainingPhotos,
    parts: tuple[int, ...],
    counts: Tensor,
    *,
    validation: TrainingPhotos | None = None,
    stop_after: int | None = None,
    member: int = 1,
    log: Callable[[Epoch], None] = lambda epoch: None,
) -> Trained:
    """Train the neck of a recipe; with ``validation``, keep its best epoch, else the last one.

    ``counts`` (C,) are reference photos a landmark. ``stop_after`` ends at that epoch of the same schedule, for
    a refit on more photos. Raises ObeliskError when the loss stops being a number.
    """
    be_deterministic()
    torch.manual_seed(recipe.seed)
    chance = torch.Generator().manual_seed(recipe.seed)
    neck = build_neck(recipe.neck, parts, photos.plain())
    if recipe.loss.kind == "none":
        return Trained(neck=neck.eval(), loss=None, best_epoch=0)
    loss = build_loss(recipe.loss, neck.dimensions, counts, dropout=classifier_dropout(recipe))
    loss.start_at_means(lambda: mean_embeddings(neck, photos, len(counts)))
    optimizer = build_optimizer(recipe, neck, loss)
    epochs = recipe.training.epochs
    best = Trained(neck=neck, loss=loss, best_epoch=0)
    best_top1 = -1.0
    for epoch in range(1, (epochs if stop_after is None else stop_after) + 1):
        neck.train()
        loss.train()
        train_loss = run_epoch(recipe, photos, neck, loss, optimizer, epoch - 1, chance)
        neck.eval()
        loss.eval()
        val_loss, val_top1 = validate(recipe, photos, validation, neck, loss)
        row = Epoch(
            member=member,
            epoch=epoch,
            train_loss=train_loss,
            val_loss=val_loss,
            val_top1=val_top1,
            embedding_std=spread(neck, photos),
            learning_rate=optimizer.param_groups[0]["lr"],
        )
        log(row)
        if val_top1 is None:
            best = Trained(neck=neck, loss=loss, best_epoch=epoch)
        elif val_top1 > best_top1:
            best_top1 = val_top1
            best = Trained(neck=copy.deepcopy(neck), loss=copy.deepcopy(loss), best_epoch=epoch)
        elif epoch - best.best_epoch >= recipe.training.patience:
            break
    return best


def run_epoch(
    recipe: Recipe,
    photos: TrainingPhotos,
    neck: nn.Module,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    chance: torch.Generator,
) -> float:
    """Take one pass over the photos; return the mean loss."""
    batches = list(draw_batches(recipe, photos.landmarks, recipe.training.batch_size, chance))
    total = 0.0
    for step, batch in enumerate(batches):
        set_learning_rate(optimizer, recipe.training.warm_up, (epoch + step / len(batches)) / recipe.training.epochs)
        views = torch.randint(len(photos.views), (len(batch),), generator=chance)
        value = loss(neck(photos.views[views, batch].float()), photos.landmarks[batch])
        taken = value.item()
        refuse_diverged(taken, epoch, step, fix="lower training.learning_rate and training.classifier_learning_rate")
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        loss.after_step()
        total += taken
    return total / len(batches)


def build_optimizer(recipe: Recipe, neck: Neck, loss: Loss) -> torch.optim.Optimizer:
    """Build AdamW with a rate for the neck and one for the landmark weights."""
    training = recipe.training
    parts = ((neck, training.learning_rate), (loss, training.classifier_learning_rate))
    return build_adamw(
        [
            {"params": list(module.parameters()), "peak": peak, "weight_decay": training.weight_decay}
            for module, peak in parts
        ]
    )


def classifier_dropout(recipe: Recipe) -> float:
    """Return the dropout in front of a softmax layer: the dense and linear necks have their own."""
    return recipe.neck.dropout if recipe.neck.kind == "identity" else 0.0


@torch.no_grad()
def mean_embeddings(neck: Neck, photos: TrainingPhotos, landmarks: int) -> Tensor:
    """Return the mean embedding of each landmark's photos, (C, D), at unit length; zeros for one without photos."""
    neck.eval()
    sums = torch.zeros(landmarks, neck.dimensions).index_add_(0, photos.landmarks, neck.embed(photos.plain()))
    return nn.functional.normalize(sums, dim=1)


@torch.no_grad()
def validate(
    recipe: Recipe, photos: TrainingPhotos, validation: TrainingPhotos | None, neck: Neck, loss: Loss
) -> tuple[float | None, float | None]:
    """Return the loss and the top-1 on the validation photos, or Nones without any."""
    if validation is None or not len(validation):
        return None, None
    features = neck(validation.plain())
    # Drawn as the training batches are, and the same ones after every epoch, so that the two curves can be compared.
    chance = torch.Generator().manual_seed(recipe.seed)
    batches = draw_batches(recipe, validation.landmarks, recipe.training.batch_size, chance)
    losses = [loss(features[batch], validation.landmarks[batch]).item() for batch in batches]
    value = sum(losses) / len(losses)
    scores = loss.score_landmarks(features) if "softmax" == recipe.classifier.kind == recipe.loss.kind else None
    if scores is not None:
        named = scores.argmax(dim=1)
    else:
        queries, references = neck.embed(validation.plain()), neck.embed(photos.plain())
        nearest = torch.cat([(rows @ references.T).argmax(dim=1) for rows in torch.split(queries, 1024)])
        named = photos.landmarks[nearest]
    return value, (named == validation.landmarks).float().mean().item()


@torch.no_grad()
def spread(neck: Neck, photos: TrainingPhotos) -> float:
    """Return the standard deviation of embeddings over photos, times √D: near 1 when healthy, 0 when collapsed."""
    rows = neck.embed(photos.views[0][:2048].float())
    return float(rows.std(dim=0).mean()) * math.sqrt(rows.shape[1])
