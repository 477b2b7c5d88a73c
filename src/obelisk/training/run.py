"""A run on disk: what training leaves in its folder, and how it is used again.

::

    RUN/recipe.toml         the resolved recipe
    RUN/log.jsonl           one line an epoch of the training that the early stop watched
    RUN/refit.jsonl         the same for the refit on all reference photos
    RUN/curves.png          both losses and the validation top-1
    RUN/head.safetensors    the trained neck, and the softmax layer where there is one
    RUN/model/              the bundle: photos → embeddings, without torch
    RUN/run.json            landmarks, best epoch, what was left out; written last: with it, the run is whole

Descriptors are computed once into the cache; training a second head on them takes seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from obelisk.config import Recipe, load_recipe
from obelisk.data import Catalog
from obelisk.embedding import Bundle
from obelisk.errors import ModelError, ObeliskError, PhotoError, RecipeError
from obelisk.training.backbones import FrozenBackbone, load_backbones
from obelisk.training.describe import Progress, describe
from obelisk.training.network import Necks, build_neck


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run on disk."""

    folder: Path
    recipe: Recipe
    landmarks: tuple[int, ...]
    best_epochs: tuple[int, ...]
    skipped: dict[str, str]

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Read a finished run; raises ModelError when there is none in the folder, or it is not whole."""
        if not (folder / "run.json").is_file():
            raise ModelError("not a finished run: `run.json` is missing", where=folder, fix="obelisk train … --out RUN")
        facts = json.loads((folder / "run.json").read_text())
        return cls(
            folder=folder,
            recipe=load_recipe(str(folder / "recipe.toml")),
            landmarks=tuple(facts["landmarks"]),
            best_epochs=tuple(facts["best_epochs"]),
            skipped=facts["skipped"],
        )

    @property
    def bundle(self) -> Bundle:
        """The exported model."""
        return Bundle.load(self.folder / "model")


def find_finished(recipe: Recipe, catalog: Catalog, out: Path, *, resume: bool) -> Run | None:
    """Return the finished run that is already in the folder, None if it may be trained there; refuse other folders."""
    written = out / "recipe.toml"
    if (out / "run.json").is_file():
        facts = json.loads((out / "run.json").read_text())
        if facts["recipe"] == recipe.fingerprint and facts["data"] == fingerprint_of_data(catalog):
            return Run.open(out)
        what = "recipe" if facts["recipe"] != recipe.fingerprint else "dataset"
        raise RecipeError(f"holds a run of another {what}", where=out, fix="choose another --out")
    if written.is_file():
        if load_recipe(str(written)).fingerprint != recipe.fingerprint:
            raise RecipeError("holds an unfinished run of another recipe", where=out, fix="choose another --out")
        if not resume:
            raise RecipeError("holds an unfinished run of this recipe", where=out, fix="add --resume to go on with it")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RecipeError("is not empty, and holds no run", where=out, fix="choose another --out")
    elif resume:
        raise RecipeError("holds no run to resume", where=out, fix="leave out --resume")
    return None


def begin_folder(recipe: Recipe, out: Path) -> None:
    """Make the run's folder with its recipe in it: from now on it is this run's."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.toml").write_text(recipe.to_toml())


def fingerprint_of_data(catalog: Catalog) -> str:
    """Return a hash of which photos show which landmarks."""
    digest = hashlib.blake2b(digest_size=8)
    for photos, column in ((catalog.references, "landmark_id"), (catalog.queries, "landmark_ids")):
        for image_id, shows in photos.select("image_id", column).sort("image_id").iter_rows():
            digest.update(f"{image_id} {shows}\n".encode())
    return digest.hexdigest()


def members_of(recipe: Recipe, backbones: Sequence[FrozenBackbone]) -> list[tuple[slice, tuple[int, ...]]]:
    """Return, for each neck of the recipe, the columns of the descriptor that it sees and the parts in them."""
    if not recipe.neck.per_backbone:
        parts = tuple(part for backbone in backbones for part in backbone.parts)
        return [(slice(0, sum(parts)), parts)]
    ends = np.cumsum([sum(backbone.parts) for backbone in backbones]).tolist()
    starts = [0, *ends[:-1]]
    return [(slice(start, end), backbone.parts) for start, end, backbone in zip(starts, ends, backbones, strict=True)]


class RunEmbedder:
    """Embeds photos with a run's network through the descriptor cache: no photo is described twice."""

    def __init__(self, run: Run) -> None:
        from safetensors.torch import load_file

        self.run = run
        self._backbones = load_backbones(run.recipe.backbone, run.recipe.photos, run.recipe.seed)
        members = members_of(run.recipe, self._backbones)
        self._necks = Necks(
            [build_neck(run.recipe.neck, parts) for _, parts in members], [sum(parts) for _, parts in members]
        ).eval()
        weights = load_file(run.folder / "head.safetensors")
        self._necks.load_state_dict(
            {name.removeprefix("necks."): tensor for name, tensor in weights.items() if name.startswith("necks.")}
        )
        self._classifier = (
            (weights["loss.classifier.weight"], weights["loss.classifier.bias"])
            if ("loss.classifier.weight" in weights)
            else None
        )

    def embed(
        self, paths: Sequence[Path], *, progress: Progress = lambda *_: None
    ) -> tuple[NDArray[np.float32], dict[int, PhotoError]]:
        """Return embeddings (N, D) of unit length and the failures by place (their rows are meaningless)."""
        descriptors, failed = describe(self._backbones, paths, progress=progress)
        with torch.inference_mode():
            blocks = [self._necks.embed(block.float()) for block in torch.split(torch.from_numpy(descriptors), 4096)]
        return torch.cat(blocks).numpy(), failed

    def classify(
        self, paths: Sequence[Path], *, progress: Progress = lambda *_: None
    ) -> tuple[NDArray[np.float32], dict[int, PhotoError]]:
        """Return softmax probabilities (N, C) over the run's landmarks, and the failures by place."""
        if self._classifier is None:
            raise ObeliskError("this run has no softmax layer", where=self.run.folder)
        weight, bias = self._classifier
        descriptors, failed = describe(self._backbones, paths, progress=progress)
        with torch.inference_mode():
            blocks = [
                (self._necks(block.float()) @ weight.T + bias).softmax(dim=1)
                for block in torch.split(torch.from_numpy(descriptors), 4096)
            ]
        return torch.cat(blocks).numpy(), failed
