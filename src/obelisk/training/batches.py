"""Which photos meet in a batch: natural sampling and M per class, both seeded."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def natural_batches(photos: int, size: int, chance: torch.Generator) -> Iterator[Tensor]:
    """Yield every photo once, shuffled, in batches of ``size``; a last batch of one photo joins the one before."""
    order = torch.randperm(photos, generator=chance)
    batches = list(torch.split(order, size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    yield from batches


def landmark_batches(
    landmarks: Tensor, size: int, photos_per_landmark: int, chance: torch.Generator
) -> Iterator[Tensor]:
    """Yield M-per-class batches: M photos each of as many random landmarks as fit, so that positives exist.

    ``landmarks`` (N,) are the labels. An epoch draws about N photos. Landmarks come by a shuffled deck, so each
    turns up before one comes again; a landmark with fewer than M photos gives some of them twice, and one with a
    single photo still serves as a negative.
    """
    M = photos_per_landmark
    order = torch.argsort(landmarks, stable=True)
    members = torch.split(order, torch.bincount(landmarks).tolist())
    known = [group for group in members if len(group)]
    each = max(2, size // M)
    deck: list[int] = []
    for _ in range(max(1, len(landmarks) // (each * M))):
        while len(deck) < each:
            deck += torch.randperm(len(known), generator=chance).tolist()
        drawn, deck = deck[:each], deck[each:]
        yield torch.cat([draw(known[place], M, chance) for place in drawn])


def draw(group: Tensor, count: int, chance: torch.Generator) -> Tensor:
    """Return ``count`` members of a group, each as often as needed and no oftener."""
    rounds = -(-count // len(group))
    return torch.cat([group[torch.randperm(len(group), generator=chance)] for _ in range(rounds)])[:count]
