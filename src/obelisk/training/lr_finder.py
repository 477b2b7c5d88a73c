"""The learning-rate finder: the rate rises step by step, and the loss shows how high it can go.

Smith, *Cyclical Learning Rates for Training Neural Networks*, WACV 2017, section 3.3. Over the steps i = 0 … n − 1 the
rate rises as ``r_i = r_0 · (r_n / r_0)^(i / (n − 1))``. Batches differ more than a step changes them, so each counts by
its gain g: its loss minus its loss with the initial weights. Gains are smoothed as ``m ← β · m + (1 − β) · g``, with
``m / (1 − β^(i + 1))`` in place of m, since it starts at 0, and the mean initial loss is added. The suggested rate is
the one where this curve falls most steeply over log r, before its lowest point.

Fine-tuning starts from the trained head, and only the rates of the backbone's layer groups rise, in the
proportions of ``finetuning.layer_decay``; neck and landmark weights stay as they are, so that the loss shows what the
backbone does. For a head, the rates of neck and landmark weights rise in the recipe's proportion.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from obelisk.config import Recipe
from obelisk.data import Catalog
from obelisk.errors import ObeliskError, RecipeError
from obelisk.files import replace_file
from obelisk.records import Progress, no_progress
from obelisk.training.distributed import Distributed, join_processes
from obelisk.training.export.restore import members_of
from obelisk.training.finetune import build_finetuning_trainer
from obelisk.training.head import build_head_trainer
from obelisk.training.loading.features import ReferenceFeatures, extract_reference_features
from obelisk.training.loading.loader import LabeledPhotos
from obelisk.training.machine import available_memory, one_thread
from obelisk.training.memory_estimate import refuse_out_of_memory
from obelisk.training.model.backbones import FrozenBackbone
from obelisk.training.model.network import build_neck
from obelisk.training.optim.optimizer import LANDMARKS, NECK
from obelisk.training.optim.trainer import Trainer
from obelisk.training.train import fit_head, join_heads, prepare_training, read_training_photos

HEAD_RATES, HEAD_STEPS = (1e-6, 1.0), 100
BACKBONE_RATES, BACKBONE_STEPS = (1e-6, 1e-1), 60
SMOOTHING = 0.8  # β: about the last five steps
EXPLODED = 3.0  # times the initial loss: above it, higher rates show nothing more


@dataclass(frozen=True, kw_only=True)
class RateStep:
    """A step at a learning rate: the loss of its batch, and that batch's loss with the initial weights."""

    rate: float
    loss: float
    initial: float


@dataclass(frozen=True, kw_only=True)
class RateCurve:
    """The loss of a batch, raw and smoothed, at each learning rate that was tried.

    ``key`` is the recipe's key of the rate, ``current`` its value there. ``suggested`` is None if the loss fell at no
    rate. ``suggestion`` maps keys to values: the rate, and the rates that keep their proportion to it.
    """

    key: str
    current: float
    rates: Sequence[float]
    losses: Sequence[float]
    smoothed: Sequence[float]
    suggested: float | None
    suggestion: dict[str, float]

    def to_fields(self) -> dict[str, Any]:
        """Return the curve as one JSON object, one row per step."""
        rows = zip(self.rates, self.losses, self.smoothed, strict=True)
        return {
            "key": self.key,
            "current": self.current,
            "suggested": self.suggested,
            "suggestion": self.suggestion,
            "rows": [{"rate": rate, "loss": loss, "smoothed": smoothed} for rate, loss, smoothed in rows],
        }


