"""``obelisk ablate``: several choices varied at once, each with each, and what each of them does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.cli.console import Meter, note, require_extra, result, table, warn
from obelisk.cli.evaluate import AsJson, Data, describe_runs, predict, read_and_tell, tell_left_out

if TYPE_CHECKING:
    from obelisk.config import Ablation
    from obelisk.data import Catalog
    from obelisk.evaluation import Comparison, Effect
    from obelisk.evaluation.intervals import Difference, Interval
    from obelisk.training.run import Run

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
        Path, typer.Option("--out", metavar="DIR", help="Where runs, predictions, ablation.json and report.html go.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Set a key in every cell.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train and evaluate every combination of some choices, and tell what each choice does.

    Combinations that differ in their classifier only share one training. What is there already is not made again: the
    same command goes on with what was interrupted.
    """
    from obelisk.config import load_ablation

    loaded = load_ablation(ablation, overrides or ())
    require_extra("train", module="torch", needed_for="an ablation")
    from obelisk.evaluation import compare_runs, find_effects, write_report
    from obelisk.files import replace_file
    from obelisk.training.run import fingerprint_of_data

    catalog = read_and_tell(data)
    runs = train_all(loaded, catalog, out)
    contents = fingerprint_of_data(catalog)
    evaluated = []
    for cell in loaded.cells:
        run = runs[cell.training.name].read_as(cell.recipe)
        evaluated.append(predict(run, catalog, data, contents, out / "cells" / cell.recipe.name))
    comparison = compare_runs(describe_runs(evaluated), catalog)
    levels = [cell.levels for cell in loaded.cells]
    effects = find_effects(list(zip(levels, comparison.arms, strict=True)), loaded.factors)
    text = json.dumps(to_fields(loaded, comparison, effects), ensure_ascii=False)
    replace_file(out / "ablation.json", lambda partial: partial.write_text(text + "\n", encoding="utf-8"))
    write_report(out / "report.html", comparison, catalog)
    note(f"report: {out / 'report.html'}")
    if as_json:
        result(text)
    else:
        show_cells(levels, comparison)
        show_effects("differences, the mean over the other factors (95 %, paired)", effects)
    tell_left_out(evaluated)


def train_all(ablation: Ablation, catalog: Catalog, out: Path) -> dict[str, Run]:
    """Train what the cells read, as far as it is not there yet; return the runs by the names of their recipes."""
    from obelisk.training.train import train_run

    runs: dict[str, Run] = {}
    for number, recipe in enumerate(ablation.training_recipes, start=1):
        note(f"training {number} of {len(ablation.training_recipes)}: {recipe.name}")
        folder = out / "runs" / recipe.name
        with Meter() as meter:
            resume = (folder / "recipe.toml").is_file()
            runs[recipe.name] = train_run(recipe, catalog, folder, resume=resume, progress=meter)
    for image_id, error in {key: why for run in runs.values() for key, why in run.skipped.items()}.items():
        warn(f"left out {image_id}: {error}")
    return runs


def to_fields(ablation: Ablation, comparison: Comparison, effects: Sequence[Effect]) -> dict[str, object]:
    """Return the ablation as plain values for JSON."""
    return {
        "ablation": ablation.name,
        "title": ablation.title,
        "factors": {factor: list(levels) for factor, levels in ablation.factors.items()},
        "cells": [
            {"levels": dict(cell.levels), "run": cell.training.name, "metrics": arm.metrics.to_fields()}
            for cell, arm in zip(ablation.cells, comparison.arms, strict=True)
        ],
        "effects": [effect.to_fields() for effect in effects],
        "resamples": comparison.resamples,
        "seed": comparison.seed,
    }


def show_cells(levels: Sequence[Mapping[str, str]], comparison: Comparison) -> None:
    """Print a row a cell: its levels, its metrics, and the interval of top-1."""
    rows = [
        (
            *chosen.values(),
            *(arm.metrics.values[metric] for metric in SHOWN),
            say_interval(arm.metrics.intervals["top1"]),
        )
        for chosen, arm in zip(levels, comparison.arms, strict=True)
    ]
    table((*levels[0], *SHOWN, "top1 (95 %)"), rows)


def show_effects(title: str, effects: Sequence[Effect]) -> None:
    """Print a row a main effect or interaction: by how much it changes the metrics."""
    shown = SHOWN[:4]
    rows = [
        (str(effect), *(say_difference(effect.metrics[name]) for name in shown)) for effect in effects if not effect.at
    ]
    result("")
    table((title, *shown), rows)


def say_difference(difference: Difference) -> str:
    """Write a difference with its interval."""
    return f"{difference.value:+.4f} ({say_interval(difference.interval)})"


def say_interval(interval: Interval) -> str:
    """Write an interval."""
    low, high = interval
    return f"{low:.4f} … {high:.4f}"
