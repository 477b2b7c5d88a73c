"""What a feature map says, drawn over its photo: a light where the similarity comes from, outlines of what matches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from obelisk.arrays import Floats
from obelisk.photos import ModelInput, source_box
from obelisk.recognition.explain.lettering import measure, write
from obelisk.recognition.explain.regions import Box

# Told apart by people who see colours differently, too: Okabe & Ito, Color universal design (2008).
COLOURS = ("#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#f0e442")
SHADOW = "#111111"
DIM = 0.45  # of its light is left to what adds nothing
CONTRAST = 0.7  # the heat's exponent: below 1, a middling one still shows its colour
BADGE, ROUND = 15, 10


def lighten(photo: Image.Image, heat: Floats, rule: ModelInput) -> Image.Image:
    """Leave colour and light to a photo where the map ``heat`` (H, W), 0 to 1, is high; darken and grey the rest.

    The map covers the part of the photo that the photo rule shows to the network.
    """
    left, top, right, bottom = (round(edge) for edge in source_box(photo, rule))
    light = Image.fromarray((255 * heat**CONTRAST).astype(np.uint8)).resize(
        (max(1, right - left), max(1, bottom - top)), Image.Resampling.BICUBIC
    )
    mask = Image.new("L", photo.size, 0)
    mask.paste(light, (left, top))
    dark = photo.convert("L").point([round(DIM * level) for level in range(256)]).convert("RGB")
    return Image.composite(photo, dark, mask)


def outline(photo: Image.Image, regions: Sequence[Box], shape: tuple[int, ...], rule: ModelInput) -> None:
    """Draw the outline of each region, a box in the cells of a map (H, W), in its colour, with its number."""
    canvas = ImageDraw.Draw(photo)
    boxes = [place_in_photo(region, shape, photo, rule) for region in regions]
    # The first, which weighs most, comes last and so lies on top.
    for number, box in reversed(list(enumerate(boxes))):
        canvas.rounded_rectangle(box, radius=ROUND, outline=SHADOW, width=7)
        inner = (box[0] + 2, box[1] + 2, box[2] - 2, box[3] - 2)
        if inner[0] < inner[2] and inner[1] < inner[3]:
            canvas.rounded_rectangle(inner, radius=ROUND - 2, outline=COLOURS[number], width=3)
    for number, (left, top, _, _) in reversed(list(enumerate(boxes))):
        x, y = (min(max(at, BADGE), max(BADGE, side - BADGE)) for at, side in zip((left, top), photo.size, strict=True))
        draw_badge(canvas, (x, y), number)


def draw_badge(canvas: ImageDraw.ImageDraw, middle: tuple[float, float], number: int) -> None:
    """Draw the number of a region, counted from 0, on its colour."""
    x, y = middle
    circle = (x - BADGE + 2, y - BADGE + 2, x + BADGE - 2, y + BADGE - 2)
    canvas.ellipse(circle, fill=COLOURS[number], outline=SHADOW, width=2)
    text = str(number + 1)
    write(canvas, (x - measure(text, BADGE) / 2, y - 0.9 * BADGE + 3), text, BADGE, SHADOW)


def place_in_photo(
    region: Box, shape: tuple[int, ...], photo: Image.Image, rule: ModelInput
) -> tuple[float, float, float, float]:
    """Return where a box in the cells of a map (H, W) lies in a photo: (left, top, right, bottom) in pixels."""
    left, top, right, bottom = source_box(photo, rule)
    tall, wide = (bottom - top) / shape[0], (right - left) / shape[1]
    x0, y0, x1, y1 = left + region[1] * wide, top + region[0] * tall, left + region[3] * wide, top + region[2] * tall
    return x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)
