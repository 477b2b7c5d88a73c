"""What a fine-tuning costs beside its bare network: the loop in turns with one that only computes, and the loader."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch

from obelisk.config import Recipe, ViewsSection, load_recipe
from obelisk.data import read_catalog
from obelisk.photos import ModelInput
from obelisk.synthetic import generate_dataset
from obelisk.training.finetune import FinetuningModel, finetune
from obelisk.training.loading.augmentation import AugmentedView
from obelisk.training.loading.loader import BatchReader, LabeledPhotos
from obelisk.training.losses import ArcFace
from obelisk.training.model import create_network
from obelisk.training.model.backbones import PooledBackbone
from obelisk.training.model.network import Necks, PhotoEmbedder, build_neck
from obelisk.training.model.pooling import avg
from obelisk.training.optim.checkpoint import CheckpointFile
from obelisk.training.optim.logs import StepReport
from obelisk.training.optim.optimizer import build_finetuning_optimizer

pytestmark = pytest.mark.stress

BATCH, STEPS, TURNS = 32, 4, 20  # photos of a step, steps of a turn, turns of each
EPOCHS = 4
PHOTOS = BATCH * STEPS * TURNS // EPOCHS
LEAST_SHARE = 0.95  # of the bare loop's photos a second
LEAST_LOADED = 150  # photos a second and core


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> LabeledPhotos:
    data = generate_dataset(
        tmp_path_factory.mktemp("photos") / "data", landmarks=8, references=PHOTOS, queries=8, distractors=1
    )
    catalog = read_catalog(data)
    _, labels = np.unique(catalog.references["landmark_id"].to_numpy(), return_inverse=True)
    rule = ModelInput(size=224, resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    paths = catalog.locate_photos(catalog.references)[:PHOTOS]
    return LabeledPhotos(paths=paths, landmarks=torch.from_numpy(labels)[:PHOTOS], rule=rule)


def build(recipe: Recipe) -> tuple[PhotoEmbedder, tuple[int, ...], ArcFace]:
    network, _ = create_network("tf_efficientnet_lite0", "random", 0)
    backbone = PooledBackbone(network, avg, 1).eval()
    parts = backbone.measure_parts(224)
    neck = build_neck(recipe.neck, parts)
    loss = ArcFace(neck.dimensions, torch.full((8,), 0.2), scale=16.0)
    return PhotoEmbedder([backbone], Necks([neck], [sum(parts)])).eval(), parts, loss


class BareLoop:
    """The same network on one batch that is there already: forward, backward, step, and nothing else."""

    def __init__(self, recipe: Recipe, embedder: PhotoEmbedder, parts: tuple[int, ...], loss: ArcFace) -> None:
        self.model = FinetuningModel(copy.deepcopy(embedder), copy.deepcopy(loss), parts, 0.0)
        self.model.to(memory_format=torch.channels_last)
        weights = self.model.weights
        self.optimizer = build_finetuning_optimizer(recipe.finetuning, recipe.training, weights.embedder, weights.loss)
        self.photos = torch.randn(BATCH, 3, 224, 224).contiguous(memory_format=torch.channels_last)
        self.landmarks = torch.arange(BATCH) % 8

    def seconds(self) -> float:
        start = time.perf_counter()
        for _ in range(STEPS):
            self.optimizer.zero_grad()
            self.model(self.photos, self.landmarks).backward()
            self.optimizer.step()
        return time.perf_counter() - start


@contextmanager
def paused(processes: Iterable[BaseProcess]) -> Iterator[None]:
    """Stop the processes that load meanwhile, so that they neither slow the bare loop nor read ahead in its time."""
    pids = [process.pid for process in processes if process.pid]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_the_loop_keeps_up_with_a_bare_one(photos: LabeledPhotos, tmp_path: Path) -> None:
    keys = {"epochs": EPOCHS, "batch_size": BATCH, "ema_decay": 0.99}
    recipe = load_recipe("arcface", [f"finetuning.{key}={value}" for key, value in keys.items()])
    embedder, parts, loss = build(recipe)
    bare = BareLoop(recipe, embedder, parts, loss)
    ours, beside = list[float](), list[float]()
    start = time.perf_counter()

    def take_turns(report: StepReport) -> None:
        nonlocal start
        if report.ended or report.step % STEPS:
            return
        ours.append(time.perf_counter() - start)
        with paused(multiprocessing.active_children()):
            beside.append(bare.seconds())
        start = time.perf_counter()

    finetune(
        recipe,
        embedder,
        parts,
        loss,
        photos,
        validation=None,
        checkpoint=CheckpointFile(path=tmp_path / "state.safetensors", owner=""),
        log=lambda epoch: None,
        watch=take_turns,
    )
    assert len(ours) == TURNS
    # Machines slow down and recover within minutes: each turn is compared with its neighbour alone. The loop's first
    # turn holds the start of the loaders; a checkpoint, one a minute, is in few of the others.
    shares = [alone / loop for alone, loop in zip(beside[1:], ours[1:], strict=True)]
    pace, bare_pace = (BATCH * STEPS / median(seconds[1:]) for seconds in (ours, beside))
    reported = ", ".join(f"{share:.3f}" for share in sorted(shares))
    print(f"\n{pace:.1f} photos/s, bare {bare_pace:.1f}; shares {reported}")
    assert median(shares) >= LEAST_SHARE


def test_a_core_loads_more_photos_than_networks_take(photos: LabeledPhotos) -> None:
    reader, view = BatchReader(), AugmentedView(number=1, seed=0, ranges=ViewsSection())
    batches = [photos.request(rows, view) for rows in torch.split(torch.arange(len(photos)), BATCH)]
    pickle.dumps(reader[batches[0]])
    start = time.process_time()
    for batch in batches:
        pickle.dumps(reader[batch])
    a_photo = (time.process_time() - start) / len(photos)
    print(f"\n{1e3 * a_photo:.2f} ms of processor time a photo: {1 / a_photo:.0f} photos/s a core")
    assert 1 / a_photo >= LEAST_LOADED
