"""Finding a learning rate: the curve's arithmetic against made-up losses, and both kinds of training end to end."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from obelisk.cli.main import make_app
from obelisk.config import Recipe
from obelisk.data import read_catalog
from obelisk.errors import RecipeError
from obelisk.training.lr_finder import (
    BACKBONE_RATES,
    RateStep,
    analyze_steps,
    find_rate,
    rising_rates,
    smooth,
    suggest_rate,
    until_exploded,
)


def test_rates_rise_by_one_factor() -> None:
    assert rising_rates(1e-4, 1e-1, 4) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1])


def test_the_running_mean_is_that_of_its_formula() -> None:
    values = [3.0, 1.0, 2.0]
    # Σ β^(n−i) (1 − β) v_i / (1 − β^n), written out
    expected = [sum(0.2 * 0.8 ** (n - i) * values[i] for i in range(n + 1)) / (1 - 0.8 ** (n + 1)) for n in range(3)]
    assert smooth(values) == pytest.approx(expected)
    assert smooth([5.0] * 7) == pytest.approx([5.0] * 7)


@pytest.mark.parametrize("steepest", [1e-4, 1e-2])
def test_the_steepest_fall_is_found(steepest: float) -> None:
    rates = rising_rates(1e-6, 1.0, 100)
    # A step down around the rate, and an explosion after.
    logs = [math.log(rate / steepest) for rate in rates]
    losses = [3 - 2 / (1 + math.exp(-3 * log)) + max(0.0, log - 4) ** 2 for log in logs]
    assert suggest_rate(rates, losses) == pytest.approx(steepest, rel=0.1)


@pytest.mark.parametrize("losses", [np.linspace(1, 2, 50), [1.0] * 50], ids=["rises", "flat"])
def test_a_loss_that_never_falls_suggests_nothing(losses: list[float]) -> None:
    assert suggest_rate(rising_rates(1e-6, 1.0, 50), list(losses)) is None


def test_batches_of_unlike_difficulty_do_not_hide_the_fall() -> None:
    rng = np.random.default_rng(0)
    rates = rising_rates(1e-6, 1.0, 100)
    steps = [
        RateStep(rate=rate, loss=start - 0.5 / (1 + math.exp(-3 * math.log(rate / 1e-3))), initial=start)
        for rate, start in zip(rates, 3 + rng.normal(size=100), strict=True)
    ]
    curve = analyze_steps("training.learning_rate", 1e-3, steps, {"training.classifier_learning_rate": 10.0})
    # The running mean lags by some steps.
    assert 1e-3 < curve.suggested < 4e-3
    assert curve.suggestion["training.classifier_learning_rate"] == pytest.approx(10 * curve.suggested, rel=0.05)


@pytest.mark.parametrize(("bad", "steps"), [(math.nan, 3), (50.0, 4)], ids=["no number", "explodes"])
def test_the_curve_ends_where_the_loss_explodes(bad: float, steps: int) -> None:
    taken = 0

    def step(rate: float) -> RateStep:
        nonlocal taken
        taken += 1
        return RateStep(rate=rate, loss=bad if taken > 3 else 1.0, initial=1.0)

    assert len(list(until_exploded(rising_rates(1e-6, 1.0, 20), step))) == steps


def test_the_head_of_a_frozen_backbone(tiny_recipe: Recipe, tiny_dataset: Path) -> None:
    curve, again = (find_rate(tiny_recipe, read_catalog(tiny_dataset)) for _ in range(2))
    assert curve == again
    assert curve.key == "training.learning_rate"
    assert curve.rates[0] == 1e-6
    assert min(curve.smoothed) < curve.smoothed[0]
    assert set(curve.suggestion) == {"training.learning_rate", "training.classifier_learning_rate"}


def test_the_command_draws_a_curve_and_touches_no_run(
    tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obelisk.training.lr_finder.BACKBONE_STEPS", 12)
    section = tiny_recipe.finetuning.model_copy(update={"epochs": 1, "batch_size": 8})
    recipe, run = tmp_path / "tiny.toml", tmp_path / "run"
    recipe.write_text(tiny_recipe.model_copy(update={"finetuning": section}).to_toml())
    words = ["train", str(recipe), "--data", str(tiny_dataset), "--out", str(run)]
    output = json.loads(
        CliRunner().invoke(make_app(), [*words, "--find-rate", str(tmp_path / "r.png"), "--json"]).stdout
    )
    assert output["key"] == "finetuning.learning_rate"
    rates = [row["rate"] for row in output["rows"]]
    assert rates == pytest.approx(rising_rates(*BACKBONE_RATES, 12)[: len(rates)])
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.png", "tiny.toml"]


def test_a_recipe_that_trains_nothing_is_refused(tiny_recipe: Recipe, tiny_dataset: Path) -> None:
    whitened = {
        "neck": tiny_recipe.neck.model_copy(update={"kind": "whitening"}),
        "loss": tiny_recipe.loss.model_copy(update={"kind": "none"}),
    }
    with pytest.raises(RecipeError, match="no rate to find"):
        find_rate(tiny_recipe.model_copy(update=whitened), read_catalog(tiny_dataset))
