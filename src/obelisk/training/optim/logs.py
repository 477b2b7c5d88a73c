"""What a training run logs: its epochs, its throughput, and the curves of both.

Results and throughput are logged apart, in ``log.jsonl``, ``refit.jsonl`` and ``finetuning.jsonl``, and in
``pace.jsonl``: a repeated or resumed run gets the same results bit for bit, but never takes the same time.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

from obelisk.errors import ModelError
from obelisk.files import read_limited, replace_file
from obelisk.training.machine import peak_memory, resident_memory
from obelisk.training.optim.checkpoint import TrainState
from obelisk.training.optim.optimizer import LAYER, NECK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LARGEST_LOG = 2**26  # bytes
MEMORY_SECONDS = 0.5  # between two looks at the memory


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What an epoch's validation found; all None without validation photos, top-1 also without landmark scores.

    ``embedding_std`` is the standard deviation of a head's embeddings over photos, times √D: about 1 when healthy,
    0 when collapsed.
    """

    loss: float | None = None
    top1: float | None = None
    embedding_std: float | None = None

    @property
    def score(self) -> float | None:
        """What the best epoch is chosen by, higher is better: top-1, or else the loss."""
        return self.top1 if self.top1 is not None else None if self.loss is None else -self.loss


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One line of a run's log; what an older version did not log is None. ``member`` counts the heads from 1.

    ``learning_rate`` is that of the neck for a head, and that of the landmark weights for fine-tuning, where
    ``backbone_rate`` is that of the last layer group; all are those of the last step. ``gradient_mean`` and
    ``gradient_largest`` are norms before clipping, without those that overflow in float16: the neck's for a head, the
    backbone's for fine-tuning. ``unreadable`` counts the photos that batches lacked; ``best`` is whether no
    earlier epoch was better, None without validation photos.
    """

    member: int
    epoch: int
    train_loss: float
    val_loss: float | None
    val_top1: float | None
    embedding_std: float | None
    learning_rate: float
    backbone_rate: float | None = None
    neck_rate: float | None = None
    gradient_mean: float | None = None
    gradient_largest: float | None = None
    unreadable: int | None = None
    best: bool | None = None


def describe_epoch(
    member: int,
    state: TrainState,
    optimizer: torch.optim.Optimizer,
    validation: Validation,
    *,
    best: bool | None,
) -> Epoch:
    """Summarize an epoch whose steps are all taken."""
    rates = {group["part"]: group["lr"] for group in optimizer.param_groups}
    layers = [rate for part, rate in rates.items() if part.startswith(LAYER)]
    measured = state.step - state.overflowed
    return Epoch(
        member=member,
        epoch=state.epoch + 1,
        train_loss=state.loss_sum / state.step,
        val_loss=validation.loss,
        val_top1=validation.top1,
        embedding_std=validation.embedding_std,
        learning_rate=optimizer.param_groups[-1]["lr"],
        backbone_rate=layers[-1] if layers else None,
        neck_rate=rates.get(NECK),
        gradient_mean=state.gradient_sum / measured if measured else None,
        gradient_largest=state.largest_gradient if measured else None,
        unreadable=state.unreadable,
        best=best,
    )


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """One line of ``pace.jsonl``: how fast an epoch went, or what was left of it after a resume.

    ``photos`` in ``seconds``, of which validation is a part; ``photos_per_second`` counts the steps alone.
    ``resident`` and ``peak`` are the bytes in memory at its end, and the most since the process started.
    """

    member: int = 1
    epoch: int
    photos: int
    seconds: float
    photos_per_second: float
    resident: int
    peak: int


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """The progress of fine-tuning after a step, or, with ``ended``, after an epoch and its validation.

    ``loss`` is the epoch's mean so far, ``val_top1`` that of the last validation. ``seconds_left`` until the last step
    are estimated from the steps and validations of this process.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    val_top1: float | None
    seconds_left: float
    throughput: Throughput
    ended: bool = False


@dataclass(kw_only=True)
class ThroughputMeter:
    """Measures a run of ``epochs`` epochs and reports every step; ``clock`` gives seconds."""

    epochs: int
    report: Callable[[StepReport], None]
    clock: Callable[[], float] = time.monotonic
    val_top1: float | None = None
    _steps: int = field(default=0, init=False)
    _photos: int = field(default=0, init=False)
    _memory: tuple[int, int] = field(default=(0, 0), init=False)

    def __post_init__(self) -> None:
        self._start = self._epoch_start = self.clock()
        self._looked = -MEMORY_SECONDS
        self._last: StepReport | None = None

    def start_epoch(self) -> None:
        """Begin to count the photos and seconds of an epoch."""
        self._epoch_start, self._photos = self.clock(), 0

    def end_step(self, state: TrainState, steps: int, photos: int) -> None:
        """Report a step on ``photos`` photos, of ``steps`` in the epoch, that ``state`` already counts."""
        self._steps += 1
        self._photos += photos
        now = self.clock()
        seconds = max(now - self._epoch_start, 1e-9)
        left = self.epochs * steps - (state.epoch * steps + state.step)
        self._last = StepReport(
            epoch=state.epoch + 1,
            epochs=self.epochs,
            step=state.step,
            steps=steps,
            loss=state.loss_sum / state.step,
            val_top1=self.val_top1,
            seconds_left=(now - self._start) / self._steps * left,
            throughput=self._measure(now, state.epoch + 1, seconds, self._photos / seconds),
        )
        self.report(self._last)

    def end_epoch(self, val_top1: float | None) -> None:
        """Report an epoch and its validation; after a resume with no step left, there is nothing to report."""
        self.val_top1 = val_top1
        if self._last is None:
            return
        now, last = self.clock(), self._last
        self._looked = -MEMORY_SECONDS
        self._last = None
        self.report(
            dataclasses.replace(
                last,
                val_top1=val_top1,
                seconds_left=(now - self._start) / self._steps * (self.epochs - last.epoch) * last.steps,
                throughput=self._measure(now, last.epoch, now - self._epoch_start, last.throughput.photos_per_second),
                ended=True,
            )
        )

    def _measure(self, now: float, epoch: int, seconds: float, rate: float) -> Throughput:
        if now - self._looked >= MEMORY_SECONDS:
            self._looked, self._memory = now, (resident_memory(), peak_memory())
        resident, peak = self._memory
        return Throughput(
            epoch=epoch,
            photos=self._photos,
            seconds=seconds,
            photos_per_second=rate,
            resident=resident,
            peak=peak,
        )


