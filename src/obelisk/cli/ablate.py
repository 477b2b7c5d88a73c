"""``obelisk ablate``: several choices varied in every combination, and the effect of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.cli.console import Meter, note, require_extra, result, table, warn
from obelisk.cli.evaluate import AsJson, Data, note_remarks, read_dataset, warn_left_out

if TYPE_CHECKING:
    from obelisk.evaluation import Comparison, Effect
    from obelisk.evaluation.intervals import Difference, Interval

SHOWN = ("top1", "top5", "f1_macro", "gap", "auroc_distractors")


def ablate(
    ablation: Annotated[
        str,
        typer.Argument(
            metavar="ABLATION", help="An ablation file, or the name of a shipped one: lite, paper.", show_default=False
        ),
    ],
    data: Data,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for runs, predictions, ablation.json and report.html.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Set a key in every cell.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train and evaluate every combination of some choices.

    The report says what each choice contributes.
    Combinations that differ only in their classifier share one training run. Finished parts are kept: after an
    interruption, the same command resumes.
    """
    from obelisk.config import load_ablation

    loaded = load_ablation(ablation, overrides or ())
    require_extra("train", module="torch", needed_for="an ablation")
    from obelisk.experiments.ablations import run_ablation

    catalog = read_dataset(data)
    with Meter() as meter:
        done = run_ablation(loaded, catalog, out, data=data, progress=meter)
    for image_id, error in done.skipped.items():
        warn(f"left out {image_id}: {error}")
    note_remarks(done.evaluated)
    note(f"report: {done.report}")
    if as_json:
        result(done.to_json())
    else:
        show_cells([cell.levels for cell in loaded.cells], done.comparison)
        show_effects("differences, the mean over the other factors (95 %, paired)", done.effects)
    warn_left_out([reason for one in done.evaluated for reason in one.left_out])


def show_cells(levels: Sequence[Mapping[str, str]], comparison: Comparison) -> None:
    """Print one row per cell: its levels, its metrics, and the interval of top-1."""
    rows = [
        (
            *chosen.values(),
            *(arm.metrics.values[metric] for metric in SHOWN),
            write_interval(arm.metrics.intervals["top1"]),
        )
        for chosen, arm in zip(levels, comparison.arms, strict=True)
    ]
    table((*levels[0], *SHOWN, "top1 (95 %)"), rows)


def show_effects(title: str, effects: Sequence[Effect]) -> None:
    """Print one row per main effect or interaction: by how much it changes the metrics."""
    shown = SHOWN[:4]
    rows = [
        (str(effect), *(write_difference(effect.metrics[name]) for name in shown))
        for effect in effects
        if not effect.at
    ]
    result("")
    table((title, *shown), rows)


def write_difference(difference: Difference) -> str:
    """Write a difference with its interval."""
    return f"{difference.value:+.4f} ({write_interval(difference.interval)})"


def write_interval(interval: Interval) -> str:
    """Write an interval."""
    low, high = interval
    return f"{low:.4f} … {high:.4f}"
