"""``obelisk evaluate`` and ``obelisk compare``: how good a model or gallery is, and which of several is best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from obelisk.bundled import locate_gallery
from obelisk.cli.benchmark_protocols import BENCHMARKS, run_benchmark
from obelisk.cli.console import Meter, count_of, note, result, table, warn
from obelisk.defaults import DRAWS, PRECISION
from obelisk.errors import UsageError

if TYPE_CHECKING:
    from obelisk.data import Catalog
    from obelisk.evaluation import Comparison, Evaluated, Halves, Metrics, Target

HEADLINE = ("top1", "top5", "f1_macro", "f1_weighted", "gap", "auroc_distractors", "map100", "ece")

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="The dataset whose test photos are the queries.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="RUN|BUNDLE|GALLERY",
            help="A finished run, a bundle, a gallery, or `bundled` for the gallery that comes with the package.",
            show_default=False,
        ),
    ],
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder for predictions.parquet and metrics.json.",
            show_default="the run's folder; else nowhere",
        ),
    ] = None,
    protocol: Annotated[
        Literal["queries", "halves", "roxford5k", "rparis6k", "gldv2-retrieval", "gldv2-recognition"],
        typer.Option(
            "--protocol",
            help="queries: answer the dataset's queries. halves: how well does the model refuse what it does not know? "
            "Galleries of half of the landmarks are asked for all of them, and for ordinary photos. The others are the "
            "field's benchmarks, by their own rules and files: Revisited Oxford and Paris (mAP, mP@k), retrieval "
            "(mAP@100) and recognition (GAP) of Google Landmarks v2.",
        ),
    ] = "queries",
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            metavar="DIR",
            help="With halves: the queries, a dataset or a folder per landmark, of the same names.",
            show_default="the dataset's queries; else half of each landmark's photos",
        ),
    ] = None,
    ordinary: Annotated[
        Path | None,
        typer.Option(
            "--ordinary",
            metavar="FOLDER",
            help="With halves: photos that show no landmark.",
            show_default="100 rendered photos",
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option("--draws", help="With halves: how often the landmarks are dealt into two halves.")
    ] = DRAWS,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="With halves or a benchmark: verify geometry, as recognize --verify does."),
    ] = False,
    expand: Annotated[
        Literal["none", "query", "references"],
        typer.Option(
            "--expand",
            help="With a benchmark: average the query, or the references, with their nearest photos, as recognize "
            "--expand does.",
        ),
    ] = "none",
    distractors: Annotated[
        Path | None,
        typer.Option(
            "--distractors",
            metavar="DIR",
            help="With roxford5k or rparis6k: photos to find them among, embedded by obelisk embed.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how well `recognize` answers, and refuses the unknown.

    Metrics come with 95 % intervals.
    A run or a bundle answers from a gallery of the dataset's reference photos; a gallery answers as it is. Existing
    predictions are reused.
    """
    from obelisk.evaluation import Retrieval, evaluate_targets, open_target

    refuse_idle_options(protocol, halves=queries or ordinary, verify=verify, benchmark=distractors or expand != "none")
    target = open_target(model, out)
    if protocol not in ("queries", "halves"):
        how = Retrieval(expand=expand, verify=verify)
        warn_left_out(run_benchmark(target, data, protocol, how, distractors=distractors, out=out, as_json=as_json))
        return
    catalog = read_dataset(data)
    if protocol == "halves":
        measure_refusals(
            target,
            catalog,
            queries=queries,
            ordinary=ordinary,
            draws=draws,
            verify=verify,
            out=out,
            as_json=as_json,
        )
        return
    with Meter() as meter:
        (evaluated,) = evaluate_targets([target], catalog, data=data, progress=meter)
    note_remarks([evaluated])
    metrics = evaluated.measure()
    if as_json:
        result(metrics.to_json())
    else:
        show_metrics(target.name, metrics)
    warn_left_out(evaluated.left_out)


def refuse_idle_options(protocol: str, *, halves: object, verify: bool, benchmark: object) -> None:
    """Raise UsageError for options that the protocol has no use for."""
    if protocol != "halves" and halves:
        raise UsageError("--queries and --ordinary are for another protocol", fix="add --protocol halves")
    if protocol == "queries" and verify:
        raise UsageError("--verify is for another protocol", fix="add --protocol halves, or name a benchmark")
    if protocol not in BENCHMARKS and benchmark:
        fix = f"add --protocol {' | '.join(BENCHMARKS)}"
        raise UsageError("--expand and --distractors are for benchmarks", fix=fix)


