"""Small flat figures: trees, people, vehicles, flowers, fruit."""

from __future__ import annotations

import math
import random

from PIL import ImageDraw

from obelisk.synthetic.light import Light
from obelisk.synthetic.mesh import Spot
from obelisk.synthetic.palette import SHADE, SNOW, WHITE, Color, Ink, blend, ink, rgb, scale_color

Draw = ImageDraw.ImageDraw
Shapes = tuple[tuple[str, str, tuple[float, ...]], ...]

# Each shape of a figure: its color by name; box and ellipse by two corners, circle by center and radius, polygon by its
# points. A figure stands at the origin; x runs right and y up, in units of the figure's size.
FIGURES: dict[str, Shapes] = {
    "round": (
        ("bark", "box", (-0.04, 0, 0.04, 0.45)),
        *(("dark", "circle", ball) for ball in ((-0.16, 0.5, 0.2), (0.17, 0.5, 0.2), (0.0, 0.58, 0.27))),
        *(("middle", "circle", ball) for ball in ((-0.1, 0.66, 0.2), (0.12, 0.64, 0.2), (0.03, 0.78, 0.19))),
        *(("bright", "circle", ball) for ball in ((0.1, 0.76, 0.13), (-0.05, 0.84, 0.09))),
    ),
    "conifer": (
        ("bark", "box", (-0.04, 0, 0.04, 0.45)),
        *(
            (color, "polygon", (left * reach, low, reach, low, 0, high))
            for low, high, reach in ((0.12, 0.55, 0.26), (0.34, 0.78, 0.2), (0.58, 1.0, 0.14))
            for color, left in (("dark", -1), ("middle", -0.2))
        ),
    ),
    "cypress": (
        ("bark", "box", (-0.04, 0, 0.04, 0.45)),
        ("dark", "ellipse", (-0.11, 0.06, 0.11, 1.0)),
        ("middle", "ellipse", (-0.05, 0.15, 0.1, 0.95)),
    ),
    "palm": (
        ("bark", "polygon", (-0.03, 0, 0.03, 0, 0.07, 0.8, 0.03, 0.8)),
        *(
            ("middle" if i % 2 else "dark", "polygon", (0.05, 0.84, 0.05 + 0.4 * math.cos(turn), tip, 0.05, 0.77))
            for i, turn in enumerate(math.pi * step / 6 for step in range(7))
            for tip in (0.7 + 0.28 * math.sin(turn),)
        ),
    ),
    "person": (
        ("shadow", "ellipse", (-0.2, -0.04, 0.2, 0.03)),
        ("legs", "polygon", (-0.1, 0.5, 0.1, 0.5, 0.13, 0, 0.04, 0, 0, 0.35, -0.05, 0, -0.14, 0)),
        ("coat", "box", (-0.12, 0.42, 0.12, 0.84)),
        ("hair", "ellipse", (-0.085, 0.85, 0.085, 1.02)),
        ("skin", "ellipse", (-0.07, 0.83, 0.07, 0.97)),
    ),
    "car": (
        ("shadow", "ellipse", (0, -0.042, 1, 0.03)),
        ("glass", "polygon", (0.2, 0.165, 0.32, 0.3, 0.7, 0.3, 0.84, 0.165)),
        ("paint", "box", (0, 0.042, 1, 0.186)),
        *(("tire", "circle", (x, 0.042, 0.06)) for x in (0.22, 0.78)),
    ),
    "boat": (
        ("shadow", "ellipse", (-0.5, -0.07, 0.5, 0.01)),
        ("paint", "polygon", (-0.5, 0.16, 0.55, 0.18, 0.36, 0, -0.38, 0)),
        ("sail", "polygon", (0.0, 1.2, 0, 0.22, 0.42, 0.24)),
        ("paint", "polygon", (-0.02, 1.2, 0, 1.2, 0, 0.16, -0.02, 0.16)),
    ),
    "vase": (("clay", "polygon", (0.2, 0, 0.3, 0.3, 0.12, 1, -0.12, 1, -0.3, 0.3, -0.2, 0)),),
    "flower": (
        *(
            ("petal", "circle", (0.7 * math.cos(turn), 0.7 * math.sin(turn), 0.55))
            for turn in (math.pi / 3 * step for step in range(6))
        ),
        ("pollen", "circle", (0, 0, 0.4)),
    ),
}
TREES = ("round", "conifer", "cypress", "palm")
FOLIAGE = {"spring": rgb(0x8AB65C), "summer": rgb(0x548642), "autumn": rgb(0xCE843A), "winter": rgb(0x7A6C5C)}
NEEDLES, BARK, SAIL = map(rgb, (0x477051, 0x604A3A, 0xF4F0E6))
SHADOW, CAR_GLASS, TIRE, LEGS = map(rgb, (0x504E4E, 0x465A6E, 0x242426, 0x3A3A44))
CLOTHES = tuple(map(rgb, (0x3A425C, 0x963430, 0x3C3E40, 0xD6CAB4, 0x46686E, 0xCEA046)))
SKINS, HAIR = tuple(map(rgb, (0xECC8AC, 0xBE8C6C, 0x704E3C))), tuple(map(rgb, (0x322620, 0x785434, 0x28282C)))
PAINTS = tuple(map(rgb, (0xB2302C, 0x3C527A, 0xE2E2DE, 0x303236, 0x788C78)))
FRUIT = tuple(map(rgb, (0xCE3A2E, 0xECAA36, 0x80A63E, 0x783E6E, 0xF0D054)))
PETALS, POLLEN = (*FRUIT, rgb(0xF0ECF0), rgb(0xD682AA)), rgb(0xE2B240)


