"""Augmented views of a photo: shift, zoom, brightness, rotation, shear and their modern company.

A view is made by one affine map and one change of light, blurred and partly erased where a recipe asks for it. All is
drawn from a chance that depends on the photo's content and the view's number alone: view 3 of a photo is the same
picture in every run.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from obelisk.config import ViewsSection

# Random erasing as its authors set it: shares of the photo's area, and the smallest ratio of the shares of its sides.
ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = 0.3

PICTURES = 3  # raised whenever the same numbers make other pictures

Pixels = NDArray[np.uint8]

cv2.setNumThreads(1)  # photos are augmented side by side already


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
        digest = hashlib.blake2b(json.dumps([PICTURES, ranges, self.seed]).encode(), digest_size=8).hexdigest()
        return f"augmented-{digest}-{self.number}"

    def __call__(self, image: Image.Image, content: str) -> Image.Image:
        """Return the augmented photo, of the same size."""
        seeds = [self.seed, self.number, int(content, 16)]
        chance = np.random.default_rng(seeds)
        pixels = change_light(move(np.asarray(image), self.ranges, chance), self.ranges, chance)
        image = Image.fromarray(pixels)
        if self.ranges.blur:
            image = blur(image, self.ranges, chance)
        if chance.random() < self.ranges.erasing:
            image = erase(image, chance)
        return image


def move(pixels: Pixels, ranges: ViewsSection, chance: np.random.Generator) -> Pixels:
    """Shift, zoom, stretch, rotate, shear and mirror by one affine map of the pixels (H, W, 3), by cubic interpolation.

    What comes from outside is the photo mirrored at its border. With ``crop`` below 1, zoom and shifts give way to a
    part of the photo that is at least so large and may be anywhere in it (Szegedy et al., *Going Deeper with
    Convolutions*, CVPR 2015, section 6).
    """
    height, width = pixels.shape[:2]
    zoom = 1.0 - chance.uniform(-ranges.zoom / 4, ranges.zoom)
    stretch = math.exp(chance.uniform(-ranges.aspect, ranges.aspect) / 2)
    turn = math.radians(chance.uniform(-ranges.rotation, ranges.rotation))
    shear = math.tan(math.radians(chance.uniform(-ranges.shear, ranges.shear)))
    shift_x = chance.uniform(-ranges.width_shift, ranges.width_shift) * width
    shift_y = chance.uniform(-ranges.height_shift, ranges.height_shift) * height
    mirror = -1.0 if chance.random() < ranges.flip else 1.0
    zoom_x, zoom_y = zoom * stretch, zoom / stretch
    if ranges.crop < 1.0:
        side = math.sqrt(chance.uniform(ranges.crop, 1.0))
        zoom_x, zoom_y = min(1.0, side * stretch), min(1.0, side / stretch)
        shift_x = chance.uniform(-0.5, 0.5) * (1.0 - zoom_x) * width
        shift_y = chance.uniform(-0.5, 0.5) * (1.0 - zoom_y) * height
    # Place in the view → place in the photo, about the centre: rotate and shear, then zoom each axis.
    linear = np.array([[zoom_x * mirror, 0.0], [0.0, zoom_y]]) @ np.array(
        [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    )
    linear = linear @ np.array([[1.0, shear], [0.0, 1.0]])
    # Pixels are counted from the centre of the first.
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = centre + np.array([shift_x, shift_y]) - linear @ centre
    moved = cv2.warpAffine(
        pixels,
        np.column_stack([linear, offset]),
        (width, height),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(moved, dtype=np.uint8)


def change_light(pixels: Pixels, ranges: ViewsSection, chance: np.random.Generator) -> Pixels:
    """Change brightness, contrast and saturation."""
    brightness = 1.0 + chance.uniform(-ranges.brightness, ranges.brightness)
    contrast = 1.0 + chance.uniform(-ranges.contrast, ranges.contrast)
    saturation = 1.0 + chance.uniform(-ranges.saturation, ranges.saturation)
    mean = sum(cv2.sumElems(pixels)) / pixels.size
    # x ← contrast · (x − mean) + brightness · mean, then x ← grey + saturation · (x − grey), as one matrix for all
    # pixels: OpenCV's loop takes an eighth of the time that Pillow's does, and Pillow's a tenth of NumPy's.
    offset = mean * (brightness - contrast)
    own, grey = contrast * saturation, contrast * (1.0 - saturation) / 3
    rows = [[*(own + grey if channel == row else grey for channel in range(3)), offset] for row in range(3)]
    return np.asarray(cv2.transform(pixels, np.array(rows)), dtype=np.uint8)


def blur(image: Image.Image, ranges: ViewsSection, chance: np.random.Generator) -> Image.Image:
    """Blur by a Gaussian whose standard deviation is drawn up to ``ranges.blur`` of the shorter side."""
    return image.filter(ImageFilter.GaussianBlur(chance.uniform(0.0, ranges.blur) * min(image.size)))


def erase(image: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Replace a rectangle by noise.

    Its area is drawn evenly between 2 and 40 % of the photo's, the ratio of its sides' shares between 0.3 and 1 / 0.3,
    as far as it fits. Zhong, Zheng, Kang, Li, Yang, *Random Erasing Data Augmentation*, AAAI 2020, algorithm 1.
    """
    area = chance.uniform(*ERASED_AREA)
    narrowest = max(ERASED_ASPECT, area)
    ratio = chance.uniform(narrowest, 1.0 / narrowest)
    height, width = round(math.sqrt(area * ratio) * image.height), round(math.sqrt(area / ratio) * image.width)
    top, left = int(chance.integers(image.height - height + 1)), int(chance.integers(image.width - width + 1))
    noise = chance.integers(256, size=(height, width, 3), dtype=np.uint8)
    erased = image.copy()
    if height and width:
        erased.paste(Image.fromarray(noise), (left, top))
    return erased


def augmented_views(ranges: ViewsSection, seed: int) -> list[AugmentedView]:
    """Return the views that a recipe asks for."""
    return [AugmentedView(number=number, seed=seed, ranges=ranges) for number in range(1, ranges.count + 1)]


def fresh_view(ranges: ViewsSection, seed: int, epoch: int) -> AugmentedView:
    """Return the view of an epoch of fine-tuning, counted from 0: none of those that the neck was trained on."""
    return AugmentedView(number=ranges.count + epoch + 1, seed=seed, ranges=ranges)
