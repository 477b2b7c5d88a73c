"""``obelisk calibrate``: confidence and threshold for a model of one's own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.cli.console import Meter, count_of, note, require_extra, result, warn
from obelisk.cli.evaluate import read_dataset
from obelisk.cli.gallery_changes import recalibrate
from obelisk.errors import UsageError, quote

if TYPE_CHECKING:
    from obelisk.embedding import Bundle
    from obelisk.evaluation.model_calibration import CalibrationPlan


def calibrate(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|BUNDLE|GALLERY",
            help="A finished run, a bundle, or a gallery with its own copy of one.",
            show_default=False,
            readable=False,
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR",
            help="A GLDv2 dataset (its train photos) or a folder per landmark: landmarks that training did not see, "
            "or the training data.",
        ),
    ],
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            metavar="DIR",
            help="Photos to ask with: a dataset, or a folder per landmark with the same names.",
            show_default="some of each landmark's photos",
        ),
    ] = None,
) -> None:
    """Let a model of your own refuse what it does not know.

    It gets a confidence that is a probability, and a threshold, measured on landmarks that training did not see.
    If a run has seen all of DIR, its recipe is trained again on a part of the landmarks, which takes about as long as
    the run did; if it is stopped, the same command resumes it. Calibration and background are stored in the model's
    bundle.
    """
    from obelisk.bundled import is_bundled
    from obelisk.evaluation.model_calibration import calibrate_model, plan_calibration
    from obelisk.gallery import DATABASE, Gallery

    if str(model) == "bundled" or is_bundled(model) or is_bundled(model.absolute().parent):
        fix = "name a run or a bundle of your own, or a gallery"
        raise UsageError("the bundled model is calibrated, and belongs to the installation", fix=fix)
    plan = plan_calibration(model, read_dataset(data))
    describe_plan(plan)
    held_out = train_held_out(plan)
    with Meter() as meter:
        calibrated = calibrate_model(
            plan, queries=read_dataset(queries) if queries else None, held_out=held_out, progress=meter
        )
    for reason in calibrated.left_out:
        warn(f"left out: {reason}")
    result(f"{model}: landmarks are named from a confidence of {calibrated.calibration.threshold():.4f} on")
    if (model / DATABASE).is_file():
        recalibrate(Gallery.open(model))
    else:
        command = f"`obelisk gallery build GALLERY --data DIR --model {quote(str(model))}`"
        note(f"galleries that were built with the model before take the calibration over: {command}")
    if calibrated.left_out:
        raise typer.Exit(1)


def describe_plan(plan: CalibrationPlan) -> None:
    """Say which landmarks the calibration rests on."""
    if plan.run is None:
        landmarks = count_of(plan.landmarks, "landmark")
        note(f"nobody recorded what this model was trained on: all {landmarks} are taken for unseen ones")
    elif plan.trained_on is None:
        used = plan.catalog.landmarks.height
        seen = f"{plan.seen} of {count_of(plan.landmarks, 'landmark')}"
        note(f"the run has seen {seen}; it is calibrated with the other {used}")


def train_held_out(plan: CalibrationPlan) -> Bundle | None:
    """Train the held-out model that a plan needs, and say how long it took; None if it needs none."""
    if plan.run is None or plan.trained_on is None:
        return None
    require_extra("train", module="torch", needed_for="training a held-out model")
    from obelisk.experiments.held_out_run import HELD_OUT_RUN, train_held_out_run

    unseen, folder = plan.catalog.landmarks.height, plan.run.folder / HELD_OUT_RUN
    what = f"the run has seen {plan.seen} of {count_of(plan.landmarks, 'landmark')}"
    note(f"{what}, so its recipe is trained again without {unseen} of them, in {folder}: about as long as the run took")
    started = time.monotonic()
    with Meter() as meter:
        run = train_held_out_run(plan.run, plan.trained_on, meter)
    note(f"held-out model: {time.monotonic() - started:.0f} s")
    return run.bundle
