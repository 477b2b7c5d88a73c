"""Train a recipe: the photos of a catalog in, a finished run out.

::

    split the references → extract their features (cached) → train a head on them, refit it on all
    → fine-tune the backbone, if the recipe asks for it → export the model, checked against torch
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch

from obelisk.config import Recipe
from obelisk.data import Catalog
from obelisk.errors import RecipeError, UsageError
from obelisk.evaluation.run_reader import Run, fingerprint_of_data
from obelisk.records import Progress, no_progress
from obelisk.training.distributed import Distributed, join_processes, refuse_unshared_folder
from obelisk.training.export.ensembles import join_runs
from obelisk.training.export.restore import members_of
from obelisk.training.export.write_bundle import write_head, write_model
from obelisk.training.finetune import finetune
from obelisk.training.head import TrainedHead, TrainingPhotos, train_head
from obelisk.training.loading.features import ReferenceFeatures, extract_reference_features
from obelisk.training.loading.loader import LabeledPhotos
from obelisk.training.loading.quarantine import find_lost_photos
from obelisk.training.loading.references import (
    refuse_too_few,
    refuse_without_positives,
    refuse_without_validation,
    split_for_validation,
)
from obelisk.training.loading.samplers import refuse_small_batches
from obelisk.training.losses import Loss
from obelisk.training.machine import available_memory, refuse_unsupported
from obelisk.training.memory_estimate import TrainingSizes, measure_sizes, refuse_out_of_memory
from obelisk.training.model.backbones import FrozenBackbone, load_backbones
from obelisk.training.model.network import Necks, PhotoEmbedder
from obelisk.training.model.second_order import check_second_order, fit_second_order
from obelisk.training.optim.checkpoint import CheckpointFile, name_owner
from obelisk.training.optim.logs import Epoch, EpochLog, StepReport, Throughput, draw_curves, write_tensorboard
from obelisk.training.run import begin_folder, find_finished, fingerprint_of_list, forget_folder, write_facts

CHECKPOINT_SECONDS = 60.0
HEAD_CHECKPOINTS, FINETUNING_CHECKPOINT = "checkpoint-head*.safetensors", "finetuning.safetensors"


def train_run(
    recipe: Recipe,
    catalog: Catalog,
    out: Path,
    *,
    resume: bool = False,
    checkpoint_every: float = CHECKPOINT_SECONDS,
    progress: Progress = no_progress,
    watch: Callable[[StepReport], None] | None = None,
) -> Run:
    """Train a recipe on the reference photos of a catalog, and export its model to the folder ``out``.

    A finished run of the same recipe and data is returned as it is; with ``resume``, an unfinished one resumes bit for
    bit. Checkpoints are ``checkpoint_every`` seconds apart. During fine-tuning, ``watch`` receives a report of every
    step, in place of ``progress``.

    Raises RecipeError if the folder holds another recipe's run, or if the recipe needs more memory than is available;
    ModelError for a checkpoint of another recipe or of other photos; DataError for data that nothing can be learned
    from. On SIGTERM, it saves a checkpoint and raises SystemExit.
    """
    with join_processes() as dist:
        data = fingerprint_of_data(catalog)
        refuse_unshared_folder(dist, out / "run.json")
        if finished := find_finished(recipe, data, out, resume=resume):
            return finished
        if recipe.ensemble.runs:
            refuse_too_few(catalog, recipe.classifier.k)
            if dist.is_main:
                join_runs(recipe, catalog, data, out, progress)
            dist.barrier()
            return Run.open(out)
        setup = prepare_training(recipe, catalog, dist)
        refuse_out_of_memory(recipe, setup.sizes, available_memory, where=catalog.root)
        dist.barrier()  # until all have checked the folder
        with open_folder(dist, out) as folder:
            begin_folder(recipe, folder)
            job = TrainingJob(
                recipe=recipe,
                catalog=setup.catalog,
                data=data,
                backbones=setup.backbones,
                folder=folder,
                out=out,
                checkpoint_every=checkpoint_every,
                dist=dist,
                progress=progress if dist.is_main else no_progress,
                watch=(watch or report_steps(progress)) if dist.is_main else lambda report: None,
            )
            try:
                run_stages(job)
            except UsageError:
                if not (resume or (out / FINETUNING_CHECKPOINT).is_file()):
                    delete_checkpoints(folder)
                    forget_folder(folder)
                raise
        dist.barrier()
        return Run.open(out)


@dataclass(frozen=True, kw_only=True)
class TrainingSetup:
    """A catalog with its validation photos held out, the loaded backbones, and the sizes that memory depends on."""

    catalog: Catalog
    backbones: Sequence[FrozenBackbone]
    sizes: TrainingSizes


def prepare_training(recipe: Recipe, catalog: Catalog, dist: Distributed) -> TrainingSetup:
    """Check that a recipe can be trained on a catalog and on this machine; split the catalog, load the backbones.

    Raises RecipeError if the recipe, the photos or the machine rule it out, DataError for data that nothing can be
    learned from. Memory is not checked.
    """
    if recipe.ensemble.runs:
        raise RecipeError(
            f"{recipe.name} joins finished runs and trains nothing", fix="look at the recipe of one of its runs"
        )
    refuse_unsupported(recipe.finetuning, dist.device)
    if recipe.finetuning.epochs:
        refuse_small_batches(recipe, dist.size)
    refuse_too_few(catalog, recipe.classifier.k)
    catalog = split_for_validation(recipe, catalog)
    refuse_without_validation(catalog, recipe.finetuning)
    refuse_without_positives(catalog, recipe)
    backbones = load_backbones(recipe.backbone, recipe.photos, recipe.seed)
    refuse_growing(recipe, backbones)
    if recipe.second_order.stages:
        check_second_order(recipe, backbones[0])
    return TrainingSetup(catalog=catalog, backbones=backbones, sizes=measure_sizes(recipe, catalog, backbones))


def refuse_growing(recipe: Recipe, backbones: Sequence[FrozenBackbone]) -> None:
    """Raise RecipeError for photos that grow during fine-tuning, with a backbone that takes one size only."""
    start = recipe.finetuning.start_size
    if recipe.finetuning.epochs and start and backbones[0].module.takes_one_size:
        what = f"finetuning.start_size = {start}, but `{backbones[0].bundle.name}` takes photos of one size"
        raise RecipeError(what, fix="--set finetuning.start_size=0")


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """Everything that the stages of a run share: its inputs, its folder, and the process that works on it.

    ``folder`` is where this process writes: the run's folder ``out`` in the main process, a temporary one in others.
    """

    recipe: Recipe
    catalog: Catalog
    data: str
    backbones: Sequence[FrozenBackbone]
    folder: Path
    out: Path
    checkpoint_every: float
    dist: Distributed
    progress: Progress
    watch: Callable[[StepReport], None]

    def checkpoint(
        self, name: str, data: str, *, each_epoch: bool = False, replaceable: bool = False
    ) -> CheckpointFile:
        """Return the checkpoint file of a stage; ``data`` is the fingerprint of the photos that it trains on."""
        return CheckpointFile(
            path=self.out / name,
            owner=name_owner(self.recipe.fingerprint, data),
            every=self.checkpoint_every,
            each_epoch=each_epoch,
            replaceable=replaceable,
            writes=self.dist.is_main,
        )


def run_stages(job: TrainingJob) -> None:
    """Run the stages of a training run in its folder; ``run.json``, written last, marks the run as finished.

    If there are several processes, each trains the same heads, on features that the main process has cached; only the
    main process exports.
    """
    refuse_unshared_folder(job.dist, job.out / "recipe.toml")

    # Extract features
    if not job.dist.is_main:
        job.dist.barrier()
    features = extract_reference_features(job.recipe, job.catalog, job.backbones, job.progress)
    if job.dist.is_main:
        job.dist.barrier()

    # Train the heads
    heads, epochs = train_heads(job, features)
    embedder, loss = join_heads(job.recipe, job.backbones, heads), heads[0].loss
    stages = {"neck": epochs}

    # Fine-tune
    if job.recipe.finetuning.epochs and loss:
        embedder, loss, stages["fine-tuning"] = finetune_backbone(job, embedder, loss, features)

    # Export
    if job.dist.is_main:
        if job.recipe.second_order.stages:
            fit_second_order(job.recipe, job.backbones[0], embedder, features, job.progress)
        layer = write_head(job.folder, job.recipe, embedder.necks, loss, features)
        write_model(job.folder, job.recipe, job.backbones, embedder, layer, features)
        if epochs:
            draw_curves(job.folder / "curves.png", stages, job.recipe.name)
            write_tensorboard(job.folder / "tensorboard", stages)
        delete_checkpoints(job.folder)  # not before the model is written: a stopped run resumes from them
        write_facts(job.folder, collect_facts(job, features, heads))


def train_heads(job: TrainingJob, features: ReferenceFeatures) -> tuple[list[TrainedHead], Sequence[Epoch]]:
    """Train every head of the recipe; return them, and the logged epochs from which the best were chosen."""
    resumed = any(job.out.glob(HEAD_CHECKPOINTS))
    log = EpochLog(Epoch, job.folder / "log.jsonl", keep=resumed)
    refit_log = EpochLog(Epoch, job.folder / "refit.jsonl", keep=resumed)
    photos, is_val = read_training_photos(features), torch.from_numpy(features.is_val)
    heads = []
    for member, (columns, parts) in enumerate(members_of(job.recipe, job.backbones), start=1):
        # If a photo has changed since, the head is trained again; fine-tuning would refuse to resume.
        choosing, refitting = (
            job.checkpoint(f"checkpoint-head-{member}{stage}.safetensors", job.data, replaceable=True)
            for stage in ("", "-refit")
        )
        head = fit_head(
            job.recipe,
            photos.slice_columns(columns),
            is_val,
            parts,
            member=member,
            checkpoints=(choosing, refitting),
            logs=(log, refit_log),
            # Heads are trained on processors, by each process for itself unless they share the landmarks.
            dist=replace(job.dist, device=torch.device("cpu")) if job.recipe.loss.sharded else None,
        )
        heads.append(head)
    return heads, log.epochs


def read_training_photos(features: ReferenceFeatures) -> TrainingPhotos:
    """Return all reference photos in the form that heads train on."""
    views, labels = torch.from_numpy(features.views), torch.from_numpy(features.labels)
    return TrainingPhotos(views=views, landmarks=labels, paths=features.paths)


def fit_head(
    recipe: Recipe,
    photos: TrainingPhotos,
    is_val: torch.Tensor,
    parts: tuple[int, ...],
    *,
    member: int = 1,
    checkpoints: tuple[CheckpointFile | None, CheckpointFile | None] = (None, None),
    logs: tuple[Callable[[Epoch], None], Callable[[Epoch], None]] = (lambda epoch: None, lambda epoch: None),
    dist: Distributed | None = None,
) -> TrainedHead:
    """Find the best epoch on the validation photos, where ``is_val`` (N,) is true, then refit on all photos.

    Either pass has a checkpoint and a log of its own.
    """
    (choosing, refitting), (log, refit_log) = checkpoints, logs
    counts = torch.bincount(photos.landmarks)
    if recipe.loss.kind == "none" or not is_val.any():
        return train_head(recipe, photos, parts, counts, checkpoint=choosing, member=member, log=log, dist=dist)
    plain = replace(photos, views=photos.views[:1])
    chosen = train_head(
        recipe,
        photos.select(~is_val),
        parts,
        counts,
        validation=plain.select(is_val),
        checkpoint=choosing,
        member=member,
        log=log,
        dist=dist,
    )
    if not recipe.data.refit:
        return chosen
    epochs = chosen.best_epoch
    return train_head(
        recipe, photos, parts, counts, stop_after=epochs, checkpoint=refitting, member=member, log=refit_log, dist=dist
    )


def join_heads(recipe: Recipe, backbones: Sequence[FrozenBackbone], heads: Sequence[TrainedHead]) -> PhotoEmbedder:
    """Join the backbones and their trained necks into one network."""
    widths = [columns.stop - columns.start for columns, _ in members_of(recipe, backbones)]
    necks = Necks([head.neck for head in heads], widths)
    return PhotoEmbedder([backbone.module for backbone in backbones], necks).eval()


def finetune_backbone(
    job: TrainingJob, embedder: PhotoEmbedder, loss: Loss, features: ReferenceFeatures
) -> tuple[PhotoEmbedder, Loss, Sequence[Epoch]]:
    """Fine-tune backbone, neck and loss together; return the embedder and the loss to keep, and all epochs.

    Like the head, it trains on all reference photos if the recipe refits, otherwise on those not held out.
    """
    recipe, (backbone,), dist = job.recipe, job.backbones, job.dist
    references = list_references(job, features)
    checkpoint = job.checkpoint(FINETUNING_CHECKPOINT, fingerprint_of_list(references), each_epoch=True)
    resumed = checkpoint.path.is_file()
    log = EpochLog(Epoch, job.folder / "finetuning.jsonl", keep=resumed)
    throughput = EpochLog(Throughput, job.folder / "pace.jsonl", keep=resumed)

    def watch(report: StepReport) -> None:
        if report.ended:
            throughput(report.throughput)
        job.watch(report)

    labels = np.unique(references["landmark_id"].to_numpy(), return_inverse=True)[1]
    photos = LabeledPhotos(
        paths=job.catalog.locate_photos(references), landmarks=torch.from_numpy(labels), rule=backbone.bundle.input
    )
    is_val = (references["split"] == "val").to_numpy()
    validates = bool(is_val.any()) and not recipe.data.refit
    embedder, loss = finetune(
        recipe,
        embedder,
        backbone.parts,
        loss,
        photos.select(np.flatnonzero(~is_val)) if validates else photos,
        validation=photos.select(np.flatnonzero(is_val)) if validates else None,
        checkpoint=checkpoint,
        dist=dist,
        log=log,
        watch=watch,
    )
    return embedder, loss, log.epochs


def list_references(job: TrainingJob, features: ReferenceFeatures) -> pl.DataFrame:
    """Return the references that fine-tuning started with: those readable now, and those lost since."""
    references = job.catalog.references
    known = {str(path) for path in features.paths}
    if (job.out / FINETUNING_CHECKPOINT).is_file():
        known |= find_lost_photos(job.out)
    return references.filter(pl.Series([str(path) in known for path in job.catalog.locate_photos(references)]))


def collect_facts(job: TrainingJob, features: ReferenceFeatures, heads: Sequence[TrainedHead]) -> dict[str, object]:
    """Return the contents of ``run.json``."""
    names = job.catalog.landmark_names()
    return {
        "recipe": job.recipe.fingerprint,
        "data": job.data,
        "backbones": [backbone.bundle.fingerprint for backbone in job.backbones],
        "landmarks": features.landmarks.tolist(),
        "names": [names[landmark_id] for landmark_id in features.landmarks.tolist()],
        "photos": len(features.labels),
        "best_epochs": [head.best_epoch for head in heads],
        "skipped": features.skipped,
    }


def delete_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of a run."""
    for path in (*folder.glob(HEAD_CHECKPOINTS), folder / FINETUNING_CHECKPOINT):
        path.unlink(missing_ok=True)


def report_steps(progress: Progress) -> Callable[[StepReport], None]:
    """Report fine-tuning steps like the progress of any other stage."""

    def watch(report: StepReport) -> None:
        if not report.ended:
            progress(f"fine-tuning, epoch {report.epoch} of {report.epochs}", report.step, report.steps)

    return watch


@contextmanager
def open_folder(dist: Distributed, out: Path) -> Iterator[Path]:
    """Give the main process the run's folder, and every other one a temporary folder."""
    if dist.is_main:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="obelisk-") as folder:
        yield Path(folder)
