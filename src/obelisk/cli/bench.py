"""``obelisk bench``: how long an answer takes, stage by stage, and how long the same work takes by hand."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.bundled import locate_gallery
from obelisk.cli.console import SkippedFolders, note, result, table, warn
from obelisk.errors import UsageError

if TYPE_CHECKING:
    from obelisk.bench import BenchmarkResult, LatencyPercentiles
    from obelisk.recognition import Recognizer


def bench(
    photos: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PHOTO|FOLDER",
            help="Photos to answer; by default, small and 12-megapixel ones are rendered.",
            show_default=False,
        ),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(
            "--gallery",
            metavar="G",
            help="Gallery to recognize from.",
            show_default="the bundled one",
            parser=locate_gallery,
        ),
    ] = None,
    answers: Annotated[int, typer.Option("--answers", min=1, help="Answers to time in each measurement.")] = 50,
    backbone: Annotated[
        str, typer.Option("--backbone", metavar="NAME", help="timm backbone for the comparison by hand.")
    ] = "tf_efficientnet_lite0",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure the time and memory that an answer takes, by stage.

    Also measures the cold start, and the same work done by hand for comparison.
    By hand means timm in eager float32 on the whole photo and scikit-learn's neighbors, if both are installed.
    Exits 1 if some of the photos given could not be used.
    """
    from obelisk.bench import describe_machine, missing_for_naive, render_photo_sets, run_benchmarks
    from obelisk.gallery import Gallery
    from obelisk.recognition import Recognizer

    opened = Gallery.open(locate_gallery(gallery))
    recognizer = Recognizer.open(opened)
    embedder = recognizer.embedder
    missing = missing_for_naive()
    if missing:
        note(f"nothing to compare with: {' and '.join(missing)} not installed")
    facts = {
        **describe_machine(),
        "engine": embedder.engine,
        "model": opened.model,
        "input": embedder.bundle.input.size,
        "references": len(opened),
    }
    usable, all_used = keep_usable(photos, recognizer) if photos else ([], True)
    with tempfile.TemporaryDirectory() as folder:
        photo_sets = {"given": usable} if photos else render_photo_sets(Path(folder))
        results = run_benchmarks(recognizer, photo_sets, answers=answers, backbone=None if missing else backbone)
    if as_json:
        result(json.dumps({**facts, "missing": missing, "measured": [asdict(one) for one in results]}))
    else:
        result(" · ".join(f"{key} {value}" for key, value in facts.items()))
        for one in results:
            show_benchmark(one, backbone)
    if not all_used:
        raise typer.Exit(1)


def keep_usable(arguments: Sequence[str], recognizer: Recognizer) -> tuple[list[Path], bool]:
    """Return the photos that can be answered, and whether that is all of them; name the others."""
    from obelisk.cli.photo_arguments import expand_arguments

    usable = []
    skipped = SkippedFolders()
    failed = 0
    for answer in recognizer.recognize(expand_arguments(arguments, skipped)):
        if answer.error:
            failed += 1
            warn(f"left out: {answer.error}")
        else:
            usable.append(Path(answer.photo))
    if not usable:
        raise UsageError("no photo can be used", where=", ".join(arguments), fix="give sound photos, or none")
    return usable, not (failed or skipped)


def show_benchmark(measured: BenchmarkResult, backbone: str) -> None:
    """Print what was measured on one set of photos as a table."""
    rows: list[tuple[str, LatencyPercentiles]] = [*measured.stages.items(), ("answer", measured.obelisk.answer)]
    if measured.by_hand:
        rows.append((f"by hand: {backbone}, eager float32", measured.by_hand.answer))
    result("")
    cells = [(stage, f"{latency.p50:8.2f}", f"{latency.p95:8.2f}") for stage, latency in rows]
    table(("ms per photo", "     p50", "     p95"), cells, title=f"{measured.count} photos: {measured.photos}")
    result(f"{measured.obelisk.a_second:.1f} photos a second when many are given")
    if by_hand := measured.by_hand:
        faster = measured.obelisk.a_second / by_hand.a_second
        sooner = by_hand.answer.p50 / measured.obelisk.answer.p50
        result(f"{by_hand.a_second:.1f} by hand, {faster:.1f} times fewer; one answer takes {sooner:.1f} times as long")
    peak = f", at most {measured.peak_mib:.0f} MiB of memory" if measured.peak_mib else ""
    result(f"{measured.cold_s:.2f} s from command to answer{peak}")
