"""Training a recipe: photos of a catalog in, a finished run out.

::

    split the references → describe them (cached) → fit a neck, watched by validation photos
    → refit on all → fine-tune the backbone, or train a softmax probe, where the recipe asks for it
    → join backbones and neck into a bundle, checked against torch
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from obelisk.config import Recipe
from obelisk.data import Catalog
from obelisk.errors import UsageError
from obelisk.evaluation.run_reader import Run, fingerprint_of_data
from obelisk.training.distributed import World, join_world
from obelisk.training.export.ensembles import join_runs
from obelisk.training.export.restore import members_of
from obelisk.training.export.write_bundle import write_head, write_model
from obelisk.training.finetune import CHECKPOINT_SECONDS, finetune
from obelisk.training.loading.features import DescribedReferences, Progress, describe_references
from obelisk.training.loading.loader import LabelledPhotos
from obelisk.training.losses import Loss
from obelisk.training.machine import available_memory
from obelisk.training.memory_estimate import refuse_too_large
from obelisk.training.model.backbones import FrozenBackbone
from obelisk.training.model.network import Necks, PhotoEmbedder
from obelisk.training.necks import Epoch, Trained, TrainingPhotos, train_neck
from obelisk.training.optim.logs import EpochLog, draw_curves, write_tensorboard
from obelisk.training.optim.trainer import paths_lost
from obelisk.training.pace import EpochPace, FinetuningEpoch, Pace
from obelisk.training.preparation import prepare_training, refuse_too_few
from obelisk.training.run import begin_folder, find_finished, fingerprint_of_list, forget_folder, write_facts

CHECKPOINT = "finetuning.safetensors"


def train_run(
    recipe: Recipe,
    catalog: Catalog,
    out: Path,
    *,
    resume: bool = False,
    checkpoint_every: float = CHECKPOINT_SECONDS,
    progress: Progress = lambda *_: None,
    watch: Callable[[Pace], None] | None = None,
) -> Run:
    """Train a recipe on the reference photos of a catalog, and export its model.

    A finished run of the same recipe and data is returned as it is; an unfinished one needs ``resume``.
    ``checkpoint_every`` are seconds between two checkpoints of a fine-tuning, and ``watch`` is told of its steps
    in place of ``progress``.
    Raises RecipeError for a folder of another recipe and for a training that cannot fit in memory, ModelError for a
    checkpoint of another recipe or of other photos, DataError for data that cannot be trained on.
    """
    with join_world() as world:
        data = fingerprint_of_data(catalog)
        if finished := find_finished(recipe, data, out, resume=resume):
            return finished
        if recipe.ensemble.runs:
            refuse_too_few(recipe, catalog)
            if world.is_first:
                join_runs(recipe, catalog, data, out, progress)
            world.wait()
            return Run.open(out)
        prepared = prepare_training(recipe, catalog, world)
        refuse_too_large(recipe, prepared.sizes, available_memory, where=catalog.root)
        world.wait()  # until all have looked at the folder as it was
        with folder_of(world, out) as folder:
            begin_folder(recipe, folder)
            work = Work(
                recipe=recipe,
                catalog=prepared.catalog,
                data=data,
                backbones=prepared.backbones,
                folder=folder,
                checkpoint=out / CHECKPOINT,
                checkpoint_every=checkpoint_every,
                world=world,
                progress=progress if world.is_first else lambda *_: None,
                watch=(watch or plainly(progress)) if world.is_first else lambda pace: None,
            )
            try:
                train_and_write(work)
            except UsageError:
                if not (resume or work.checkpoint.is_file()):
                    forget_folder(folder)
                raise
        world.wait()
        return Run.open(out)


def plainly(progress: Progress) -> Callable[[Pace], None]:
    """Return what tells of the steps of a fine-tuning as of any other stage."""

    def watch(pace: Pace) -> None:
        if not pace.ended:
            progress(f"fine-tuning, epoch {pace.epoch} of {pace.epochs}", pace.step, pace.steps)

    return watch


@contextmanager
def folder_of(world: World, out: Path) -> Iterator[Path]:
    """Give the first process the run's folder, and any other one a folder that nobody will see."""
    if world.is_first:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="obelisk-") as folder:
        yield Path(folder)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run is made of, where it goes, and the process that makes it."""

    recipe: Recipe
    catalog: Catalog
    data: str
    backbones: Sequence[FrozenBackbone]
    folder: Path
    checkpoint: Path
    checkpoint_every: float
    world: World
    progress: Progress
    watch: Callable[[Pace], None]


def train_and_write(work: Work) -> None:
    """Do the work of a run in its folder; ``run.json``, written last, makes it whole.

    Of several processes, all fit the same neck on the descriptors that the first one has cached; only the first one
    writes the model.
    """
    recipe, backbones, out, world = work.recipe, work.backbones, work.folder, work.world
    if not world.is_first:
        world.wait()
    described = describe_references(recipe, work.catalog, backbones, work.progress)
    if world.is_first:
        world.wait()
    log, refit_log = EpochLog(Epoch, out / "log.jsonl"), EpochLog(Epoch, out / "refit.jsonl")
    trained = [
        fit(recipe, described, columns, parts, member=member, log=log, refit_log=refit_log)
        for member, (columns, parts) in enumerate(members_of(recipe, backbones), start=1)
    ]
    embedder, loss = join_modules(recipe, backbones, trained), trained[0].loss
    stages: dict[str, Sequence[Epoch]] = {"neck": log.epochs}
    if recipe.finetuning.epochs and loss:
        embedder, loss, stages["fine-tuning"] = finetune_backbone(work, embedder, loss, described)
    if not world.is_first:
        return
    layer = write_head(out, recipe, embedder.necks, loss, described)
    write_model(out, recipe, backbones, embedder, layer, described)
    if log.epochs:
        draw_curves(out / "curves.png", stages, recipe.name)
        write_tensorboard(out / "tensorboard", stages)
    facts = {
        "recipe": recipe.fingerprint,
        "data": work.data,
        "backbones": [backbone.bundle.fingerprint for backbone in backbones],
        "landmarks": described.landmarks.tolist(),
        "photos": len(described.labels),
        "best_epochs": [member.best_epoch for member in trained],
        "skipped": described.skipped,
    }
    # Until the model is written, a stopped run goes on from here.
    work.checkpoint.unlink(missing_ok=True)
    write_facts(out, facts)


def fit(
    recipe: Recipe,
    described: DescribedReferences,
    columns: slice,
    parts: tuple[int, ...],
    *,
    member: int,
    log: Callable[[Epoch], None] = lambda epoch: None,
    refit_log: Callable[[Epoch], None] = lambda epoch: None,
) -> Trained:
    """Find the best epoch on the validation photos, then refit on all; the neck sees some columns only."""
    views = torch.from_numpy(described.views[:, :, columns])
    labels = torch.from_numpy(described.labels)
    counts = torch.bincount(labels)
    everything = TrainingPhotos(views=views, landmarks=labels)
    if recipe.loss.kind == "none" or not described.is_val.any():
        return train_neck(recipe, everything, parts, counts, member=member, log=log)
    train, val = torch.from_numpy(~described.is_val), torch.from_numpy(described.is_val)
    chosen = train_neck(
        recipe,
        TrainingPhotos(views=views[:, train], landmarks=labels[train]),
        parts,
        counts,
        validation=TrainingPhotos(views=views[:1, val], landmarks=labels[val]),
        member=member,
        log=log,
    )
    if not recipe.data.refit:
        return chosen
    return train_neck(recipe, everything, parts, counts, stop_after=chosen.best_epoch, member=member, log=refit_log)


def join_modules(recipe: Recipe, backbones: Sequence[FrozenBackbone], trained: Sequence[Trained]) -> PhotoEmbedder:
    """Put the backbones and their trained necks together."""
    columns = [columns for columns, _ in members_of(recipe, backbones)]
    necks = Necks([member.neck for member in trained], [part.stop - part.start for part in columns])
    return PhotoEmbedder([backbone.module for backbone in backbones], necks).eval()


def finetune_backbone(
    work: Work, embedder: PhotoEmbedder, loss: Loss, described: DescribedReferences
) -> tuple[PhotoEmbedder, Loss, Sequence[Epoch]]:
    """Train backbone, neck and loss on together; return the embedder and the loss that are kept, and all epochs.

    As the neck was: on all reference photos where the recipe refits, else on those that are not for validation.
    """
    recipe, (backbone,) = work.recipe, work.backbones
    references = list_photos(work, described)
    paths, is_val = work.catalog.locate_photos(references), (references["split"] == "val").to_numpy()
    labels = torch.from_numpy(np.unique(references["landmark_id"].to_numpy(), return_inverse=True)[1])

    def choose(wanted: NDArray[np.bool_]) -> LabelledPhotos:
        chosen = np.flatnonzero(wanted)
        return LabelledPhotos(
            paths=[paths[place] for place in chosen], landmarks=labels[chosen], rule=backbone.bundle.input
        )

    everything = recipe.data.refit or not is_val.any()
    log = EpochLog(FinetuningEpoch, work.folder / "finetuning.jsonl", keep=work.checkpoint.is_file())
    paces = EpochLog(EpochPace, work.folder / "pace.jsonl", keep=work.checkpoint.is_file())

    def watch(pace: Pace) -> None:
        if pace.ended:
            paces(pace.measured)
        work.watch(pace)

    tuned, loss = finetune(
        recipe,
        embedder,
        backbone.parts,
        loss,
        choose(np.full(len(labels), fill_value=True) if everything else ~is_val),
        data=fingerprint_of_list(references),
        world=work.world,
        validation=None if everything else choose(is_val),
        checkpoint=work.checkpoint,
        checkpoint_every=work.checkpoint_every,
        log=log,
        watch=watch,
    )
    return tuned, loss, log.epochs


def list_photos(work: Work, described: DescribedReferences) -> pl.DataFrame:
    """Return the references that the fine-tuning began with: those described now, and those that it has lost since."""
    references = work.catalog.references
    known = {str(path) for path in described.paths} | paths_lost(work.checkpoint)
    return references.filter(pl.Series([str(path) in known for path in work.catalog.locate_photos(references)]))
