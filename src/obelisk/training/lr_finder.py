"""Finding a learning rate before the training: the rate rises step by step, and the loss tells what it bears.

Smith, *Cyclical Learning Rates for Training Neural Networks*, WACV 2017, section 3.3. Over the steps i = 0 … n − 1 the
rate rises as ``r_i = r_0 · (r_n / r_0)^(i / (n − 1))``. Batches differ more than a step changes them, so each is told
by its gain g, its loss less that with the weights of the start. Gains are smoothed as ``m ← β · m + (1 − β) · g``, with
``m / (1 − β^(i + 1))`` in place of m, since it starts at 0, and the mean loss of the start is added. The rate suggested
is that at which this falls most steeply over log r, before its lowest point.

Where a backbone is fine-tuned, it starts from the trained neck, and the rates of its layer groups alone rise, in the
proportions of ``finetuning.layer_decay``; neck and landmark weights stay as they are, so that what the loss does is the
backbone's doing. Else the rates of neck and landmark weights rise in the proportion that the recipe gives them.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from obelisk.config import Recipe
from obelisk.data import Catalog
from obelisk.errors import ObeliskError, RecipeError
from obelisk.files import replace_file
from obelisk.training.distributed import World, join_world
from obelisk.training.export.restore import members_of
from obelisk.training.finetune import LANDMARKS, NECK, begin_course, build_finetuning
from obelisk.training.loading.augmentation import fresh_view
from obelisk.training.loading.features import DescribedReferences, Progress, describe_references
from obelisk.training.loading.loader import LabelledPhotos, load_batches
from obelisk.training.loading.samplers import epoch_batches
from obelisk.training.losses import build_loss
from obelisk.training.machine import available_memory, one_thread
from obelisk.training.memory_estimate import refuse_too_large
from obelisk.training.model.backbones import FrozenBackbone
from obelisk.training.model.network import build_neck
from obelisk.training.necks import TrainingPhotos, build_optimizer, classifier_dropout, mean_embeddings
from obelisk.training.optim.trainer import Course, take_step
from obelisk.training.preparation import prepare_training
from obelisk.training.train import fit, join_modules

NECK_RATES, NECK_STEPS = (1e-6, 1.0), 100
BACKBONE_RATES, BACKBONE_STEPS = (1e-6, 1e-1), 60
SMOOTHING = 0.8  # β: about the last five steps
EXPLODED = 3.0  # times the loss of the start: above it nothing is left to learn from higher rates


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A step at a rate: the loss of its batch, and what that was with the weights of the start."""

    rate: float
    loss: float
    start: float


@dataclass(frozen=True, kw_only=True)
class RateCurve:
    """The loss of a batch, as it is and smoothed, at each rate that was tried.

    ``key`` is the recipe's key of the rate, ``current`` its value there. ``suggested`` is None where the loss fell
    at no rate. ``suggestion`` maps keys to values: the rate, and those that keep their proportion to it.
    """

    key: str
    current: float
    rates: Sequence[float]
    losses: Sequence[float]
    smoothed: Sequence[float]
    suggested: float | None
    suggestion: dict[str, float]

    def to_fields(self) -> dict[str, Any]:
        """Return it as one JSON object, a row a step."""
        rows = zip(self.rates, self.losses, self.smoothed, strict=True)
        return {
            "key": self.key,
            "current": self.current,
            "suggested": self.suggested,
            "suggestion": self.suggestion,
            "rows": [{"rate": rate, "loss": loss, "smoothed": smoothed} for rate, loss, smoothed in rows],
        }


