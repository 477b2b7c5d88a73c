"""Augmented views of one photo, and batches of mixed photos.

A view is one affine map and one change of light, blurred and partly erased if the recipe asks for it. Its random
numbers depend on the photo's content and the view's number alone: view 3 of a photo is the same picture in every run.

Mixed photos are joined with a partner from their batch, and count for the landmarks of both. *mixup* lays one photo
over the other, ``x̃ = λ · x_a + (1 − λ) · x_b`` (Zhang, Cissé, Dauphin, Lopez-Paz, ICLR 2018, equation 1); *CutMix*
replaces a rectangle of the share 1 − λ by the partner's (Yun, Han, Oh, Chun, Choe, Yoo, ICCV 2019, equations 1 and 2).
Either way the loss is ``λ · loss(y_a) + (1 − λ) · loss(y_b)``, with one λ ~ Beta(α, α) per step. The random numbers
depend on the seed, the epoch and the step alone: they are the same on every process, and after a resume.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from obelisk.arrays import Pixels
from obelisk.config import FinetuningSection, ViewsSection

# Random erasing as its authors set it: shares of the photo's area, and the smallest ratio of the shares of its sides.
ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = 0.3

PICTURES = 3  # raised whenever the same random numbers give other pictures


@dataclass(frozen=True, kw_only=True)
class AugmentedView:
    """An augmented view, by number; call it with an upright photo and its content hash."""

    number: int
    seed: int
    ranges: ViewsSection

    @property
    def name(self) -> str:
        """Name the view by everything it depends on."""
        ranges = self.ranges.model_dump(exclude={"count"})
        digest = hashlib.blake2b(json.dumps([PICTURES, ranges, self.seed]).encode(), digest_size=8).hexdigest()
        return f"augmented-{digest}-{self.number}"

    def __call__(self, image: Image.Image, content: str) -> Image.Image:
        """Return the augmented photo, of the same size."""
        seeds = [self.seed, self.number, int(content, 16)]
        rng = np.random.default_rng(seeds)
        pixels = change_light(move(np.asarray(image), self.ranges, rng), self.ranges, rng)
        image = Image.fromarray(pixels)
        if self.ranges.blur:
            image = blur(image, self.ranges, rng)
        if rng.random() < self.ranges.erasing:
            image = erase(image, rng)
        return image


def move(pixels: Pixels, ranges: ViewsSection, rng: np.random.Generator) -> Pixels:
    """Shift, zoom, stretch, rotate, shear and mirror pixels (H, W, 3) by one affine map, with cubic interpolation.

    The photo continues mirrored beyond its border. With ``crop`` below 1, a random crop replaces zoom and shifts: at
    least that share of the area, anywhere in the photo (Szegedy et al., *Going Deeper with Convolutions*, CVPR 2015,
    section 6).
    """
    height, width = pixels.shape[:2]
    zoom = 1.0 - rng.uniform(-ranges.zoom / 4, ranges.zoom)
    stretch = math.exp(rng.uniform(-ranges.aspect, ranges.aspect) / 2)
    turn = math.radians(rng.uniform(-ranges.rotation, ranges.rotation))
    shear = math.tan(math.radians(rng.uniform(-ranges.shear, ranges.shear)))
    shift_x = rng.uniform(-ranges.width_shift, ranges.width_shift) * width
    shift_y = rng.uniform(-ranges.height_shift, ranges.height_shift) * height
    mirror = -1.0 if rng.random() < ranges.flip else 1.0
    zoom_x, zoom_y = zoom * stretch, zoom / stretch
    if ranges.crop < 1.0:
        side = math.sqrt(rng.uniform(ranges.crop, 1.0))
        zoom_x, zoom_y = min(1.0, side * stretch), min(1.0, side / stretch)
        shift_x = rng.uniform(-0.5, 0.5) * (1.0 - zoom_x) * width
        shift_y = rng.uniform(-0.5, 0.5) * (1.0 - zoom_y) * height
    # Position in the view → position in the photo, about the center: rotate and shear, then zoom each axis.
    linear = np.array([[zoom_x * mirror, 0.0], [0.0, zoom_y]]) @ np.array(
        [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    )
    linear = linear @ np.array([[1.0, shear], [0.0, 1.0]])
    # Coordinates count from the middle of the first pixel.
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = center + np.array([shift_x, shift_y]) - linear @ center
    moved = cv2.warpAffine(
        pixels,
        np.column_stack([linear, offset]),
        (width, height),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(moved, dtype=np.uint8)


def change_light(pixels: Pixels, ranges: ViewsSection, rng: np.random.Generator) -> Pixels:
    """Change brightness, contrast and saturation."""
    brightness = 1.0 + rng.uniform(-ranges.brightness, ranges.brightness)
    contrast = 1.0 + rng.uniform(-ranges.contrast, ranges.contrast)
    saturation = 1.0 + rng.uniform(-ranges.saturation, ranges.saturation)
    mean = sum(cv2.sumElems(pixels)) / pixels.size
    # x ← contrast · (x − mean) + brightness · mean, then x ← gray + saturation · (x − gray), as one matrix for all
    # pixels: OpenCV takes an eighth of Pillow's time, and Pillow a tenth of NumPy's.
    offset = mean * (brightness - contrast)
    own, gray = contrast * saturation, contrast * (1.0 - saturation) / 3
    rows = [[*(own + gray if channel == row else gray for channel in range(3)), offset] for row in range(3)]
    return np.asarray(cv2.transform(pixels, np.array(rows)), dtype=np.uint8)


def blur(image: Image.Image, ranges: ViewsSection, rng: np.random.Generator) -> Image.Image:
    """Blur by a Gaussian whose standard deviation is drawn up to ``ranges.blur`` of the shorter side."""
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.0, ranges.blur) * min(image.size)))


def erase(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Replace a rectangle by noise.

    Its area is uniform between 2 and 40 % of the photo's, its aspect ratio between 0.3 and 1 / 0.3, as far as it fits.
    Zhong, Zheng, Kang, Li, Yang, *Random Erasing Data Augmentation*, AAAI 2020, algorithm 1.
    """
    area = rng.uniform(*ERASED_AREA)
    narrowest = max(ERASED_ASPECT, area)
    ratio = rng.uniform(narrowest, 1.0 / narrowest)
    height, width = round(math.sqrt(area * ratio) * image.height), round(math.sqrt(area / ratio) * image.width)
    top, left = int(rng.integers(image.height - height + 1)), int(rng.integers(image.width - width + 1))
    noise = rng.integers(256, size=(height, width, 3), dtype=np.uint8)
    erased = image.copy()
    if height and width:
        erased.paste(Image.fromarray(noise), (left, top))
    return erased


