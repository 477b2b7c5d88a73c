"""What is told of a fine-tuning while it runs: what it found, and how fast it goes.

The two are kept apart, in ``finetuning.jsonl`` and ``pace.jsonl``: a run that is repeated, or stopped and gone on with,
finds the same to the bit; how long it took, nothing repeats.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from obelisk.training.machine import peak_memory, resident_memory
from obelisk.training.necks import Epoch


@dataclass(frozen=True, kw_only=True)
class FinetuningEpoch(Epoch):
    """One line of ``finetuning.jsonl``. What a log of an older version lacks is None.

    ``learning_rate`` is that of the landmark weights, ``backbone_rate`` that of the last layer group, all at the
    epoch's last step. Gradient norms are the backbone's before they are cut, without those that overflow in float16;
    ``unreadable`` counts the photos that batches lacked. ``best`` tells whether no epoch so far was better; None
    without validation photos.
    """

    backbone_rate: float | None = None
    neck_rate: float | None = None
    gradient_mean: float | None = None
    gradient_largest: float | None = None
    unreadable: int | None = None
    best: bool | None = None


@dataclass(frozen=True, kw_only=True)
class EpochPace:
    """One line of ``pace.jsonl``: an epoch, or what was left of it when the training went on.

    ``photos`` in ``seconds``, of which validation is a part; ``photos_per_second`` is the pace of the steps alone.
    ``resident`` and ``peak`` are bytes in memory at its end, and at most since the start.
    """

    member: int = 1
    epoch: int
    photos: int
    seconds: float
    photos_per_second: float
    resident: int
    peak: int


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How far a fine-tuning is after a step, or, with ``ended``, after an epoch and its validation.

    ``loss`` is the mean of the epoch so far, ``val_top1`` that of the last validation, ``seconds_left`` the time until
    the last step, as the steps and validations of this process took theirs.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    val_top1: float | None
    seconds_left: float
    measured: EpochPace
    ended: bool = False


@dataclass(kw_only=True)
class Stopwatch:
    """Measures a fine-tuning of ``epochs`` passes and tells of it; ``clock`` gives seconds."""

    epochs: int
    tell: Callable[[Pace], None]
    clock: Callable[[], float] = time.monotonic
    val_top1: float | None = None
    _taken: int = field(default=0, init=False)
    _photos: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._start = self._epoch_start = self.clock()
        self._last: Pace | None = None

    def begin_epoch(self) -> None:
        """Start to count the photos and seconds of an epoch."""
        self._epoch_start, self._photos = self.clock(), 0

    def note_step(self, epoch: int, step: int, steps: int, *, photos: int, loss: float) -> None:
        """Tell of step ``step`` of ``steps`` in an epoch, both counted from 1, which took ``photos``."""
        self._taken += 1
        self._photos += photos
        now = self.clock()
        seconds = max(now - self._epoch_start, 1e-9)
        left = self.epochs * steps - ((epoch - 1) * steps + step)
        self._last = Pace(
            epoch=epoch,
            epochs=self.epochs,
            step=step,
            steps=steps,
            loss=loss,
            val_top1=self.val_top1,
            seconds_left=(now - self._start) / self._taken * left,
            measured=self._measure(epoch, seconds, self._photos / seconds),
        )
        self.tell(self._last)

    def end_epoch(self, val_top1: float | None) -> None:
        """Tell of an epoch that has ended with this validation; nothing of one that had no step left."""
        self.val_top1 = val_top1
        if self._last is None:
            return
        now, last = self.clock(), self._last
        measured = self._measure(last.epoch, now - self._epoch_start, last.measured.photos_per_second)
        left = (now - self._start) / self._taken * (self.epochs - last.epoch) * last.steps
        self._last = None
        self.tell(
            Pace(
                epoch=last.epoch,
                epochs=self.epochs,
                step=last.steps,
                steps=last.steps,
                loss=last.loss,
                val_top1=val_top1,
                seconds_left=left,
                measured=measured,
                ended=True,
            )
        )

    def _measure(self, epoch: int, seconds: float, rate: float) -> EpochPace:
        return EpochPace(
            epoch=epoch,
            photos=self._photos,
            seconds=seconds,
            photos_per_second=rate,
            resident=resident_memory(),
            peak=peak_memory(),
        )
