"""One training loop, for heads on cached descriptors and for backbones on photos.

:meth:`Trainer.fit` and :meth:`Trainer.step` are the method on one page: schedule → forward → backward → clip → step →
EMA → validate → keep the best → log → checkpoint. Whatever differs between the two is passed in: the source of batches,
the model whose forward pass is the loss, the optimizer's groups, and the validation.

Each process of a distributed run computes its share of every batch. With P processes, a share of n of the batch's N
photos has its loss weighted by P · n / N, so that the mean of the gradients is the gradient of the batch's mean loss.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, Protocol, TypeVar, cast

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from obelisk.errors import DataError, ObeliskError
from obelisk.files import replace_file
from obelisk.training.distributed import Distributed, skip_averaging
from obelisk.training.loading.batch import Batch
from obelisk.training.losses import Loss
from obelisk.training.optim.checkpoint import CheckpointFile, StepResult, TrainState, load_checkpoint, save_checkpoint
from obelisk.training.optim.logs import Epoch, StepReport, ThroughputMeter, Validation, describe_epoch
from obelisk.training.optim.optimizer import set_learning_rates
from obelisk.training.optim.signals import SigtermFlag

DIVERGED = "diverged.json"

E = TypeVar("E", bound=nn.Module)


class EmbedderWithLoss(nn.Module, Generic[E]):
    """An embedder (a neck or a whole photo embedder) and its loss: trained, averaged, validated and kept together."""

    def __init__(self, embedder: E, loss: Loss) -> None:
        super().__init__()
        self.embedder = embedder
        self.loss = loss


class BatchSource(Protocol):
    """The source of a run's batches: a stream that depends only on the seed and can start at any step."""

    @property
    def steps(self) -> int:
        """Batches in an epoch."""

    def stream(self, epoch: int, step: int) -> Generator[Batch]:
        """Yield the batches of all epochs, starting at a step of an epoch; both count from 0.

        Each epoch may be followed by its validation batches, in the same stream.
        """

    def name_photos(self, indices: Sequence[int]) -> list[str]:
        """Return the names of photos, for error messages."""


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """The settings of one training stage, taken from its section of the recipe.

    ``stop_after`` ends training after that epoch, on the schedule of all ``epochs``. ``patience`` is the number of
    epochs without improvement after which training stops; 0 never stops early. ``ema_decay`` = 0 turns the EMA off.
    Groups of ``group`` photos of one landmark stay in one micro-batch. ``advice`` says what to change if the loss
    diverges.
    """

    epochs: int
    stop_after: int | None = None
    warm_up: float
    patience: int = 0
    keep_best: bool = False
    ema_decay: float = 0.0
    clip_grad_norm: float = math.inf
    micro_batches: int = 1
    group: int = 0
    precision: str = "float32"
    advice: str


