"""What a training will be, before it runs: counted where it can be counted, measured where it cannot.

Counted are photos, weights, steps, and the memory that they take (:mod:`obelisk.training.memory_estimate`). Measured,
on some photos of the data, are descriptors and loaded photos a second, and one step of each kind: forwards, backwards
and the optimizer's, the lesser time of two after one that warms up. From these ::

    describing    descriptors that are not cached / descriptors a second
    neck          epochs · steps · step, once more where the recipe refits; at most, since it stops early
    fine-tuning   epochs · (the longest of  steps · step,  photos / loaded a second,  and both on all cores together)
                  and as much for a validation photo as forwards alone, a third of a step, or loading it takes

Saving, export and what the necks' validation takes are not in it. Nothing is written but into the cache folder.
"""

from __future__ import annotations

import dataclasses
import os
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
from obelisk.training.distributed import World, join_world
from obelisk.training.export.restore import members_of
from obelisk.training.finetune import begin_course, build_finetuning, group_layers
from obelisk.training.loading.augmentation import augmented_views, fresh_view
from obelisk.training.loading.features import Progress
from obelisk.training.loading.loader import LabelledPhotos, count_loaders, load_batches
from obelisk.training.loading.samplers import count_batches
from obelisk.training.losses import build_loss
from obelisk.training.machine import available_memory, one_thread
from obelisk.training.memory_estimate import Sizes, Stages, count_landmark_weights, estimate_needs
from obelisk.training.model.backbones import FrozenBackbone
from obelisk.training.model.network import Necks, PhotoEmbedder, build_neck, count_trainable
from obelisk.training.necks import TrainingPhotos, build_optimizer, classifier_dropout, run_epoch
from obelisk.training.optim.trainer import take_step
from obelisk.training.preparation import prepare_training

SAMPLE = 64  # photos that are measured on
REPEATS = 2
LOADED_BATCHES = 8  # by each loading process


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the network: its weights, and whether fine-tuning, or else the training of the neck, moves them."""

    name: str
    weights: int
    trained: bool


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of the training: steps an epoch, seconds of one step, and of all epochs."""

    name: str
    epochs: int
    steps: int
    step_seconds: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a training will be. ``memory`` is in bytes, ``available`` None where the system does not tell.

    ``loaded_per_second`` are augmented photos, None where nothing is fine-tuned; ``missing_descriptors`` are judged by
    the photos that were measured on.
    """

    landmarks: int
    photos: int
    validation: int
    parts: Sequence[Part]
    memory: Stages
    available: int | None
    missing_descriptors: int
    descriptors_per_second: float
    loaded_per_second: float | None
    stages: Sequence[Stage]

    @property
    def seconds(self) -> float:
        """How long it all takes, about."""
        return self.missing_descriptors / self.descriptors_per_second + sum(stage.seconds for stage in self.stages)

    def to_fields(self) -> dict[str, Any]:
        """Return all of it as one JSON object."""
        return dataclasses.asdict(self) | {"seconds": self.seconds}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Photos at even distances through the data, and their descriptors (n, D_in), as fast as they came.

    ``landmarks`` (N,) and ``is_val`` (N,) are those of all reference photos, ``missing`` is the share of descriptors
    that the cache lacks.
    """

    photos: LabelledPhotos
    rows: Tensor
    descriptors_per_second: float
    missing: float
    landmarks: Tensor
    is_val: Tensor


def look_ahead(recipe: Recipe, catalog: Catalog, progress: Progress = lambda *_: None) -> Outlook:
    """Count and measure what training a recipe on a catalog's reference photos will be.

    Raises what the training itself would raise before its first step, save that too little memory is only told.
    """
    stages, loaded = [], None
    with join_world() as world, tempfile.TemporaryDirectory(prefix="obelisk-") as folder:
        prepared = prepare_training(recipe, catalog, world)
        backbones, sizes = prepared.backbones, prepared.sizes
        progress("measuring", 0, 3)
        measured = measure_descriptors(recipe, prepared.catalog, backbones, Path(folder))
        progress("measuring", 1, 3)
        if recipe.loss.kind != "none":
            stages.append(measure_neck(recipe, backbones, measured))
        progress("measuring", 2, 3)
        if recipe.finetuning.epochs:
            loaded = measure_loading(recipe, measured.photos, world)
            stages.append(measure_finetuning(recipe, backbones[0], measured, loaded, world, Path(folder)))
        progress("measuring", 3, 3)
    return Outlook(
        landmarks=sizes.landmarks,
        photos=sizes.photos,
        validation=sizes.validation,
        parts=count_parts(recipe, backbones, sizes),
        memory=estimate_needs(recipe, sizes),
        available=available_memory(),
        missing_descriptors=round(measured.missing * sizes.photos * (1 + recipe.views.count) * len(backbones)),
        descriptors_per_second=measured.descriptors_per_second,
        loaded_per_second=loaded,
        stages=stages,
    )


def count_parts(recipe: Recipe, backbones: Sequence[FrozenBackbone], sizes: Sizes) -> list[Part]:
    """Return the layer groups of each backbone, the necks and the landmark weights, with what moves of them."""
    found = []
    for backbone in backbones:
        for depth, layer in enumerate(group_layers(backbone.module.network)):
            moves = bool(recipe.finetuning.epochs) and depth >= recipe.finetuning.frozen_groups
            name = f"{backbone.bundle.name}, group {depth + 1}"
            found.append(Part(name=name, weights=sum(each.numel() for each in layer), trained=moves))
    members = [parts for _, parts in members_of(recipe, backbones)]
    with torch.device("meta"):
        necks = sum(count_trainable(build_neck(recipe.neck, parts)) for parts in members)
    trains = recipe.loss.kind != "none"
    landmarks = count_landmark_weights(recipe, sizes) * len(members) if trains else 0
    found.append(Part(name="neck", weights=necks, trained=trains))
    found.append(Part(name="landmark weights", weights=landmarks, trained=trains))
    return found


