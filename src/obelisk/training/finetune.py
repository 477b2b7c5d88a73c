"""Fine-tuning: backbone, neck and loss trained together on photos, augmented on the fly.

It starts where the training of the neck ended, because a random or half-trained head would first drag the
backbone's features along (Kumar et al., *Fine-Tuning can Distort Pretrained Features*, ICLR 2022). With d⁰ the
frozen backbone, λ = ``finetuning.distillation`` and s = ``finetuning.frozen_share``, training minimises ::

    loss(neck(d(x)), y) + λ · mean over the descriptor's parts of (1 − cos(d(x), d⁰(x)))

and what leaves it is ``θ = s · θ⁰ + (1 − s) · θ¹``, between the weights of before and after (Wortsman et al.,
*Robust fine-tuning of zero-shot models*, CVPR 2022). Both keep the eye for places that no training saw.
Batch norms keep their statistics: a few thousand photos tell less than ImageNet did.

A checkpoint is written every minute, after every epoch, and when SIGTERM asks to stop. The order of the photos and
their views depend on the seed and the epoch alone, so that a training that was stopped at any step goes on exactly as
if it had not been. With e = ``finetuning.average`` above 0, a mean of the weights follows them after every step,
``θ̄ ← e · θ̄ + (1 − e) · θ``, and it is what is validated and kept (Polyak & Juditsky, SIAM J. Control, 1992).
"""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from timm.models import group_parameters
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from obelisk.config import Recipe
from obelisk.errors import DataError
from obelisk.evaluation.files import replace_file
from obelisk.training.augmentation import AugmentedView
from obelisk.training.backbones import TimmNetwork
from obelisk.training.batch_loading import Batch, LabelledPhotos, load_batches
from obelisk.training.checkpoint import Position, load_checkpoint, save_checkpoint
from obelisk.training.loop import Epoch, draw_batches, refuse_diverged, set_learning_rate
from obelisk.training.losses import MarginSoftmax
from obelisk.training.network import PhotoEmbedder
from obelisk.training.pooling import l2n
from obelisk.training.stopping import StopSignal

DIVERGED = "diverged.json"
QUARANTINE = "quarantine.json"
CHECKPOINT_SECONDS = 60.0


class Finetuning(nn.Module):
    """What is trained, and what it is held against: photos (N, 3, H, W) and landmarks (N,) → the loss."""

    def __init__(self, embedder: PhotoEmbedder, loss: nn.Module, parts: Sequence[int], distillation: float) -> None:
        super().__init__()
        self.frozen = copy.deepcopy(embedder).requires_grad_(requires_grad=False) if distillation else None
        self.embedder = embedder
        self.loss = loss
        self.parts = list(parts)
        self.distillation = distillation

    def forward(self, photos: Tensor, landmarks: Tensor) -> Tensor:
        """Return the loss of the batch, with the distillation's share in it."""
        descriptors = self.embedder.describe(photos)
        value: Tensor = self.loss(self.embedder.necks(descriptors), landmarks)
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


