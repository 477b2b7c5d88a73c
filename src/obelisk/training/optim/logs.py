"""Training and validation curves: a JSONL log as the truth, a picture, and TensorBoard where it is installed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from obelisk.files import replace_file
from obelisk.training.necks import Epoch
from obelisk.training.pace import EpochPace, FinetuningEpoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Line = TypeVar("Line", Epoch, FinetuningEpoch, EpochPace)


class EpochLog(Generic[Line]):
    """The epochs of one training: in a list, and at once in a file, one JSON object a line."""

    def __init__(self, kind: type[Line], path: Path, *, keep: bool = False) -> None:
        """Begin a log of lines of a kind; with ``keep``, go on with the one that is there."""
        self._path = path
        lines = path.read_text().splitlines() if keep and path.is_file() else []
        self.epochs: list[Line] = [kind(**json.loads(line)) for line in lines]
        self._write()

    def __call__(self, epoch: Line) -> None:
        """Note an epoch that has just ended, in the place of what an interrupted training had noted of it."""
        self.epochs = [
            earlier for earlier in self.epochs if (earlier.member, earlier.epoch) < (epoch.member, epoch.epoch)
        ]
        self.epochs.append(epoch)
        self._write()

    def _write(self) -> None:
        text = "".join(json.dumps(dataclasses.asdict(epoch)) + "\n" for epoch in self.epochs)
        replace_file(self._path, lambda partial: partial.write_text(text))


def draw_curves(path: Path, stages: Mapping[str, Sequence[Epoch]], title: str) -> None:
    """Draw losses and validation top-1 over the epochs of each stage, a row a stage, as PNG.

    A stage without top-1 has its losses alone.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.6 * len(stages)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
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
    figure.savefig(path, metadata={"Software": None})


def members_in(epochs: Sequence[Epoch]) -> list[list[Epoch]]:
    """Return the epochs of each neck."""
    members = sorted({epoch.member for epoch in epochs})
    return [[epoch for epoch in epochs if epoch.member == member] for member in members]


def draw_losses(axes: Axes, epochs: Sequence[Epoch]) -> None:
    """Draw a pair of lines for each neck; the first names them for all."""
    for member, rows in enumerate(members_in(epochs), start=1):
        names = ("training", "validation") if member == 1 else (None, None)
        axes.plot([e.epoch for e in rows], [e.train_loss for e in rows], label=names[0], color="#0f766e")
        validated = [epoch for epoch in rows if epoch.val_loss is not None]
        if validated:
            places = [epoch.epoch for epoch in validated]
            axes.plot(places, [e.val_loss or 0.0 for e in validated], label=names[1], color="#b45309")


def draw_top1(axes: Axes, epochs: Sequence[Epoch]) -> None:
    """Draw a line for each neck."""
    for rows in members_in(epochs):
        named = [epoch for epoch in rows if epoch.val_top1 is not None]
        axes.plot([e.epoch for e in named], [100 * (e.val_top1 or 0.0) for e in named], color="#b45309")


def write_tensorboard(folder: Path, stages: Mapping[str, Sequence[Epoch]]) -> None:
    """Write the same numbers for TensorBoard, when it is installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for stage, epochs in stages.items():
            for epoch in epochs:
                for name, value in dataclasses.asdict(epoch).items():
                    if name not in ("member", "epoch") and value is not None:
                        writer.add_scalar(f"{stage} {epoch.member}/{name}", value, epoch.epoch)