def find_rate(recipe: Recipe, catalog: Catalog, progress: Progress = lambda *_: None) -> RateCurve:
    """Let the rate of a recipe's last stage rise on a catalog's reference photos; no run folder is touched.

    Raises RecipeError for a recipe that trains nothing, and what its training would raise before its first step.
    """
    if recipe.loss.kind == "none":
        raise RecipeError("loss.kind = 'none' trains nothing, so there is no rate to find")
    with join_world() as world, tempfile.TemporaryDirectory(prefix="obelisk-") as folder:
        prepared = prepare_training(recipe, catalog, world)
        backbones = prepared.backbones
        refuse_too_large(recipe, prepared.sizes, available_memory, where=catalog.root)
        described = describe_references(recipe, prepared.catalog, backbones, progress)
        if recipe.finetuning.epochs:
            tried = raise_backbone_rate(recipe, described, backbones, world, Path(folder), progress)
        else:
            tried = raise_neck_rate(recipe, described, backbones, progress)
    if not recipe.finetuning.epochs:
        current = recipe.training.learning_rate
        ratio = recipe.training.classifier_learning_rate / current
        return draw_conclusions("training.learning_rate", current, tried, {"training.classifier_learning_rate": ratio})
    return draw_conclusions("finetuning.learning_rate", recipe.finetuning.learning_rate, tried, {})


def draw_conclusions(key: str, current: float, tried: Sequence[Tried], ratios: dict[str, float]) -> RateCurve:
    """Smooth the losses of steps, and suggest a rate; ``ratios`` gives other keys' proportion to it."""
    if not tried:
        raise ObeliskError("the loss is no number at the lowest rate", fix="check the recipe's loss and its scale")
    rates = [step.rate for step in tried]
    start = sum(step.start for step in tried) / len(tried)
    # The last batches may have been harder than the mean one: all that they gained can be more than there was.
    smoothed = [max(0.0, start + gain) for gain in smooth([step.loss - step.start for step in tried])]
    suggested = suggest_rate(rates, smoothed)
    found = {} if suggested is None else {key: suggested} | {other: suggested * each for other, each in ratios.items()}
    return RateCurve(
        key=key,
        current=current,
        rates=rates,
        losses=[step.loss for step in tried],
        smoothed=smoothed,
        suggested=suggested,
        suggestion={name: float(f"{value:.2g}") for name, value in found.items()},
    )


def rising_rates(lowest: float, highest: float, steps: int) -> list[float]:
    """Return rates from the lowest to the highest, each the same multiple of the one before."""
    return [lowest * (highest / lowest) ** (step / (steps - 1)) for step in range(steps)]


def smooth(values: Sequence[float]) -> list[float]:
    """Return values as their running mean, corrected for its start at 0."""
    mean, found = 0.0, []
    for step, value in enumerate(values, start=1):
        mean = SMOOTHING * mean + (1.0 - SMOOTHING) * value
        found.append(mean / (1.0 - SMOOTHING**step))
    return found


