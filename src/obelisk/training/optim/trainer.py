"""The steps of a fine-tuning: batches in, weights moved; saved, stopped and gone on with between any two of them.

:mod:`obelisk.training.finetune` builds what is trained and takes the epochs; necks on cached descriptors have a loop of
their own, in :mod:`obelisk.training.necks`.

Of several processes each computes its share of a batch. With n photos in a share, of N in the batch and W processes,
its loss weighs W · n / N, so that the mean of the gradients is the gradient of the batch's mean loss.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from obelisk.config import FinetuningSection, Recipe
from obelisk.errors import DataError, PhotoError
from obelisk.files import replace_file
from obelisk.photos import read_photo
from obelisk.training.distributed import World
from obelisk.training.loading.augmentation import fresh_view, mix_photos
from obelisk.training.loading.loader import Batch, LabelledPhotos, WantedBatch
from obelisk.training.loading.samplers import count_batches, epoch_batches, epoch_seed
from obelisk.training.losses import Loss
from obelisk.training.model.network import PhotoEmbedder
from obelisk.training.optim.checkpoint import Position, save_checkpoint
from obelisk.training.optim.optimizer import refuse_diverged, set_learning_rate
from obelisk.training.optim.signals import SigtermFlag
from obelisk.training.pace import Stopwatch

DIVERGED = "diverged.json"
QUARANTINE = "quarantine.json"
LOWER_RATE = "lower finetuning.learning_rate"
VALIDATION_BATCH = 64


@dataclass(kw_only=True)
class Course:
    """A fine-tuning on its way: what moves, how far it is, and what it met.

    ``model`` gives the loss of photos and landmarks; ``trained`` is embedder and loss, ``average`` follows their
    weights where the recipe asks for it, and ``best`` is a copy of what was kept after the best epoch; ``quarantine``
    holds the errors of photos that could not be read, by place. ``gradient`` is the length of the last step's gradient.
    ``training`` names recipe and photos, ``validation`` are the photos that this process validates on.
    """

    recipe: Recipe
    training: str
    photos: LabelledPhotos
    validation: LabelledPhotos | None
    model: nn.Module
    trained: nn.ModuleList
    average: AveragedModel | None
    best: nn.ModuleList | None
    optimizer: torch.optim.Optimizer
    scaler: GradScaler
    checkpoint: Path
    checkpoint_every: float
    position: Position
    stop: SigtermFlag
    world: World
    stopwatch: Stopwatch
    saved: float = 0.0
    gradient: float = 0.0
    quarantine: dict[int, str] = field(default_factory=dict)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds of the weights."""
        followers = {"average": self.average, "best": self.best}
        return {"module": self.trained} | {name: module for name, module in followers.items() if module}

    @property
    def kept(self) -> tuple[PhotoEmbedder, Loss]:
        """The embedder and loss that are validated and kept: the averaged ones, where there are any."""
        embedder, loss = cast("tuple[PhotoEmbedder, Loss]", self.average.module if self.average else self.trained)
        return embedder, loss

    @property
    def chosen(self) -> tuple[PhotoEmbedder, Loss]:
        """The embedder and loss that the training ends with: those of the best epoch, where the recipe wants them."""
        if not (self.best and self.position.best_epoch):
            return self.kept
        embedder, loss = cast("tuple[PhotoEmbedder, Loss]", self.best)
        return embedder, loss

    def note_validation(self, val_loss: float | None, val_top1: float | None) -> bool | None:
        """Take an epoch's validation, and tell whether it is the best so far; None without validation photos."""
        score = val_top1 if val_top1 is not None else None if val_loss is None else -val_loss
        if score is None:
            return None
        position = self.position
        if position.best_score is not None and score <= position.best_score:
            return False
        self.position = dataclasses.replace(position, best_epoch=position.epoch + 1, best_score=score)
        if self.best:
            self.best.load_state_dict(nn.ModuleList(self.kept).state_dict())
        return True

    def save(self) -> None:
        """Write the checkpoint; all processes do this at once."""
        save_checkpoint(
            self.checkpoint,
            self.modules,
            self.optimizer,
            self.position,
            training=self.training,
            scaler=self.scaler,
            world=self.world,
        )
        self.saved = time.monotonic()

    def save_or_stop(self) -> None:
        """Save the state when it is time to, or when SIGTERM has reached any of the processes; then leave, too."""
        due = self.world.is_first and time.monotonic() - self.saved >= self.checkpoint_every
        asked, wanted = self.world.sum(self.stop.received, due or self.stop.received)
        if wanted:
            self.save()
        if asked:
            raise SystemExit(128 + signal.SIGTERM)


def name_training(recipe: Recipe, data: str) -> str:
    """Return what a checkpoint belongs to: a recipe, and photos of which ``data`` is the fingerprint."""
    return f"recipe {recipe.fingerprint} on photos {data}"


