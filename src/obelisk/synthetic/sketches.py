"""Flat figures: trees, people, cars, boats, street lamps, flowers, fruit."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from obelisk.synthetic.light import Light
from obelisk.synthetic.palette import SHADE, SNOW, WHITE, Ink, blend, ink, rgb, scale_color, vary

Canvas = Image.Image
Draw = ImageDraw.ImageDraw

FOLIAGE = {"spring": rgb(0x8AB65C), "summer": rgb(0x548642), "autumn": rgb(0xCE843A), "winter": rgb(0x7A6C5C)}
NEEDLES, BARK = blend(rgb(0x426846), FOLIAGE["summer"], 0.3), rgb(0x604A3A)
# Of a round crown: the center and radius of each ball, and how bright it is (an index).
BALLS = (
    *((-0.16, 0.5, 0.2, 0), (0.17, 0.5, 0.2, 0), (0.0, 0.58, 0.27, 0), (-0.1, 0.66, 0.2, 1), (0.12, 0.64, 0.2, 1)),
    *((0.03, 0.78, 0.19, 1), (0.1, 0.76, 0.13, 2), (-0.05, 0.84, 0.09, 2)),
)
CLOTHES = tuple(map(rgb, (0x3A425C, 0x963430, 0x3C3E40, 0xD6CAB4, 0x46686E, 0xCEA046)))
SKINS, HAIR = tuple(map(rgb, (0xECC8AC, 0xBE8C6C, 0x704E3C))), tuple(map(rgb, (0x322620, 0x785434, 0x28282C)))
VEHICLE_PAINTS = tuple(map(rgb, (0xB2302C, 0x3C527A, 0xE2E2DE, 0x303236, 0x788C78)))
CAR_GLASS, TIRE, SAIL, LAMP_GLASS, LAMP_POST = map(rgb, (0x465A6E, 0x242426, 0xF4F0E6, 0xE2E2D8, 0x3A3C40))
PERSON_SHADOW, CAR_SHADOW, BOAT_SHADOW, LAMPLIGHT = map(rgb, (0x5A5858, 0x504E4E, 0x324A58, 0xFFE099))
FRUIT = tuple(map(rgb, (0xCE3A2E, 0xECAA36, 0x80A63E, 0x783E6E, 0xF0D054)))
PETALS = (*FRUIT, rgb(0xF0ECF0), rgb(0xD682AA))
POLLEN_INK, BALL_SHADOW_INK = (226, 178, 64), (60, 48, 44)


@dataclass(frozen=True)
class Sketch:
    """A pen for one figure, in the figure's own coordinates.

    Its origin is the pixel (``column``, ``row``), where the figure stands; x runs right and y up, in units of ``size``
    pixels.
    """

    pen: Draw
    column: float
    row: float
    size: float

    def pixels(self, *points: tuple[float, float]) -> list[tuple[float, float]]:
        """Return the columns and rows of points."""
        return [(self.column + self.size * x, self.row - self.size * y) for x, y in points]

    def box(self, x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
        """Return the upper left and the lower right pixel of the box between two heights."""
        return self.pixels((x0, y1), (x1, y0))

    def ellipse(self, x0: float, y0: float, x1: float, y1: float, fill: Ink) -> None:
        """Fill the ellipse in a box."""
        self.pen.ellipse(self.box(x0, y0, x1, y1), fill=fill)

    def circle(self, x: float, y: float, radius: float, fill: Ink) -> None:
        """Fill a circle."""
        self.ellipse(x - radius, y - radius, x + radius, y + radius, fill)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, fill: Ink, *, radius: float) -> None:
        """Fill a rectangle, its corners rounded by ``radius``."""
        self.pen.rounded_rectangle(self.box(x0, y0, x1, y1), radius=self.size * radius, fill=fill)

    def polygon(self, *corners: tuple[float, float], fill: Ink) -> None:
        """Fill a polygon."""
        self.pen.polygon(self.pixels(*corners), fill=fill)

    def line(self, start: tuple[float, float], end: tuple[float, float], fill: Ink, *, width: int) -> None:
        """Draw a line ``width`` pixels wide."""
        self.pen.line(self.pixels(start, end), fill=fill, width=width)


def draw_tree(sketch: Sketch, kind: str, light: Light, *, far: float = 0.0) -> None:
    """Draw a tree one unit high: dark below, bright on the side of the sun; ``far`` is the share lost to haze."""
    leaf = blend(FOLIAGE[light.season] if kind == "round" else NEEDLES, SNOW, 0.45 * light.snow)
    trunk = light.ink(BARK, facing=0.3, far=far)
    fills = [
        light.ink(scale_color(leaf, (gain, gain, gain)), facing=facing, far=far)
        for gain, facing in ((0.66, 0.1), (0.9, 0.45), (1.1, 0.9))
    ]
    dark, middle, _ = fills
    (left, top), (right, bottom) = sketch.box(-0.04, 0, 0.04, 0.45)
    sketch.pen.rectangle((min(left, sketch.column - 1), top, max(right, sketch.column + 1), bottom), fill=trunk)
    if kind == "conifer":
        for low, high, reach in ((0.12, 0.55, 0.26), (0.34, 0.78, 0.2), (0.58, 1.0, 0.14)):
            sketch.polygon((-reach, low), (reach, low), (0, high), fill=dark)
            sketch.polygon((-reach * 0.2, low), (reach, low), (0, high), fill=middle)
    elif kind == "cypress":
        sketch.ellipse(-0.11, 0.06, 0.11, 1.0, dark)
        sketch.ellipse(-0.05, 0.15, 0.1, 0.95, middle)
    elif kind == "palm":
        sketch.line((0, 0), (0.05, 0.8), trunk, width=max(1, round(sketch.size * 0.05)))
        for leaf_number in range(7):
            angle = math.pi * leaf_number / 6
            tip = (0.05 + 0.34 * math.cos(angle), 0.74 + 0.22 * math.sin(angle))
            sketch.line((0.05, 0.8), tip, fills[leaf_number % 2], width=max(2, round(sketch.size * 0.06)))
    else:
        for x, y, radius, brightness in BALLS:
            sketch.circle(x, y, radius, fills[brightness])


def draw_person(sketch: Sketch, light: Light, rng: random.Random) -> None:
    """Draw someone one unit tall who stands or walks, and sometimes waves."""
    coat = light.ink(rng.choice(CLOTHES), facing=0.4)
    legs = light.ink(rng.choice(CLOTHES), facing=0.2)
    skin = light.ink(rng.choice(SKINS))
    stride, width = rng.uniform(0.02, 0.1), max(1, round(sketch.size * 0.09))
    sketch.ellipse(-0.2, -0.04, 0.2, 0.03, light.ink(PERSON_SHADOW, facing=0))
    for foot in (-stride, stride):
        sketch.line((0, 0.5), (foot, 0), legs, width=width)
    sketch.rectangle(-0.12, 0.42, 0.12, 0.84, coat, radius=0.06)
    if rng.random() < 0.25:
        sketch.line((0.1, 0.76), (0.2, 1.02), coat, width=width)
    sketch.ellipse(-0.075, 0.84, 0.075, 1, skin)
    if rng.random() < 0.6:
        sketch.pen.pieslice(sketch.box(-0.08, 0.86, 0.08, 1.01), 180, 360, fill=light.ink(rng.choice(HAIR)))


def draw_car(sketch: Sketch, light: Light, rng: random.Random) -> None:
    """Draw a car one unit long from its side, its rear at the origin."""
    paint = light.ink(rng.choice(VEHICLE_PAINTS))
    sketch.ellipse(0, -0.042, 1, 0.03, light.ink(CAR_SHADOW, facing=0))
    sketch.polygon((0.2, 0.165), (0.32, 0.3), (0.7, 0.3), (0.84, 0.165), fill=light.ink(CAR_GLASS))
    sketch.rectangle(0, 0.042, 1, 0.186, paint, radius=0.054)
    for x in (0.22, 0.78):
        sketch.circle(x, 0.042, 0.06, light.ink(TIRE))


def draw_boat(sketch: Sketch, light: Light, rng: random.Random) -> None:
    """Draw a boat one unit long, with a sail or without."""
    hull = light.ink(rng.choice(VEHICLE_PAINTS), facing=0.4)
    sketch.ellipse(-0.5, -0.07, 0.5, 1 / sketch.size, light.ink(BOAT_SHADOW, facing=0))
    sketch.polygon((-0.5, 0.16), (0.55, 0.18), (0.36, 0), (-0.38, 0), fill=hull)
    if rng.random() < 0.6:
        sketch.polygon((0, 1.2), (0, 0.2), (0.42, 0.24), fill=light.ink(SAIL, facing=0.7))
        sketch.line((0, 1.2), (0, 0.15), hull, width=2)


def draw_lamp(sketch: Sketch, light: Light) -> None:
    """Draw a street lamp on a post one unit high, lit after dusk."""
    post = light.ink(LAMP_POST, facing=0.3)
    sketch.line((0, 0), (0, 1), post, width=max(2, round(sketch.size * 0.022)))
    glass = LAMPLIGHT if light.night > 0.4 else blend(LAMP_GLASS, light.haze, 0.3)
    sketch.ellipse(-0.045, 1, 0.045, 1.09, ink(glass))
    sketch.polygon((-0.054, 1.072), (0, 1.126), (0.054, 1.072), fill=post)


def draw_ball(sketch: Sketch, rng: random.Random) -> None:
    """Draw a fruit or a ball of radius 1, round by its shading."""
    paint = vary(rng.choice(FRUIT), rng)
    sketch.ellipse(-1.1, -1.1, 1.2, -0.6, BALL_SHADOW_INK)
    for step in range(6):
        size = 1 - step / 7
        color = blend(blend(paint, SHADE, 0.4), blend(paint, WHITE, 0.35), step / 5)
        sketch.circle(-0.2 * (1 - size), 0.3 * (1 - size), size, ink(color))


def draw_flower(sketch: Sketch, rng: random.Random) -> None:
    """Draw a flower of six petals."""
    petal = ink(vary(rng.choice(PETALS), rng))
    for turn in range(6):
        sketch.circle(0.7 * math.cos(turn * math.pi / 3), -0.7 * math.sin(turn * math.pi / 3), 0.55, petal)
    sketch.circle(0, 0, 0.4, POLLEN_INK)
