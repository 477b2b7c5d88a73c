"""``obelisk demo``: the whole path, on rendered photos or on your own dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from obelisk.cli.console import Meter, note, require_extra, result
from obelisk.cli.evaluate import note_remarks, read_dataset, show_comparison, warn_left_out
from obelisk.wording import describe_answer


def demo(
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="A dataset; by default, photos of made-up landmarks are rendered."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for all output.")] = Path("obelisk-demo"),
) -> None:
    """Show the whole path, from photos to a report.

    It renders data, trains a baseline and a proposed recognizer, compares them and recognizes photos.
    Finished stages are skipped.
    """
    require_extra("train", module="torch", needed_for="the demo")
    from obelisk.experiments.demo import run_demo
    from obelisk.synthetic import generate_dataset

    with Meter() as meter:
        catalog = read_dataset(data or generate_dataset(out / "photos", progress=meter))
        known = catalog.select_known_queries().height
        note(
            f"{catalog.references.height} reference photos of {catalog.landmarks.height} landmarks,"
            f" {known} queries of them and {catalog.queries.height - known} of none"
        )
        done = run_demo(catalog, out, progress=meter)
    note_remarks(done.evaluated)
    show_comparison(done.comparison)
    for answer in done.answers:
        result(f"{answer.photo}  {describe_answer(answer)}")
    result(f"picture: {done.picture}")
    result(f"report: {done.report}")
    warn_left_out([reason for one in done.evaluated for reason in one.left_out])
