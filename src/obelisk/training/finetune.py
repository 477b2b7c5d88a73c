"""Fine-tuning: backbone, neck and loss trained together on photos, augmented on the fly.

It starts where the training of the neck ended, because a random or half-trained head would first drag the
backbone's features along (Kumar et al., *Fine-Tuning can Distort Pretrained Features*, ICLR 2022). With d⁰ the
frozen backbone, λ = ``finetuning.distillation`` and s = ``finetuning.frozen_share``, training minimises ::

    loss(neck(d(x)), y) + λ · mean over the descriptor's parts of (1 − cos(d(x), d⁰(x)))

and what leaves it is ``θ = s · θ⁰ + (1 − s) · θ¹``, between the weights of before and after (Wortsman et al.,
*Robust fine-tuning of zero-shot models*, CVPR 2022). Both keep the eye for places that no training saw.
The backbone's batch norms keep their statistics, and train scale and shift only: a few thousand photos tell less than
ImageNet did. Those of a dense neck follow the batches while it trains, as they did on descriptors.

A checkpoint is written every minute, after every epoch, and when SIGTERM asks to stop. The order of the photos and
their views depend on the seed and the epoch alone, so that a training that was stopped at any step goes on exactly as
if it had not been. With e = ``finetuning.ema_decay`` above 0, a mean of the weights follows them after every step,
``θ̄ ← e · θ̄ + (1 − e) · θ``, and it is what is validated and kept (Polyak & Juditsky, SIAM J. Control, 1992).
With ``finetuning.keep`` = best the checkpoint also holds what was kept after the best epoch, and the training ends with
that.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from timm.models import group_parameters
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from obelisk.config import Recipe
from obelisk.training.distributed import World
from obelisk.training.loading.loader import LabelledPhotos, load_batches
from obelisk.training.losses import Loss
from obelisk.training.machine import be_deterministic, keep_freed_memory
from obelisk.training.model.network import PhotoEmbedder
from obelisk.training.model.pooling import l2n
from obelisk.training.model.weights import TimmNetwork
from obelisk.training.optim.checkpoint import Position, load_checkpoint
from obelisk.training.optim.optimizer import build_adamw
from obelisk.training.optim.signals import SigtermFlag
from obelisk.training.optim.trainer import (
    Course,
    average_of,
    name_training,
    plan_batches,
    recall_quarantine,
    run_epoch,
    validate,
)
from obelisk.training.pace import FinetuningEpoch, Pace, Stopwatch

CHECKPOINT_SECONDS = 60.0
LAYER, NECK, LANDMARKS = "backbone", "neck", "landmark weights"  # parts of the optimizer; layer groups are numbered


class Finetuning(nn.Module):
    """What is trained, and what it is held against: photos (N, 3, H, W) and landmarks (N,) → the loss."""

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
        self.embedder = embedder
        self.loss = loss
        self.parts = list(parts)
        self.distillation = distillation
        # A function of its own, so that modules and weights keep their names, and validation and export stay eager.
        # Each size of batch is compiled for itself: what a step computes must not depend on the sizes before it.
        self.describe = torch.compile(embedder.describe, dynamic=False) if compiled else embedder.describe

    def forward(self, photos: Tensor, landmarks: Tensor, others: Tensor | None = None, share: float = 1.0) -> Tensor:
        """Return the loss of the batch, with the distillation's share in it.

        Mixed photos have ``others``, too: the landmarks (N,) of their partners, which count by 1 − ``share``.
        """
        descriptors = self.describe(photos)
        features = self.embedder.necks(descriptors)
        value: Tensor = self.loss(features, landmarks)
        if others is not None:
            value = share * value + (1.0 - share) * self.loss(features, others)
        if self.frozen:
            with torch.no_grad():
                before = self.frozen.describe(photos)
            value = value + self.distillation * part_distance(descriptors, before, self.parts)
        return value

    def train(self, mode: bool = True) -> Finetuning:
        """Set the mode of neck and loss; that of the backbone stays, so that batch norms keep their statistics."""
        self.embedder.necks.train(mode)
        self.loss.train(mode)
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
    photos: LabelledPhotos,
    *,
    data: str = "",
    world: World | None = None,
    validation: LabelledPhotos | None,
    checkpoint: Path,
    checkpoint_every: float = CHECKPOINT_SECONDS,
    log: Callable[[FinetuningEpoch], None],
    watch: Callable[[Pace], None] = lambda pace: None,
) -> tuple[PhotoEmbedder, Loss]:
    """Train a photo embedder of one backbone with its loss, and return both with the weights that the recipe keeps.

    ``checkpoint`` is the file of the latest state, written every ``checkpoint_every`` seconds and after every epoch;
    what it holds is gone on from, where it was written for the same recipe and ``data``, which is a fingerprint of the
    photos. SIGTERM is answered between two steps, with the state saved. In a ``world`` of several processes, all call
    this, and the first one validates and writes. Raises ObeliskError when loss or gradient stops being a number (the
    photos of that batch are listed in ``diverged.json`` beside the checkpoint), DataError when too many photos cannot
    be read any more.
    """
    world = world or World()
    torch.manual_seed(recipe.seed)
    section = recipe.finetuning
    tuned = build_finetuning(recipe, embedder, parts, loss, world.device, compiled=section.compile)
    before = [copy.deepcopy(module).cpu().state_dict() for module in (embedder, loss)]
    with SigtermFlag() as stop:
        course = begin_course(
            recipe,
            tuned,
            photos,
            checkpoint,
            data=data,
            validation=validation if world.is_first else None,
            checkpoint_every=checkpoint_every,
            stop=stop,
            world=world,
            watch=watch,
        )
        batches = load_batches(plan_batches(course), aside=world.shares_cores)
        with contextlib.closing(batches) as loaded:
            while course.position.epoch < section.epochs:
                tuned.train()
                train_loss = run_epoch(course, loaded)
                tuned.eval()
                val_loss, val_top1 = validate(course, loaded)
                best = course.note_validation(val_loss, val_top1)
                log(describe_epoch(course, train_loss, val_loss, val_top1, best=best))
                course.position = course.position.after_epoch()
                course.save()
                course.stopwatch.end_epoch(val_top1)
                course.save_or_stop()
    for module, start in zip(course.chosen, before, strict=True):
        module.cpu().load_state_dict(interpolate(start, module.state_dict(), section.frozen_share))
        module.eval().to(memory_format=torch.contiguous_format).requires_grad_(requires_grad=False)
    return course.chosen


def build_finetuning(
    recipe: Recipe,
    embedder: PhotoEmbedder,
    parts: Sequence[int],
    loss: Loss,
    device: torch.device,
    *,
    compiled: bool,
) -> Finetuning:
    """Put backbone, neck and loss together on a device, as the recipe trains them.

    From here on this process computes deterministically, and keeps the memory that it frees.
    """
    be_deterministic(device)
    keep_freed_memory()
    section = recipe.finetuning
    if section.learned_exponent:
        embedder.only_backbone.learn_exponents(recipe.backbone.gem_exponent)
    tuned = Finetuning(embedder.eval(), loss, parts, section.distillation, compiled=compiled)
    return tuned.to(device).to(memory_format=torch.channels_last)


def begin_course(
    recipe: Recipe,
    tuned: Finetuning,
    photos: LabelledPhotos,
    checkpoint: Path,
    *,
    data: str = "",
    validation: LabelledPhotos | None = None,
    checkpoint_every: float = CHECKPOINT_SECONDS,
    stop: SigtermFlag | None = None,
    world: World,
    watch: Callable[[Pace], None] = lambda pace: None,
) -> Course:
    """Set a course out from its start, or from where a checkpoint says that it is."""
    trained = nn.ModuleList([tuned.embedder, tuned.loss])
    follow = recipe.finetuning.ema_decay
    course = Course(
        recipe=recipe,
        training=name_training(recipe, data),
        photos=photos,
        validation=validation,
        model=tuned,
        trained=trained,
        average=average_of(trained, follow) if follow else None,
        best=copy.deepcopy(trained) if recipe.finetuning.keep == "best" else None,
        optimizer=build_optimizer(recipe, tuned),
        scaler=GradScaler(world.device.type, enabled=recipe.finetuning.precision == "float16"),
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        position=Position(),
        stop=stop or SigtermFlag(),
        world=world,
        stopwatch=Stopwatch(epochs=recipe.finetuning.epochs, tell=watch),
        saved=time.monotonic(),
    )
    course.position = load_checkpoint(
        checkpoint, course.modules, course.optimizer, training=course.training, scaler=course.scaler, world=world
    )
    if checkpoint.is_file():
        course.quarantine = recall_quarantine(course)
    course.model = world.wrap(tuned)
    return course


def describe_epoch(
    course: Course, train_loss: float, val_loss: float | None, val_top1: float | None, *, best: bool | None
) -> FinetuningEpoch:
    """Return the line of the log for the epoch whose steps are all taken."""
    groups, position = course.optimizer.param_groups, course.position
    rates = {group["part"]: group["lr"] for group in groups}
    measured = position.step - position.overflowed
    layers = [rate for part, rate in rates.items() if part.startswith(LAYER)]
    return FinetuningEpoch(
        member=1,
        epoch=position.epoch + 1,
        train_loss=train_loss,
        val_loss=val_loss,
        val_top1=val_top1,
        embedding_std=None,
        learning_rate=groups[-1]["lr"],
        backbone_rate=layers[-1] if layers else None,
        neck_rate=rates.get(NECK),
        gradient_mean=position.gradients / measured if measured else None,
        gradient_largest=position.largest_gradient if measured else None,
        unreadable=position.unreadable,
        best=best,
    )


def build_optimizer(recipe: Recipe, tuned: Finetuning) -> torch.optim.Optimizer:
    """Build AdamW: each layer group of the backbone has its rate, the neck and the landmark weights have theirs."""
    section, training = recipe.finetuning, recipe.training
    layers = free_layers(tuned.embedder.only_backbone.network, section.frozen_groups)
    groups = [
        {
            "part": f"{LAYER} {depth + 1}",
            "params": layer,
            "peak": section.learning_rate * section.layer_decay ** (len(layers) - 1 - depth),
            "weight_decay": section.weight_decay,
        }
        for depth, layer in enumerate(layers)
        if depth >= section.frozen_groups
    ]
    exponents = tuned.embedder.only_backbone.exponents
    if exponents is not None:
        # Ten times the rate, and no decay, as the authors' code has it: p is a number near 3, not one of many weights.
        groups.append(
            {"part": "exponents", "params": [exponents], "peak": 10.0 * section.learning_rate, "weight_decay": 0.0}
        )
    groups += [
        {
            "part": part,
            "params": list(module.parameters()),
            "peak": section.head_lr_scale * peak,
            "weight_decay": training.weight_decay,
        }
        for part, module, peak in (
            (NECK, tuned.embedder.necks, training.learning_rate),
            (LANDMARKS, tuned.loss, training.classifier_learning_rate),
        )
    ]
    return build_adamw(groups)


def free_layers(network: TimmNetwork, frozen: int) -> list[list[nn.Parameter]]:
    """Let the weights of a network move, save those of its first ``frozen`` layer groups; return all groups."""
    layers = group_layers(network)
    for depth, layer in enumerate(layers):
        for parameter in layer:
            # Backbones are loaded frozen.
            parameter.requires_grad = depth >= frozen
    return layers


def group_layers(network: TimmNetwork) -> list[list[nn.Parameter]]:
    """Return the parameters of a timm network by depth: the stem first, then each stage."""
    groups = group_parameters(network, network.group_matcher(coarse=True))
    parameters = dict(network.named_parameters())
    return [[parameters[name] for name in names] for _, names in sorted(groups.items())]


def interpolate(before: dict[str, Tensor], after: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return ``share`` of the weights of before and the rest of those of after; counters stay as they are."""
    return {
        name: torch.lerp(tensor, before[name], share) if tensor.is_floating_point() else tensor
        for name, tensor in after.items()
    }
