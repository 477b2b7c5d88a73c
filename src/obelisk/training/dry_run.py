"""What a training run will need, before it starts: counted if it can be counted, measured if not.

Photos, weights, steps and memory are counted (:mod:`obelisk.training.memory_estimate`). Measured, on some photos of the
data, are extracted descriptors and loaded photos per second, and one step of each kind: the shorter time of two, after
a warm-up. The times of the stages follow ::

    features      descriptors that are not cached / descriptors per second
    neck          epochs · steps · step, once more if the recipe refits; at most, since it may stop early
    fine-tuning   epochs · (the longest of  steps · step,  photos / loaded per second,  and both on all cores together)
                  and as much for a validation photo as its forward pass, a third of a step, or loading it takes
    second order  photos / descriptors per second

Saving, export and the validation of the heads are left out. Nothing is written except to the cache folder.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from obelisk.config import Recipe
from obelisk.data import Catalog
from obelisk.embedding import PLAIN, DescriptorCache
from obelisk.errors import DataError
from obelisk.photos import usable_cores
from obelisk.records import Progress, no_progress
from obelisk.training.distributed import Distributed, join_processes
from obelisk.training.export.restore import members_of
from obelisk.training.finetune import build_finetuning_trainer
from obelisk.training.head import TrainingPhotos, build_head_trainer
from obelisk.training.loading.augmentation import augmented_views, fresh_views
from obelisk.training.loading.loader import LabeledPhotos, count_loaders, load_batches
from obelisk.training.loading.samplers import count_batches
from obelisk.training.losses import build_loss
from obelisk.training.machine import available_memory, one_thread
from obelisk.training.memory_estimate import MemoryStages, TrainingSizes, count_landmark_weights, estimate_memory
from obelisk.training.model.backbones import FrozenBackbone
from obelisk.training.model.network import Necks, PhotoEmbedder, build_neck, count_trainable
from obelisk.training.optim.optimizer import group_layers
from obelisk.training.train import prepare_training

SAMPLE = 64  # photos to measure on
REPEATS = 2
LOADED_BATCHES = 8  # of each loading process


@dataclass(frozen=True, kw_only=True)
class NetworkPart:
    """A part of the network: its number of weights, and whether the run trains them."""

    name: str
    weights: int
    trained: bool


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """A stage of the run: steps per epoch, seconds of one step, and of all epochs.

    The second order takes a step for each photo.
    """

    name: str
    epochs: int
    steps: int
    step_seconds: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a training run will need. ``memory`` is in bytes; ``available`` is None if the system does not say.

    ``loaded_per_second`` counts augmented photos, None without fine-tuning. ``missing_descriptors``, those not cached,
    are estimated from the photos that were measured on.
    """

    landmarks: int
    photos: int
    validation: int
    parts: Sequence[NetworkPart]
    memory: MemoryStages
    available: int | None
    missing_descriptors: int
    descriptors_per_second: float
    loaded_per_second: float | None
    stages: Sequence[StageTime]

    @property
    def seconds(self) -> float:
        """About how long the whole run will take."""
        return self.missing_descriptors / self.descriptors_per_second + sum(stage.seconds for stage in self.stages)

    def to_fields(self) -> dict[str, Any]:
        """Return everything as one JSON object."""
        return dataclasses.asdict(self) | {"seconds": self.seconds}


@dataclass(frozen=True, kw_only=True)
class SamplePhotos:
    """Photos evenly spread over the data, and their descriptors (n, D_in).

    ``landmarks`` (N,) and ``is_val`` (N,) are those of all reference photos; ``missing`` is the share of descriptors
    that are not cached.
    """

    photos: LabeledPhotos
    rows: Tensor
    descriptors_per_second: float
    missing: float
    landmarks: Tensor
    is_val: Tensor


