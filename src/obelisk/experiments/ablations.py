"""Ablations: train and evaluate every combination of some choices, and measure the effect of each.

::

    ablation = load_ablation("lite")
    result = run_ablation(ablation, read_catalog("gldv2"), Path("ablation"))
    for effect in result.effects:
        print(effect, effect.metrics["top1"].value)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from obelisk.config import Ablation
from obelisk.data import Catalog
from obelisk.evaluation import (
    Comparison,
    Effect,
    Evaluated,
    Run,
    Target,
    compare_targets,
    find_effects,
    write_report,
)
from obelisk.files import replace_file
from obelisk.records import Progress, no_progress
from obelisk.training.train import train_run


@dataclass(frozen=True, kw_only=True, eq=False)
class AblationResult:
    """The cells of an ablation, in its order, compared; what each choice does; and where the report is.

    ``skipped`` says by image id why a photo was left out of training.
    """

    ablation: Ablation
    comparison: Comparison
    effects: Sequence[Effect]
    evaluated: Sequence[Evaluated]
    skipped: Mapping[str, str]
    report: Path

    def to_json(self) -> str:
        """Return one line of JSON, as ``obelisk ablate --json`` prints it."""
        fields = {
            "ablation": self.ablation.name,
            "title": self.ablation.title,
            "factors": {factor: list(levels) for factor, levels in self.ablation.factors.items()},
            "cells": [
                {"levels": dict(cell.levels), "run": cell.training.name, "metrics": arm.metrics.to_fields()}
                for cell, arm in zip(self.ablation.cells, self.comparison.arms, strict=True)
            ],
            "effects": [effect.to_fields() for effect in self.effects],
            "resamples": self.comparison.resamples,
            "seed": self.comparison.seed,
        }
        return json.dumps(fields, ensure_ascii=False)


def run_ablation(
    ablation: Ablation, catalog: Catalog, out: Path, *, data: Path | None = None, progress: Progress = no_progress
) -> AblationResult:
    """Train and evaluate every cell of an ablation, and write ``ablation.json`` and ``report.html`` into ``out``.

    Cells that differ only in their classifier share one training run. Finished parts are kept: a second call resumes
    after an interruption. ``data`` is the dataset's folder, by default the catalog's root.
    """
    runs = train_all(ablation, catalog, out, progress)
    targets = [
        Target.of_run(runs[cell.training.name].read_as(cell.recipe), out / "cells" / cell.recipe.name)
        for cell in ablation.cells
    ]
    comparison, evaluated = compare_targets(targets, catalog, data=data, progress=progress)
    levels = [cell.levels for cell in ablation.cells]
    done = AblationResult(
        ablation=ablation,
        comparison=comparison,
        effects=find_effects(list(zip(levels, comparison.arms, strict=True)), ablation.factors),
        evaluated=evaluated,
        skipped={image_id: why for run in runs.values() for image_id, why in run.skipped.items()},
        report=out / "report.html",
    )
    replace_file(out / "ablation.json", lambda partial: partial.write_text(done.to_json() + "\n", encoding="utf-8"))
    write_report(done.report, comparison, catalog)
    return done


def train_all(ablation: Ablation, catalog: Catalog, out: Path, progress: Progress) -> dict[str, Run]:
    """Train the runs that the cells share, unless they exist; return them by the names of their recipes."""
    runs: dict[str, Run] = {}
    for done, recipe in enumerate(ablation.training_recipes):
        progress(f"training runs, now {recipe.name}", done, len(ablation.training_recipes))
        folder = out / "runs" / recipe.name
        resume = (folder / "recipe.toml").is_file()
        runs[recipe.name] = train_run(recipe, catalog, folder, resume=resume, progress=progress)
    return runs