def average_of(trained: nn.ModuleList, share: float) -> AveragedModel:
    """Return the running mean of some modules' weights, in which the past weighs ``share``."""
    follow = get_ema_multi_avg_fn(share)  # type: ignore[no-untyped-call]
    return AveragedModel(trained, multi_avg_fn=follow)


def plan_batches(course: Course) -> Iterator[WantedBatch]:
    """Yield this process's batches from here to the end of the training: of each epoch, then of its validation."""
    recipe, world, position = course.recipe, course.world, course.position
    section, size = recipe.finetuning, course.photos.rule.size
    for epoch in range(position.epoch, section.epochs):
        photos, view = course.photos.at(side_of(section, size, epoch)), fresh_view(recipe.views, recipe.seed, epoch)
        batches = epoch_batches(
            recipe, photos.landmarks, section.batch_size, epoch, rank=world.rank, world_size=world.size
        )
        for places in batches[position.step if epoch == position.epoch else 0 :]:
            yield photos.pick(places, view)
        if course.validation:
            for places in torch.split(torch.arange(len(course.validation)), VALIDATION_BATCH):
                yield course.validation.pick(places)


def run_epoch(course: Course, loaded: Iterator[Batch]) -> float:
    """Take what is left of one pass over the photos; return the mean loss of the whole pass."""
    recipe, start, world = course.recipe, course.position, course.world
    epoch = start.epoch
    steps = count_batches(recipe, course.photos.landmarks, recipe.finetuning.batch_size, smallest=world.size)
    if not start.step:
        torch.manual_seed(epoch_seed(recipe, epoch) + 500_009 * world.rank)
    # Also where no step is left: what is logged is the rate of the last one.
    schedule(course, steps - 1, steps)
    course.stopwatch.begin_epoch()
    for step, batch in enumerate(islice(loaded, steps - start.step), start.step):
        schedule(course, step, steps)
        unreadable = quarantine(course, batch)
        value = take_step(course, batch)
        course.position = course.position.after_step(loss=value, gradient=course.gradient, unreadable=unreadable)
        loss = course.position.total / (step + 1)
        course.stopwatch.note_step(epoch + 1, step + 1, steps, photos=len(batch.places) * world.size, loss=loss)
        course.save_or_stop()
    return course.position.total / steps


