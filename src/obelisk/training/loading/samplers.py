"""Samplers: which photos meet in a batch (natural, M-per-class and class-balanced sampling).

The batches of an epoch are drawn at once from a seeded generator. ``epoch_batches`` makes them a function of the seed
and the epoch alone, so that a run can resume at any step, and gives each of several processes its share.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from obelisk.config import Recipe, TrainingSection
from obelisk.errors import RecipeError


def epoch_seed(seed: int, epoch: int) -> int:
    """Derive the seed of an epoch, counted from 0, from the recipe's: no two epochs or recipes share one."""
    return seed * 1_000_003 + epoch


def epoch_batches(
    section: TrainingSection, landmarks: Tensor, size: int, seed: int, *, rank: int = 0, processes: int = 1
) -> list[Tensor]:
    """Return the batches of one epoch over photos with these landmarks (N,), or one process's share of each.

    ``size`` is that of a whole batch, ``seed`` that of the epoch. Together, the shares of the processes are the batch
    that a single one would see: no photo is in two shares, and photos that M-per-class sampling drew together stay
    together. Shares differ by a photo (or a landmark) if the batch cannot be split evenly. A last batch of fewer photos
    than processes joins the one before.
    """
    group = max(1, section.photos_per_landmark)
    rng = torch.Generator().manual_seed(seed)
    batches = draw_batches(section, landmarks, size, rng, smallest=max(2, processes))
    return [batch.view(-1, group).tensor_split(processes)[rank].flatten() for batch in batches]


def refuse_small_batches(recipe: Recipe, processes: int) -> None:
    """Raise RecipeError if a process would get no share of a batch, or one in which a pair loss finds no negatives."""
    size, group = recipe.finetuning.batch_size, max(1, recipe.training.photos_per_landmark)
    share, parts = size // group // processes, recipe.finetuning.micro_batches
    fix = "raise the batch_size, or start fewer processes"
    if not share:
        raise RecipeError(
            f"a batch of {size} photos cannot be split among {processes} processes, {group} photos together",
            fix=fix,
        )
    if processes > 1 and recipe.compares_within_batch and share < 2 * parts:
        raise RecipeError(
            f"a batch of {size} photos gives {processes} processes and finetuning.micro_batches = {parts} "
            f"parts of one landmark only, in which loss.kind = {recipe.loss.kind!r} finds nothing to compare",
            fix=fix,
        )


def count_batches(section: TrainingSection, landmarks: Tensor, size: int, *, smallest: int = 2) -> int:
    """Return how many batches one epoch over photos with these landmarks (N,) has."""
    if section.photos_per_landmark:
        return count_landmark_batches(len(landmarks), size, section.photos_per_landmark)
    return len(split_batches(landmarks, size, max(2, smallest)))


def draw_batches(
    section: TrainingSection, landmarks: Tensor, size: int, rng: torch.Generator, *, smallest: int = 2
) -> Iterator[Tensor]:
    """Yield the batches of one epoch over photos with these landmarks (N,), as the recipe samples them.

    A last batch of fewer than ``smallest`` photos joins the one before.
    """
    if section.photos_per_landmark:
        return landmark_batches(landmarks, size, section.photos_per_landmark, rng)
    if section.sampling == "class_balanced":
        return balanced_batches(landmarks, size, rng, smallest=smallest)
    return natural_batches(len(landmarks), size, rng, smallest=smallest)


def natural_batches(photos: int, size: int, rng: torch.Generator, *, smallest: int = 2) -> Iterator[Tensor]:
    """Yield every photo once, shuffled, in batches of ``size``; a last batch below ``smallest`` joins another."""
    yield from split_batches(torch.randperm(photos, generator=rng), size, smallest)


def balanced_batches(landmarks: Tensor, size: int, rng: torch.Generator, *, smallest: int = 2) -> Iterator[Tensor]:
    """Yield N photos in batches of ``size``, every landmark equally often, to within one photo.

    ``landmarks`` (N,) are the labels. Landmarks come in shuffled rounds, and so do the photos of each: none
    comes again before all others of its landmark. A landmark with many photos shows only some of them.
    """
    known = group_photos(landmarks)
    rounds = -(-len(landmarks) // len(known))
    turns = torch.cat([torch.randperm(len(known), generator=rng) for _ in range(rounds)])[: len(landmarks)]
    order = torch.empty_like(turns)
    for rows, group in zip(group_photos(turns), known, strict=True):
        order[rows] = draw_members(group, len(rows), rng)
    yield from split_batches(order, size, smallest)


def landmark_batches(landmarks: Tensor, size: int, photos_per_landmark: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Yield M-per-class batches: M photos each of as many random landmarks as fit, so that positives exist.

    ``landmarks`` (N,) are the labels. An epoch draws about N photos. Landmarks come in shuffled rounds, so each
    appears before one comes again; a landmark with fewer than M photos gives some of them twice, and one with a
    single photo still serves as a negative.
    """
    M = photos_per_landmark
    known = group_photos(landmarks)
    each = max(2, size // M)
    deck: list[int] = []
    start = 0
    for _ in range(count_landmark_batches(len(landmarks), size, M)):
        while len(deck) - start < each:
            deck = deck[start:] + torch.randperm(len(known), generator=rng).tolist()
            start = 0
        yield torch.cat([draw_members(known[landmark], M, rng) for landmark in deck[start : start + each]])
        start += each


def count_landmark_batches(photos: int, size: int, photos_per_landmark: int) -> int:
    """Return how many M-per-class batches show about as many photos as there are."""
    return max(1, photos // (max(2, size // photos_per_landmark) * photos_per_landmark))


def group_photos(landmarks: Tensor) -> list[Tensor]:
    """Return the indices of each landmark's photos, in order, for the landmarks that have any."""
    order = torch.argsort(landmarks, stable=True)
    return [group for group in torch.split(order, torch.bincount(landmarks).tolist()) if len(group)]


def split_batches(order: Tensor, size: int, smallest: int) -> list[Tensor]:
    """Split shuffled photos into batches; a last one of fewer than ``smallest`` joins the one before."""
    batches = list(torch.split(order, size))
    if len(batches) > 1 and len(batches[-1]) < smallest:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def draw_members(group: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Draw ``count`` members of a group at random; none is drawn again before all others have been."""
    rounds = -(-count // len(group))
    return torch.cat([group[torch.randperm(len(group), generator=rng)] for _ in range(rounds)])[:count]
