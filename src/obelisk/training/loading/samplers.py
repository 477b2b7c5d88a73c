"""Which photos meet in a batch: natural, M-per-class and class-balanced sampling.

Batches are drawn for an epoch at once from a seeded generator. ``epoch_batches`` makes them a function of the recipe
and the epoch alone, so that a training can go on at any step, and gives each of several processes its share.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from obelisk.config import Recipe
from obelisk.errors import RecipeError


def epoch_seed(recipe: Recipe, epoch: int) -> int:
    """Return the seed of an epoch, counted from 0: no two epochs, and no two recipes' seeds, share one."""
    return recipe.seed * 1_000_003 + epoch


def epoch_batches(
    recipe: Recipe, landmarks: Tensor, size: int, epoch: int, *, rank: int = 0, world_size: int = 1
) -> list[Tensor]:
    """Return the batches of one epoch over photos with these landmarks (N,), or one process's share of each.

    ``epoch`` counts from 0, ``size`` is that of a whole batch. The shares of a batch, over the ranks, are the batch
    that one process would see; no photo is in two shares, and photos that M-per-class sampling drew together stay
    together. Shares differ by a photo (or a landmark) where the batch cannot be split evenly. Only a last batch of
    fewer photos than processes is treated otherwise: it joins the one before. Raises RecipeError when batches are too
    small for the number of processes.
    """
    refuse_small_batches(recipe, size, world_size)
    together = max(1, recipe.training.photos_per_landmark)
    chance = torch.Generator().manual_seed(epoch_seed(recipe, epoch))
    batches = draw_batches(recipe, landmarks, size, chance, smallest=max(2, world_size))
    return [batch.view(-1, together).tensor_split(world_size)[rank].flatten() for batch in batches]


def refuse_small_batches(recipe: Recipe, size: int, world_size: int) -> None:
    """Raise RecipeError when processes have no share of each batch, or one in which a pair loss finds no negatives."""
    together = max(1, recipe.training.photos_per_landmark)
    share, parts = size // together // world_size, recipe.finetuning.micro_batches
    fix = "raise the batch_size, or start fewer processes"
    if not share:
        raise RecipeError(
            f"a batch of {size} photos cannot be split among {world_size} processes, {together} photos together",
            fix=fix,
        )
    if world_size > 1 and recipe.compares_within_batch and share < 2 * parts:
        raise RecipeError(
            f"a batch of {size} photos gives {world_size} processes and finetuning.micro_batches = {parts} "
            f"parts of one landmark only, in which loss.kind = {recipe.loss.kind!r} finds nothing to compare",
            fix=fix,
        )


def count_batches(recipe: Recipe, landmarks: Tensor, size: int, *, smallest: int = 2) -> int:
    """Return how many batches one epoch over photos with these landmarks (N,) has."""
    if recipe.training.photos_per_landmark:
        return count_landmark_batches(len(landmarks), size, recipe.training.photos_per_landmark)
    return len(cut(landmarks, size, max(2, smallest)))


def draw_batches(
    recipe: Recipe, landmarks: Tensor, size: int, chance: torch.Generator, *, smallest: int = 2
) -> Iterator[Tensor]:
    """Yield the batches of one epoch over photos with these landmarks (N,), as the recipe samples them.

    A last batch of fewer than ``smallest`` photos joins the one before.
    """
    if recipe.training.photos_per_landmark:
        return landmark_batches(landmarks, size, recipe.training.photos_per_landmark, chance)
    if recipe.training.sampling == "class_balanced":
        return balanced_batches(landmarks, size, chance, smallest=smallest)
    return natural_batches(len(landmarks), size, chance, smallest=smallest)


def natural_batches(photos: int, size: int, chance: torch.Generator, *, smallest: int = 2) -> Iterator[Tensor]:
    """Yield every photo once, shuffled, in batches of ``size``; a last batch below ``smallest`` joins another."""
    yield from cut(torch.randperm(photos, generator=chance), size, smallest)


def balanced_batches(landmarks: Tensor, size: int, chance: torch.Generator, *, smallest: int = 2) -> Iterator[Tensor]:
    """Yield N photos in batches of ``size``, every landmark equally often, to within one photo.

    ``landmarks`` (N,) are the labels. Landmarks come by a shuffled deck, and so do the photos of each: none comes
    again before its landmark has shown all others. A landmark with many photos shows some of them only.
    """
    known = group_photos(landmarks)
    rounds = -(-len(landmarks) // len(known))
    turns = torch.cat([torch.randperm(len(known), generator=chance) for _ in range(rounds)])[: len(landmarks)]
    order = torch.empty_like(turns)
    for places, group in zip(group_photos(turns), known, strict=True):
        order[places] = draw(group, len(places), chance)
    yield from cut(order, size, smallest)


def landmark_batches(
    landmarks: Tensor, size: int, photos_per_landmark: int, chance: torch.Generator
) -> Iterator[Tensor]:
    """Yield M-per-class batches: M photos each of as many random landmarks as fit, so that positives exist.

    ``landmarks`` (N,) are the labels. An epoch draws about N photos. Landmarks come by a shuffled deck, so each
    turns up before one comes again; a landmark with fewer than M photos gives some of them twice, and one with a
    single photo still serves as a negative.
    """
    M = photos_per_landmark
    known = group_photos(landmarks)
    each = max(2, size // M)
    deck: list[int] = []
    place = 0
    for _ in range(count_landmark_batches(len(landmarks), size, M)):
        while len(deck) - place < each:
            deck = deck[place:] + torch.randperm(len(known), generator=chance).tolist()
            place = 0
        yield torch.cat([draw(known[landmark], M, chance) for landmark in deck[place : place + each]])
        place += each


def count_landmark_batches(photos: int, size: int, photos_per_landmark: int) -> int:
    """Return how many M-per-class batches show about as many photos as there are."""
    return max(1, photos // (max(2, size // photos_per_landmark) * photos_per_landmark))


def group_photos(landmarks: Tensor) -> list[Tensor]:
    """Return the places of each landmark's photos, in order, without the landmarks that have none."""
    order = torch.argsort(landmarks, stable=True)
    return [group for group in torch.split(order, torch.bincount(landmarks).tolist()) if len(group)]


def cut(order: Tensor, size: int, smallest: int) -> list[Tensor]:
    """Cut an order of photos into batches; a last one of fewer than ``smallest`` joins the one before."""
    batches = list(torch.split(order, size))
    if len(batches) > 1 and len(batches[-1]) < smallest:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def draw(group: Tensor, count: int, chance: torch.Generator) -> Tensor:
    """Return ``count`` members of a group, each as often as needed and no oftener."""
    rounds = -(-count // len(group))
    return torch.cat([group[torch.randperm(len(group), generator=chance)] for _ in range(rounds)])[:count]