def measure_descriptors(
    recipe: Recipe, catalog: Catalog, backbones: Sequence[FrozenBackbone], folder: Path
) -> Measured:
    """Describe some photos, as they are and in one augmented view, past the cache; DataError if none is sound."""
    references = catalog.references
    paths = catalog.locate_photos(references)
    places = np.linspace(0, len(paths) - 1, min(SAMPLE, len(paths))).astype(int)
    chosen = [paths[place] for place in places]
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
    rows = len(chosen) * len(views) * len(backbones)
    return Measured(
        photos=LabelledPhotos(
            paths=[chosen[place] for place in sound],
            landmarks=landmarks[torch.from_numpy(places[sound])],
            rule=backbones[0].bundle.input,
        ),
        rows=torch.from_numpy(np.concatenate(blocks, axis=1)[sound]),
        descriptors_per_second=rows / seconds,
        missing=missing / rows,
        landmarks=landmarks,
        is_val=torch.from_numpy((references["split"] == "val").to_numpy().copy()),
    )


@one_thread()
def measure_neck(recipe: Recipe, backbones: Sequence[FrozenBackbone], measured: Measured) -> Stage:
    """Take steps of each neck with its loss on the descriptors of real photos."""
    size, counts = recipe.training.batch_size, torch.bincount(measured.landmarks)
    places = torch.arange(size) % len(measured.rows)
    step = 0.0
    for columns, parts in members_of(recipe, backbones):
        neck = build_neck(recipe.neck, parts)
        loss = build_loss(recipe.loss, neck.dimensions, counts, dropout=classifier_dropout(recipe))
        photos = TrainingPhotos(
            views=measured.rows[places][None, :, columns].half(), landmarks=measured.photos.landmarks[places]
        )
        optimizer, chance = build_optimizer(recipe, neck, loss), torch.Generator().manual_seed(recipe.seed)
        step += time_least(lambda *of: run_epoch(recipe, *of), photos, neck, loss, optimizer, 0, chance)
    passes = [measured.landmarks]
    if measured.is_val.any():
        passes = [measured.landmarks[~measured.is_val], *(passes if recipe.data.refit else [])]
    steps = [count_batches(recipe, landmarks, size) for landmarks in passes]
    epochs = recipe.training.epochs
    return Stage(name="neck", epochs=epochs, steps=steps[-1], step_seconds=step, seconds=epochs * sum(steps) * step)


def time_least(action: Callable[..., object], *arguments: object) -> float:
    """Return the seconds of an action: the least of some times, after one that warms up."""
    times = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        action(*arguments)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def measure_loading(recipe: Recipe, photos: LabelledPhotos, world: World) -> float:
    """Return how many augmented photos a second the loaders give when nothing waits between.

    They start while their first batches are loaded: a batch of each is not counted.
    """
    view = fresh_view(recipe.views, recipe.seed, 0)
    starting = count_loaders()
    places = torch.arange(8 * starting * (1 + LOADED_BATCHES)) % len(photos)
    wanted = (photos.pick(part, view) for part in torch.split(places, 8))
    batches = load_batches(wanted, aside=world.shares_cores)
    for _ in range(starting):
        next(batches)
    start = time.perf_counter()
    loaded = sum(len(batch.places) for batch in batches)
    return loaded / (time.perf_counter() - start)


def measure_finetuning(
    recipe: Recipe, backbone: FrozenBackbone, measured: Measured, loaded: float, world: World, folder: Path
) -> Stage:
    """Take steps of a fine-tuning, from a neck that is not trained, on one batch of real photos."""
    section, photos = recipe.finetuning, measured.photos
    neck = build_neck(recipe.neck, backbone.parts)
    loss = build_loss(recipe.loss, neck.dimensions, torch.bincount(measured.landmarks))
    embedder = PhotoEmbedder([backbone.module], Necks([neck], [sum(backbone.parts)]))
    tuned = build_finetuning(recipe, embedder, backbone.parts, loss, world.device, compiled=section.compile)
    course = begin_course(recipe, tuned, photos, folder / "none.safetensors", world=world)
    places = torch.arange(section.batch_size) % len(photos)
    (batch,) = load_batches([photos.pick(places, fresh_view(recipe.views, recipe.seed, 0))])
    tuned.train()
    step = time_least(lambda: take_step(course, batch))
    held_out = measured.is_val.any() and not recipe.data.refit
    trained = measured.landmarks[~measured.is_val] if held_out else measured.landmarks
    steps = count_batches(recipe, trained, section.batch_size)
    computing, loading = steps * step, len(trained) / loaded
    # Loaders and network share the cores.
    shared = (computing * torch.get_num_threads() + loading * count_loaders()) / (os.cpu_count() or 1)
    validating = int(measured.is_val.sum()) * max(step / 3 / section.batch_size, 1 / loaded) if held_out else 0.0
    seconds = section.epochs * (max(computing, loading, shared) + validating)
    return Stage(name="fine-tuning", epochs=section.epochs, steps=steps, step_seconds=step, seconds=seconds)
