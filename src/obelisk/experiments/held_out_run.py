"""The held-out model that stands in for a run whose training saw every landmark there is."""

from __future__ import annotations

from obelisk.data import Catalog
from obelisk.evaluation import Run
from obelisk.records import Progress, no_progress
from obelisk.training.train import train_run

HELD_OUT_RUN = "held_out"  # in the run's folder


def train_held_out_run(run: Run, trained_on: Catalog, progress: Progress = no_progress) -> Run:
    """Train a run's recipe on some of its landmarks, in ``RUN/held_out``; a finished or begun one goes on there.

    Raises what :func:`~obelisk.training.train.train_run` raises.
    """
    folder = run.folder / HELD_OUT_RUN
    resume = (folder / "recipe.toml").is_file()
    return train_run(run.recipe, trained_on, folder, resume=resume, progress=progress)