Line = TypeVar("Line", Epoch, Throughput)


class EpochLog(Generic[Line]):
    """The epochs of a run, as a list and in a file, one JSON object per line."""

    def __init__(self, kind: type[Line], path: Path, *, keep: bool = False) -> None:
        """Begin a log; with ``keep``, continue the existing one."""
        self._path = path
        lines = read_limited(path, LARGEST_LOG).splitlines() if keep and path.is_file() else []
        self.epochs: list[Line] = []
        for number, line in enumerate(lines, start=1):
            try:
                self.epochs.append(kind(**json.loads(line)))
            except (ValueError, TypeError, RecursionError) as error:
                fix = "move it away: resuming needs the checkpoints only"
                raise ModelError(f"unreadable log: line {number}: {error}", where=path, fix=fix) from error
        self._write()

    def __call__(self, epoch: Line) -> None:
        """Add an epoch that has just ended, in place of what an interrupted run logged from it on."""
        self.epochs = [each for each in self.epochs if (each.member, each.epoch) < (epoch.member, epoch.epoch)]
        self.epochs.append(epoch)
        self._write()

    def _write(self) -> None:
        text = "".join(json.dumps(dataclasses.asdict(epoch)) + "\n" for epoch in self.epochs)
        replace_file(self._path, lambda partial: partial.write_text(text, encoding="utf-8", newline="\n"))


def draw_curves(path: Path, stages: Mapping[str, Sequence[Epoch]], title: str) -> None:
    """Draw the losses and the validation top-1 of each stage over its epochs, as PNG: one row per stage.

    A stage without top-1 shows its losses only.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.6 * len(stages)), dpi=120, layout="constrained")
    figure.suptitle(title)
    grid = figure.add_gridspec(len(stages), 2)
    for row, (name, epochs) in enumerate(stages.items()):
        named = any(epoch.val_top1 is not None for epoch in epochs)
        draw_losses(losses := figure.add_subplot(grid[row, 0 if named else slice(2)]), epochs)
        losses.set(ylabel="loss", title=name)
        losses.legend(frameon=False)
        if named:
            draw_top1(top1 := figure.add_subplot(grid[row, 1]), epochs)
            top1.set(ylabel="top-1, %", title="validation")
    for axes in figure.axes:
        axes.set_xlabel("epoch")
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
    replace_file(path, lambda partial: figure.savefig(partial, format="png", metadata={"Software": None}))


def members_in(epochs: Sequence[Epoch]) -> list[list[Epoch]]:
    """Return the epochs of each head."""
    members = sorted({epoch.member for epoch in epochs})
    return [[epoch for epoch in epochs if epoch.member == member] for member in members]


def draw_losses(axes: Axes, epochs: Sequence[Epoch]) -> None:
    """Draw two lines for each head; the first pair stands in the legend for all."""
    for member, rows in enumerate(members_in(epochs), start=1):
        names = ("training", "validation") if member == 1 else (None, None)
        axes.plot([e.epoch for e in rows], [e.train_loss for e in rows], label=names[0], color="#0f766e")
        validated = [epoch for epoch in rows if epoch.val_loss is not None]
        if validated:
            numbers = [epoch.epoch for epoch in validated]
            axes.plot(numbers, [e.val_loss or 0.0 for e in validated], label=names[1], color="#b45309")


def draw_top1(axes: Axes, epochs: Sequence[Epoch]) -> None:
    """Draw a line for each head."""
    for rows in members_in(epochs):
        named = [epoch for epoch in rows if epoch.val_top1 is not None]
        axes.plot([e.epoch for e in named], [100 * (e.val_top1 or 0.0) for e in named], color="#b45309")


def write_tensorboard(folder: Path, stages: Mapping[str, Sequence[Epoch]]) -> None:
    """Write the same numbers for TensorBoard, if it is installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for stage, epochs in stages.items():
            for epoch in epochs:
                for name, value in dataclasses.asdict(epoch).items():
                    if name not in ("member", "epoch") and value is not None:
                        writer.add_scalar(f"{stage} {epoch.member}/{name}", value, epoch.epoch)
