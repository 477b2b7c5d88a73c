"""Tables of what a training will be, and of the learning rates that it bears."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from obelisk.cli.console import note, result, table, warn

if TYPE_CHECKING:
    from obelisk.training.dry_run import DryRun
    from obelisk.training.lr_finder import RateCurve


def show_outlook(outlook: DryRun) -> None:
    """Print photos, weights, memory and time, a table each."""
    counts = (("landmarks", outlook.landmarks), ("photos", outlook.photos), ("validation photos", outlook.validation))
    table(("", "count"), counts)
    result("")
    rows = [(part.name, f"{part.weights:,}", "trained" if part.trained else "frozen") for part in outlook.parts]
    for name, wanted in (("all that is trained", True), ("all that is frozen", False)):
        rows.append((name, f"{sum(part.weights for part in outlook.parts if part.trained is wanted):,}", ""))
    table(("weights", "count", ""), rows)
    result("")
    show_memory(outlook)
    result("")
    show_times(outlook)


def show_memory(outlook: DryRun) -> None:
    """Print what each stage holds in memory, largest first, and warn where it cannot fit."""
    from obelisk.training.machine import in_words

    for stage, parts in outlook.memory.items():
        rows = [(name, in_words(size)) for name, size in sorted(parts.items(), key=lambda each: -each[1]) if size]
        table((f"memory, {stage}", ""), [*rows, ("together", in_words(sum(parts.values())))])
        result("")
    if outlook.available is None:
        return
    result(f"available: {in_words(outlook.available)}")
    most = max(sum(parts.values()) for parts in outlook.memory.values())
    if most > outlook.available:
        warn(f"the training takes {in_words(most)}, and will be refused")


def show_times(outlook: DryRun) -> None:
    """Print steps, what was measured, and the time that all will take."""
    rows = [
        (stage.name, str(stage.epochs), str(stage.steps), f"{stage.step_seconds:.3g}", in_time(stage.seconds))
        for stage in outlook.stages
    ]
    describing = outlook.missing_descriptors / outlook.descriptors_per_second
    rows.insert(0, (f"describing, {outlook.missing_descriptors:,} not cached", "", "", "", in_time(describing)))
    table(
        ("stage", "epochs, at most", "steps an epoch", "seconds a step", "time"),
        [*rows, ("together, about", "", "", "", in_time(outlook.seconds))],
    )
    result("")
    result(f"descriptors: {outlook.descriptors_per_second:.1f} a second")
    if outlook.loaded_per_second is not None:
        result(f"data loading: {outlook.loaded_per_second:.1f} augmented photos a second")


def in_time(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds."""
    return str(datetime.timedelta(seconds=round(seconds)))


def show_rates(curve: RateCurve) -> None:
    """Print a row a rate, and what is suggested."""
    rows = zip(curve.rates, curve.losses, curve.smoothed, strict=True)
    table((curve.key, "loss", "smoothed"), [(f"{rate:.3g}", loss, smoothed) for rate, loss, smoothed in rows])
    if curve.suggested is None:
        note("the loss fell at no rate: nothing is suggested")
        return
    keys = " ".join(f"--set {key}={value:g}" for key, value in curve.suggestion.items())
    result("")
    result(f"steepest fall: {keys} (the recipe has {curve.current:g})")
