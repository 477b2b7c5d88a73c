"""What gets between a photographer and a landmark: people, lamp posts, cars, boats, branches, weather."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageDraw, ImageFilter

from obelisk.synthetic.camera import Camera
from obelisk.synthetic.canvas import Canvas, Draw, Sketch
from obelisk.synthetic.light import Light
from obelisk.synthetic.palette import blend, ink, rgb
from obelisk.synthetic.scene import Scene
from obelisk.synthetic.trees import draw_tree

CLOTHES = tuple(map(rgb, (0x3A425C, 0x963430, 0x3C3E40, 0xD6CAB4, 0x46686E, 0xCEA046)))
SKINS, HAIR = tuple(map(rgb, (0xECC8AC, 0xBE8C6C, 0x704E3C))), tuple(map(rgb, (0x322620, 0x785434, 0x28282C)))
VEHICLE_PAINTS = tuple(map(rgb, (0xB2302C, 0x3C527A, 0xE2E2DE, 0x303236, 0x788C78)))
LAMPLIGHT, LAMP_GLASS, LAMP_POST = map(rgb, (0xFFE099, 0xE2E2D8, 0x3A3C40))
BIRD_INK, SNOWFLAKE_INK = (50, 54, 64), (246, 248, 252)


def paint_foreground(canvas: Canvas, scene: Scene, camera: Camera, light: Light, rng: random.Random) -> None:
    """Paint what happens to be in front of the landmark in one photo."""
    pen = ImageDraw.Draw(canvas)
    side, base = camera.side, camera.spot(0, 0)[1]
    depth = side - base
    if scene.ground == "water":
        for _ in range(rng.choice((0, 0, 1, 2))):
            y = base + depth * rng.uniform(0.25, 0.9)
            draw_boat(pen, rng.uniform(0, side), y, (y - camera.horizon) * rng.uniform(0.4, 0.8), light, rng)
    else:
        for near in sorted(rng.uniform(0.1, 0.8) for _ in range(rng.choice((0, 0, 1, 2, 3, 5)))):
            y = base + depth * near
            tall = max(7.0, (y - camera.horizon) * rng.uniform(0.4, 0.6))
            draw_person(Sketch(pen, rng.uniform(0, side), y, min(tall, side * 0.22)), light, rng)
        if scene.ground == "plaza" and rng.random() < 0.3:
            y = base + depth * rng.uniform(0.3, 0.7)
            draw_car(Sketch(pen, rng.uniform(0.05, 0.8) * side, y, (y - camera.horizon) * 1.3 + 12), light, rng)
    if scene.ground in ("plaza", "lawn") and rng.random() < 0.35:
        draw_lamp(Sketch(pen, rng.choice((0.08, 0.15, 0.86, 0.93)) * side, base + depth * 0.6, side * 0.5), light)
    if rng.random() < 0.22:
        tall = side * rng.uniform(0.4, 0.8)
        kind = scene.trees[0].kind if scene.trees else rng.choice(("round", "conifer", "cypress"))
        x = rng.choice((rng.uniform(-0.05, 0.16), rng.uniform(0.84, 1.05))) * side
        draw_tree(Sketch(pen, x, base + depth * 0.9, tall), kind, light, far=0)
    if rng.random() < 0.12:
        draw_branch(canvas, light, rng)
    if rng.random() < 0.1 and light.night < 0.5:
        draw_birds(pen, camera, rng)
    if light.snow and rng.random() < 0.5:
        draw_snowfall(pen, side, rng)


def draw_person(sketch: Sketch, light: Light, rng: random.Random) -> None:
    """Draw someone one unit tall who stands or walks, and sometimes waves."""
    coat = light.ink(rng.choice(CLOTHES), facing=0.4)
    legs = light.ink(rng.choice(CLOTHES), facing=0.2)
    skin = light.ink(rng.choice(SKINS))
    stride, width = rng.uniform(0.02, 0.1), max(1, round(sketch.size * 0.09))
    sketch.ellipse(-0.2, -0.04, 0.2, 0.03, light.ink(rgb(0x5A5858), facing=0))
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
    sketch.ellipse(0, -0.042, 1, 0.03, light.ink(rgb(0x504E4E), facing=0))
    sketch.polygon((0.2, 0.165), (0.32, 0.3), (0.7, 0.3), (0.84, 0.165), fill=light.ink(rgb(0x465A6E)))
    sketch.rectangle(0, 0.042, 1, 0.186, paint, radius=0.054)
    for x in (0.22, 0.78):
        sketch.ellipse(x - 0.06, -0.018, x + 0.06, 0.102, light.ink(rgb(0x242426)))


def draw_boat(pen: Draw, x: float, y: float, length: float, light: Light, rng: random.Random) -> None:
    """Draw a boat of a length in pixels, with a sail or without."""
    sketch, hull = Sketch(pen, x, y, length), light.ink(rng.choice(VEHICLE_PAINTS), facing=0.4)
    sketch.ellipse(-0.5, -0.07, 0.5, 1 / length, light.ink(rgb(0x324A58), facing=0))
    sketch.polygon((-0.5, 0.16), (0.55, 0.18), (0.36, 0), (-0.38, 0), fill=hull)
    if rng.random() < 0.6:
        sketch.polygon((0, 1.2), (0, 0.2), (0.42, 0.24), fill=light.ink(rgb(0xF4F0E6), facing=0.7))
        sketch.line((0, 1.2), (0, 0.15), hull, width=2)


def draw_lamp(sketch: Sketch, light: Light) -> None:
    """Draw a street lamp on a post one unit high, lit after dusk."""
    post = light.ink(LAMP_POST, facing=0.3)
    sketch.line((0, 0), (0, 1), post, width=max(2, round(sketch.size * 0.022)))
    glass = LAMPLIGHT if light.night > 0.4 else blend(LAMP_GLASS, light.haze, 0.3)
    sketch.ellipse(-0.045, 1, 0.045, 1.09, ink(glass))
    sketch.polygon((-0.054, 1.072), (0, 1.126), (0.054, 1.072), fill=post)


def draw_branch(canvas: Canvas, light: Light, rng: random.Random) -> None:
    """Hang a leafy branch, out of focus, into a corner of the picture."""
    side = canvas.width // 4
    mask = Image.new("L", (side, side))
    sketch = Sketch(ImageDraw.Draw(mask), 0, 0, side)
    left = rng.random() < 0.5
    for _ in range(26):
        x, y, r = abs(rng.gauss(0, 0.2)), abs(rng.gauss(0, 0.12)), rng.uniform(0.02, 0.05)
        x = x if left else 1 - x
        sketch.pen.ellipse(sketch.box(x - r, -y - r * 0.7, x + r, -y + r * 0.7), fill=235)
    soft = mask.filter(ImageFilter.BoxBlur(1)).resize(canvas.size, Image.Resampling.BILINEAR)
    leaf = blend(rgb(0x345430), rgb(0xAA6E32), 0.8 * (light.season == "autumn"))
    canvas.paste(light.ink(leaf, facing=0.2), (0, 0), soft)


def draw_birds(pen: Draw, camera: Camera, rng: random.Random) -> None:
    """Draw a few birds in the sky."""
    x, y = rng.uniform(0.1, 0.8) * camera.side, camera.horizon * rng.uniform(0.1, 0.5)
    for _ in range(rng.randint(3, 8)):
        bird = Sketch(pen, x + rng.gauss(0, 24), y + rng.gauss(0, 12), rng.uniform(3, 7))
        for left, right in ((-2, 0), (0, 2)):
            pen.arc(bird.box(left, -1, right, 1), 200, 340, fill=BIRD_INK, width=2)


def draw_snowfall(pen: Draw, side: int, rng: random.Random) -> None:
    """Draw falling snow."""
    for _ in range(60):
        flake = Sketch(pen, rng.uniform(0, side), rng.uniform(0, side), 0.8 + 2.2 * rng.random() ** 3)
        flake.ellipse(-1, -math.pi / 3, 1, 1, SNOWFLAKE_INK)
