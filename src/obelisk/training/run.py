"""A run: one recipe trained on one dataset, in one folder.

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from obelisk.config import Recipe, load_recipe
from obelisk.data import Catalog, find_near_duplicates, split_references
from obelisk.embedding import MODEL_FILE, Bundle, DescriptorCache, View, write_bundle
from obelisk.errors import DataError, ModelError, ObeliskError, PhotoError, RecipeError
from obelisk.photos import prepare, read_photo
from obelisk.training.augmentation import augmented_views
from obelisk.training.backbones import FrozenBackbone, load_backbones
from obelisk.training.curves import EpochLog, draw_curves, write_tensorboard
from obelisk.training.export import check_export, join_graphs, to_onnx
from obelisk.training.loop import Trained, TrainingPhotos, train_neck
from obelisk.training.losses import Softmax
from obelisk.training.network import Necks, PhotoEmbedder, UnitRows, build_neck

CHECKED_PHOTOS = 16

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many are done, and how many there are."""


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


def train_run(
    recipe: Recipe, catalog: Catalog, out: Path, *, resume: bool = False, progress: Progress = lambda *_: None
) -> Run:
    """Train a recipe on the reference photos of a catalog, and export its model.

    A finished run of the same recipe and data is returned as it is; an unfinished one needs ``resume``.
    Raises RecipeError for a folder of another recipe, DataError for data that cannot be trained on.
    """
    if finished := claim_folder(recipe, catalog, out, resume=resume):
        return finished
    catalog = split_for_validation(recipe, catalog)
    backbones = load_backbones(recipe.backbone, recipe.photos, recipe.seed)
    paths = [catalog.root / path for path in catalog.references["path"]]
    landmark_ids = catalog.references["landmark_id"].to_numpy()
    plain, failed = describe(backbones, paths, progress=progress)
    kept = np.array([place for place in range(len(paths)) if place not in failed], np.int64)
    if not len(kept):
        raise DataError("none of the reference photos could be read", where=catalog.root, fix="obelisk data check DIR")
    views = np.stack([plain[kept], *augment(recipe, backbones, [paths[place] for place in kept], progress)])
    landmarks, labels = np.unique(landmark_ids[kept], return_inverse=True)
    is_val = (catalog.references["split"] == "val").to_numpy()[kept]
    log = EpochLog(out / "log.jsonl")
    refit_log = EpochLog(out / "refit.jsonl")
    trained = [
        fit(recipe, views[:, :, columns], labels, is_val, parts, log=log, refit_log=refit_log)
        for columns, parts in members_of(recipe, backbones)
    ]
    names = catalog.references["image_id"]
    skipped = {names[place]: str(error) for place, error in failed.items()}
    examples = [paths[place] for place in kept[:: max(1, len(kept) // CHECKED_PHOTOS)]]
    write_run(out, recipe, backbones, trained, landmarks.tolist(), examples)
    if log.epochs:
        draw_curves(out / "curves.png", log.epochs, recipe.name)
        write_tensorboard(out / "tensorboard", log.epochs)
    facts = {
        "recipe": recipe.fingerprint,
        "data": fingerprint_of_data(catalog),
        "landmarks": landmarks.tolist(),
        "photos": len(kept),
        "best_epochs": [member.best_epoch for member in trained],
        "skipped": skipped,
    }
    (out / "run.json").write_text(json.dumps(facts, indent=1) + "\n")
    return Run.open(out)


def claim_folder(recipe: Recipe, catalog: Catalog, out: Path, *, resume: bool) -> Run | None:
    """Make the run's folder with its recipe in it, or return the finished run that is already there."""
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
    out.mkdir(parents=True, exist_ok=True)
    written.write_text(recipe.to_toml())
    return None


def split_for_validation(recipe: Recipe, catalog: Catalog) -> Catalog:
    """Carve validation photos from the references, unless the dataset's manifest has done it.

    Near-duplicates never stand on both sides.
    """
    if (catalog.references["split"] == "val").any() or recipe.data.validation_share == 0:
        return catalog
    found = find_near_duplicates(catalog.root, catalog.references)
    return split_references(
        catalog, validation_share=recipe.data.validation_share, seed=recipe.seed, groups=found.groups
    )


def fingerprint_of_data(catalog: Catalog) -> str:
    """Return a hash of which photos show which landmarks."""
    digest = hashlib.blake2b(digest_size=8)
    for photos, column in ((catalog.references, "landmark_id"), (catalog.queries, "landmark_ids")):
        for image_id, shows in photos.select("image_id", column).sort("image_id").iter_rows():
            digest.update(f"{image_id} {shows}\n".encode())
    return digest.hexdigest()


def describe(
    backbones: Sequence[FrozenBackbone],
    paths: Sequence[Path],
    *,
    view: View | None = None,
    view_name: str = "plain",
    progress: Progress = lambda *_: None,
) -> tuple[NDArray[np.float16], dict[int, PhotoError]]:
    """Return the descriptors (N, D_in) of one view of each photo, all backbones side by side, and the failures."""
    blocks: list[NDArray[np.float16]] = []
    failed: dict[int, PhotoError] = {}
    for backbone in backbones:
        what = f"descriptors of {backbone.bundle.name}, {view_name.split('-')[0]} view"
        found = DescriptorCache(backbone.bundle).get(
            paths,
            view=view,
            view_name=view_name,
            progress=lambda done, what=what: progress(what, done, len(paths)),  # type: ignore[misc]
        )
        # The cache keeps float16, so nothing is lost here.
        blocks.append(found.rows.astype(np.float16))
        failed |= found.failed
    return np.concatenate(blocks, axis=1), failed


def augment(
    recipe: Recipe, backbones: Sequence[FrozenBackbone], paths: Sequence[Path], progress: Progress
) -> list[NDArray[np.float16]]:
    """Return the descriptors of each augmented view that the recipe asks for."""
    return [
        describe(backbones, paths, view=view, view_name=view.name, progress=progress)[0]
        for view in augmented_views(recipe.views, recipe.seed)
    ]


def members_of(recipe: Recipe, backbones: Sequence[FrozenBackbone]) -> list[tuple[slice, tuple[int, ...]]]:
    """Return, for each neck of the recipe, the columns of the descriptor that it sees and the parts in them."""
    if not recipe.neck.per_backbone:
        parts = tuple(part for backbone in backbones for part in backbone.parts)
        return [(slice(0, sum(parts)), parts)]
    ends = np.cumsum([sum(backbone.parts) for backbone in backbones]).tolist()
    starts = [0, *ends[:-1]]
    return [(slice(start, end), backbone.parts) for start, end, backbone in zip(starts, ends, backbones, strict=True)]


def fit(
    recipe: Recipe,
    views: NDArray[np.float16],
    labels: NDArray[np.int64],
    is_val: NDArray[np.bool_],
    parts: tuple[int, ...],
    *,
    log: EpochLog,
    refit_log: EpochLog,
) -> Trained:
    """Find the best epoch on the validation photos, then refit on all."""
    everything = TrainingPhotos(views=torch.from_numpy(views), landmarks=torch.from_numpy(labels))
    counts = torch.bincount(everything.landmarks)
    if recipe.loss.kind == "none" or not is_val.any():
        return train_neck(recipe, everything, parts, counts, log=log)
    train, val = torch.from_numpy(~is_val), torch.from_numpy(is_val)
    chosen = train_neck(
        recipe,
        TrainingPhotos(views=everything.views[:, train], landmarks=everything.landmarks[train]),
        parts,
        counts,
        validation=TrainingPhotos(views=everything.views[:1, val], landmarks=everything.landmarks[val]),
        log=log,
    )
    if not recipe.data.refit:
        return chosen
    return train_neck(recipe, everything, parts, counts, stop_after=chosen.best_epoch, log=refit_log)


def write_run(
    out: Path,
    recipe: Recipe,
    backbones: Sequence[FrozenBackbone],
    trained: Sequence[Trained],
    landmarks: Sequence[int],
    examples: Sequence[Path],
) -> None:
    """Write the trained weights and the model bundle, and check the bundle against torch on a few photos."""
    from safetensors.torch import save_file

    columns = [columns for columns, _ in members_of(recipe, backbones)]
    necks = Necks([member.neck for member in trained], [part.stop - part.start for part in columns])
    weights = {f"necks.{name}": tensor for name, tensor in necks.state_dict().items()}
    if isinstance(trained[0].loss, Softmax):
        weights |= {f"loss.{name}": tensor for name, tensor in trained[0].loss.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, out / "head.safetensors")
    module = PhotoEmbedder([backbone.module for backbone in backbones], necks).eval()
    rule = backbones[0].bundle.input
    network = join_graphs(
        [(backbone.bundle.folder / MODEL_FILE).read_bytes() for backbone in backbones],
        to_onnx(UnitRows(necks), torch.zeros(2, sum(necks.widths)), "descriptors", "embedding"),
    )
    check_export(network, module, [prepare(read_photo(path, min_side=rule.size), rule) for path in examples])
    write_bundle(
        out / "model",
        network=network,
        card=write_card(recipe, backbones, len(landmarks)),
        name=recipe.name,
        size=rule.size,
        resize=rule.resize,
        mean=rule.mean,
        std=rule.std,
        dimensions=necks.dimensions,
        whitening=recipe.neck.kind == "whitening" or recipe.neck.start == "whitening",
        licence=" AND ".join(sorted({backbone.licence for backbone in backbones})),
        data=f"backbones on {backbones[0].bundle.manifest.data}, neck on {len(landmarks)} landmarks",
    )


def write_card(recipe: Recipe, backbones: Sequence[FrozenBackbone], landmarks: int) -> str:
    """Return the model card: what it is, what it was made from, and how to make it again."""
    names = ", ".join(backbone.bundle.name for backbone in backbones)
    return (
        f"# {recipe.name}\n\n"
        f"Embeds photos of landmarks. Backbone: {names}, frozen, ImageNet weights"
        f" ({', '.join(sorted({backbone.licence for backbone in backbones}))}).\n"
        f"Neck: {recipe.neck.kind}, loss: {recipe.loss.kind}, trained on {landmarks} landmarks.\n\n"
        f"The recipe, whole:\n\n```toml\n{recipe.to_toml()}```\n"
    )


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
