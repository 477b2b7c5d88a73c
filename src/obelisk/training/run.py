"""A run on disk: what training leaves in its folder, and how it is used again.

::

    RUN/recipe.toml         the resolved recipe
    RUN/log.jsonl           one line an epoch of the training that the early stop watched
    RUN/refit.jsonl         the same for the refit on all reference photos
    RUN/finetuning.jsonl    the same for the fine-tuning of the backbone, where the recipe asks for it
    RUN/pace.jsonl          its seconds, photos a second and memory, one line an epoch: what no run repeats
    RUN/curves.png          both losses and the validation top-1
    RUN/head.safetensors    the trained neck, and the softmax layer where there is one: that of the loss, or, where
                            another loss made the embedding, a probe trained on it afterwards
    RUN/backbone.safetensors  the fine-tuned backbone
    RUN/model/              the bundle: photos → embeddings, without torch
    RUN/run.json            landmarks, best epoch, what was left out; written last: with it, the run is whole

Descriptors are computed once into the cache; training a second head on them takes seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from obelisk.config import Recipe, load_recorded_recipe
from obelisk.data import Catalog
from obelisk.embedding import Bundle, DescriptorCache, hash_or_error
from obelisk.errors import ModelError, ObeliskError, PhotoError, RecipeError
from obelisk.files import replace_file
from obelisk.photos import map_in_order
from obelisk.training.loading.features import Progress, describe
from obelisk.training.machine import one_thread
from obelisk.training.model.backbones import FrozenBackbone, PooledBackbone, freeze, load_backbones
from obelisk.training.model.network import Necks, PhotoEmbedder, build_neck
from obelisk.training.model.pooling import l2n


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run on disk."""

    folder: Path
    recipe: Recipe
    landmarks: tuple[int, ...]
    backbones: tuple[str, ...]
    best_epochs: tuple[int, ...]
    skipped: dict[str, str]

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Read a finished run; raises ModelError when there is none in the folder, or it is not whole."""
        facts = read_facts(folder)
        return cls(
            folder=folder,
            recipe=load_recorded_recipe(folder),
            landmarks=tuple(facts["landmarks"]),
            backbones=tuple(facts["backbones"]),
            best_epochs=tuple(facts["best_epochs"]),
            skipped=facts["skipped"],
        )

    @property
    def bundle(self) -> Bundle:
        """The exported model."""
        return Bundle.load(self.folder / "model")

    def read_as(self, recipe: Recipe) -> Run:
        """Return the run as another recipe reads it, which must differ in name and classifier only."""
        return replace(self, recipe=recipe)


LOSS, PROBE = "loss", "probe"  # where head.safetensors has a softmax layer: the loss's own, or one trained afterwards

FACTS = ("recipe", "data", "landmarks", "backbones", "best_epochs", "skipped")


def read_facts(folder: Path) -> dict[str, Any]:
    """Read ``run.json``; raises ModelError when it is missing or not whole."""
    path = folder / "run.json"
    if not path.is_file():
        raise ModelError("not a finished run: `run.json` is missing", where=folder, fix="obelisk train … --out RUN")
    try:
        facts: dict[str, Any] = json.loads(path.read_bytes())
        missing = [name for name in FACTS if name not in facts]
    except (ValueError, TypeError):
        missing = ["everything"]
    if missing:
        fix = "delete the folder and train again"
        raise ModelError(f"a damaged run: `{missing[0]}` cannot be read", where=path, fix=fix)
    return facts


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write ``run.json``, which makes a run whole."""
    text = json.dumps(facts, indent=1) + "\n"
    replace_file(folder / "run.json", lambda partial: partial.write_text(text))


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
            raise RecipeError("holds an unfinished run of this recipe", where=out, fix="add --resume to go on with it")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RecipeError("is not empty, and holds no run", where=out, fix="choose another --out")
    elif resume:
        raise RecipeError("holds no run to resume", where=out, fix="leave out --resume")
    return None


