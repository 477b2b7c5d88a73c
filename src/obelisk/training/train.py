"""Training a recipe: photos of a catalog in, a finished run out.

::

    split the references → describe them (cached) → fit a neck, watched by validation photos
    → refit on all → join backbones and neck into a bundle, checked against torch
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from obelisk.config import Recipe
from obelisk.data import Catalog, find_near_duplicates, split_references
from obelisk.embedding import MODEL_FILE, write_bundle
from obelisk.photos import prepare, read_photo
from obelisk.training.backbones import FrozenBackbone, load_backbones
from obelisk.training.curves import EpochLog, draw_curves, write_tensorboard
from obelisk.training.describe import DescribedReferences, Progress, describe_references
from obelisk.training.export import check_export, join_graphs, to_onnx
from obelisk.training.loop import Trained, TrainingPhotos, train_neck
from obelisk.training.losses import Softmax
from obelisk.training.network import Necks, PhotoEmbedder, UnitRows
from obelisk.training.run import Run, begin_folder, find_finished, fingerprint_of_data, members_of

CHECKED_PHOTOS = 16


def train_run(
    recipe: Recipe, catalog: Catalog, out: Path, *, resume: bool = False, progress: Progress = lambda *_: None
) -> Run:
    """Train a recipe on the reference photos of a catalog, and export its model.

    A finished run of the same recipe and data is returned as it is; an unfinished one needs ``resume``.
    Raises RecipeError for a folder of another recipe, DataError for data that cannot be trained on.
    """
    if finished := find_finished(recipe, catalog, out, resume=resume):
        return finished
    catalog = split_for_validation(recipe, catalog)
    backbones = load_backbones(recipe.backbone, recipe.photos, recipe.seed)
    begin_folder(recipe, out)
    described = describe_references(recipe, catalog, backbones, progress)
    log, refit_log = EpochLog(out / "log.jsonl"), EpochLog(out / "refit.jsonl")
    trained = [
        fit(recipe, described, columns, parts, log=log, refit_log=refit_log)
        for columns, parts in members_of(recipe, backbones)
    ]
    write_model(out, recipe, backbones, trained, described)
    if log.epochs:
        draw_curves(out / "curves.png", log.epochs, recipe.name)
        write_tensorboard(out / "tensorboard", log.epochs)
    facts = {
        "recipe": recipe.fingerprint,
        "data": fingerprint_of_data(catalog),
        "landmarks": described.landmarks.tolist(),
        "photos": len(described.labels),
        "best_epochs": [member.best_epoch for member in trained],
        "skipped": described.skipped,
    }
    (out / "run.json").write_text(json.dumps(facts, indent=1) + "\n")
    return Run.open(out)


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


def fit(
    recipe: Recipe,
    described: DescribedReferences,
    columns: slice,
    parts: tuple[int, ...],
    *,
    log: EpochLog,
    refit_log: EpochLog,
) -> Trained:
    """Find the best epoch on the validation photos, then refit on all; the neck sees some columns only."""
    views = torch.from_numpy(described.views[:, :, columns])
    labels = torch.from_numpy(described.labels)
    counts = torch.bincount(labels)
    everything = TrainingPhotos(views=views, landmarks=labels)
    if recipe.loss.kind == "none" or not described.is_val.any():
        return train_neck(recipe, everything, parts, counts, log=log)
    train, val = torch.from_numpy(~described.is_val), torch.from_numpy(described.is_val)
    chosen = train_neck(
        recipe,
        TrainingPhotos(views=views[:, train], landmarks=labels[train]),
        parts,
        counts,
        validation=TrainingPhotos(views=views[:1, val], landmarks=labels[val]),
        log=log,
    )
    if not recipe.data.refit:
        return chosen
    return train_neck(recipe, everything, parts, counts, stop_after=chosen.best_epoch, log=refit_log)


def write_model(
    out: Path,
    recipe: Recipe,
    backbones: Sequence[FrozenBackbone],
    trained: Sequence[Trained],
    described: DescribedReferences,
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
    examples = described.paths[:: max(1, len(described.paths) // CHECKED_PHOTOS)]
    check_export(network, module, [prepare(read_photo(path, min_side=rule.size), rule) for path in examples])
    write_bundle(
        out / "model",
        network=network,
        card=write_card(recipe, backbones, len(described.landmarks)),
        name=recipe.name,
        size=rule.size,
        resize=rule.resize,
        mean=rule.mean,
        std=rule.std,
        dimensions=necks.dimensions,
        whitening=recipe.neck.kind == "whitening" or recipe.neck.start == "whitening",
        licence=" AND ".join(sorted({backbone.licence for backbone in backbones})),
        data=f"backbones on {backbones[0].bundle.manifest.data}, neck on {len(described.landmarks)} landmarks",
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
