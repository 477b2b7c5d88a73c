"""``obelisk train``: a recipe and a dataset in, a run out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from obelisk.cli.console import Meter, note, require_extra, result, warn
from obelisk.cli.evaluate import read_and_tell


def train(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a shipped recipe.", show_default=False),
    ],
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="The dataset: GLDv2 layout, a subset, or a folder a landmark.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The run's folder, made here.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a key of the recipe.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run.")] = False,
    checkpoint_every: Annotated[
        float, typer.Option("--checkpoint-every", metavar="SECONDS", help="Between two checkpoints of a fine-tuning.")
    ] = 60.0,
) -> None:
    """Train a recipe on a dataset's reference photos and export its model.

    Descriptors of the frozen backbone are cached, so that the next recipe on the same backbone trains in
    seconds. A photo that cannot be read is named and left out, and the exit code is then 1.
    """
    from obelisk.config import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    require_extra("train", module="torch", needed_for="training")
    from obelisk.training.train import train_run
    from obelisk.training.world import is_first_process

    catalog = read_and_tell(data)
    with Meter() as meter:
        run = train_run(loaded, catalog, out, resume=resume, checkpoint_every=checkpoint_every, progress=meter)
    if not is_first_process():
        return
    for image_id, error in run.skipped.items():
        warn(f"left out {image_id}: {error}")
    told = f", best epoch {', '.join(map(str, run.best_epochs))}" if run.best_epochs else ""
    note(f"{loaded.name}: {len(run.landmarks)} landmarks{told}")
    result(str(out))
    if run.skipped:
        raise typer.Exit(1)