def begin_folder(recipe: Recipe, out: Path) -> None:
    """Make the run's folder with its recipe in it: from now on it is this run's.

    What a run that was killed here had not written whole goes.
    """
    replace_file(out / "recipe.toml", lambda partial: partial.write_text(recipe.to_toml()))
    for partial in out.glob(".*"):
        if partial.suffix[1:].isdigit() and partial.is_file():
            partial.unlink()


def forget_folder(out: Path) -> None:
    """Take back a folder just begun, of a run that cannot be trained as it was asked for: it can be asked for anew."""
    for name in ("recipe.toml", "log.jsonl", "refit.jsonl", "finetuning.jsonl", "pace.jsonl"):
        (out / name).unlink(missing_ok=True)
    if not any(out.iterdir()):
        out.rmdir()


def fingerprint_of_data(catalog: Catalog) -> str:
    """Return a hash of which photos show which landmarks, of their split, and of their contents."""
    digest = hashlib.blake2b(digest_size=8)
    for photos, columns in ((catalog.references, ["landmark_id", "split"]), (catalog.queries, ["landmark_ids"])):
        photos = photos.sort("image_id")
        contents = map_in_order(hash_or_error, catalog.locate_photos(photos))
        for row, content in zip(photos.select("image_id", *columns).iter_rows(), contents, strict=True):
            told = content if isinstance(content, str) else type(content).__name__
            digest.update(f"{row} {told}\n".encode())
    return digest.hexdigest()


def fingerprint_of_list(references: pl.DataFrame) -> str:
    """Return a hash of which photos show which landmarks, and of their split, whatever is in the files."""
    digest = hashlib.blake2b(digest_size=8)
    for row in references.select("image_id", "landmark_id", "split").iter_rows():
        digest.update(f"{row}\n".encode())
    return digest.hexdigest()


def members_of(recipe: Recipe, backbones: Sequence[FrozenBackbone]) -> list[tuple[slice, tuple[int, ...]]]:
    """Return, for each neck of the recipe, the columns of the descriptor that it sees and the parts in them."""
    if not recipe.neck.per_backbone:
        parts = tuple(part for backbone in backbones for part in backbone.parts)
        return [(slice(0, sum(parts)), parts)]
    ends = np.cumsum([sum(backbone.parts) for backbone in backbones]).tolist()
    starts = [0, *ends[:-1]]
    return [(slice(start, end), backbone.parts) for start, end, backbone in zip(starts, ends, backbones, strict=True)]


def load_frozen(run: Run) -> Sequence[FrozenBackbone]:
    """Load the backbones that a run started from; raises ModelError when they are not the same any more."""
    backbones = load_backbones(run.recipe.backbone, run.recipe.photos, run.recipe.seed)
    if [backbone.bundle.fingerprint for backbone in backbones] != list(run.backbones):
        raise ModelError(
            "the run was trained on other backbone weights than those at hand",
            where=run.folder,
            fix="bring back the weights or the versions it was trained with, or train again",
        )
    return backbones


def load_necks(run: Run, backbones: Sequence[FrozenBackbone], weights: Mapping[str, Tensor]) -> Necks:
    """Build a run's necks with their trained weights, which are those of ``head.safetensors``."""
    members = members_of(run.recipe, backbones)
    necks = Necks([build_neck(run.recipe.neck, parts) for _, parts in members], [sum(parts) for _, parts in members])
    trained = {name.removeprefix("necks."): value for name, value in weights.items() if name.startswith("necks.")}
    necks.load_state_dict(trained)
    return necks.eval()


def load_tuned(run: Run) -> Sequence[FrozenBackbone]:
    """Load the backbones that a run ended with: where it fine-tuned, an export of the new weights is in the cache."""
    from safetensors.torch import load_file

    backbones = load_frozen(run)
    if not run.recipe.finetuning.epochs:
        return backbones
    (backbone,) = backbones
    backbone.module.load_tuned(load_file(run.folder / "backbone.safetensors"))
    return [freeze_tuned(run.recipe, backbone, backbone.module)]