def draw_figure(pen: Draw, spot: Spot, size: float, name: str, inks: dict[str, Ink]) -> None:
    """Draw a figure that stands at a pixel; a shape whose color is missing is left out."""
    column, row = spot
    for color, kind, numbers in FIGURES[name]:
        if color not in inks:
            continue
        if kind == "circle":
            x, y, radius = numbers
            numbers = (x - radius, y - radius, x + radius, y + radius)
        points = [(column + size * x, row - size * y) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
        if kind == "polygon":
            pen.polygon(points, fill=inks[color])
            continue
        (left, bottom), (right, top) = points
        if kind == "box":
            pen.rounded_rectangle((left, top, right, bottom), size * 0.05 * (right - left > size / 5), inks[color])
        else:
            pen.ellipse((left, top, right, bottom), inks[color])


def draw_tree(pen: Draw, spot: Spot, size: float, kind: str, light: Light, *, far: float = 0.0) -> None:
    """Draw a tree: dark below, bright on the side of the sun; ``far`` is the share lost to haze."""
    leaf = FOLIAGE[light.season] if kind == "round" else NEEDLES
    leaf = blend(leaf, SNOW, 0.45 * light.snow)
    tones = {"dark": (0.66, 0.1), "middle": (0.9, 0.45), "bright": (1.1, 0.9)}
    inks = {
        tone: light.ink(scale_color(leaf, (gain, gain, gain)), facing=facing, far=far)
        for tone, (gain, facing) in tones.items()
    }
    draw_figure(pen, spot, size, kind, inks | {"bark": light.ink(BARK, facing=0.3, far=far)})


def draw_person(pen: Draw, spot: Spot, size: float, light: Light, rng: random.Random) -> None:
    """Draw somebody who stands."""
    colors = {"coat": rng.choice(CLOTHES), "legs": LEGS, "skin": rng.choice(SKINS), "hair": rng.choice(HAIR)}
    colors["shadow"] = SHADOW
    draw_figure(pen, spot, size, "person", {name: light.ink(color, facing=0.4) for name, color in colors.items()})


def draw_vehicle(pen: Draw, spot: Spot, size: float, kind: str, light: Light, rng: random.Random) -> None:
    """Draw a car from its side, its rear at the spot, or a boat with a sail or without."""
    colors = {"paint": rng.choice(PAINTS), "glass": CAR_GLASS, "tire": TIRE, "shadow": SHADOW}
    if rng.random() < 0.6:
        colors["sail"] = SAIL
    draw_figure(pen, spot, size, kind, {name: light.ink(color, facing=0.4) for name, color in colors.items()})


def draw_flower(pen: Draw, spot: Spot, size: float, rng: random.Random) -> None:
    """Draw a flower of six petals, seen from the front."""
    draw_figure(pen, spot, size, "flower", {"petal": ink(rng.choice(PETALS)), "pollen": ink(POLLEN)})


def draw_ball(pen: Draw, spot: Spot, radius: float, rng: random.Random) -> None:
    """Draw a fruit or a ball, round by its shading."""
    (x, y), paint = spot, rng.choice(FRUIT)
    pen.ellipse((x - 1.1 * radius, y + 0.6 * radius, x + 1.2 * radius, y + 1.1 * radius), ink(SHADE))
    for step in range(8):
        size, lit = radius * (1 - step / 9), step / 7
        color: Color = blend(blend(paint, SHADE, 0.4 * (1 - lit)), WHITE, 0.35 * lit)
        left, top = x - size - 0.25 * (radius - size), y - size - 0.35 * (radius - size)
        pen.ellipse((left, top, left + 2 * size, top + 2 * size), ink(color))
