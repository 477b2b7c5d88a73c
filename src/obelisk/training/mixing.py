"""Mixed photos: each is joined with a partner from its batch, and counts for the landmarks of both.

*mixup* lays one photo over the other, ``x̃ = λ · x_a + (1 − λ) · x_b`` (Zhang, Cissé, Dauphin, Lopez-Paz, ICLR 2018,
equation 1); *CutMix* replaces a rectangle of the share 1 − λ by the partner's (Yun, Han, Oh, Chun, Choe, Yoo, ICCV
2019, equations 1 and 2). Either way the loss is ``λ · loss(y_a) + (1 − λ) · loss(y_b)``, and λ ~ Beta(α, α) is one a
step. What is drawn depends on the seed, the epoch and the step alone: it is the same on every process, and in a
training that goes on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from obelisk.config import Recipe


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Photos (N, 3, H, W) with the ``partners`` (N,) that they were mixed with, and the ``share`` λ that is their own.

    Photos that are not mixed have no partners.
    """

    pixels: Tensor
    partners: Tensor | None
    share: float


def mix(pixels: Tensor, recipe: Recipe, epoch: int, step: int) -> Mixture:
    """Mix the photos (N, 3, H, W) of a step, counted from 0 as its epoch is, as the recipe says.

    Where it asks for both kinds, each step is of one of them, with equal chances.
    """
    section = recipe.finetuning
    if not section.mixup and not section.cutmix:
        return Mixture(pixels=pixels, partners=None, share=1.0)
    chance = np.random.default_rng([recipe.seed, epoch, step])
    cuts = bool(section.cutmix) and (not section.mixup or chance.random() < 0.5)
    alpha = section.cutmix if cuts else section.mixup
    share = float(chance.beta(alpha, alpha))
    partners = pair_up(len(pixels), max(1, recipe.training.photos_per_landmark))
    if cuts:
        return cut_in(pixels, partners, share, chance)
    mixed = torch.lerp(pixels[partners], pixels, share).contiguous(memory_format=torch.channels_last)
    return Mixture(pixels=mixed, partners=partners, share=share)


def cut_in(pixels: Tensor, partners: Tensor, share: float, chance: np.random.Generator) -> Mixture:
    """Replace a rectangle of photos by their partners'.

    Its sides are those of the photo times √(1 − λ), its centre is anywhere, and what it loses beyond the border raises
    λ to the share that is left.
    """
    height, width = pixels.shape[-2:]
    cut = math.sqrt(1.0 - share)
    y, x = chance.integers(height), chance.integers(width)
    top, bottom = (min(max(round(y + half * cut * height), 0), height) for half in (-0.5, 0.5))
    left, right = (min(max(round(x + half * cut * width), 0), width) for half in (-0.5, 0.5))
    mixed = pixels.clone()
    mixed[..., top:bottom, left:right] = pixels[partners][..., top:bottom, left:right]
    left_over = 1.0 - (bottom - top) * (right - left) / (height * width)
    return Mixture(pixels=mixed, partners=partners, share=left_over)


def pair_up(count: int, together: int) -> Tensor:
    """Return the partner of each of ``count`` photos, of which so many ``together`` show one landmark.

    Neighbouring groups swap: batches are shuffled anyway, and the pairs of a batch stay pairs in the shares that
    several processes take of it. A last group without a neighbour, or a photo that lacks one, is its own partner.
    """
    places = torch.arange(count)
    partners = (places // together ^ 1) * together + places % together
    return torch.where(partners < count, partners, places)
