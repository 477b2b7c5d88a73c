"""The picture of a training."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from obelisk.training.optim.logs import Epoch, draw_curves


def epoch_of(epoch: int, val: float | None) -> Epoch:
    return Epoch(
        member=1,
        epoch=epoch,
        train_loss=1.0 / epoch,
        val_loss=val,
        val_top1=val,
        embedding_std=None,
        learning_rate=0.1,
    )


def test_a_stage_without_validation_has_its_losses_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = list[list[str]]()
    save = Figure.savefig

    def note(figure: Figure, *words: object, **names: object) -> None:
        drawn.append([axes.get_title() for axes in figure.axes])
        save(figure, *words, **names)

    monkeypatch.setattr(Figure, "savefig", note)
    stages = {"neck": [epoch_of(1, 0.5), epoch_of(2, 0.7)], "fine-tuning": [epoch_of(1, None), epoch_of(2, None)]}
    draw_curves(tmp_path / "curves.png", stages, "mine")
    assert drawn == [["neck", "validation", "fine-tuning"]]