@torch.inference_mode()
def validate(course: Course, loaded: Iterator[Batch]) -> tuple[float | None, float | None]:
    """Return the loss on validation photos, and the top-1 of naming each by its nearest landmark centre.

    A softmax layer names by its largest logit. Nones without photos; no top-1 for a loss that has neither.
    """
    embedder, loss = course.kept
    total, right, seen, names = 0.0, 0, 0, False
    for batch in islice(loaded, -(-len(course.validation or ()) // VALIDATION_BATCH)):
        if not len(batch.landmarks):
            continue
        landmarks = batch.landmarks.to(course.world.device)
        features = embedder.necks(embedder.describe(batch.pixels.to(course.world.device)))
        total += loss(features, landmarks).item() * len(landmarks)
        seen += len(landmarks)
        if (scores := loss.score_landmarks(features)) is not None:
            names = True
            right += int((scores.argmax(dim=1) == landmarks).sum())
    if not seen:
        return None, None
    return total / seen, right / seen if names else None


def schedule(course: Course, step: int, steps: int) -> None:
    """Set the learning rates for a step of the epoch that goes on."""
    progress = (course.position.epoch + step / steps) / course.recipe.finetuning.epochs
    set_learning_rate(course.optimizer, course.recipe.training.warm_up, progress)


def side_of(section: FinetuningSection, size: int, epoch: int) -> int:
    """Return the side, in pixels, of the photos of an epoch, counted from 0; ``size`` is that of the last one.

    It grows evenly from ``start_size``; between the two, it is the nearest multiple of 32, by which networks shrink
    their maps. Tan & Le, *EfficientNetV2: Smaller Models and Faster Training*, ICML 2021, algorithm 1.
    """
    if not section.start_size or epoch == section.epochs - 1:
        return size
    side = section.start_size + (size - section.start_size) * epoch / (section.epochs - 1)
    return max(section.start_size, min(size, 32 * round(side / 32)))


def take_step(course: Course, batch: Batch) -> float:
    """Move the weights once, by a batch in as many parts as the recipe says; return its loss.

    A batch of which one process can read no photo moves nothing, nor does one whose float16 gradients overflow.
    """
    recipe, world = course.recipe, course.world
    section = recipe.finetuning
    whole, empty = world.sum(len(batch.landmarks), not len(batch.landmarks))
    course.gradient = 0.0
    if empty:
        return 0.0
    course.optimizer.zero_grad()
    mixture = mix_photos(
        batch.pixels,
        section,
        recipe.training.photos_per_landmark,
        (recipe.seed, course.position.epoch, course.position.step),
    )
    others = None if mixture.partners is None else batch.landmarks[mixture.partners]
    total = 0.0
    parts = share_out(batch.landmarks, section.micro_batches, recipe.training.photos_per_landmark)
    for part in parts:
        pixels, landmarks = mixture.pixels[part].to(world.device), batch.landmarks[part].to(world.device)
        partners = None if others is None else others[part].to(world.device)
        with wait_for_gradients(course.model, last=part == parts[-1]):
            with compute_in(section.precision, world.device):
                value = course.model(pixels, landmarks, partners, mixture.weight)
                value = value * (world.size * len(landmarks) / whole)
            course.scaler.scale(value).backward()
        total += value.item() / world.size
    (loss,) = world.sum(total)
    end_if_diverged(course, batch, "loss", loss)
    embedder, criterion = course.trained
    course.scaler.unscale_(course.optimizer)
    backbones = cast("PhotoEmbedder", embedder).backbones
    course.gradient = nn.utils.clip_grad_norm_(backbones.parameters(), section.clip_grad_norm).item()
    if not course.scaler.is_enabled():
        end_if_diverged(course, batch, "gradient", course.gradient)
    course.scaler.step(course.optimizer)
    course.scaler.update()
    cast("Loss", criterion).after_step(world.sum)
    if course.average:
        course.average.update_parameters(course.trained)
    return loss


def share_out(landmarks: Tensor, parts: int, together: int) -> list[slice]:
    """Return the places of a batch's photos with these landmarks (n,) in as many parts, or fewer.

    Where M-per-class sampling drew photos of a landmark ``together``, a part holds all of them.
    """
    groups = torch.unique_consecutive(landmarks, return_counts=True)[1] if together else torch.ones_like(landmarks)
    sizes = [int(part.sum()) for part in groups.tensor_split(min(parts, len(groups)))]
    return [slice(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]


def compute_in(precision: str, device: torch.device) -> torch.autocast:
    """Return the context in which a network computes in a precision, by its name in recipes."""
    return torch.autocast(device.type, dtype=getattr(torch, precision), enabled=precision != "float32")


def wait_for_gradients(model: nn.Module, *, last: bool) -> contextlib.AbstractContextManager[None]:
    """Let several processes average their gradients after the last part of a batch only."""
    if isinstance(model, DistributedDataParallel) and not last:
        return model.no_sync()
    return contextlib.nullcontext()


def end_if_diverged(course: Course, batch: Batch, what: str, value: float) -> None:
    """Save which photos a batch held whose loss or gradient is no number, and raise ObeliskError."""
    if not math.isfinite(value):
        paths = [str(course.photos.paths[place]) for place in batch.places]
        write_list(course, DIVERGED, {**dataclasses.asdict(course.position), "photos": paths})
        refuse_diverged(value, course.position.epoch, course.position.step, what=what, fix=LOWER_RATE)


def quarantine(course: Course, batch: Batch) -> int:
    """Note the photos that a batch lacks, in a file, too, and return their number over all processes.

    Raises DataError, with the state saved, when more are lacking in all than can be spared.
    """
    if not batch.unreadable.keys() <= course.quarantine.keys():
        course.quarantine |= batch.unreadable
        listed = {str(course.photos.paths[place]): error for place, error in sorted(course.quarantine.items())}
        write_list(course, QUARANTINE, listed)
    lacking, unreadable = course.world.sum(len(course.quarantine), len(batch.unreadable))
    if lacking > course.recipe.finetuning.quarantine * len(course.photos):
        course.save()
        raise DataError(
            f"{lacking:.0f} of {len(course.photos)} photos cannot be read any more",
            where=course.checkpoint.with_name(QUARANTINE),
            fix="bring them back and go on with --resume, or allow more by finetuning.quarantine",
        )
    return round(unreadable)


def recall_quarantine(course: Course) -> dict[int, str]:
    """Return what was noted before of the photos that still cannot be read, by place."""
    path = place_list(course, QUARANTINE)
    listed = json.loads(path.read_text()) if path.is_file() else {}
    photos = course.photos
    return {
        place: listed[str(photo)]
        for place, photo in enumerate(photos.paths)
        if str(photo) in listed and not is_readable(photo, photos.rule.size)
    }


def paths_lost(checkpoint: Path) -> set[str]:
    """Return the photos that any process has noted as lost since the training of a checkpoint began."""
    lists = checkpoint.parent.glob(f"{Path(QUARANTINE).stem}*.json") if checkpoint.is_file() else ()
    return {photo for path in lists for photo in json.loads(path.read_text())}


def is_readable(photo: Path, side: int) -> bool:
    """Tell whether a photo can be read."""
    try:
        read_photo(photo, min_side=side)
    except PhotoError:
        return False
    return True


def write_list(course: Course, name: str, content: object) -> None:
    """Write a JSON file beside the checkpoint."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    replace_file(place_list(course, name), lambda partial: partial.write_text(text))


def place_list(course: Course, name: str) -> Path:
    """Return the path of a file beside the checkpoint; each process has its own."""
    path = course.checkpoint.with_name(name)
    return path if course.world.is_first else path.with_stem(f"{path.stem}-{course.world.rank}")
