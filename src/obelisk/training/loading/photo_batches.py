"""The batches of fine-tuning: augmented photos in epochs, with the validation photos after each epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import torch

from obelisk.config import FinetuningSection, Recipe
from obelisk.training.distributed import Distributed
from obelisk.training.loading.augmentation import fresh_views, mix_photos
from obelisk.training.loading.batch import Batch
from obelisk.training.loading.loader import BatchRequest, LabeledPhotos, load_batches
from obelisk.training.loading.quarantine import Quarantine
from obelisk.training.loading.samplers import count_batches, epoch_batches, epoch_seed

VALIDATION_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class PhotoBatches:
    """Batches of photos, or this process's share of them, for ``epochs`` epochs; loaded while the network computes."""

    recipe: Recipe
    photos: LabeledPhotos
    validation: LabeledPhotos | None
    quarantine: Quarantine
    dist: Distributed
    epochs: int

    @cached_property
    def steps(self) -> int:
        """Batches in an epoch."""
        size = self.recipe.finetuning.batch_size
        return count_batches(self.recipe.training, self.photos.landmarks, size, smallest=self.dist.size)

    def stream(self, epoch: int, step: int) -> Generator[Batch]:
        """Yield the batches from a step of an epoch on, and after each epoch the validation photos.

        Raises DataError when too many photos cannot be read.
        """
        if (epoch, step) != (0, 0):
            self.quarantine.recall()
        requests = self.request(epoch, step)
        with closing(load_batches(requests, aside=self.dist.shares_cores)) as loaded:
            for each in range(epoch, self.epochs):
                for number in range(step if each == epoch else 0, self.steps):
                    if number == 0:
                        # Dropout and sampled landmarks: each epoch has its own seed, and each process another one.
                        torch.manual_seed(epoch_seed(self.recipe.seed, each) + 500_009 * self.dist.rank)
                    batch = next(loaded)
                    self.quarantine.add(batch.unreadable)
                    yield self.mix(batch, each, number)
                yield from islice(loaded, self.validation_steps)

    @property
    def validation_steps(self) -> int:
        """Batches of validation photos after an epoch."""
        return -(-len(self.validation or ()) // VALIDATION_BATCH)

    def request(self, epoch: int, step: int) -> Iterator[BatchRequest]:
        """Yield what the loader needs to know of each batch of the stream."""
        recipe, section = self.recipe, self.recipe.finetuning
        for each in range(epoch, self.epochs):
            photos = self.photos.at(photo_side(section, self.photos.rule.size, each))
            views = fresh_views(recipe.views, recipe.seed, each, recipe.views_at_once)
            batches = epoch_batches(
                recipe.training,
                photos.landmarks,
                section.batch_size,
                epoch_seed(recipe.seed, each),
                rank=self.dist.rank,
                processes=self.dist.size,
            )
            for indices in batches[step if each == epoch else 0 :]:
                yield photos.request(indices, *views)
            if self.validation:
                for indices in torch.split(torch.arange(len(self.validation)), VALIDATION_BATCH):
                    yield self.validation.request(indices)

    def mix(self, batch: Batch, epoch: int, step: int) -> Batch:
        """Mix the photos of a batch, if the recipe asks for it."""
        group, seeds = self.recipe.training.photos_per_landmark, (self.recipe.seed, epoch, step)
        mixed = mix_photos(batch.inputs, self.recipe.finetuning, group, seeds)
        if mixed.partners is None:
            return batch
        others = batch.landmarks[mixed.partners]
        return dataclasses.replace(batch, inputs=mixed.pixels, others=others, weight=mixed.weight)

    def name_photos(self, indices: Sequence[int]) -> list[str]:
        """Return the paths of photos."""
        return [str(self.photos.paths[index]) for index in indices]


def photo_side(section: FinetuningSection, size: int, epoch: int) -> int:
    """Return the side, in pixels, of the photos of an epoch, counted from 0; ``size`` is that of the last one.

    It grows evenly from ``start_size``, in multiples of 32, by which networks shrink their maps: progressive
    resizing. Tan & Le, *EfficientNetV2: Smaller Models and Faster Training*, ICML 2021, algorithm 1.
    """
    if not section.start_size or epoch >= section.epochs - 1:
        return size
    side = section.start_size + (size - section.start_size) * epoch / (section.epochs - 1)
    return max(section.start_size, min(size, 32 * round(side / 32)))