def find_rate(recipe: Recipe, catalog: Catalog, progress: Progress = no_progress) -> RateCurve:
    """Raise the learning rate of a recipe's last stage on a catalog's reference photos; touch no run folder.

    Raises RecipeError for a recipe that trains nothing, and whatever training would raise before its first step.
    """
    if recipe.loss.kind == "none":
        raise RecipeError("loss.kind = 'none' trains nothing, so there is no rate to find")
    with join_processes() as dist, tempfile.TemporaryDirectory(prefix="obelisk-") as folder:
        setup = prepare_training(recipe, catalog, dist)
        refuse_out_of_memory(recipe, setup.sizes, available_memory, where=catalog.root)
        features = extract_reference_features(recipe, setup.catalog, setup.backbones, progress)
        if recipe.finetuning.epochs:
            steps = raise_backbone_rate(recipe, features, setup.backbones, dist, Path(folder), progress)
        else:
            steps = raise_head_rate(recipe, features, setup.backbones, progress)
    if recipe.finetuning.epochs:
        return analyze_steps("finetuning.learning_rate", recipe.finetuning.learning_rate, steps, {})
    current = recipe.training.learning_rate
    ratio = recipe.training.classifier_learning_rate / current
    return analyze_steps("training.learning_rate", current, steps, {"training.classifier_learning_rate": ratio})


def analyze_steps(key: str, current: float, steps: Sequence[RateStep], ratios: dict[str, float]) -> RateCurve:
    """Smooth the losses of steps and suggest a rate; ``ratios`` gives the proportion of other keys to it."""
    if not steps:
        raise ObeliskError("the loss diverges at the lowest rate", fix="check the recipe's loss and its scale")
    rates = [step.rate for step in steps]
    initial = sum(step.initial for step in steps) / len(steps)
    # The last batches may have been harder than the mean one: their gains can exceed the mean initial loss.
    smoothed = [max(0.0, initial + gain) for gain in smooth([step.loss - step.initial for step in steps])]
    suggested = suggest_rate(rates, smoothed)
    found = {} if suggested is None else {key: suggested} | {other: suggested * each for other, each in ratios.items()}
    return RateCurve(
        key=key,
        current=current,
        rates=rates,
        losses=[step.loss for step in steps],
        smoothed=smoothed,
        suggested=suggested,
        suggestion={name: float(f"{value:.2g}") for name, value in found.items()},
    )


def rising_rates(lowest: float, highest: float, steps: int) -> list[float]:
    """Return rates from the lowest to the highest in equal ratios."""
    return [lowest * (highest / lowest) ** (step / (steps - 1)) for step in range(steps)]


def smooth(values: Sequence[float]) -> list[float]:
    """Return the exponential moving average of values, corrected for its start at 0."""
    mean, found = 0.0, []
    for step, value in enumerate(values, start=1):
        mean = SMOOTHING * mean + (1.0 - SMOOTHING) * value
        found.append(mean / (1.0 - SMOOTHING**step))
    return found


