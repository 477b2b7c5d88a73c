"""From photos on disk to the batches of a training: decoded, augmented and stacked while the network computes.

A photo that cannot be read any more is left out of its batch and told; the training decides how many it can spare.

The processes that load come from a server that holds no more than this module. Forks of the training would share its
memory, and it would have to copy, page by page, all that it writes to while they live.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from obelisk.errors import PhotoError
from obelisk.photos import ModelInput, content_hash, fit, read_bytes, read_photo
from obelisk.training.augmentation import AugmentedView
from obelisk.training.memory import processes_here

MOST_LOADERS = 16


@dataclass(frozen=True, kw_only=True)
class LabelledPhotos:
    """N photos on disk with their landmarks (N,), counted from 0 to C − 1, and the rule that prepares them."""

    paths: Sequence[Path]
    landmarks: Tensor
    rule: ModelInput

    def __len__(self) -> int:
        return len(self.paths)

    def at(self, size: int) -> LabelledPhotos:
        """Return the same photos, prepared for squares of another size."""
        return replace(self, rule=replace(self.rule, size=size))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """N prepared photos (N, 3, H, W) in channels-last order, landmarks (N,), and the places of photos it lacks."""

    pixels: Tensor
    landmarks: Tensor
    unreadable: dict[int, str]


@dataclass(frozen=True, kw_only=True)
class Squares(Dataset[tuple[int, Tensor | str]]):
    """Photos, each by its place and path, as squares of bytes (H, W, 3), augmented or plain; a bad one's error's text.

    Bytes are a quarter of what the network takes: processes have less to hand over.
    """

    rule: ModelInput
    view: AugmentedView | None

    def __getitem__(self, photo: tuple[int, Path]) -> tuple[int, Tensor | str]:
        place, path = photo
        try:
            data = read_bytes(path)
            image = read_photo(data, min_side=self.rule.size)
        except PhotoError as error:
            return place, str(error)
        if self.view:
            image = self.view(image, content_hash(data))
        return place, torch.from_numpy(np.array(fit(image, self.rule)))


@contextmanager
def out_of_reach() -> Iterator[None]:
    """Start processes that SIGTERM, which often reaches a whole group, leaves alone: the training ends them itself."""
    resource_tracker.ensure_running()  # what starts it later lifts the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def count_loaders() -> int:
    """Return how many processes decode and augment for this one: a core each, of those that it can count as its own."""
    return max(1, min(MOST_LOADERS, (os.cpu_count() or 1) // processes_here()))


def load_batches(
    photos: LabelledPhotos, batches: Sequence[Tensor], view: AugmentedView | None = None
) -> Iterator[Batch]:
    """Yield the batches, each of the photos in the places that a row of ``batches`` names."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])
    loader = DataLoader(
        Squares(rule=photos.rule, view=view),
        batch_sampler=[[(place, photos.paths[place]) for place in batch.tolist()] for batch in batches],
        num_workers=count_loaders(),
        collate_fn=stack,
        multiprocessing_context=server,
        # Its own chance: drawing from torch's would make what follows depend on how often loading began.
        generator=torch.Generator().manual_seed(0),
    )
    with out_of_reach():
        loaded = iter(loader)
    for places, squares, unreadable in loaded:
        empty = torch.empty(0, photos.rule.size, photos.rule.size, 3, dtype=torch.uint8)
        yield Batch(
            pixels=scale(empty if squares is None else squares, photos.rule),
            landmarks=photos.landmarks[places],
            unreadable=unreadable,
        )


def stack(photos: list[tuple[int, Tensor | str]]) -> tuple[list[int], Tensor | None, dict[int, str]]:
    """Return the places of the sound photos of a batch, their squares as one tensor, and the errors of the others."""
    places = [place for place, square in photos if isinstance(square, Tensor)]
    squares = [square for _, square in photos if isinstance(square, Tensor)]
    unreadable = {place: error for place, error in photos if isinstance(error, str)}
    return places, torch.stack(squares) if squares else None, unreadable


def scale(squares: Tensor, rule: ModelInput) -> Tensor:
    """Return squares of bytes (N, H, W, 3) as ``prepare`` scales them: (N, 3, H, W), in channels-last order."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (rule.mean, rule.std))
    return squares.permute(0, 3, 1, 2).float().div_(torch.tensor(255.0)).sub_(mean).div_(std)