def dry_run(recipe: Recipe, catalog: Catalog, progress: Progress = no_progress) -> DryRun:
    """Count and measure what training a recipe on a catalog's reference photos will need.

    Raises what training itself would raise before its first step, except that too little memory is only reported.
    """
    stages, loaded = [], None
    with join_processes() as dist, tempfile.TemporaryDirectory(prefix="obelisk-") as folder:
        setup = prepare_training(recipe, catalog, dist)
        backbones, sizes = setup.backbones, setup.sizes
        progress("measuring", 0, 3)
        sample = measure_features(recipe, setup.catalog, backbones, Path(folder))
        progress("measuring", 1, 3)
        if recipe.loss.kind != "none":
            stages.append(measure_heads(recipe, backbones, sample))
        progress("measuring", 2, 3)
        if recipe.finetuning.epochs:
            loaded = measure_loading(recipe, sample.photos, dist)
            stages.append(measure_finetuning(recipe, backbones[0], sample, loaded, dist, Path(folder)))
        if recipe.second_order.stages:
            step = 1 / sample.descriptors_per_second
            seconds = sizes.photos * step
            stages.append(
                StageTime(name="second order", epochs=1, steps=sizes.photos, step_seconds=step, seconds=seconds)
            )
        progress("measuring", 3, 3)
    return DryRun(
        landmarks=sizes.landmarks,
        photos=sizes.photos,
        validation=sizes.validation,
        parts=count_parts(recipe, backbones, sizes),
        memory=estimate_memory(recipe, sizes),
        available=available_memory(),
        missing_descriptors=round(sample.missing * sizes.photos * (1 + recipe.views.count) * len(backbones)),
        descriptors_per_second=sample.descriptors_per_second,
        loaded_per_second=loaded,
        stages=stages,
    )


def count_parts(recipe: Recipe, backbones: Sequence[FrozenBackbone], sizes: TrainingSizes) -> list[NetworkPart]:
    """Count the weights of each backbone's layer groups, of the necks and of the landmarks."""
    found = []
    for backbone in backbones:
        for depth, layer in enumerate(group_layers(backbone.module.network)):
            moves = bool(recipe.finetuning.epochs) and depth >= recipe.finetuning.frozen_groups
            name = f"{backbone.bundle.name}, group {depth + 1}"
            found.append(NetworkPart(name=name, weights=sum(each.numel() for each in layer), trained=moves))
    members = [parts for _, parts in members_of(recipe, backbones)]
    with torch.device("meta"):
        necks = sum(count_trainable(build_neck(recipe.neck, parts)) for parts in members)
    trains = recipe.loss.kind != "none"
    landmarks = count_landmark_weights(recipe, sizes) * len(members) if trains else 0
    found.append(NetworkPart(name="neck", weights=necks, trained=trains))
    found.append(NetworkPart(name="landmark weights", weights=landmarks, trained=trains))
    return found


def measure_features(
    recipe: Recipe, catalog: Catalog, backbones: Sequence[FrozenBackbone], folder: Path
) -> SamplePhotos:
    """Extract the features of some photos, plain and in one augmented view, with an empty cache.

    Raises DataError if none of them can be read.
    """
    references = catalog.references
    paths = catalog.locate_photos(references)
    rows = np.linspace(0, len(paths) - 1, min(SAMPLE, len(paths))).astype(int)
    chosen = [paths[row] for row in rows]
    views = [None, *augmented_views(recipe.views, recipe.seed)]
    names = [view.name if view else PLAIN for view in views]
    blocks, seconds, missing, bad = [], 0.0, 0, set[int]()
    for backbone in backbones:
        own, cache = DescriptorCache(backbone.bundle, folder), DescriptorCache(backbone.bundle)
        missing += sum(cache.count_missing(chosen, name) for name in names)
        start = time.perf_counter()
        found = own.get(chosen)
        plain = time.perf_counter() - start
        if len(views) > 1:
            own.get(chosen, view=views[1], view_name=names[1])
        seconds += plain + (time.perf_counter() - start - plain) * (len(views) - 1)
        blocks.append(found.rows)
        bad |= found.failed.keys()
    sound = np.setdiff1d(np.arange(len(chosen)), list(bad))
    if not len(sound):
        raise DataError("none of the photos tried could be read", where=catalog.root, fix="obelisk data check DIR")
    _, labels = np.unique(references["landmark_id"].to_numpy(), return_inverse=True)
    landmarks = torch.from_numpy(labels)
    descriptors = len(chosen) * len(views) * len(backbones)
    return SamplePhotos(
        photos=LabeledPhotos(
            paths=[chosen[index] for index in sound],
            landmarks=landmarks[torch.from_numpy(rows[sound])],
            rule=backbones[0].bundle.input,
        ),
        rows=torch.from_numpy(np.concatenate(blocks, axis=1)[sound]),
        descriptors_per_second=descriptors / seconds,
        missing=missing / descriptors,
        landmarks=landmarks,
        is_val=torch.from_numpy((references["split"] == "val").to_numpy().copy()),
    )


