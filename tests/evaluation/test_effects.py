"""Main effects and interactions, against the sums that define them and against what was built in."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from obelisk.evaluation import RunResult, compare_runs, find_effects
from obelisk.evaluation.intervals import percentile_interval

FACTORS = {"backbone": ["a", "b"], "loss": ["u", "v", "w"], "classifier": ["s", "k"]}
CELLS = [dict(zip(FACTORS, chosen, strict=True)) for chosen in itertools.product(*FACTORS.values())]


def arm(value, samples):
    return SimpleNamespace(metrics=SimpleNamespace(values={"top1": value}), samples={"top1": np.asarray(samples)})


def test_what_was_built_in_comes_out() -> None:
    # A backbone worth 5, losses worth 2 and 3, a classifier worth −1, and 4 where b and v meet.
    worth = {"a": 0, "b": 5, "u": 0, "v": 2, "w": 3, "s": 0, "k": -1}

    def value(levels):
        return sum(worth[level] for level in levels.values()) + 4 * (levels["backbone"] + levels["loss"] == "bv")

    effects = {
        str(e): e.metrics["top1"] for e in find_effects([(c, arm(value(c), [value(c)] * 3)) for c in CELLS], FACTORS)
    }
    reported = {name: difference.value for name, difference in effects.items()}
    assert reported["backbone: a → b"] == pytest.approx(5 + 4 / 3)
    assert reported["backbone: a → b, at v, s"] == pytest.approx(9)
    assert reported["backbone: a → b, at w, k"] == pytest.approx(5)
    assert reported["loss: u → v"] == pytest.approx(2 + 2)
    assert reported["loss: u → w"] == pytest.approx(3)
    assert reported["classifier: s → k"] == pytest.approx(-1)
    assert reported["backbone: a → b × loss: u → v"] == pytest.approx(4)
    assert reported["backbone: a → b × loss: u → w"] == pytest.approx(0)
    assert reported["loss: u → v × classifier: s → k"] == pytest.approx(0)
    assert effects["backbone: a → b"].interval == pytest.approx((5 + 4 / 3, 5 + 4 / 3))
    # 4 main effects: 6 choices of the others for the backbone, 4 for each loss, 6 for the classifier; 5 pairs.
    assert len(effects) == 4 + 6 + 4 + 4 + 6 + 5


def test_intervals_are_those_of_the_resampled_sums() -> None:
    rng = np.random.default_rng(0)
    samples = {tuple(c.values()): rng.normal(size=500) for c in CELLS}
    cells = [(c, arm(0.0, samples[tuple(c.values())])) for c in CELLS]
    effects = {str(effect): effect.metrics["top1"] for effect in find_effects(cells, FACTORS)}
    others = list(itertools.product("uvw", "sk"))
    main = np.mean([samples["b", *rest] - samples["a", *rest] for rest in others], axis=0)
    assert effects["backbone: a → b"].interval == pytest.approx(percentile_interval(main))
    pair = np.mean(
        [samples["b", "v", c] - samples["a", "v", c] - samples["b", "u", c] + samples["a", "u", c] for c in "sk"],
        axis=0,
    )
    assert effects["backbone: a → b × loss: u → v"].interval == pytest.approx(percentile_interval(pair))


def test_one_factor_of_two_levels_is_the_difference_of_two_runs(make_catalog, make_predictions) -> None:
    catalog = make_catalog(dict.fromkeys(range(6), 4), {f"q{n:02}": [n % 6] for n in range(60)})
    runs = [
        RunResult(
            name=name, title="", recipe={}, predictions=make_predictions(catalog, accuracy=share, noise_seed=seed)
        )
        for seed, (name, share) in enumerate((("weak", 0.5), ("strong", 0.8)), start=1)
    ]
    comparison = compare_runs(runs, catalog, resamples=100)
    cells = [({"model": one.name}, one) for one in comparison.arms]
    (effect,) = find_effects(cells, {"model": ["weak", "strong"]})
    expected = comparison.arms[1].minus(comparison.arms[0])
    assert effect.metrics["top1"] == expected["top1"]
    assert effect.metrics["f1_macro"] == expected["f1_macro"]
    fields = effect.to_fields()
    assert fields["changes"] == [{"factor": "model", "against": "weak", "level": "strong"}]
    assert fields["metrics"]["top1"]["difference"] == pytest.approx(expected["top1"].value)
