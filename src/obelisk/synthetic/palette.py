"""Colours that belong together, as RGB in [0, 1]."""

from __future__ import annotations

import random

Colour = tuple[float, float, float]


def rgb(red: int, green: int, blue: int) -> Colour:
    """Return a colour given in 0 to 255."""
    return (red / 255, green / 255, blue / 255)


STONES = (
    rgb(226, 210, 182),
    rgb(214, 182, 138),
    rgb(176, 96, 76),
    rgb(238, 233, 224),
    rgb(172, 172, 170),
    rgb(212, 158, 138),
    rgb(220, 180, 112),
    rgb(198, 190, 176),
    rgb(150, 132, 116),
    rgb(232, 214, 200),
)
ROOFS = (
    rgb(84, 94, 112),
    rgb(112, 160, 142),
    rgb(176, 92, 66),
    rgb(206, 162, 70),
    rgb(122, 128, 138),
    rgb(62, 96, 144),
    rgb(70, 64, 66),
    rgb(138, 70, 60),
)
ACCENTS = (
    rgb(214, 172, 76),
    rgb(244, 240, 232),
    rgb(96, 70, 56),
    rgb(160, 52, 46),
    rgb(50, 84, 128),
    rgb(72, 110, 88),
)
GLASS = rgb(62, 76, 96)
SHADE = rgb(58, 48, 46)
IRON = rgb(88, 92, 98)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Blend two colours; a ``share`` of 0 is the first, of 1 the second."""
    (r0, g0, b0), (r1, g1, b1) = first, second
    return (r0 + (r1 - r0) * share, g0 + (g1 - g0) * share, b0 + (b1 - b0) * share)


def vary(colour: Colour, chance: random.Random, amount: float = 0.05) -> Colour:
    """Return a colour near another one."""
    light = 1 + chance.uniform(-amount, amount)
    red, green, blue = (min(1.0, max(0.0, c * light + chance.uniform(-amount, amount) / 2)) for c in colour)
    return (red, green, blue)


def to_bytes(colour: Colour) -> tuple[int, int, int]:
    """Return a colour in 0 to 255, as drawing wants it."""
    red, green, blue = colour
    return (to_byte(red), to_byte(green), to_byte(blue))


def to_byte(value: float) -> int:
    """Return a share of light in [0, 1] as 0 to 255."""
    return 0 if value <= 0 else 255 if value >= 1 else int(value * 255 + 0.5)