@one_thread()
def measure_heads(recipe: Recipe, backbones: Sequence[FrozenBackbone], sample: SamplePhotos) -> StageTime:
    """Take steps of each head on the descriptors of real photos."""
    section, counts = recipe.training, torch.bincount(sample.landmarks)
    rows = torch.arange(section.batch_size) % len(sample.rows)
    photos = TrainingPhotos(views=sample.rows[rows][None].half(), landmarks=sample.photos.landmarks[rows])
    step = 0.0
    for columns, parts in members_of(recipe, backbones):
        own = photos.slice_columns(columns)
        trainer = build_head_trainer(recipe, build_neck(recipe.neck, parts), own, counts)
        trainer.schedule(0)
        batch = next(trainer.batches.stream(0, 0))
        trainer.model.train()
        step += time_least(lambda trainer=trainer, batch=batch: trainer.step(batch))  # type: ignore[misc]
    passes = [sample.landmarks]
    if sample.is_val.any():
        passes = [sample.landmarks[~sample.is_val], *(passes if recipe.data.refit else [])]
    steps = [count_batches(section, landmarks, section.batch_size) for landmarks in passes]
    seconds = section.epochs * sum(steps) * step
    return StageTime(name="neck", epochs=section.epochs, steps=steps[-1], step_seconds=step, seconds=seconds)


def time_least(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes: the shortest of several times, after a warm-up."""
    times = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def measure_loading(recipe: Recipe, photos: LabeledPhotos, dist: Distributed) -> float:
    """Return how many augmented photos per second the loaders give when nothing holds them up.

    They start while they load their first batches, so one batch of each is not counted.
    """
    views = fresh_views(recipe.views, recipe.seed, 0, recipe.views_at_once)
    starting = count_loaders()
    rows = torch.arange(8 * starting * (1 + LOADED_BATCHES)) % len(photos)
    requests = (photos.request(part, *views) for part in torch.split(rows, 8))
    batches = load_batches(requests, aside=dist.shares_cores)
    for _ in range(starting):
        next(batches)
    start = time.perf_counter()
    loaded = sum(len(batch) for batch in batches) / len(views)
    return loaded / (time.perf_counter() - start)


def measure_finetuning(
    recipe: Recipe, backbone: FrozenBackbone, sample: SamplePhotos, loaded: float, dist: Distributed, folder: Path
) -> StageTime:
    """Take fine-tuning steps, from an untrained neck, on one batch of real photos."""
    section, photos = recipe.finetuning, sample.photos
    neck = build_neck(recipe.neck, backbone.parts)
    loss = build_loss(recipe.loss, neck.dimensions, torch.bincount(sample.landmarks))
    embedder = PhotoEmbedder([backbone.module], Necks([neck], [sum(backbone.parts)]))
    trainer = build_finetuning_trainer(recipe, embedder, backbone.parts, loss, photos, folder=folder, dist=dist)
    rows = torch.arange(section.batch_size) % len(photos)
    views = fresh_views(recipe.views, recipe.seed, 0, recipe.views_at_once)
    (batch,) = load_batches([photos.request(rows, *views)])
    trainer.schedule(0)
    trainer.model.train()
    step = time_least(lambda: trainer.step(batch))
    validates = bool(sample.is_val.any()) and not recipe.data.refit
    trained = sample.landmarks[~sample.is_val] if validates else sample.landmarks
    steps = count_batches(recipe.training, trained, section.batch_size)
    computing, loading = steps * step, len(trained) / loaded
    # Loaders and network share the cores.
    shared = (computing * torch.get_num_threads() + loading * count_loaders()) / usable_cores()
    validating = int(sample.is_val.sum()) * max(step / 3 / section.batch_size, 1 / loaded) if validates else 0.0
    seconds = section.epochs * (max(computing, loading, shared) + validating)
    return StageTime(name="fine-tuning", epochs=section.epochs, steps=steps, step_seconds=step, seconds=seconds)