def measure_refusals(
    target: Target,
    catalog: Catalog,
    *,
    queries: Path | None,
    ordinary: Path | None,
    draws: int,
    verify: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Run the halves protocol, print its figures, and write them and their picture to ``out``."""
    from obelisk.evaluation import evaluate_halves, write_halves
    from obelisk.photos import find_photos

    photos = find_photos(ordinary) if ordinary else []
    with Meter() as meter:
        halves = evaluate_halves(
            target.bundle,
            catalog,
            queries=read_dataset(queries) if queries else None,
            ordinary=photos,
            draws=draws,
            verify=verify,
            progress=meter,
        )
    if out:
        note(f"picture: {write_halves(out, target.name, halves)}")
    if as_json:
        result(halves.to_json())
    else:
        show_halves(target.name, halves)


def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|GALLERY…", help="Finished runs, bundles or galleries, evaluated or not.", show_default=False
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="The dataset; by default, the one the runs were evaluated on."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the whole report to this HTML file.")
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option("--figures", metavar="DIR", help="Write each figure of the report to DIR, as SVG and as PDF."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs and galleries on the same queries.

    Differences come with paired 95 % intervals.
    """
    from obelisk.evaluation import compare_targets, open_target, remembered_data
    from obelisk.evaluation.report import write_report, write_report_figures
    from obelisk.gallery import is_address

    sources = dict.fromkeys(model if is_address(model) else locate_gallery(model).resolve() for model in models)
    targets = [open_target(source) for source in sources]
    data = data or remembered_data([target.folder for target in targets])
    catalog = read_dataset(data)
    with Meter() as meter:
        comparison, evaluated = compare_targets(targets, catalog, data=data, progress=meter)
    note_remarks(evaluated)
    if out:
        write_report(out, comparison, catalog)
        note(f"report: {out}")
    if figures:
        note(f"figures: {count_of(len(write_report_figures(figures, comparison, catalog)), 'file')} in {figures}")
    if as_json:
        result(comparison.to_json())
    else:
        show_comparison(comparison)
    warn_left_out([reason for one in evaluated for reason in one.left_out])


def note_remarks(evaluated: Sequence[Evaluated]) -> None:
    """Note the remarks on the answers, and which of them are not kept."""
    for one in evaluated:
        if one.target.folder and not one.target.kept_in:
            note(f"{one.target.name}: {one.target.folder} is read-only, so its predictions are not kept")
        if one.remark:
            note(f"{one.target.name}: {one.remark}")


def warn_left_out(left_out: Sequence[str]) -> None:
    """Name what was left out, each once, and exit 1 if there was any."""
    for reason in dict.fromkeys(left_out):
        warn(f"left out: {reason}")
    if left_out:
        raise typer.Exit(1)


def read_dataset(data: Path) -> Catalog:
    """Read a dataset, and warn about everything left out."""
    from obelisk.data import read_catalog

    catalog = read_catalog(data)
    for remark in catalog.notes:
        warn(remark)
    return catalog


def show_metrics(name: str, metrics: Metrics) -> None:
    """Print metrics with their intervals."""
    rows = []
    for metric, value in metrics.values.items():
        low, high = metrics.intervals[metric]
        known = not math.isnan(value)
        rows.append(
            (metric, f"{value:.4f}", f"{low:.4f} … {high:.4f}") if known else (metric, "unknown from this data", "")
        )
    result(f"{name}: {metrics.known_queries} queries of {metrics.landmarks} landmarks, {metrics.distractors} of none")
    table(("metric", "value", "95 % interval"), rows)
    if metrics.threshold is not None:
        result(f"precision and recall of answers with a confidence of at least {metrics.threshold:.4f}")


def show_halves(name: str, halves: Halves) -> None:
    """Print the figures of the halves protocol."""
    from obelisk.evaluation.halves import FIGURES, KINDS, SHARES
    from obelisk.recognition.calibration import UNCALIBRATED

    weights = ", ".join(f"{share} {kind}" for share, kind in zip(SHARES, KINDS, strict=True))
    result(
        f"{name}: {halves.galleries} galleries of half of {halves.landmarks} landmarks, each asked {halves.queries} "
        f"queries and {halves.ordinary} ordinary photos; weights: {weights}"
    )
    result(f"first candidate right, named or not: {halves.top1:.3f} of the known queries")
    rows = []
    for wanted, figures in halves.reached.items():
        shown = []
        for figure in FIGURES:
            low, high = halves.intervals[wanted][figure]
            shown.append(f"{figures[figure]:.3f} ({low:.3f} … {high:.3f})")
        rows.append((f"{wanted:.2f}", *shown, f"{figures['least_precision']:.3f}"))
    header = ("wanted", "precision (95 %)", "recall", "unknown named", "ordinary named", "least precision")
    table(header, rows)
    figures = halves.reached[PRECISION]
    if not math.isnan(figures["probable_right"]):
        result(
            f"called probable, if {PRECISION} is wanted: {figures['probable_right']:.3f} of these right; "
            f"{figures['unknown_probable']:.3f} of the unknown landmarks are called so"
        )
    if not halves.calibrated:
        note(f"{name}: it rejects nothing, so it names a landmark in every photo · {UNCALIBRATED}")


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
