"""``obelisk train``: train a recipe on a dataset, estimate what the run needs, or find a learning rate."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.cli.console import Meter, note, require_extra, result, warn
from obelisk.cli.dry_run import show_dry_run, show_rates
from obelisk.cli.evaluate import read_dataset
from obelisk.errors import UsageError, quote

if TYPE_CHECKING:
    from obelisk.config import Recipe


def train(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a shipped recipe.", show_default=False),
    ],
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="A GLDv2 dataset, a folder per landmark, or a subset.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="RUN", help="Folder of the run; it will be created. Required to train.", show_default=False
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a key of the recipe.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume an unfinished run.")] = False,
    checkpoint_every: Annotated[
        float,
        typer.Option("--checkpoint-every", metavar="SECONDS", help="Time between checkpoints during fine-tuning."),
    ] = 60.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved recipe, sizes, memory and time; train nothing.")
    ] = False,
    find_rate: Annotated[
        Path | None,
        typer.Option(
            "--find-rate", metavar="FILE.png", help="Try rising learning rates, draw the losses; train nothing."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --dry-run or --find-rate: print one JSON object.")
    ] = False,
) -> None:
    """Train a recipe on a dataset and export its model.

    Descriptors of the frozen backbone are cached, so the next recipe on the same backbone trains in seconds. Photos
    that can't be read are named and left out; the exit code is then 1.
    """
    from obelisk.config import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    instead = [name for name, asked in (("--dry-run", dry_run), ("--find-rate", find_rate)) if asked]
    refuse_unclear(instead, out, find_rate, resume=resume, as_json=as_json)
    require_extra("train", module="torch", needed_for="training")
    if dry_run:
        print_dry_run(loaded, data, as_json=as_json)
    elif find_rate:
        print_rates(loaded, data, find_rate, as_json=as_json)
    elif out:
        train_whole(loaded, data, out, resume=resume, checkpoint_every=checkpoint_every)


def refuse_unclear(instead: list[str], out: Path | None, figure: Path | None, *, resume: bool, as_json: bool) -> None:
    """Refuse options that contradict each other, and a figure that could not be written."""
    if not instead and out is None:
        raise UsageError("no folder for the run", fix="add --out RUN, or --dry-run to see what the run needs")
    if not instead and as_json:
        raise UsageError("--json is for --dry-run and --find-rate", fix="leave it out")
    if instead and (resume or len(instead) > 1):
        second = "--resume" if resume else instead[1]
        raise UsageError(
            f"{instead[0]} trains nothing, so it can't be combined with {second}", fix="leave one of them out"
        )
    if instead and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError(f"{instead[0]} runs in one process", fix="start it without torchrun")
    if figure and not figure.parent.is_dir():
        raise UsageError("no such folder for the figure", where=figure.parent, fix="make it, or name another one")


def train_whole(recipe: Recipe, data: Path, out: Path, *, resume: bool, checkpoint_every: float) -> None:
    """Train the recipe into the run's folder, and name what was left out."""
    from obelisk.training.distributed import is_main_process
    from obelisk.training.train import train_run

    catalog = read_dataset(data)
    with Meter() as meter, offering_to_resume(out):
        run = train_run(
            recipe,
            catalog,
            out,
            resume=resume,
            checkpoint_every=checkpoint_every,
            progress=meter,
            watch=meter.watch,
        )
    if not is_main_process():
        return
    for image_id, error in run.skipped.items():
        warn(f"left out {image_id}: {error}")
    best = f", best epoch {', '.join(map(str, run.best_epochs))}" if run.best_epochs else ""
    note(f"{recipe.name}: {len(run.landmarks)} landmarks{best}")
    result(str(out))
    note(
        f"it names a landmark in every photo until it is calibrated: `obelisk calibrate {quote(str(out))} --data DIR`, "
        "with landmarks that it has not seen, or with all that it has"
    )
    if run.skipped:
        raise typer.Exit(1)


@contextlib.contextmanager
def offering_to_resume(out: Path) -> Iterator[None]:
    """Say how a run that was stopped, or that the machine failed, goes on."""
    from obelisk.training.distributed import is_main_process

    try:
        yield
    except (SystemExit, KeyboardInterrupt, MemoryError, OSError):
        if is_main_process() and (out / "recipe.toml").is_file():
            note(f"what is done so far is kept · {out} · to go on, add --resume")
        raise


def print_dry_run(recipe: Recipe, data: Path, *, as_json: bool) -> None:
    """Print what a training run will need."""
    from obelisk.training.dry_run import dry_run

    catalog = read_dataset(data)
    with Meter() as meter:
        found = dry_run(recipe, catalog, meter)
    if as_json:
        result(json.dumps({"recipe": recipe.model_dump()} | found.to_fields()))
        return
    for line in recipe.to_toml().split("\n"):
        result(line)
    show_dry_run(found)


def print_rates(recipe: Recipe, data: Path, figure: Path, *, as_json: bool) -> None:
    """Print and draw how the loss follows the learning rate."""
    from obelisk.training.lr_finder import draw_rates, find_rate

    catalog = read_dataset(data)
    with Meter() as meter:
        curve = find_rate(recipe, catalog, meter)
    draw_rates(figure, curve, recipe.name)
    note(f"figure: {figure}")
    if as_json:
        result(json.dumps(curve.to_fields()))
    else:
        show_rates(curve)