@dataclass(kw_only=True)
class Course:
    """A fine-tuning on its way: what moves, how far it is, and what it met.

    ``trained`` is embedder and loss, ``average`` follows their weights where the recipe asks for it; ``quarantine``
    holds the errors of photos that could not be read, by place.
    """

    recipe: Recipe
    photos: LabelledPhotos
    tuned: Finetuning
    trained: nn.ModuleList
    average: AveragedModel | None
    optimiser: torch.optim.Optimizer
    checkpoint: Path
    checkpoint_every: float
    position: Position
    stop: StopSignal
    progress: Callable[[str, int, int], None]
    saved: float = 0.0
    quarantine: dict[int, str] = field(default_factory=dict)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds of the weights."""
        return {"module": self.trained} | ({"average": self.average} if self.average else {})

    @property
    def kept(self) -> tuple[PhotoEmbedder, nn.Module]:
        """The embedder and loss that are validated and kept: the averaged ones, where there are any."""
        embedder, loss = cast("tuple[PhotoEmbedder, nn.Module]", self.average.module if self.average else self.trained)
        return embedder, loss

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(self.checkpoint, self.modules, self.optimiser, self.position, training=self.recipe.fingerprint)
        self.saved = time.monotonic()


def finetune(
    recipe: Recipe,
    embedder: PhotoEmbedder,
    parts: Sequence[int],
    loss: nn.Module,
    photos: LabelledPhotos,
    *,
    validation: LabelledPhotos | None,
    checkpoint: Path,
    checkpoint_every: float = CHECKPOINT_SECONDS,
    log: Callable[[Epoch], None],
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> PhotoEmbedder:
    """Train a photo embedder of one backbone with its loss, and return it with the weights that the recipe keeps.

    ``checkpoint`` is the file of the latest state, written every ``checkpoint_every`` seconds and after every epoch;
    what it holds is gone on from. SIGTERM is answered between two
    steps, with the state saved. Raises ObeliskError when the loss stops being a number (the photos of that batch are
    listed in ``diverged.json`` beside the checkpoint), DataError when too many photos cannot be read any more.
    """
    torch.use_deterministic_algorithms(mode=True)
    torch.manual_seed(recipe.seed)
    before = copy.deepcopy(embedder.state_dict())
    tuned = Finetuning(embedder.eval(), loss, parts, recipe.finetuning.distillation)
    tuned.to(memory_format=torch.channels_last)
    with StopSignal() as stop:
        course = begin_course(recipe, tuned, photos, checkpoint, checkpoint_every, stop, progress)
        while course.position.epoch < recipe.finetuning.epochs:
            tuned.train()
            train_loss = run_epoch(course)
            tuned.eval()
            val_loss, val_top1 = validate(*course.kept, validation)
            course.position = Position(epoch=course.position.epoch + 1)
            log(
                Epoch(
                    member=1,
                    epoch=course.position.epoch,
                    train_loss=train_loss,
                    val_loss=val_loss,
                    val_top1=val_top1,
                    embedding_std=None,
                    learning_rate=course.optimiser.param_groups[-1]["lr"],
                )
            )
            course.save()
            stop.raise_if_asked()
    kept, _ = course.kept
    kept.load_state_dict(interpolate(before, kept.state_dict(), recipe.finetuning.frozen_share))
    return kept.eval().to(memory_format=torch.contiguous_format).requires_grad_(requires_grad=False)


def begin_course(
    recipe: Recipe,
    tuned: Finetuning,
    photos: LabelledPhotos,
    checkpoint: Path,
    checkpoint_every: float,
    stop: StopSignal,
    progress: Callable[[str, int, int], None],
) -> Course:
    """Set a course out from its start, or from where a checkpoint says that it is."""
    trained = nn.ModuleList([tuned.embedder, tuned.loss])
    follow = recipe.finetuning.average
    course = Course(
        recipe=recipe,
        photos=photos,
        tuned=tuned,
        trained=trained,
        average=average_of(trained, follow) if follow else None,
        optimiser=build_optimiser(recipe, tuned),
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        position=Position(),
        stop=stop,
        progress=progress,
        saved=time.monotonic(),
    )
    course.position = load_checkpoint(checkpoint, course.modules, course.optimiser, training=recipe.fingerprint)
    return course


def average_of(trained: nn.ModuleList, share: float) -> AveragedModel:
    """Return the running mean of some modules' weights, in which the past weighs ``share``."""
    follow = get_ema_multi_avg_fn(share)  # type: ignore[no-untyped-call]
    return AveragedModel(trained, multi_avg_fn=follow)


def run_epoch(course: Course) -> float:
    """Take what is left of one pass over the photos; return the mean loss of the whole pass."""
    recipe, start = course.recipe, course.position
    section, epoch = recipe.finetuning, start.epoch
    seed = recipe.seed * 1_000_003 + epoch
    batches = list(
        draw_batches(recipe, course.photos.landmarks, section.batch_size, torch.Generator().manual_seed(seed))
    )
    if not start.step:
        torch.manual_seed(seed)
    view = AugmentedView(number=epoch + 1, seed=recipe.seed, ranges=recipe.views)
    # Also where no step is left: what is logged is the rate of the last one.
    schedule(course, len(batches) - 1, len(batches))
    for step, batch in enumerate(load_batches(course.photos, batches[start.step :], view), start.step):
        schedule(course, step, len(batches))
        spare_unreadable(course, batch)
        value = take_step(course, batch, batches[step]) if len(batch.landmarks) else 0.0
        course.position = Position(epoch=epoch, step=step + 1, total=course.position.total + value)
        course.progress(f"fine-tuning, epoch {epoch + 1} of {section.epochs}", step + 1, len(batches))
        if course.stop.asked or time.monotonic() - course.saved >= course.checkpoint_every:
            course.save()
        course.stop.raise_if_asked()
    return course.position.total / len(batches)


def schedule(course: Course, step: int, steps: int) -> None:
    """Set the learning rates for a step of the epoch that goes on."""
    progress = (course.position.epoch + step / steps) / course.recipe.finetuning.epochs
    set_learning_rate(course.optimiser, course.recipe.training.warm_up, progress)


