"""A feature map drawn over its photo: light where the similarity comes from, outlines around what matches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from obelisk.arrays import Floats
from obelisk.photos import ModelInput, source_box
from obelisk.recognition.explain.lettering import draw_line, text_width
from obelisk.recognition.explain.regions import Box

# Okabe & Ito, Color universal design (2008): colors that color-blind people can tell apart, too.
REGION_COLORS = ("#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#f0e442")
SHADOW = "#111111"
DIM = 0.45  # of its brightness is left where an area adds nothing
DIMMED = [round(DIM * level) for level in range(256)]
CONTRAST = 0.7  # exponent of the heat: below 1, middling heat still shows some color
BADGE, ROUND = 15, 10


def light_up(photo: Image.Image, heat: Floats, rule: ModelInput) -> Image.Image:
    """Keep a photo's color and brightness where the map ``heat`` (H, W), 0 to 1, is high; darken and gray the rest.

    The map covers the part of the photo that the resize rule shows to the network.
    """
    left, top, right, bottom = (round(edge) for edge in source_box(photo, rule))
    light = Image.fromarray((255 * heat**CONTRAST).astype(np.uint8)).resize(
        (max(1, right - left), max(1, bottom - top)), Image.Resampling.BILINEAR
    )
    mask = Image.new("L", photo.size, 0)
    mask.paste(light, (left, top))
    dark = photo.convert("L").point(DIMMED).convert("RGB")
    return Image.composite(photo, dark, mask)


def outline_regions(photo: Image.Image, regions: Sequence[Box], shape: tuple[int, ...], rule: ModelInput) -> None:
    """Outline regions, boxes in the cells of a map of shape (H, W), each in its color and with its number."""
    canvas = ImageDraw.Draw(photo)
    boxes = [locate_in_photo(region, shape, photo, rule) for region in regions]
    # The first has the largest share: it is drawn last and lies on top.
    for number, box in reversed(list(enumerate(boxes))):
        canvas.rounded_rectangle(box, radius=ROUND, outline=SHADOW, width=7)
        inner = (box[0] + 2, box[1] + 2, box[2] - 2, box[3] - 2)
        if inner[0] < inner[2] and inner[1] < inner[3]:
            canvas.rounded_rectangle(inner, radius=ROUND - 2, outline=REGION_COLORS[number], width=3)
    for number, (left, top, _, _) in reversed(list(enumerate(boxes))):
        x, y = (min(max(at, BADGE), max(BADGE, side - BADGE)) for at, side in zip((left, top), photo.size, strict=True))
        draw_badge(canvas, (x, y), number)


def draw_badge(canvas: ImageDraw.ImageDraw, middle: tuple[float, float], number: int) -> None:
    """Draw the number of a region, counted from 0, on its color."""
    x, y = middle
    circle = (x - BADGE + 2, y - BADGE + 2, x + BADGE - 2, y + BADGE - 2)
    canvas.ellipse(circle, fill=REGION_COLORS[number], outline=SHADOW, width=2)
    text = str(number + 1)
    draw_line(canvas, (x - text_width(text, BADGE) / 2, y - 0.9 * BADGE + 3), text, BADGE, SHADOW)


def locate_in_photo(
    region: Box, shape: tuple[int, ...], photo: Image.Image, rule: ModelInput
) -> tuple[float, float, float, float]:
    """Turn a box in the cells of a map of shape (H, W) into pixels of the photo: (left, top, right, bottom)."""
    left, top, right, bottom = source_box(photo, rule)
    tall, wide = (bottom - top) / shape[0], (right - left) / shape[1]
    x0, y0, x1, y1 = left + region[1] * wide, top + region[0] * tall, left + region[3] * wide, top + region[2] * tall
    return x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)