def augmented_views(ranges: ViewsSection, seed: int) -> list[AugmentedView]:
    """Return the views that a recipe caches for head training."""
    return [AugmentedView(number=number, seed=seed, ranges=ranges) for number in range(1, ranges.count + 1)]


def fresh_views(ranges: ViewsSection, seed: int, epoch: int, count: int = 1) -> list[AugmentedView]:
    """Return the views of an epoch of fine-tuning, counted from 0: never one that the head was trained on."""
    first = ranges.count + count * epoch + 1
    return [AugmentedView(number=number, seed=seed, ranges=ranges) for number in range(first, first + count)]


@dataclass(frozen=True, kw_only=True)
class MixedPhotos:
    """Photos (N, 3, H, W), the indices (N,) of the ``partners`` they were mixed with, and the weight λ of their own.

    ``partners`` is None if the photos are not mixed.
    """

    pixels: Tensor
    partners: Tensor | None
    weight: float


def mix_photos(pixels: Tensor, section: FinetuningSection, group: int, seeds: tuple[int, int, int]) -> MixedPhotos:
    """Mix the photos (N, 3, H, W) of a step by mixup or CutMix, as the recipe asks; if it asks for both, by either.

    ``group`` photos at a time show one landmark (M-per-class sampling), and keep together. ``seeds`` are the recipe's
    seed, the epoch and the step.
    """
    if not section.mixup and not section.cutmix:
        return MixedPhotos(pixels=pixels, partners=None, weight=1.0)
    rng = np.random.default_rng(seeds)
    cuts = bool(section.cutmix) and (not section.mixup or rng.random() < 0.5)
    alpha = section.cutmix if cuts else section.mixup
    weight = float(rng.beta(alpha, alpha))
    partners = pair_up(len(pixels), max(1, group))
    if cuts:
        return cut_in(pixels, partners, weight, rng)
    mixed = torch.lerp(pixels[partners], pixels, weight).contiguous(memory_format=torch.channels_last)
    return MixedPhotos(pixels=mixed, partners=partners, weight=weight)


def cut_in(pixels: Tensor, partners: Tensor, weight: float, rng: np.random.Generator) -> MixedPhotos:
    """Replace a rectangle of each photo by its partner's.

    Its sides are the photo's times √(1 − λ), and its center is anywhere; λ becomes the share that is left, since the
    border cuts off part of the rectangle.
    """
    height, width = pixels.shape[-2:]
    cut = math.sqrt(1.0 - weight)
    y, x = rng.integers(height), rng.integers(width)
    top, bottom = (min(max(round(y + half * cut * height), 0), height) for half in (-0.5, 0.5))
    left, right = (min(max(round(x + half * cut * width), 0), width) for half in (-0.5, 0.5))
    mixed = pixels.clone()
    mixed[..., top:bottom, left:right] = pixels[partners][..., top:bottom, left:right]
    left_over = 1.0 - (bottom - top) * (right - left) / (height * width)
    return MixedPhotos(pixels=mixed, partners=partners, weight=left_over)


def pair_up(count: int, group: int) -> Tensor:
    """Pair every photo of a batch with another one for mixup; return the partners' indices, (count,).

    Neighboring groups of ``group`` photos swap: batches are shuffled anyway, and pairs stay together when several
    processes share the batch. A last group without a neighbor, or a photo that lacks one, is its own partner.
    """
    indices = torch.arange(count)
    partners = (indices // group ^ 1) * group + indices % group
    return torch.where(partners < count, partners, indices)
