"""A run on disk: what training leaves in its folder, and which folders it accepts.

::

    RUN/recipe.toml         the resolved recipe
    RUN/log.jsonl           one line per epoch of the training that the early stop watched
    RUN/refit.jsonl         the same for the refit on all reference photos
    RUN/finetuning.jsonl    the same for the fine-tuning of the backbone, where the recipe asks for it
    RUN/pace.jsonl          its seconds, photos per second and memory, one line per epoch: what no run repeats
    RUN/curves.png          both losses and the validation top-1
    RUN/head.safetensors    the trained neck, and the softmax layer where there is one: that of the loss, or, where
                            another loss made the embedding, a probe trained on it afterwards
    RUN/backbone.safetensors  the fine-tuned backbone
    RUN/model/              the bundle: photos → embeddings, without torch
    RUN/run.json            landmarks, best epoch, what was left out; written last: with it, the run is whole

Descriptors are computed once into the cache; training a second head on them takes seconds. Evaluation reads a run,
without torch, through :mod:`obelisk.evaluation.run_reader`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from obelisk.config import Recipe, load_recorded_recipe
from obelisk.errors import RecipeError
from obelisk.evaluation.run_reader import Run, read_facts
from obelisk.files import is_occupied, remove_partials, replace_file


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write ``run.json``, which makes a run whole."""
    text = json.dumps(facts, indent=1) + "\n"
    replace_file(folder / "run.json", lambda partial: partial.write_text(text, encoding="utf-8", newline="\n"))


def find_finished(recipe: Recipe, data: str, out: Path, *, resume: bool) -> Run | None:
    """Return the finished run that is already in the folder, None if it may be trained there; refuse other folders.

    ``data`` is the fingerprint of the dataset.
    """
    written = out / "recipe.toml"
    if (out / "run.json").is_file():
        facts = read_facts(out)
        if facts["recipe"] == recipe.fingerprint and facts["data"] == data:
            return Run.open(out)
        what = "recipe" if facts["recipe"] != recipe.fingerprint else "dataset, or of its photos as they were"
        raise RecipeError(f"holds a run of another {what}", where=out, fix="choose another --out")
    if written.is_file():
        if load_recorded_recipe(out).fingerprint != recipe.fingerprint:
            raise RecipeError("holds an unfinished run of another recipe", where=out, fix="choose another --out")
        if not resume:
            raise RecipeError("holds an unfinished run of this recipe", where=out, fix="add --resume to continue it")
    elif is_occupied(out):
        raise RecipeError("is not empty, and holds no run", where=out, fix="choose another --out")
    elif resume:
        raise RecipeError("holds no run to resume", where=out, fix="leave out --resume")
    return None


def begin_folder(recipe: Recipe, out: Path) -> None:
    """Make the run's folder with its recipe in it: from now on it is this run's.

    Incomplete files that a killed run left here are deleted.
    """
    text = recipe.to_toml()
    replace_file(out / "recipe.toml", lambda partial: partial.write_text(text, encoding="utf-8", newline="\n"))
    remove_partials(out)


def forget_folder(out: Path) -> None:
    """Undo :func:`begin_folder` for a run that can't be trained as requested, so that it can be started again."""
    for name in ("recipe.toml", "log.jsonl", "refit.jsonl", "finetuning.jsonl", "pace.jsonl"):
        (out / name).unlink(missing_ok=True)
    if not any(out.iterdir()):
        out.rmdir()


def fingerprint_of_list(references: pl.DataFrame) -> str:
    """Return a hash of which photos show which landmarks, and of their split, regardless of file contents."""
    digest = hashlib.blake2b(digest_size=8)
    for row in references.select("image_id", "landmark_id", "split").iter_rows():
        digest.update(f"{row}\n".encode())
    return digest.hexdigest()
