"""From photos on disk to the batches of a training: decoded, augmented and stacked while the network computes.

A photo that cannot be read any more is left out of its batch and told; the training decides how many it can spare.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from obelisk.errors import PhotoError
from obelisk.photos import ModelInput, content_hash, fit, read_bytes, read_photo
from obelisk.training.augmentation import AugmentedView

LOADERS = 2  # processes that decode and augment while the network trains


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


class PreparedPhotos(Dataset[tuple[int, Tensor | str]]):
    """Squares as bytes, (H, W, 3), augmented or plain; the error's text instead of a bad photo.

    A quarter of what the network takes, so that processes have less to hand over.
    """

    def __init__(self, photos: LabelledPhotos, view: AugmentedView | None) -> None:
        self.photos = photos
        self.view = view

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, place: int) -> tuple[int, Tensor | str]:
        try:
            data = read_bytes(self.photos.paths[place])
            image = read_photo(data, min_side=self.photos.rule.size)
        except PhotoError as error:
            return place, str(error)
        if self.view:
            image = self.view(image, content_hash(data))
        return place, torch.from_numpy(np.array(fit(image, self.photos.rule)))


def ignore_sigterm(worker: int) -> None:
    """Leave SIGTERM, which often reaches a whole group of processes, to the training: it saves its state first."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def load_batches(
    photos: LabelledPhotos, batches: Sequence[Tensor], view: AugmentedView | None = None
) -> Iterator[Batch]:
    """Yield the batches, each of the photos in the places that a row of ``batches`` names."""

    def stack(items: list[tuple[int, Tensor | str]]) -> Batch:
        sound = [(place, pixels) for place, pixels in items if isinstance(pixels, Tensor)]
        size = photos.rule.size
        empty = torch.empty(0, size, size, 3, dtype=torch.uint8)
        pixels = torch.stack([pixels for _, pixels in sound]) if sound else empty
        return Batch(
            pixels=pixels,
            landmarks=photos.landmarks[[place for place, _ in sound]],
            unreadable={place: error for place, error in items if isinstance(error, str)},
        )

    loader = DataLoader(
        PreparedPhotos(photos, view),
        batch_sampler=[batch.tolist() for batch in batches],
        num_workers=LOADERS,
        collate_fn=stack,
        worker_init_fn=ignore_sigterm,
        # Its own chance: drawing from torch's would make what follows depend on how often loading began.
        generator=torch.Generator().manual_seed(0),
    )
    for batch in loader:
        yield Batch(
            pixels=scale(batch.pixels, photos.rule),
            landmarks=batch.landmarks,
            unreadable=batch.unreadable,
        )


def scale(squares: Tensor, rule: ModelInput) -> Tensor:
    """Return squares of bytes (N, H, W, 3) as ``prepare`` scales them: (N, 3, H, W), in channels-last order."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (rule.mean, rule.std))
    return squares.permute(0, 3, 1, 2).float().div_(torch.tensor(255.0)).sub_(mean).div_(std)
