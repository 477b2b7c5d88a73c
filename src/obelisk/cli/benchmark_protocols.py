"""What ``obelisk evaluate --protocol`` runs for the field's own benchmarks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from obelisk.cli.console import Meter, note, result, table, warn
from obelisk.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from obelisk.data import Catalog
    from obelisk.evaluation import Gldv2Result, Retrieval, RevisitedResult, Target

REVISITED = ("roxford5k", "rparis6k")
RETRIEVAL, RECOGNITION = "gldv2-retrieval", "gldv2-recognition"
BENCHMARKS = (*REVISITED, RETRIEVAL, RECOGNITION)


class ProtocolResult(Protocol):
    """The result of a benchmark."""

    def to_json(self) -> str:
        """Return one line of JSON."""

    def table(self) -> pl.DataFrame:
        """Return a row for each query."""


def run_benchmark(
    target: Target,
    data: Path,
    protocol: str,
    how: Retrieval,
    *,
    distractors: Path | None,
    out: Path | None,
    as_json: bool,
) -> list[str]:
    """Run a benchmark, print its figures, write them to ``out``, and return what was left out."""
    if distractors and protocol not in REVISITED:
        raise UsageError(f"--distractors has no meaning for {protocol}", fix=f"use it with {' or '.join(REVISITED)}")
    found: Gldv2Result | RevisitedResult
    left_out: list[str] = []
    with Meter() as meter:
        if protocol in REVISITED:
            found = run_revisited(target, data, protocol, how, distractors, meter)
        else:
            found = run_gldv2(target, data, protocol, how, meter)
            left_out = [*found.left_out]
    if out:
        write_benchmark(out, protocol, found)
    if as_json:
        result(found.to_json())
    else:
        show_protocol(target.name, found)
    return left_out


def run_revisited(
    target: Target, data: Path, protocol: str, how: Retrieval, distractors: Path | None, meter: Meter
) -> RevisitedResult:
    """Run the protocol of Revisited Oxford or Paris."""
    from obelisk.data.formats.revisited import read_revisited
    from obelisk.evaluation import evaluate_revisited, read_distractors

    dataset = read_revisited(data, protocol)
    for remark in dataset.notes:
        warn(remark)
    rows = read_distractors(distractors, target.bundle) if distractors else None
    return evaluate_revisited(target.bundle, dataset, how=how, distractors=rows, progress=meter)


def run_gldv2(target: Target, data: Path, protocol: str, how: Retrieval, meter: Meter) -> Gldv2Result:
    """Run a protocol of Google Landmarks v2."""
    from obelisk.data.formats.gldv2_retrieval import read_retrieval
    from obelisk.evaluation import evaluate_gldv2_retrieval, evaluate_targets, measure_gldv2_recognition

    if protocol == RETRIEVAL:
        dataset = read_retrieval(data)
        for remark in dataset.notes:
            warn(remark)
        return evaluate_gldv2_retrieval(target.bundle, dataset, how=how, progress=meter)
    (evaluated,) = evaluate_targets([target], read_test_queries(data), data=data, progress=meter, how=how)
    if evaluated.remark:
        note(f"{target.name}: {evaluated.remark}")
    return measure_gldv2_recognition(
        evaluated.predictions, evaluated.judged, how=how, left_out=tuple(evaluated.left_out)
    )


def read_test_queries(data: Path) -> Catalog:
    """Read a GLDv2 dataset for recognition; raise UsageError for a dataset without its usages."""
    from obelisk.data import read_catalog

    catalog = read_catalog(data)
    for remark in catalog.notes:
        warn(remark)
    if catalog.queries.filter(catalog.queries["usage"].is_in(["Public", "Private"])).is_empty():
        fix = "put recognition_solution_v2.1.csv and the photos in `test` there, or use --protocol queries"
        raise UsageError(f"{data} has no Public or Private queries", fix=fix)
    return catalog


def write_benchmark(out: Path, protocol: str, found: ProtocolResult) -> None:
    """Write the figures, and a row for each query, into a folder."""
    from obelisk.files import replace_file

    text = found.to_json() + "\n"
    replace_file(out / f"{protocol}.json", lambda partial: partial.write_text(text, encoding="utf-8", newline="\n"))
    replace_file(out / f"{protocol}.parquet", lambda partial: found.table().write_parquet(partial))


def show_protocol(name: str, found: Gldv2Result | RevisitedResult) -> None:
    """Print the figures of a benchmark."""
    from obelisk.evaluation import RevisitedResult

    options = ", ".join(
        [f"{found.how.expand} expanded"] * (found.how.expand != "none") + ["verified"] * found.how.verify
    )
    if isinstance(found, RevisitedResult):
        distractors = f" and {found.distractors:,} distractors" if found.distractors else ""
        result(
            f"{name}: {found.name}, {len(found.queries)} queries, {found.photos:,} photos"
            f"{distractors}{f' · {options}' if options else ''}"
        )
        header = ("difficulty", *(f"{figure} (95 %)" for figure in next(iter(found.figures.values()))))
        rows = [
            (difficulty, *(with_interval(figures[one], found.intervals[difficulty][one]) for one in figures))
            for difficulty, figures in found.figures.items()
        ]
    else:
        result(f"{name}: {found.protocol}, {found.photos:,} photos{f' · {options}' if options else ''}")
        header = ("queries", "count", f"{found.metric} (95 %)")
        rows = [
            (group, f"{found.queries[group]:,}", with_interval(value, found.intervals[group]))
            for group, value in found.figures.items()
        ]
    table(header, rows)


def with_interval(value: float, interval: tuple[float, float]) -> str:
    """Return a figure with its interval, for people."""
    if math.isnan(value):
        return "nothing to find"
    return f"{value:.4f} ({interval[0]:.4f} … {interval[1]:.4f})"