def suggest_rate(rates: Sequence[float], smoothed: Sequence[float]) -> float | None:
    """Return the rate where the smoothed loss falls most steeply over log r, before its lowest point.

    Each slope is that of a line through the losses around it, a seventh of all, so that no two batches decide. The
    first tenth of the steps is skipped, since few losses are in its average. None if the loss does not fall.
    """
    first = max(1, len(rates) // 10)
    lowest = int(np.argmin(smoothed))
    if lowest < first + 2:
        return None
    around = max(1, len(rates) // 14)
    slopes = {}
    for step in range(first, lowest + 1):
        near = slice(max(0, step - around), step + around + 1)
        slopes[step] = float(np.polyfit(np.log(rates[near]), smoothed[near], 1)[0])
    steepest = min(slopes, key=lambda step: slopes[step])
    return float(rates[steepest]) if slopes[steepest] < 0 else None


def until_exploded(rates: Sequence[float], take_step: Callable[[float], RateStep]) -> Iterator[RateStep]:
    """Take a step at each rate, until the smoothed gain explodes or the loss diverges."""
    gains: list[float] = []
    for rate in rates:
        step = take_step(rate)
        if not math.isfinite(step.loss):
            return
        gains.append(step.loss - step.initial)
        yield step
        if smooth(gains)[-1] > EXPLODED * max(step.initial, 1e-3):
            return


@one_thread()
def raise_head_rate(
    recipe: Recipe, features: ReferenceFeatures, backbones: Sequence[FrozenBackbone], progress: Progress
) -> list[RateStep]:
    """Train the first head from its start while its rates rise."""
    columns, parts = members_of(recipe, backbones)[0]
    photos = read_training_photos(features).slice_columns(columns)
    torch.manual_seed(recipe.seed)
    neck = build_neck(recipe.neck, parts, photos.plain())
    longer = recipe.training.model_copy(update={"epochs": HEAD_STEPS})  # batches enough for all steps
    changed = recipe.model_copy(update={"training": longer})
    trainer = build_head_trainer(changed, neck, photos, torch.bincount(photos.landmarks))
    return raise_rates(trainer, rising_rates(*HEAD_RATES, HEAD_STEPS), recipe.training.learning_rate, (), progress)


def raise_backbone_rate(
    recipe: Recipe,
    features: ReferenceFeatures,
    backbones: Sequence[FrozenBackbone],
    dist: Distributed,
    folder: Path,
    progress: Progress,
) -> list[RateStep]:
    """Fine-tune from the trained head while the backbone's rates rise."""
    columns, parts = members_of(recipe, backbones)[0]
    progress("training the head", 0, 1)
    photos = read_training_photos(features).slice_columns(columns)
    head = fit_head(recipe, photos, torch.from_numpy(features.is_val), parts)
    progress("training the head", 1, 1)
    assert head.loss is not None
    torch.manual_seed(recipe.seed)
    # Batches enough for all steps, of photos at full size. A compiled model could not be copied.
    longer = recipe.finetuning.model_copy(update={"epochs": BACKBONE_STEPS, "start_size": 0, "compile": False})
    trainer = build_finetuning_trainer(
        recipe.model_copy(update={"finetuning": longer}),
        join_heads(recipe, backbones, [head]),
        parts,
        head.loss,
        LabeledPhotos(paths=features.paths, landmarks=photos.landmarks, rule=backbones[0].bundle.input),
        folder=folder,
        dist=dist,
    )
    rates = rising_rates(*BACKBONE_RATES, BACKBONE_STEPS)
    return raise_rates(trainer, rates, recipe.finetuning.learning_rate, (NECK, LANDMARKS), progress)


def raise_rates(
    trainer: Trainer[Any], rates: Sequence[float], current: float, held: Sequence[str], progress: Progress
) -> list[RateStep]:
    """Take the trainer's steps at rising rates, in proportion to ``current``; the ``held`` parts stay as they are."""
    trainer.model.train()
    initial = copy.deepcopy(trainer.model)
    done = 0

    def take_step(rate: float) -> RateStep:
        nonlocal done
        for group in trainer.optimizer.param_groups:
            group["lr"] = 0.0 if group["part"] in held else rate * group["peak"] / current
        batch = next(stream).to(trainer.dist.device)
        with torch.no_grad():
            before = initial(batch.inputs, batch.landmarks, batch.others, batch.weight)
        try:
            loss = trainer.step(batch).loss
        except ObeliskError:  # it diverged: the curve ends here
            loss = math.nan
        done += 1
        progress("raising the rate", done, len(rates))
        return RateStep(rate=rate, loss=loss, initial=before.item())

    with closing(trainer.batches.stream(0, 0)) as stream:
        return list(until_exploded(rates, take_step))


def draw_rates(path: Path, curve: RateCurve, title: str) -> None:
    """Draw the losses over the rates, as PNG, with the rate suggested and that of the recipe."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot(curve.rates, curve.losses, ".", markersize=3, color="#94a3b8", label="a batch")
    axes.plot(curve.rates, curve.smoothed, color="#0f766e", label="smoothed")
    axes.axvline(curve.current, color="#64748b", linestyle=":", label=f"recipe: {curve.current:.2g}")
    if curve.suggested is not None:
        axes.axvline(curve.suggested, color="#b45309", linestyle="--", label=f"steepest fall: {curve.suggested:.2g}")
    low, high = min(curve.smoothed), max(curve.smoothed[: int(np.argmin(curve.smoothed)) + 1])
    # What explodes at the end would press the fall that matters into a line.
    axes.set_ylim(max(0.0, low - 0.3 * (high - low)), high + 1.5 * (high - low) + 1e-3)
    axes.set(xscale="log", xlabel=curve.key, ylabel="loss", title=title)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    replace_file(path, lambda partial: figure.savefig(partial, format="png", metadata={"Software": None}))
