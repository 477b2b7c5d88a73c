"""What gets between a photographer and a landmark: people, lamp posts, cars, boats, branches, weather."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageDraw, ImageFilter

from obelisk.synthetic.camera import Camera, Canvas, Draw
from obelisk.synthetic.landmark import Landmark
from obelisk.synthetic.light import Light, lit
from obelisk.synthetic.palette import Colour, mix, rgb, to_bytes
from obelisk.synthetic.scenery import draw_tree

CLOTHES = (rgb(58, 66, 92), rgb(150, 52, 48), rgb(60, 62, 64), rgb(214, 202, 180), rgb(70, 104, 110), rgb(206, 160, 70))
SKINS = (rgb(236, 200, 172), rgb(190, 140, 108), rgb(112, 78, 60))
PAINTS = (rgb(178, 48, 44), rgb(60, 82, 122), rgb(226, 226, 222), rgb(48, 50, 54), rgb(120, 140, 120))


def paint_clutter(canvas: Canvas, landmark: Landmark, camera: Camera, light: Light, chance: random.Random) -> None:
    """Paint what happens to be in front of the landmark in one photo."""
    pen = ImageDraw.Draw(canvas)
    base = camera.spot(0, 0)[1]
    room = camera.side - base
    if landmark.ground == "water":
        for _ in range(chance.choice((0, 0, 1, 2))):
            y = base + room * chance.uniform(0.25, 0.9)
            draw_boat(
                pen, chance.uniform(0, camera.side), y, (y - camera.horizon) * chance.uniform(0.4, 0.8), light, chance
            )
    else:
        people = sorted(chance.uniform(0.1, 0.8) for _ in range(chance.choice((0, 0, 1, 2, 3, 5))))
        for near in people:
            y = base + room * near
            tall = max(7.0, (y - camera.horizon) * chance.uniform(0.4, 0.6))
            draw_person(pen, chance.uniform(0, camera.side), y, min(tall, camera.side * 0.22), light, chance)
        if landmark.ground == "plaza" and chance.random() < 0.3:
            y = base + room * chance.uniform(0.3, 0.7)
            draw_car(pen, chance.uniform(0.05, 0.8) * camera.side, y, (y - camera.horizon) * 1.3 + 12, light, chance)
    if landmark.ground in ("plaza", "lawn") and chance.random() < 0.35:
        draw_lamp(
            pen, chance.choice((0.08, 0.15, 0.86, 0.93)) * camera.side, base + room * 0.6, camera.side * 0.5, light
        )
    if chance.random() < 0.22:
        tall = camera.side * chance.uniform(0.4, 0.8)
        kind = chance.choice(("round", "conifer", "cypress")) if landmark.trees == () else landmark.trees[0].kind
        x = chance.choice((chance.uniform(-0.05, 0.16), chance.uniform(0.84, 1.05))) * camera.side
        draw_tree(pen, x, base + room * 0.9, tall, kind, light, far=0)
    if chance.random() < 0.12:
        draw_branch(canvas, light, chance)
    if chance.random() < 0.1 and light.night < 0.5:
        draw_birds(pen, camera, chance)
    if light.snow and chance.random() < 0.5:
        draw_snowfall(pen, camera.side, chance)


def draw_person(pen: Draw, x: float, y: float, height: float, light: Light, chance: random.Random) -> None:
    """Draw someone who stands or walks, of a height in pixels."""
    coat = to_bytes(lit(chance.choice(CLOTHES), light, facing=0.4))
    legs = to_bytes(lit(chance.choice(CLOTHES), light, facing=0.2))
    skin = to_bytes(lit(chance.choice(SKINS), light, facing=0.5))
    h, stride = height, height * chance.uniform(0.02, 0.1)
    wide = max(1, round(h * 0.09))
    pen.ellipse(
        (x - h * 0.2, y - h * 0.03, x + h * 0.2, y + h * 0.04), fill=to_bytes(lit(rgb(90, 88, 88), light, facing=0))
    )
    pen.line((x, y - h * 0.5, x - stride, y), fill=legs, width=wide)
    pen.line((x, y - h * 0.5, x + stride, y), fill=legs, width=wide)
    pen.rounded_rectangle((x - h * 0.12, y - h * 0.84, x + h * 0.12, y - h * 0.42), radius=h * 0.06, fill=coat)
    if chance.random() < 0.25:
        pen.line((x + h * 0.1, y - h * 0.76, x + h * 0.2, y - h * 1.02), fill=coat, width=wide)
    pen.ellipse((x - h * 0.075, y - h, x + h * 0.075, y - h * 0.84), fill=skin)
    if chance.random() < 0.6:
        hair = to_bytes(lit(chance.choice((rgb(50, 38, 32), rgb(120, 84, 52), rgb(40, 40, 44))), light))
        pen.pieslice((x - h * 0.08, y - h * 1.01, x + h * 0.08, y - h * 0.86), 180, 360, fill=hair)


def draw_car(pen: Draw, x: float, y: float, length: float, light: Light, chance: random.Random) -> None:
    """Draw a car from its side."""
    paint = to_bytes(lit(chance.choice(PAINTS), light, facing=0.5))
    glass, tyre = to_bytes(lit(rgb(70, 90, 110), light)), to_bytes(lit(rgb(36, 36, 38), light))
    h = length * 0.3
    pen.ellipse((x, y - h * 0.1, x + length, y + h * 0.14), fill=to_bytes(lit(rgb(80, 78, 78), light, facing=0)))
    roof = (
        x + length * 0.2,
        y - h * 0.55,
        x + length * 0.32,
        y - h,
        x + length * 0.7,
        y - h,
        x + length * 0.84,
        y - h * 0.55,
    )
    pen.polygon(roof, fill=glass)
    pen.rounded_rectangle((x, y - h * 0.62, x + length, y - h * 0.14), radius=h * 0.18, fill=paint)
    for at in (0.22, 0.78):
        pen.ellipse((x + length * at - h * 0.2, y - h * 0.34, x + length * at + h * 0.2, y + h * 0.06), fill=tyre)


def draw_boat(pen: Draw, x: float, y: float, length: float, light: Light, chance: random.Random) -> None:
    """Draw a boat, with a sail or without."""
    hull = to_bytes(lit(chance.choice(PAINTS), light, facing=0.4))
    pen.ellipse(
        (x - length * 0.5, y - 1, x + length * 0.5, y + length * 0.07),
        fill=to_bytes(lit(rgb(50, 74, 88), light, facing=0)),
    )
    pen.polygon(
        (
            x - length * 0.5,
            y - length * 0.16,
            x + length * 0.55,
            y - length * 0.18,
            x + length * 0.36,
            y,
            x - length * 0.38,
            y,
        ),
        fill=hull,
    )
    if chance.random() < 0.6:
        sail = to_bytes(lit(rgb(244, 240, 230), light, facing=0.7))
        pen.polygon((x, y - length * 1.2, x, y - length * 0.2, x + length * 0.42, y - length * 0.24), fill=sail)
        pen.line((x, y - length * 1.2, x, y - length * 0.15), fill=hull, width=2)


def draw_lamp(pen: Draw, x: float, y: float, height: float, light: Light) -> None:
    """Draw a street lamp, lit after dusk."""
    iron = to_bytes(lit(rgb(58, 60, 64), light, facing=0.3))
    pen.line((x, y, x, y - height), fill=iron, width=max(2, round(height * 0.022)))
    r = height * 0.045
    glass: Colour = (1.0, 0.88, 0.6) if light.night > 0.4 else mix(rgb(226, 226, 216), light.haze, 0.3)
    pen.ellipse((x - r, y - height - r * 2, x + r, y - height), fill=to_bytes(glass))
    pen.polygon(
        (x - r * 1.2, y - height - r * 1.6, x, y - height - r * 2.8, x + r * 1.2, y - height - r * 1.6), fill=iron
    )


def draw_branch(canvas: Canvas, light: Light, chance: random.Random) -> None:
    """Hang a leafy branch, out of focus, into a corner of the picture."""
    side = canvas.width // 4
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    left = chance.random() < 0.5
    for _ in range(26):
        x, y = abs(chance.gauss(0, 0.2)) * side, abs(chance.gauss(0, 0.12)) * side
        r = side * chance.uniform(0.02, 0.05)
        x = x if left else side - x
        pen.ellipse((x - r, y - r * 0.7, x + r, y + r * 0.7), fill=235)
    soft = mask.filter(ImageFilter.BoxBlur(1)).resize(canvas.size, Image.Resampling.BILINEAR)
    leaf = lit(mix(rgb(52, 84, 48), rgb(170, 110, 50), 0.8 * (light.season == "autumn")), light, facing=0.2)
    canvas.paste(to_bytes(leaf), (0, 0), soft)


def draw_birds(pen: Draw, camera: Camera, chance: random.Random) -> None:
    """Draw a few birds in the sky."""
    x, y = chance.uniform(0.1, 0.8) * camera.side, camera.horizon * chance.uniform(0.1, 0.5)
    for _ in range(chance.randint(3, 8)):
        bx, by, r = x + chance.gauss(0, 24), y + chance.gauss(0, 12), chance.uniform(3, 7)
        pen.arc((bx - r * 2, by - r, bx, by + r), 200, 340, fill=(50, 54, 64), width=2)
        pen.arc((bx, by - r, bx + r * 2, by + r), 200, 340, fill=(50, 54, 64), width=2)


def draw_snowfall(pen: Draw, side: int, chance: random.Random) -> None:
    """Draw falling snow."""
    for _ in range(60):
        x, y, r = chance.uniform(0, side), chance.uniform(0, side), 0.8 + 2.2 * chance.random() ** 3
        pen.ellipse((x - r, y - r, x + r, y + r * math.pi / 3), fill=(246, 248, 252))