def suggest_rate(rates: Sequence[float], smoothed: Sequence[float]) -> float | None:
    """Return the rate at which the smoothed loss falls most steeply over log r, before its lowest point.

    A slope is that of a line through the losses around, a seventh of all, so that no two batches decide. The first
    tenth of the steps is passed over: few losses are in its mean. None where the loss does not fall.
    """
    first = max(1, len(rates) // 10)
    lowest = int(np.argmin(smoothed))
    if lowest < first + 2:
        return None
    around = max(1, len(rates) // 14)
    slopes = {}
    for place in range(first, lowest + 1):
        near = slice(max(0, place - around), place + around + 1)
        slopes[place] = float(np.polyfit(np.log(rates[near]), smoothed[near], 1)[0])
    steepest = min(slopes, key=lambda place: slopes[place])
    return float(rates[steepest]) if slopes[steepest] < 0 else None


def until_exploded(rates: Sequence[float], step: Callable[[int, float], Tried]) -> Iterator[Tried]:
    """Take a step, numbered from 0, at each rate, until the smoothed gain explodes or the loss is no number."""
    gains: list[float] = []
    for place, rate in enumerate(rates):
        tried = step(place, rate)
        if not math.isfinite(tried.loss):
            return
        gains.append(tried.loss - tried.start)
        yield tried
        if smooth(gains)[-1] > EXPLODED * max(tried.start, 1e-3):
            return


def endless_batches(recipe: Recipe, landmarks: Tensor, size: int) -> Iterator[Tensor]:
    """Yield the batches of one epoch after the other over photos with these landmarks (N,)."""
    for epoch in count():
        yield from epoch_batches(recipe, landmarks, size, epoch)


@one_thread()
def raise_neck_rate(
    recipe: Recipe, described: DescribedReferences, backbones: Sequence[FrozenBackbone], progress: Progress
) -> list[Tried]:
    """Train the first neck from its start while its rate rises."""
    columns, parts = members_of(recipe, backbones)[0]
    labels = torch.from_numpy(described.labels)
    photos = TrainingPhotos(views=torch.from_numpy(described.views[:, :, columns]), landmarks=labels)
    torch.manual_seed(recipe.seed)
    neck = build_neck(recipe.neck, parts, photos.plain())
    loss = build_loss(recipe.loss, neck.dimensions, torch.bincount(labels), dropout=classifier_dropout(recipe))
    loss.start_at_means(lambda: mean_embeddings(neck, photos, len(described.landmarks)))
    optimizer = build_optimizer(recipe, neck, loss)
    chance = torch.Generator().manual_seed(recipe.seed)
    batches = endless_batches(recipe, labels, recipe.training.batch_size)
    neck.train()
    loss.train()
    before = copy.deepcopy((neck, loss))

    def step(place: int, rate: float) -> Tried:
        for group in optimizer.param_groups:
            group["lr"] = rate * group["peak"] / recipe.training.learning_rate
        batch = next(batches)
        views = torch.randint(len(photos.views), (len(batch),), generator=chance)
        rows = photos.views[views, batch].float()
        with torch.no_grad():
            start = before[1](before[0](rows), labels[batch])
        value = loss(neck(rows), labels[batch])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        progress("raising the rate", place + 1, len(rates))
        return Tried(rate=rate, loss=value.item(), start=start.item())

    rates = rising_rates(*NECK_RATES, NECK_STEPS)
    return list(until_exploded(rates, step))


def raise_backbone_rate(
    recipe: Recipe,
    described: DescribedReferences,
    backbones: Sequence[FrozenBackbone],
    world: World,
    folder: Path,
    progress: Progress,
) -> list[Tried]:
    """Fine-tune from the trained neck while the backbone's rate rises."""
    (columns, parts), section = members_of(recipe, backbones)[0], recipe.finetuning
    progress("training the neck", 0, 1)
    trained = fit(recipe, described, columns, parts, member=1)
    progress("training the neck", 1, 1)
    assert trained.loss is not None
    torch.manual_seed(recipe.seed)
    embedder = join_modules(recipe, backbones, [trained])
    # What is compiled cannot be copied.
    tuned = build_finetuning(recipe, embedder, parts, trained.loss, world.device, compiled=False)
    photos = LabelledPhotos(
        paths=described.paths, landmarks=torch.from_numpy(described.labels), rule=backbones[0].bundle.input
    )
    course = begin_course(recipe, tuned, photos, folder / "none.safetensors", world=world)
    rates = rising_rates(*BACKBONE_RATES, BACKBONE_STEPS)
    view = fresh_view(recipe.views, recipe.seed, 0)
    batches = islice(endless_batches(recipe, photos.landmarks, section.batch_size), len(rates))
    loaded = load_batches((photos.pick(places, view) for places in batches), aside=world.shares_cores)
    tuned.train()
    before = copy.deepcopy(tuned)

    def step(place: int, rate: float) -> Tried:
        set_backbone_rate(course, rate)
        batch = next(loaded)
        with torch.no_grad():
            start = before(batch.pixels.to(world.device), batch.landmarks.to(world.device))
        try:
            loss = take_step(course, batch)
        except ObeliskError:  # no number any more: the end of the curve
            loss = math.nan
        progress("raising the rate", place + 1, len(rates))
        return Tried(rate=rate, loss=loss, start=start.item())

    return list(until_exploded(rates, step))


def set_backbone_rate(course: Course, rate: float) -> None:
    """Give the layer groups a rate, in the recipe's proportions, and hold the neck and the landmark weights."""
    for group in course.optimizer.param_groups:
        held = group["part"] in (NECK, LANDMARKS)
        group["lr"] = 0.0 if held else rate * group["peak"] / course.recipe.finetuning.learning_rate


def draw_rates(path: Path, curve: RateCurve, title: str) -> None:
    """Draw the losses over the rates, as PNG, with the rate suggested and that of the recipe."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
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
