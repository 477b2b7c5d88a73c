"""The reports of fine-tuning: measured by a clock, drawn live on a terminal, one line per epoch when piped."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from obelisk.cli import console
from obelisk.cli.console import Meter
from obelisk.config import Recipe
from obelisk.data import read_catalog
from obelisk.training.optim.checkpoint import StepResult, TrainState
from obelisk.training.optim.logs import Epoch, EpochLog, StepReport, Throughput, ThroughputMeter
from obelisk.training.train import train_run


def seconds() -> Iterator[float]:
    yield from range(1000)


def watch_two_epochs() -> list[StepReport]:
    """Two epochs of two steps of 8 photos; each look at the clock, one a step, finds it a second on."""
    ticks, reported = seconds(), list[StepReport]()
    meter = ThroughputMeter(epochs=2, report=reported.append, clock=lambda: next(ticks))
    for epoch, top1 in ((0, 0.25), (1, 0.5)):
        state = TrainState(epoch=epoch)
        meter.start_epoch()
        for _ in range(2):
            state.add(StepResult(loss=2.0 - epoch))
            meter.end_step(state, 2, photos=8)
        meter.end_epoch(top1)
    return reported


def test_throughput_is_measured_by_steps_and_epochs() -> None:
    first, second, ended, *_, last = watch_two_epochs()
    assert (first.throughput.photos_per_second, second.throughput.photos_per_second) == (8.0, 8.0)
    assert first.seconds_left == 2 / 1 * 3  # two seconds since the start, one step taken, three left
    assert second.val_top1 is None
    assert (ended.ended, ended.val_top1, ended.seconds_left) == (True, 0.25, 4 / 2 * 2)
    assert (ended.throughput.photos, ended.throughput.seconds) == (16, 3)
    assert (last.ended, last.seconds_left, last.val_top1) == (True, 0.0, 0.5)


def test_an_epoch_that_had_no_step_left_is_not_reported() -> None:
    reported = list[StepReport]()
    meter = ThroughputMeter(epochs=2, report=reported.append)
    meter.start_epoch()
    meter.end_epoch(0.5)
    assert reported == []
    assert meter.val_top1 == 0.5


@pytest.mark.parametrize("terminal", [True, False])
def test_the_meter_is_live_on_a_terminal_and_a_line_an_epoch_elsewhere(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    written = io.StringIO()
    drawn = Console(file=written, force_terminal=terminal, width=80, color_system=None, soft_wrap=True)
    monkeypatch.setattr(console, "errors", drawn)
    with Meter() as meter:
        for pace in watch_two_epochs():
            meter.watch(pace)
    text = written.getvalue()
    if terminal:
        assert "4/4" in text
        assert max(map(len, re.sub(r"\x1b\[[0-9;?]*\w", "\n", text).splitlines())) <= 80
        assert "\x1b" in text
    else:
        lines = text.splitlines()
        assert len(lines) == 2
        assert lines[0].startswith(
            "fine-tuning, epoch 1 of 2 · loss 2.000 · top-1 25.0 % · 8.0 photos/s · 0:00:04 left"
        )
    assert "epoch 2 of 2 · loss 1.000 · top-1 50.0 %" in text
    assert "at most" in text


def test_a_log_of_an_older_version_goes_on(tmp_path: Path) -> None:
    line = {"member": 1, "epoch": 1, "train_loss": 2.0, "val_loss": None, "val_top1": None, "embedding_std": None}
    (tmp_path / "log.jsonl").write_text(json.dumps(line | {"learning_rate": 0.1}) + "\n")
    (epoch,) = EpochLog(Epoch, tmp_path / "log.jsonl", keep=True).epochs
    assert epoch.gradient_mean is None
    assert epoch.train_loss == 2.0


@pytest.mark.usefixtures("loads_in_process")
def test_what_no_run_repeats_is_in_a_file_of_its_own(tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path) -> None:
    section = tiny_recipe.finetuning.model_copy(update={"epochs": 2, "batch_size": 16})
    recipe = tiny_recipe.model_copy(update={"finetuning": section})
    reported, lines = list[StepReport](), list[tuple[str, int, int]]()
    catalog = read_catalog(tiny_dataset)
    runs = [
        train_run(recipe, catalog, tmp_path / "watched", watch=reported.append),
        train_run(recipe, catalog, tmp_path / "plain", progress=lambda *line: lines.append(line)),
    ]
    first, second = ((run.folder / "finetuning.jsonl").read_text() for run in runs)
    assert first == second
    assert {"gradient_largest", "backbone_rate", "unreadable"} < json.loads(first.splitlines()[0]).keys()
    paces = EpochLog(Throughput, runs[0].folder / "pace.jsonl", keep=True).epochs
    assert [pace.photos for pace in paces] == [60, 60]
    assert all(pace.peak >= pace.resident > 0 and pace.seconds > 0 for pace in paces)
    assert [pace.ended for pace in reported].count(True) == 2
    assert [line for line in lines if line[0] == "fine-tuning, epoch 2 of 2"][-1][1:] == (4, 4)
