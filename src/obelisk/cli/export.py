"""``obelisk export``: a run in, a checked bundle out; several runs become one ensemble."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.cli.console import Meter, note, require_extra, result, warn
from obelisk.cli.evaluate import read_dataset

if TYPE_CHECKING:
    from obelisk.evaluation.run_reader import Run
    from obelisk.training.export.ensembles import Weights
    from obelisk.training.export.precision import PrecisionCheck


class PrecisionName(StrEnum):
    """How the weights of the network are stored."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


def export(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="A finished run, or several for an ensemble.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="BUNDLE", help="Folder of the bundle; it will be created.")],
    precision: Annotated[
        PrecisionName,
        typer.Option("--precision", help="How to store the weights: fp16 halves the size, int8 quarters it."),
    ] = PrecisionName.fp32,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            min=32,
            max=1024,
            metavar="PIXELS",
            help="Side of the photos; default: that of training.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="The dataset to check with; default: the one the run was evaluated on."
        ),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            "--photos", metavar="FOLDER", help="Any photos to check with instead; top-1 is then not compared."
        ),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            "--weights",
            metavar="HOW",
            help="Ensembles: `validation` chooses by validation photos, `equal`, or one number per run: 0.6,0.4.",
        ),
    ] = "validation",
    whiten: Annotated[
        bool, typer.Option("--whiten", help="Ensembles: whiten the embeddings first, for runs of untrained necks.")
    ] = False,
) -> None:
    """Write a run's model bundle, checked against torch.

    A model whose embeddings of 200 photos differ is refused.
    With fp16 and int8 the mean cosine to the original must be 0.99 and top-1 must not fall by more than 0.5 points.
    Several runs become an ensemble: their embeddings are weighted and concatenated.
    """
    from obelisk.errors import UsageError

    require_extra("train", module="torch", needed_for="exporting")
    from obelisk.evaluation.run_reader import Run

    opened = [Run.open(folder) for folder in runs]
    left_out = 0
    if len(opened) == 1:
        left_out = export_one(opened[0], out, precision, size, data, photos)
    elif photos is not None:
        raise UsageError("--photos is for a single run", fix="give --data, or name one run")
    elif size is not None:
        raise UsageError("--size is for a single run", fix="export each run by itself, or leave --size out")
    else:
        export_ensemble(opened, out, data, read_weights(weights), whiten, precision)
    result(str(out))
    if left_out:
        raise typer.Exit(1)


def export_one(
    run: Run, out: Path, precision: PrecisionName, size: int | None, data: Path | None, folder: Path | None
) -> int:
    """Export a run, and say what the checks found; return how many photos they left out."""
    from obelisk.photos import find_photos
    from obelisk.training.export.export_run import export_run

    landmarks = None
    if folder is not None:
        paths = find_photos(folder)
    else:
        from obelisk.evaluation import remembered_data

        catalog = read_dataset(data or remembered_data([run.folder]))
        paths = catalog.locate_photos(catalog.references)
        landmarks = catalog.references["landmark_id"].to_list()
    exported = export_run(run, out, photos=paths, landmarks=landmarks, precision=precision.value, size=size)
    for error in exported.skipped:
        warn(f"left out: {error}")
    note(f"smallest cosine to torch over {exported.photos} photos: {exported.cosine:.6f}")
    show_check(precision.value, exported.precision)
    show_check("computed in int8 where that is faster", exported.in_int8)
    if precision is PrecisionName.int8 and not exported.in_int8:
        note("no layer can be computed in int8 without changing the embeddings too much: float32 is used everywhere")
    return len(exported.skipped)


def show_check(what: str, check: PrecisionCheck | None) -> None:
    """Say how far a smaller network is from its original."""
    if check is None:
        return
    note(f"{what}: mean cosine to float32 over {check.photos} photos: {check.cosine:.4f}")
    if check.top1 is not None and check.original_top1 is not None:
        note(f"{what}: top-1 of these photos among each other {check.original_top1:.4f} → {check.top1:.4f}")
    if check.layer_top1 is not None and check.original_layer_top1 is not None:
        note(f"{what}: top-1 by the softmax layer {check.original_layer_top1:.4f} → {check.layer_top1:.4f}")


def export_ensemble(
    runs: list[Run], out: Path, data: Path | None, weights: Weights, whiten: bool, precision: PrecisionName
) -> None:
    """Combine runs, and say which weights they got."""
    from obelisk.evaluation import remembered_data
    from obelisk.training.export.ensembles import combine_runs

    catalog = read_dataset(data or remembered_data([run.folder for run in runs]))
    with Meter() as meter:
        combined = combine_runs(
            runs,
            catalog,
            out,
            name=out.name,
            weights=weights,
            whiten=whiten,
            precision=precision.value,
            progress=meter,
        )
    for run, weight in zip(runs, combined.weights, strict=True):
        note(f"{run.recipe.name}: weight {weight:.3g}")


def read_weights(text: str) -> Weights:
    """Read ``--weights``."""
    from obelisk.errors import UsageError

    if text == "validation":
        return "validation"
    if text == "equal":
        return "equal"
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        fix = "give `validation`, `equal`, or one number per run: 0.6,0.4"
        raise UsageError(f"--weights {text!r}", fix=fix) from None