@dataclass(kw_only=True)
class Trainer(Generic[E]):
    """Trains a model with :meth:`fit`, or one :meth:`step` at a time.

    ``model(inputs, landmarks, others, weight)`` returns the loss of a micro-batch; ``weights`` are the trained modules
    in it, and ``clipped`` the parameters whose gradient is clipped and logged. ``validate`` receives the weights that
    would be kept, and the stream of batches. ``log`` receives a record of each epoch, ``watch`` a report of each step.
    """

    model: nn.Module
    weights: EmbedderWithLoss[E]
    optimizer: torch.optim.Optimizer
    clipped: Sequence[nn.Parameter]
    batches: BatchSource
    settings: TrainerSettings
    validate: Callable[[EmbedderWithLoss[E], Iterator[Batch]], Validation] = lambda weights, stream: Validation()
    checkpoint: CheckpointFile | None = None
    dist: Distributed = field(default_factory=Distributed)
    member: int = 1
    log: Callable[[Epoch], None] = lambda epoch: None
    watch: Callable[[StepReport], None] = lambda report: None

    def __post_init__(self) -> None:
        settings = self.settings
        self.state = TrainState()
        self.ema = follow_weights(self.weights, settings.ema_decay) if settings.ema_decay else None
        self.best = copy.deepcopy(self.weights).eval() if settings.keep_best else None
        self.scaler = GradScaler(self.dist.device.type, enabled=settings.precision == "float16")
        self.saved = time.monotonic()

    def fit(self) -> EmbedderWithLoss[E]:
        """Train until the last epoch, or until ``patience`` epochs bring no improvement; return the weights to keep.

        If there is a checkpoint, training resumes from it bit for bit. On SIGTERM, it finishes the step, saves a
        checkpoint and raises SystemExit. Raises ObeliskError if the loss or the gradient diverges.
        """
        self.resume()
        state, steps = self.state, self.batches.steps
        meter = ThroughputMeter(epochs=self.settings.epochs, report=self.watch)
        with SigtermFlag() as sigterm, closing(self.batches.stream(state.epoch, state.step)) as stream:
            while not self.is_done():
                # Train for an epoch, or for the rest of one
                self.model.train()
                meter.start_epoch()
                for batch in self.take(stream, steps - state.step):
                    self.schedule(state.step)
                    state.add(self.step(batch))
                    meter.end_step(state, steps, photos=len(batch) * self.dist.size)
                    self.save_or_stop(sigterm)

                # Validate the weights that would be kept, and remember the best
                self.model.eval()
                validation = self.validate(self.current, stream)
                best = self.note_validation(validation)

                # Log
                self.log(describe_epoch(self.member, state, self.optimizer, validation, best=best))
                state.end_epoch()
                meter.end_epoch(validation.top1)

                # Checkpoint, if it is due
                self.save_or_stop(sigterm, epoch_ended=True)
        self.save()
        return self.best if self.best and state.best_epoch else self.current

    def step(self, batch: Batch) -> StepResult:
        """Update the weights once: forward and backward by micro-batches, clip, step, EMA.

        The step is skipped if one of the processes could read none of its photos, or if float16 gradients overflow.
        """
        dist, settings = self.dist, self.settings
        photos, empty, unreadable = dist.sum(len(batch), not len(batch), len(batch.unreadable))
        if empty:
            return StepResult(unreadable=round(unreadable))

        # Forward and backward; processes average their gradients at the last micro-batch
        self.optimizer.zero_grad()
        total, parts = 0.0, batch.split(settings.micro_batches, settings.group)
        for part in parts:
            moved = part.to(dist.device)
            with skip_averaging(self.model, skip=part is not parts[-1]):
                with autocast(settings.precision, dist.device):
                    value = self.model(moved.inputs, moved.landmarks, moved.others, moved.weight)
                    value = value * (dist.size * len(part) / photos)
                self.scaler.scale(value).backward()
            total += value.item() / dist.size
        (loss,) = dist.sum(total)
        self.refuse_diverged("loss", loss, batch)

        # Clip
        self.scaler.unscale_(self.optimizer)
        gradient = nn.utils.clip_grad_norm_(self.clipped, settings.clip_grad_norm).item()
        if not self.scaler.is_enabled():  # float16 gradients overflow now and then; the scaler skips such steps
            self.refuse_diverged("gradient", gradient, batch)

        # Step
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.weights.loss.after_step(dist.sum)

        # EMA
        if self.ema:
            self.ema.update_parameters(self.weights)
        return StepResult(loss=loss, gradient=gradient, unreadable=round(unreadable))

    @property
    def current(self) -> EmbedderWithLoss[E]:
        """The weights to validate and keep: their moving average, if there is one."""
        return cast("EmbedderWithLoss[E]", self.ema.module) if self.ema else self.weights

    def schedule(self, step: int) -> None:
        """Set the learning rates for a step of the current epoch."""
        progress = (self.state.epoch + step / self.batches.steps) / self.settings.epochs
        set_learning_rates(self.optimizer, self.settings.warm_up, progress)

    def take(self, stream: Iterator[Batch], count: int) -> Iterator[Batch]:
        """Yield ``count`` batches of the stream; if it fails because too many photos are lost, save first."""
        try:
            yield from islice(stream, count)
        except DataError:
            self.save()
            raise

    def note_validation(self, validation: Validation) -> bool | None:
        """Return whether this epoch is the best so far, None if unknown; copy its weights if the best are kept."""
        state, score = self.state, validation.score
        if score is None:
            return None
        if state.best_score is not None and score <= state.best_score:
            return False
        state.best_epoch, state.best_score = state.epoch + 1, score
        if self.best:
            self.best.load_state_dict(self.current.state_dict())
        return True

    def is_done(self) -> bool:
        """Return whether all epochs are done, or the last ``patience`` of them brought no improvement."""
        state, settings = self.state, self.settings
        last = settings.epochs if settings.stop_after is None else settings.stop_after
        impatient = state.best_epoch > 0 and 0 < settings.patience <= state.epoch - state.best_epoch
        # Only the main process validates, so it decides for all.
        return bool(self.dist.sum(impatient and self.dist.is_main)[0]) or state.epoch >= last

    @property
    def saved_modules(self) -> dict[str, nn.Module]:
        """The modules in a checkpoint."""
        followers = {"ema": self.ema, "best": self.best}
        return {"weights": self.weights} | {name: module for name, module in followers.items() if module}

    def resume(self) -> None:
        """Restore the checkpoint, if there is one, and wrap the model for distributed training."""
        if self.checkpoint:
            self.state.restore(
                load_checkpoint(self.checkpoint, self.saved_modules, self.optimizer, scaler=self.scaler, dist=self.dist)
            )
            if self.state.step:
                self.schedule(self.state.step - 1)  # for the log, if no step of the epoch is left
        self.model = self.dist.wrap(self.model)

    def save(self) -> None:
        """Write the checkpoint, if the run keeps one; all processes call this together."""
        if self.checkpoint:
            save_checkpoint(
                self.checkpoint, self.saved_modules, self.optimizer, self.state, scaler=self.scaler, dist=self.dist
            )
        self.saved = time.monotonic()

    def save_or_stop(self, sigterm: SigtermFlag, *, epoch_ended: bool = False) -> None:
        """Save the checkpoint if it is due; if SIGTERM has reached any process, save it and exit."""
        file = self.checkpoint
        due = file and ((epoch_ended and file.each_epoch) or time.monotonic() - self.saved >= file.every)
        stop, save = self.dist.sum(sigterm.received, bool(due and self.dist.is_main) or sigterm.received)
        if save:
            self.save()
        if stop:
            raise SystemExit(128 + signal.SIGTERM)

    def refuse_diverged(self, what: str, value: float, batch: Batch) -> None:
        """Raise ObeliskError for a loss or gradient that is not finite, and list the photos of its batch."""
        if math.isfinite(value):
            return
        if self.checkpoint:
            report = {**dataclasses.asdict(self.state), "photos": self.batches.name_photos(batch.indices)}
            text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
            replace_file(
                self.dist.own_path(self.checkpoint.path.with_name(DIVERGED)),
                lambda partial: partial.write_text(text, encoding="utf-8", newline="\n"),
            )
        where = f"epoch {self.state.epoch + 1}, step {self.state.step + 1}"
        raise ObeliskError(f"the {what} became {value} in {where}", fix=self.settings.advice)


def follow_weights(weights: nn.Module, decay: float) -> AveragedModel:
    """Build an EMA of a module's weights: ``θ̄ ← decay · θ̄ + (1 − decay) · θ`` after every step."""
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    ema = AveragedModel(weights, multi_avg_fn=average)
    ema.eval()
    return ema


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the autocast context for a precision, named as in recipes."""
    return torch.autocast(device.type, dtype=getattr(torch, precision), enabled=precision != "float32")
