"""``obelisk evaluate`` and ``obelisk compare``: how good a run is, and which of several is best."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.cli.console import Meter, note, require_extra, result, table, warn

if TYPE_CHECKING:
    from obelisk.data import Catalog
    from obelisk.evaluation import Comparison, Metrics, Predictions, RunResult
    from obelisk.training.run import Run

HEADLINE = ("top1", "top5", "f1_macro", "f1_weighted", "gap", "auroc_distractors", "map100", "ece")

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="The dataset whose test photos are the queries.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run.", show_default=False)],
    data: Data,
    as_json: AsJson = False,
) -> None:
    """Measure a run on a dataset's queries, with 95 % intervals.

    Predictions go to RUN/predictions.parquet and metrics to RUN/metrics.json; predictions that are there already
    are not made again.
    """
    require_extra("train", module="torch", needed_for="evaluating a run")
    from obelisk.data import read_catalog
    from obelisk.evaluation import measure, write_metrics
    from obelisk.training.run import Run

    opened = Run.open(run)
    catalog = read_catalog(data)
    metrics = measure(predict(opened, catalog), catalog)
    remember_data(opened, data)
    write_metrics(run / "metrics.json", metrics)
    if as_json:
        result(metrics.to_json())
    else:
        show(opened.recipe.name, metrics)


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Finished runs, evaluated or not.", show_default=False)
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="The dataset; left out, the one the runs were evaluated on."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the whole report to this HTML file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs on the same queries, with paired intervals of their differences."""
    require_extra("train", module="torch", needed_for="comparing runs")
    from obelisk.data import read_catalog
    from obelisk.evaluation import compare_runs
    from obelisk.evaluation.report import write_report
    from obelisk.training.run import Run

    opened = [Run.open(run) for run in runs]
    catalog = read_catalog(data or remembered_data(opened))
    names = name_apart(opened)
    results = [describe_run(run, predict(run, catalog), name) for run, name in zip(opened, names, strict=True)]
    comparison = compare_runs(results, catalog)
    if out:
        write_report(out, comparison, catalog)
        note(f"report: {out}")
    if as_json:
        result(comparison.to_json())
    else:
        show_comparison(comparison)


def predict(run: Run, catalog: Catalog) -> Predictions:
    """Return the run's predictions for a catalog's queries: from its file if they are there, else made now."""
    from obelisk.evaluation import read_predictions, write_predictions
    from obelisk.training.run import fingerprint_of_data

    path = run.folder / "predictions.parquet"
    made_by = f"{run.bundle.fingerprint} {run.recipe.fingerprint} {fingerprint_of_data(catalog)}"
    if path.is_file():
        known = read_predictions(path)
        if known.made_by == made_by:
            return known
    made = make_predictions(run, catalog, made_by)
    write_predictions(path, made)
    return made


def make_predictions(run: Run, catalog: Catalog, made_by: str) -> Predictions:
    """Embed references and queries, and classify as the run's recipe says."""
    import numpy as np

    from obelisk.evaluation.predict import Embedded, predict_by_neighbours, predict_by_probabilities
    from obelisk.training.run import RunEmbedder

    embedder = RunEmbedder(run)
    queries = catalog.locate_photos(catalog.queries)
    with Meter() as meter:
        references, failed_references = embedder.embed(catalog.locate_photos(catalog.references), progress=meter)
        rows, failed_queries = embedder.embed(queries, progress=meter)
    for remark in catalog.notes:
        warn(remark)
    for error in (*failed_references.values(), *failed_queries.values()):
        warn(f"left out: {error}")
    embedded = Embedded(
        references=references, queries=rows, failed_references=failed_references, failed_queries=failed_queries
    )
    classifier = run.recipe.classifier
    made = predict_by_neighbours(embedded, catalog, k=classifier.k, vote=classifier.vote, made_by=made_by)
    if classifier.kind == "softmax":
        probabilities, _ = embedder.classify(queries)
        made = predict_by_probabilities(probabilities, np.array(run.landmarks), made, catalog)
    return made


def remember_data(run: Run, data: Path) -> None:
    """Note beside a run which dataset it was evaluated on, for `compare` without --data."""
    (run.folder / "evaluated.json").write_text(json.dumps({"data": str(data.resolve())}) + "\n")


def remembered_data(runs: list[Run]) -> Path:
    """Return the dataset that the runs were evaluated on, as far as they were."""
    from obelisk.errors import UsageError

    notes = [run.folder / "evaluated.json" for run in runs]
    known = sorted({json.loads(note.read_text())["data"] for note in notes if note.is_file()})
    if len(known) != 1:
        what = f"the runs were evaluated on {len(known)} datasets" if known else "none of the runs has been evaluated"
        raise UsageError(what, fix="name the dataset with --data DIR")
    return Path(known[0])


def name_apart(runs: list[Run]) -> list[str]:
    """Return a name for each run: its recipe's, or that of its folder where a recipe comes again."""
    names: list[str] = []
    for run in runs:
        names.append(run.folder.name if run.recipe.name in names else run.recipe.name)
    return names


def describe_run(run: Run, predictions: Predictions, name: str) -> RunResult:
    """Put together what the comparison shows of a run."""
    from obelisk.evaluation import RunResult

    recipe = run.recipe
    log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    return RunResult(
        name=name,
        title=recipe.title,
        recipe=recipe.summary(),
        predictions=predictions,
        k=recipe.classifier.k,
        log=log,
    )


def show(name: str, metrics: Metrics) -> None:
    """Print a run's metrics with their intervals."""
    rows = []
    for metric, value in metrics.values.items():
        low, high = metrics.intervals[metric]
        told = not math.isnan(value)
        rows.append(
            (metric, f"{value:.4f}", f"{low:.4f} … {high:.4f}") if told else (metric, "not told by the data", "")
        )
    result(f"{name}: {metrics.known_queries} queries of {metrics.landmarks} landmarks, {metrics.distractors} of none")
    table(("metric", "value", "95 % interval"), rows)


def show_comparison(comparison: Comparison) -> None:
    """Print the runs side by side, and by how much the best one wins."""
    best = comparison.best
    rows = []
    for arm in comparison.ranked():
        difference = best.minus(arm)["top1"]
        low, high = difference.interval
        behind = "" if arm is best else f"{difference.value:.4f} ({low:.4f} … {high:.4f})"
        rows.append((arm.name, *(arm.metrics.values[metric] for metric in HEADLINE), behind))
    table(("run", *HEADLINE, "top1 behind the best (95 %)"), rows)
    result(comparison.headline())
