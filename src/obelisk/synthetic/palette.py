"""Colors as RGB in [0, 1], and the palettes that landmarks are painted from."""

from __future__ import annotations

import random

Color = tuple[float, float, float]
Ink = tuple[int, int, int]
"""a color as Pillow draws it, 0 to 255"""


def rgb(code: int) -> Color:
    """Convert a web color such as 0xE2D2B6."""
    return ((code >> 16) / 255, (code >> 8 & 255) / 255, (code & 255) / 255)


WHITE, BLACK, SNOW = map(rgb, (0xFFFFFF, 0x000000, 0xF0F4FA))
SHADE, GLASS = map(rgb, (0x3A302E, 0x3E4C60))
STONES = tuple(
    map(rgb, (0xE2D2B6, 0xD6B68A, 0xB0604C, 0xEEE9E0, 0xACACAA, 0xD49E8A, 0xDCB470, 0xC6BEB0, 0x968474, 0xE8D6C8))
)
ROOFS = tuple(map(rgb, (0x545E70, 0x70A08E, 0xB05C42, 0xCEA246, 0x7A808A, 0x3E6090, 0x464042, 0x8A463C)))
ACCENTS = tuple(map(rgb, (0xD6AC4C, 0xF4F0E8, 0x604638, 0xA0342E, 0x325480, 0x486E58)))


def blend(first: Color, second: Color, share: float) -> Color:
    """Blend two colors; a ``share`` of 0 is the first, of 1 the second."""
    (r0, g0, b0), (r1, g1, b1) = first, second
    return (r0 + (r1 - r0) * share, g0 + (g1 - g0) * share, b0 + (b1 - b0) * share)


def scale_color(color: Color, gains: Color) -> Color:
    """Multiply a color by one gain per channel."""
    return (color[0] * gains[0], color[1] * gains[1], color[2] * gains[2])


def vary(color: Color, rng: random.Random, amount: float = 0.05) -> Color:
    """Draw a color near another one."""
    light = 1 + rng.uniform(-amount, amount)
    red, green, blue = (min(1.0, max(0.0, c * light + rng.uniform(-amount, amount) / 2)) for c in color)
    return (red, green, blue)


def ink(color: Color) -> Ink:
    """Convert a color to the bytes that Pillow draws with, clipping what is too dark or too bright."""
    red, green, blue = (min(255, max(0, int(value * 255 + 0.5))) for value in color)
    return (red, green, blue)
