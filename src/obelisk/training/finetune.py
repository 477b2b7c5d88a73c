"""Fine-tuning: backbone, neck and loss trained together on photos, augmented on the fly.

It starts from the trained head, because a random or half-trained head would first distort the backbone's features
(Kumar et al., *Fine-Tuning can Distort Pretrained Features*, ICLR 2022). With d⁰ the frozen backbone,
λ = ``finetuning.distillation`` and s = ``finetuning.frozen_share``, it minimizes ::

    loss(neck(d(x)), y) + λ · mean over the descriptor's parts of (1 − cos(d(x), d⁰(x)))

and returns ``θ = s · θ⁰ + (1 − s) · θ¹``, between the weights before and after (WiSE-FT: Wortsman et al., *Robust
fine-tuning of zero-shot models*, CVPR 2022). Both preserve what the backbone knows of other landmarks. The backbone's
batch norms keep their statistics, and train scale and shift only: a few thousand photos say less than ImageNet did.
Those of a dense neck keep following the batches, as in head training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from obelisk.config import Recipe
from obelisk.training.distributed import Distributed
from obelisk.training.loading.batch import Batch
from obelisk.training.loading.loader import LabeledPhotos
from obelisk.training.loading.photo_batches import PhotoBatches
from obelisk.training.loading.quarantine import Quarantine
from obelisk.training.losses import Loss
from obelisk.training.machine import be_deterministic, keep_freed_memory
from obelisk.training.model.network import PhotoEmbedder
from obelisk.training.model.pooling import l2n
from obelisk.training.optim.checkpoint import CheckpointFile
from obelisk.training.optim.logs import Epoch, StepReport, Validation
from obelisk.training.optim.optimizer import build_finetuning_optimizer
from obelisk.training.optim.trainer import EmbedderWithLoss, Trainer, TrainerSettings


class FinetuningModel(nn.Module):
    """What fine-tuning minimizes: photos (n, 3, H, W) and landmarks (n,) → the loss of the batch."""

    def __init__(
        self,
        embedder: PhotoEmbedder,
        loss: Loss,
        parts: Sequence[int],
        distillation: float,
        *,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.frozen = copy.deepcopy(embedder).requires_grad_(requires_grad=False) if distillation else None
        self.weights = EmbedderWithLoss(embedder, loss)
        self.parts = list(parts)
        self.distillation = distillation
        # Only the backbone's function is compiled, so that modules keep their names, and validation and export stay
        # eager. Each batch size is compiled for itself: what a step computes must not depend on the sizes before it.
        self.extract = torch.compile(embedder.extract, dynamic=False) if compiled else embedder.extract

    def forward(self, photos: Tensor, landmarks: Tensor, others: Tensor | None = None, weight: float = 1.0) -> Tensor:
        """Return the loss of the batch, with distillation.

        Mixed photos also count for ``others`` (n,), the landmarks of their partners, by 1 − ``weight``.
        """
        descriptors = self.extract(photos)
        features, loss = self.weights.embedder.necks(descriptors), self.weights.loss
        value: Tensor = loss(features, landmarks)
        if others is not None:
            value = weight * value + (1.0 - weight) * loss(features, others)
        if self.frozen:
            with torch.no_grad():
                before = self.frozen.extract(photos)
            value = value + self.distillation * part_distance(descriptors, before, self.parts)
        return value

    def train(self, mode: bool = True) -> FinetuningModel:
        """Set the mode of neck and loss; the backbone stays in evaluation, so its batch norms keep their statistics."""
        self.weights.embedder.necks.train(mode)
        self.weights.loss.train(mode)
        return self


def part_distance(descriptors: Tensor, others: Tensor, parts: Sequence[int]) -> Tensor:
    """Return the mean of 1 − cosine over the parts of descriptors (N, D_in) and their counterparts."""
    pairs = zip(torch.split(descriptors, list(parts), dim=1), torch.split(others, list(parts), dim=1), strict=True)
    return torch.stack([1.0 - (l2n(part) * l2n(other)).sum(dim=1) for part, other in pairs]).mean()


def finetune(
    recipe: Recipe,
    embedder: PhotoEmbedder,
    parts: Sequence[int],
    loss: Loss,
    photos: LabeledPhotos,
    *,
    validation: LabeledPhotos | None,
    checkpoint: CheckpointFile,
    dist: Distributed | None = None,
    log: Callable[[Epoch], None] = lambda epoch: None,
    watch: Callable[[StepReport], None] = lambda report: None,
) -> tuple[PhotoEmbedder, Loss]:
    """Train a photo embedder of one backbone with its loss; return both with the weights that the recipe keeps.

    ``parts`` are the lengths of the descriptor's parts. Several processes all call this; the main one validates and
    writes. Raises ObeliskError when loss or gradient diverge (``diverged.json`` beside the checkpoint lists the photos
    of that batch), DataError when too many photos become unreadable.
    """
    section, dist = recipe.finetuning, dist or Distributed()
    torch.manual_seed(recipe.seed)
    trainer = build_finetuning_trainer(
        recipe, embedder, parts, loss, photos, validation=validation, folder=checkpoint.path.parent, dist=dist
    )
    trainer.checkpoint, trainer.log, trainer.watch = checkpoint, log, watch
    before = copy.deepcopy(trainer.weights).cpu().state_dict() if section.frozen_share else None
    kept = trainer.fit().cpu()
    if before:
        kept.load_state_dict(interpolate(before, kept.state_dict(), section.frozen_share))
    kept.eval().to(memory_format=torch.contiguous_format).requires_grad_(requires_grad=False)
    return kept.embedder, kept.loss


def build_finetuning_trainer(
    recipe: Recipe,
    embedder: PhotoEmbedder,
    parts: Sequence[int],
    loss: Loss,
    photos: LabeledPhotos,
    *,
    validation: LabeledPhotos | None = None,
    folder: Path,
    dist: Distributed,
) -> Trainer[PhotoEmbedder]:
    """Set up the training of backbone, neck and loss on a device.

    From here on this process computes deterministically, and keeps the memory that it frees. Photos that become
    unreadable are listed in ``folder``.
    """
    be_deterministic(dist.device)
    keep_freed_memory()
    section, training = recipe.finetuning, recipe.training
    if section.learned_exponent:
        embedder.only_backbone.learn_exponents(recipe.backbone.gem_exponent)
    model = FinetuningModel(embedder.eval(), loss, parts, section.distillation, compiled=section.compile)
    model.to(dist.device).to(memory_format=torch.channels_last)
    batches = PhotoBatches(
        recipe=recipe,
        photos=photos,
        validation=validation if dist.is_main else None,
        quarantine=Quarantine(photos=photos, folder=folder, limit=section.quarantine, dist=dist),
        dist=dist,
        epochs=section.epochs,
    )
    return Trainer(
        model=model,
        weights=model.weights,
        optimizer=build_finetuning_optimizer(section, training, embedder, loss),
        clipped=list(embedder.backbones.parameters()),
        batches=batches,
        settings=TrainerSettings(
            epochs=section.epochs,
            warm_up=training.warm_up,
            patience=section.patience,
            keep_best=section.keep == "best",
            ema_decay=section.ema_decay,
            clip_grad_norm=section.clip_grad_norm,
            micro_batches=section.micro_batches,
            group=max(training.photos_per_landmark, recipe.views_at_once - 1),
            precision=section.precision,
            advice="lower finetuning.learning_rate",
        ),
        validate=lambda weights, stream: validate_photos(weights, islice(stream, batches.validation_steps)),
        dist=dist,
    )


@torch.inference_mode()
def validate_photos(weights: EmbedderWithLoss[PhotoEmbedder], batches: Iterator[Batch]) -> Validation:
    """Compute the loss on validation photos, and the top-1 of naming each by the landmark with the highest score.

    Both are None without photos; there is no top-1 for a loss that only compares photos.
    """
    embedder, loss = weights.embedder, weights.loss
    device = next(embedder.parameters()).device
    total, right, seen, scored = 0.0, 0, 0, False
    for batch in (each.to(device) for each in batches):
        if not len(batch):
            continue
        features = embedder.necks(embedder.extract(batch.inputs))
        total += loss(features, batch.landmarks).item() * len(batch)
        seen += len(batch)
        if (scores := loss.score_landmarks(features)) is not None:
            scored = True
            right += int((scores.argmax(dim=1) == batch.landmarks).sum())
    return Validation(loss=total / seen, top1=right / seen if scored else None) if seen else Validation()


def interpolate(before: dict[str, Tensor], after: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return ``share`` of the weights before plus the rest of those after; counters stay as they are."""
    return {
        name: torch.lerp(tensor, before[name], share) if tensor.is_floating_point() else tensor
        for name, tensor in after.items()
    }
