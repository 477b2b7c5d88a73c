"""``obelisk evaluate`` and ``obelisk compare``: how good a run is, and which of several is best."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from obelisk.cli.console import Meter, note, require_extra, result, table, warn

if TYPE_CHECKING:
    from obelisk.data import Catalog
    from obelisk.evaluation import Comparison, Metrics, Predictions, RunResult
    from obelisk.training.run import Run

HEADLINE = ("top1", "top5", "f1_macro", "f1_weighted", "gap", "auroc_distractors", "map100", "ece")

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="The dataset whose test photos are the queries.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A run with its predictions, and why photos were left out of them."""

    run: Run
    predictions: Predictions
    left_out: Sequence[str]


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
    from obelisk.evaluation import measure, write_metrics
    from obelisk.training.run import Run

    opened = Run.open(run)
    catalog = read_and_tell(data)
    (evaluated,) = predict_all([opened], catalog, data)
    metrics = measure(evaluated.predictions, catalog)
    write_metrics(run / "metrics.json", metrics)
    if as_json:
        result(metrics.to_json())
    else:
        show(opened.recipe.name, metrics)
    tell_left_out([evaluated])


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
    from obelisk.evaluation import compare_runs
    from obelisk.evaluation.report import write_report
    from obelisk.training.run import Run

    opened = [Run.open(run) for run in dict.fromkeys(run.resolve() for run in runs)]
    data = data or remembered_data(opened)
    catalog = read_and_tell(data)
    evaluated = predict_all(opened, catalog, data)
    comparison = compare_runs(describe_runs(evaluated), catalog)
    if out:
        write_report(out, comparison, catalog)
        note(f"report: {out}")
    if as_json:
        result(comparison.to_json())
    else:
        show_comparison(comparison)
    tell_left_out(evaluated)


def predict_all(runs: Sequence[Run], catalog: Catalog, data: Path) -> list[Evaluated]:
    """Return each run's predictions for a catalog's queries; the dataset's photos are hashed once for all runs."""
    from obelisk.training.run import fingerprint_of_data

    contents = fingerprint_of_data(catalog)
    return [predict(run, catalog, data, contents) for run in runs]


def predict(run: Run, catalog: Catalog, data: Path, contents: str, out: Path | None = None) -> Evaluated:
    """Return the run's predictions for a catalog's queries: from its file if they are there, else made now.

    ``contents`` is the dataset's fingerprint. ``out`` is the folder of the file, the run's own unless it is given.
    ``data`` is noted beside the predictions, with what was left out: for `compare` without --data, and for the next
    call.
    """
    from obelisk.evaluation import read_predictions, write_predictions
    from obelisk.files import replace_file

    out = out or run.folder
    path = out / "predictions.parquet"
    made_by = f"{run.bundle.fingerprint} {run.recipe.fingerprint} {contents}"
    note_of_last = read_note(out)
    if path.is_file() and note_of_last.get("made_by") == made_by:
        known = read_predictions(path)
        if known.made_by == made_by:
            return Evaluated(run=run, predictions=known, left_out=note_of_last["left_out"])
    made, left_out = make_predictions(run, catalog, made_by)
    write_predictions(path, made)
    text = json.dumps({"data": str(data.resolve()), "made_by": made_by, "left_out": left_out}, indent=1) + "\n"
    replace_file(out / "evaluated.json", lambda partial: partial.write_text(text))
    return Evaluated(run=run, predictions=made, left_out=left_out)