def take_step(course: Course, batch: Batch, places: Tensor) -> float:
    """Move the weights once, by a batch in as many parts as the recipe says; return its loss."""
    section = course.recipe.finetuning
    course.optimiser.zero_grad()
    total = 0.0
    parts = max(1, min(section.accumulation, len(batch.landmarks)))
    for pixels, landmarks in zip(batch.pixels.tensor_split(parts), batch.landmarks.tensor_split(parts), strict=True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=section.precision == "bfloat16"):
            value = course.tuned(pixels, landmarks) * (len(landmarks) / len(batch.landmarks))
        if not torch.isfinite(value):
            list_diverged(course, places)
        refuse_diverged(value, course.position.epoch, course.position.step, fix="lower finetuning.learning_rate")
        value.backward()
        total += value.item()
    nn.utils.clip_grad_norm_(course.tuned.embedder.backbones.parameters(), section.largest_gradient)
    course.optimiser.step()
    if course.average:
        course.average.update_parameters(course.trained)
    return total


def list_diverged(course: Course, places: Tensor) -> None:
    """Save which photos the batch held whose loss is no number."""
    paths = [str(course.photos.paths[place]) for place in places.tolist()]
    text = json.dumps({**dataclasses.asdict(course.position), "photos": paths}, indent=1) + "\n"
    replace_file(course.checkpoint.with_name(DIVERGED), lambda partial: partial.write_text(text))


def spare_unreadable(course: Course, batch: Batch) -> None:
    """Note the photos that a batch lacks, in a file, too; raise DataError when they are more than can be spared."""
    if batch.unreadable.keys() <= course.quarantine.keys():
        return
    course.quarantine |= batch.unreadable
    listed = {str(course.photos.paths[place]): error for place, error in sorted(course.quarantine.items())}
    text = json.dumps(listed, indent=1, ensure_ascii=False) + "\n"
    file = replace_file(course.checkpoint.with_name(QUARANTINE), lambda partial: partial.write_text(text))
    most = course.recipe.finetuning.quarantine * len(course.photos)
    if len(listed) > most:
        raise DataError(
            f"{len(listed)} of {len(course.photos)} photos cannot be read any more",
            where=file,
            fix="bring them back and go on with --resume, or allow more by finetuning.quarantine",
        )


def build_optimiser(recipe: Recipe, tuned: Finetuning) -> torch.optim.Optimizer:
    """Build AdamW: each layer group of the backbone has its rate, the neck and the landmark weights have theirs."""
    section, training = recipe.finetuning, recipe.training
    layers = group_layers(tuned.embedder.only_backbone.network)
    for layer in layers[: section.frozen_groups]:
        for parameter in layer:
            parameter.requires_grad = False
    groups = [
        {
            "params": layer,
            "peak": section.learning_rate * section.layer_decay ** (len(layers) - 1 - depth),
            "weight_decay": section.weight_decay,
        }
        for depth, layer in enumerate(layers)
        if depth >= section.frozen_groups
    ]
    groups += [
        {"params": list(module.parameters()), "peak": peak, "weight_decay": training.weight_decay}
        for module, peak in (
            (tuned.embedder.necks, training.learning_rate),
            (tuned.loss, training.classifier_learning_rate),
        )
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]])


def group_layers(network: TimmNetwork) -> list[list[nn.Parameter]]:
    """Return the parameters of a timm network by depth: the stem first, then each stage."""
    groups = group_parameters(network, network.group_matcher(coarse=True))
    parameters = dict(network.named_parameters())
    return [[parameters[name] for name in names] for _, names in sorted(groups.items())]


@torch.inference_mode()
def validate(
    embedder: PhotoEmbedder, loss: nn.Module, photos: LabelledPhotos | None
) -> tuple[float | None, float | None]:
    """Return the loss on validation photos, and the top-1 of naming each by its nearest landmark centre.

    Nones without photos; no top-1 for a loss that has no centres.
    """
    if photos is None or not len(photos):
        return None, None
    total, right, seen = 0.0, 0, 0
    centres = loss if isinstance(loss, MarginSoftmax) else None
    for batch in load_batches(photos, torch.split(torch.arange(len(photos)), 64)):
        if not len(batch.landmarks):
            continue
        features = embedder.necks(embedder.describe(batch.pixels))
        total += loss(features, batch.landmarks).item() * len(batch.landmarks)
        seen += len(batch.landmarks)
        if centres:
            right += int((centres.cosines(features).argmax(dim=1) == batch.landmarks).sum())
    if not seen:
        return None, None
    return total / seen, right / seen if centres else None


def interpolate(before: dict[str, Tensor], after: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return ``share`` of the weights of before and the rest of those of after; counters stay as they are."""
    return {
        name: torch.lerp(tensor, before[name], share) if tensor.is_floating_point() else tensor
        for name, tensor in after.items()
    }
