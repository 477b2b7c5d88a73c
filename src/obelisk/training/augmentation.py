"""Augmented views of a photo: shift, zoom, brightness, rotation, shear and their modern company.

A view is made by one affine map and one change of light, drawn from a chance that depends on the photo's
content and the view's number alone: view 3 of a photo is the same picture in every run.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from obelisk.config import ViewsSection


@dataclass(frozen=True, kw_only=True)
class AugmentedView:
    """The view of a given number; call it with an upright photo and its content hash."""

    number: int
    seed: int
    ranges: ViewsSection

    @property
    def name(self) -> str:
        """Name everything that the view depends on."""
        ranges = self.ranges.model_dump(exclude={"count"})
        digest = hashlib.blake2b(json.dumps([ranges, self.seed]).encode(), digest_size=8).hexdigest()
        return f"augmented-{digest}-{self.number}"

    def __call__(self, image: Image.Image, content: str) -> Image.Image:
        """Return the augmented photo, of the same size."""
        seeds = [self.seed, self.number, int(content, 16)]
        chance = np.random.default_rng(seeds)
        return change_light(move(image, self.ranges, chance), self.ranges, chance)


def move(image: Image.Image, ranges: ViewsSection, chance: np.random.Generator) -> Image.Image:
    """Shift, zoom, stretch, rotate, shear and mirror by one affine map.

    What comes from outside is the photo mirrored at its border, as far as a third of its side; beyond that, black.
    """
    width, height = image.size
    zoom = 1.0 - chance.uniform(-ranges.zoom / 4, ranges.zoom)
    stretch = math.exp(chance.uniform(-ranges.aspect, ranges.aspect) / 2)
    turn = math.radians(chance.uniform(-ranges.rotation, ranges.rotation))
    shear = math.tan(math.radians(chance.uniform(-ranges.shear, ranges.shear)))
    shift_x = chance.uniform(-ranges.width_shift, ranges.width_shift) * width
    shift_y = chance.uniform(-ranges.height_shift, ranges.height_shift) * height
    mirror = -1.0 if chance.random() < ranges.flip else 1.0
    # Output place → input place, about the centre: rotate and shear, then zoom each axis.
    linear = np.array([[zoom * stretch * mirror, 0.0], [0.0, zoom / stretch]]) @ np.array(
        [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    )
    linear = linear @ np.array([[1.0, shear], [0.0, 1.0]])
    centre = np.array([width / 2, height / 2])
    offset = centre + np.array([shift_x, shift_y]) - linear @ centre
    # Tiling the mirrored photo around itself is dear; a border of a third a side covers the default ranges.
    border_x, border_y = width // 3, height // 3
    pixels = np.pad(np.asarray(image), ((border_y, border_y), (border_x, border_x), (0, 0)), mode="reflect")
    offset += np.array([border_x, border_y])
    (a, b), (d, e) = linear
    return Image.fromarray(pixels).transform(
        (width, height), Image.Transform.AFFINE, (a, b, offset[0], d, e, offset[1]), resample=Image.Resampling.BICUBIC
    )


def change_light(image: Image.Image, ranges: ViewsSection, chance: np.random.Generator) -> Image.Image:
    """Change brightness, contrast and saturation."""
    brightness = 1.0 + chance.uniform(-ranges.brightness, ranges.brightness)
    contrast = 1.0 + chance.uniform(-ranges.contrast, ranges.contrast)
    saturation = 1.0 + chance.uniform(-ranges.saturation, ranges.saturation)
    pixels = np.asarray(image, np.float32)
    mean = pixels.mean()
    pixels = (pixels - mean) * contrast + mean * brightness
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * saturation
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))


def augmented_views(ranges: ViewsSection, seed: int) -> list[AugmentedView]:
    """Return the views that a recipe asks for."""
    return [AugmentedView(number=number, seed=seed, ranges=ranges) for number in range(1, ranges.count + 1)]
