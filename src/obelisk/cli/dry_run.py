"""Tables of ``obelisk train --dry-run`` and ``--find-rate``: what a run needs, and how the loss follows the rate."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from obelisk.cli.console import note, result, table, warn

if TYPE_CHECKING:
    from obelisk.training.dry_run import DryRun
    from obelisk.training.lr_finder import RateCurve


def show_dry_run(run: DryRun) -> None:
    """Print photos, weights, memory and time, each as a table."""
    counts = (("landmarks", run.landmarks), ("photos", run.photos), ("validation photos", run.validation))
    table(("", "count"), counts)
    result("")
    rows = [(part.name, f"{part.weights:,}", "trained" if part.trained else "frozen") for part in run.parts]
    for name, wanted in (("all trained", True), ("all frozen", False)):
        rows.append((name, f"{sum(part.weights for part in run.parts if part.trained is wanted):,}", ""))
    table(("weights", "count", ""), rows)
    result("")
    show_memory(run)
    result("")
    show_times(run)


def show_memory(run: DryRun) -> None:
    """Print what each stage holds in memory, largest first; warn if it can't fit."""
    from obelisk.training.machine import format_bytes

    for stage, parts in run.memory.items():
        rows = [(name, format_bytes(size)) for name, size in sorted(parts.items(), key=lambda each: -each[1]) if size]
        table((f"memory, {stage}", ""), [*rows, ("total", format_bytes(sum(parts.values())))])
        result("")
    if run.available is None:
        return
    result(f"available: {format_bytes(run.available)}")
    most = max(sum(parts.values()) for parts in run.memory.values())
    if most > run.available:
        warn(f"the training run needs {format_bytes(most)}, and will be refused")


def show_times(run: DryRun) -> None:
    """Print the steps and the time of each stage, and the throughput that was measured."""
    rows = [
        (stage.name, str(stage.epochs), str(stage.steps), f"{stage.step_seconds:.3g}", format_duration(stage.seconds))
        for stage in run.stages
    ]
    extracting = run.missing_descriptors / run.descriptors_per_second
    rows.insert(0, (f"descriptors, {run.missing_descriptors:,} not cached", "", "", "", format_duration(extracting)))
    table(
        ("stage", "epochs, at most", "steps per epoch", "seconds per step", "time"),
        [*rows, ("total, about", "", "", "", format_duration(run.seconds))],
    )
    result("")
    result(f"descriptors: {run.descriptors_per_second:.1f} per second")
    if run.loaded_per_second is not None:
        result(f"data loading: {run.loaded_per_second:.1f} augmented photos per second")


def format_duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds."""
    return str(datetime.timedelta(seconds=round(seconds)))


def show_rates(curve: RateCurve) -> None:
    """Print one row per learning rate, and the rate to take."""
    rows = zip(curve.rates, curve.losses, curve.smoothed, strict=True)
    table((curve.key, "loss", "smoothed"), [(f"{rate:.3g}", loss, smoothed) for rate, loss, smoothed in rows])
    if curve.suggested is None:
        note("the loss fell at none of the rates, so there is none to suggest")
        return
    keys = " ".join(f"--set {key}={value:g}" for key, value in curve.suggestion.items())
    result("")
    result(f"steepest fall: {keys} (the recipe has {curve.current:g})")