def freeze_tuned(recipe: Recipe, before: FrozenBackbone, module: PooledBackbone) -> FrozenBackbone:
    """Freeze a fine-tuned backbone, of which ``before`` is what training started from."""
    told = before.bundle
    origin = f"{told.manifest.data}, fine-tuned"
    return freeze(told.name, module, recipe.backbone, recipe.photos, licence=told.manifest.licence, origin=origin)


def load_module(run: Run) -> PhotoEmbedder:
    """Load a run's whole network as a torch module: photos (N, 3, H, W) → embeddings (N, D) of unit length.

    Raises ModelError for a run that joins others.
    """
    from safetensors.torch import load_file

    if run.recipe.ensemble.runs:
        joined = " ".join(run.recipe.ensemble.runs)
        raise ModelError("the run joins others and has no network of its own", where=run.folder, fix=f"name {joined}")
    backbones = load_frozen(run)
    if run.recipe.finetuning.epochs:
        backbones[0].module.load_tuned(load_file(run.folder / "backbone.safetensors"))
    necks = load_necks(run, backbones, load_file(run.folder / "head.safetensors"))
    return PhotoEmbedder([backbone.module for backbone in backbones], necks).eval()


class RunEmbedder:
    """Embeds photos with a run's network through the descriptor cache: no photo is described twice.

    What is cached of a frozen backbone are its descriptors, which other runs share. Of a fine-tuned one and of an
    ensemble they are the embeddings, which are shorter; descriptors again where a softmax layer reads what is behind
    them.
    """

    def __init__(self, run: Run) -> None:
        from safetensors.torch import load_file

        self.run = run
        joined = bool(run.recipe.ensemble.runs)
        weights = {} if joined else load_file(run.folder / "head.safetensors")
        # A loss's own layer reads features of any length, a probe embeddings of unit length.
        self._source = next((part for part in (LOSS, PROBE) if f"{part}.classifier.weight" in weights), None)
        whole = (joined or run.recipe.finetuning.epochs > 0) and self._source is None
        self._embeddings = DescriptorCache(run.bundle) if whole else None
        if self._embeddings:
            return
        self._backbones = load_tuned(run)
        self._necks = load_necks(run, self._backbones, weights)
        if self._source:
            self._weight, self._bias = (weights[f"{self._source}.classifier.{name}"] for name in ("weight", "bias"))

    @one_thread()
    def embed(
        self, paths: Sequence[Path], *, progress: Progress = lambda *_: None
    ) -> tuple[NDArray[np.float32], dict[int, PhotoError]]:
        """Return embeddings (N, D) of unit length and the failures by place (their rows are meaningless)."""
        if self._embeddings:
            what = f"embeddings of {self.run.recipe.name}"
            found = self._embeddings.get(paths, progress=lambda done: progress(what, done, len(paths)))
            return l2n(torch.from_numpy(found.rows)).numpy(), found.failed
        descriptors, failed = describe(self._backbones, paths, progress=progress)
        with torch.inference_mode():
            blocks = [self._necks.embed(block.float()) for block in torch.split(torch.from_numpy(descriptors), 4096)]
        return torch.cat(blocks).numpy(), failed

    @one_thread()
    def classify(
        self, paths: Sequence[Path], *, progress: Progress = lambda *_: None
    ) -> tuple[NDArray[np.float32], dict[int, PhotoError]]:
        """Return softmax probabilities (N, C) over the run's landmarks, and the failures by place."""
        if self._source is None:
            fix = "train its recipe with --set classifier.kind=softmax"
            raise ObeliskError("this run has no softmax layer", where=self.run.folder, fix=fix)
        read = self._necks.embed if self._source == PROBE else self._necks
        descriptors, failed = describe(self._backbones, paths, progress=progress)
        with torch.inference_mode():
            blocks = [
                (read(block.float()) @ self._weight.T + self._bias).softmax(dim=1)
                for block in torch.split(torch.from_numpy(descriptors), 4096)
            ]
        return torch.cat(blocks).numpy(), failed