def read_note(folder: Path) -> dict[str, Any]:
    """Return what the last evaluation noted beside its predictions; nothing where that cannot be read."""
    try:
        noted: dict[str, Any] = json.loads((folder / "evaluated.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return noted


def make_predictions(run: Run, catalog: Catalog, made_by: str) -> tuple[Predictions, list[str]]:
    """Embed references and queries, and classify as the run's recipe says; return also what was left out, and why."""
    import numpy as np

    from obelisk.evaluation.predict import Embedded, predict_by_neighbours, predict_by_probabilities
    from obelisk.training.run import RunEmbedder

    classifier = run.recipe.classifier
    if classifier.kind == "softmax":
        refuse_other_landmarks(run, catalog)
    embedder = RunEmbedder(run)
    queries = catalog.locate_photos(catalog.queries)
    with Meter() as meter:
        references, failed_references = embedder.embed(catalog.locate_photos(catalog.references), progress=meter)
        rows, failed_queries = embedder.embed(queries, progress=meter)
    embedded = Embedded(
        references=references, queries=rows, failed_references=failed_references, failed_queries=failed_queries
    )
    made = predict_by_neighbours(embedded, catalog, k=classifier.k, vote=classifier.vote, made_by=made_by)
    if classifier.kind == "softmax":
        probabilities, _ = embedder.classify(queries)
        made = predict_by_probabilities(probabilities, np.array(run.landmarks), made, catalog)
    return made, [str(error) for error in (*failed_references.values(), *failed_queries.values())]


def refuse_other_landmarks(run: Run, catalog: Catalog) -> None:
    """Refuse a dataset of which a softmax layer has not seen all landmarks: it cannot name the others."""
    from obelisk.errors import DataError

    others = set(catalog.references["landmark_id"].to_list()) - set(run.landmarks)
    if others:
        raise DataError(
            f"the softmax layer of this run does not know {len(others)} of the landmarks, first {min(others)}",
            where=catalog.root,
            fix="evaluate it on the dataset it was trained on, or train a recipe with classifier.kind = 'knn'",
        )


def tell_left_out(evaluated: Sequence[Evaluated]) -> None:
    """Name what evaluations left out, each once, and exit 1 if there was any."""
    left_out = list(dict.fromkeys(reason for one in evaluated for reason in one.left_out))
    for reason in left_out:
        warn(f"left out: {reason}")
    if left_out:
        raise typer.Exit(1)


def remembered_data(runs: Sequence[Run]) -> Path:
    """Return the dataset that the runs were evaluated on, as far as they were."""
    from obelisk.errors import UsageError

    known = sorted({str(noted["data"]) for noted in (read_note(run.folder) for run in runs) if "data" in noted})
    if len(known) != 1:
        what = f"the runs were evaluated on {len(known)} datasets" if known else "none of the runs has been evaluated"
        raise UsageError(what, fix="name the dataset with --data DIR")
    return Path(known[0])


def describe_runs(evaluated: Sequence[Evaluated]) -> list[RunResult]:
    """Put together what a comparison shows of each run, under its recipe's name, or its folder's if that is taken."""
    from obelisk.evaluation import RunResult

    described: dict[str, RunResult] = {}
    for one in evaluated:
        recipe, folder = one.run.recipe, one.run.folder
        name = recipe.name if recipe.name not in described else folder.name
        name = name if name not in described else str(folder)
        described[name] = RunResult(
            name=name,
            title=recipe.title,
            recipe=recipe.summary(),
            predictions=one.predictions,
            k=recipe.classifier.k,
            log=mean_over_members(folder / "log.jsonl"),
        )
    return list(described.values())


def mean_over_members(log: Path) -> list[dict[str, float | None]]:
    """Read a run's log; of an ensemble, the mean of its necks for every epoch that all of them reached."""
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    members = {row["member"] for row in rows}
    epochs: dict[int, list[dict[str, float | None]]] = {}
    for row in rows:
        epochs.setdefault(row["epoch"], []).append(row)
    return [
        {key: mean(row[key] for row in same) for key in same[0]}
        for same in epochs.values()
        if len(same) == len(members)
    ]


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean, None where a value is."""
    listed = list(values)
    known = [value for value in listed if value is not None]
    return sum(known) / len(known) if len(known) == len(listed) else None


def read_and_tell(data: Path) -> Catalog:
    """Read a dataset and say what reading left out."""
    from obelisk.data import read_catalog

    catalog = read_catalog(data)
    for remark in catalog.notes:
        warn(remark)
    return catalog


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
