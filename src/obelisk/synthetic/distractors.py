"""Photos that show no landmark of a dataset: landscapes, streets, rooms, still lifes, vehicles, other landmarks."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from obelisk.synthetic.buildings import house_row
from obelisk.synthetic.camera import Camera
from obelisk.synthetic.light import choose_light
from obelisk.synthetic.palette import ACCENTS, ROOFS, SHADE, STONES, Color, blend, ink, rgb, vary
from obelisk.synthetic.rendering import SUPERSAMPLING, develop, paint_scene, paint_trees, render_photo
from obelisk.synthetic.scene import Scene
from obelisk.synthetic.scenery import paint_backdrop, paint_reflection, paint_rows
from obelisk.synthetic.sketches import (
    Canvas,
    Sketch,
    draw_ball,
    draw_boat,
    draw_car,
    draw_flower,
    draw_person,
    draw_tree,
)

# A quarter shows landmarks that are in no dataset: their seeds are out of reach of any. (The background of the bundled
# model dates from when landmarks were drawn otherwise: 36 of its 160 photos would look different today.)
LANDMARK_SHARE, FIRST_SEED, SEED_STEP = 0.25, 1 << 40, 100_003
WALLPAPERS = tuple(map(rgb, (0xE8DECC, 0xBCCCCE, 0xD6BAA6, 0xB0BEA6, 0xE2E2E4)))
FLOORS, TABLES = tuple(map(rgb, (0x966E4E, 0xBAA082))), tuple(map(rgb, (0x8C6242, 0xCEBEA6)))
WINDOW_FRAME, LEAF = rgb(0xF4F2EC), rgb(0x46703E)
STEM_INK, LAMPSHADE_INK = (74, 110, 62), (250, 226, 168)
# The right half of a vase's outline, from the table up.
VASE = ((0.2, 0.0), (0.3, 0.3), (0.12, 1.0))


def render_distractor(seed: int, photo_index: int, size: int = 224) -> Image.Image:
    """Render a photo that shows no landmark of any dataset: RGB, ``size`` × ``size`` pixels."""
    rng = random.Random(f"distractor {seed} {photo_index}")
    if rng.random() < LANDMARK_SHARE:
        return render_photo(FIRST_SEED + seed * SEED_STEP + photo_index, 0, size)
    (subject,) = rng.choices(list(SUBJECTS), list(SUBJECTS.values()))
    return develop(subject(rng, size * SUPERSAMPLING), rng)


def open_camera(rng: random.Random, side: int) -> Camera:
    """Return a camera that looks at open country."""
    return Camera(
        azimuth=rng.uniform(-math.pi, math.pi),
        distance=rng.uniform(3, 5),
        height=rng.uniform(0.15, 0.5),
        focal=side * rng.uniform(0.9, 1.6),
        center=side / 2,
        horizon=side * rng.uniform(0.4, 0.66),
        side=side,
    )


def ordinary_scene(rng: random.Random, ground: str, backdrop: str, houses: int) -> Scene:
    """Return a scene without a landmark: trees, and a row of houses, which only the photo of a street shows."""
    kind = "palm" if ground == "sand" else rng.choice(("round", "conifer", "cypress"))
    trees = [
        (rng.uniform(-3, 3), rng.uniform(-2, 3), rng.uniform(0.2, 0.6), kind) for _ in range(rng.choice((0, 6, 14)))
    ]
    return Scene(
        mesh=house_row(houses),
        ground=ground,
        backdrop=backdrop,
        outline=tuple((rng.uniform(0.3, 1) / i, i * 2.0, rng.uniform(0, 6.28)) for i in range(1, 5)),
        trees=() if ground == "water" else tuple(trees),
        tone=rng.uniform(-1, 1),
    )


def paint_landscape(rng: random.Random, side: int) -> Canvas:
    """Paint hills, a forest, a beach, a lake or a desert."""
    camera = open_camera(rng, side)
    light = choose_light(rng, azimuth=camera.azimuth)
    ground = rng.choice(("lawn", "lawn", "sand", "rock", "water"))
    backdrop = rng.choice(("hills", "mountains", "forest", "open", "mountains"))
    scene = ordinary_scene(rng, ground, backdrop, rng.randrange(8))
    canvas = paint_backdrop(scene, camera, light, rng)
    pen = ImageDraw.Draw(canvas)
    if ground == "water":
        paint_reflection(canvas, camera.horizon + 4, light, rng)
        if rng.random() < 0.5:
            y = camera.horizon + side * rng.uniform(0.1, 0.3)
            draw_boat(Sketch(pen, side * rng.uniform(0.2, 0.8), y, side * 0.14), light, rng)
        return canvas
    paint_trees(pen, camera, light, sorted(scene.trees, key=lambda tree: -tree[1]))
    for _ in range(rng.choice((0, 0, 2))):
        draw_person(Sketch(pen, side * rng.random(), side * rng.uniform(0.85, 0.98), side * 0.16), light, rng)
    return canvas


def paint_street(rng: random.Random, side: int) -> Canvas:
    """Paint ordinary houses."""
    houses, country = rng.randrange(10**6), open_camera(rng, side)
    base, height = side * rng.uniform(0.72, 0.88), country.height * 0.6
    focal = side * rng.uniform(0.6, 1.1) * country.distance / 2
    camera = dataclasses.replace(
        country,
        azimuth=rng.uniform(-0.7, 0.7),
        height=height,
        focal=focal,
        center=side * rng.uniform(0.4, 0.6),
        horizon=base - focal * height / country.distance,
    )
    light = choose_light(rng, azimuth=camera.azimuth)
    ground, backdrop = rng.choice(("plaza", "lawn")), rng.choice(("city", "hills", "open", "forest"))
    return paint_scene(ordinary_scene(rng, ground, backdrop, houses), camera, light, rng)


def paint_room(rng: random.Random, side: int) -> Canvas:
    """Paint a room: a wall, a floor, a window, a sofa, a lamp, pictures."""
    light = choose_light(rng, azimuth=0, snowy=False)
    wall, floor = vary(rng.choice(WALLPAPERS), rng), vary(rng.choice(FLOORS), rng)
    edge = side * rng.uniform(0.62, 0.74)
    canvas = paint_backcloth(side, blend(wall, SHADE, 0.12), wall, floor, edge)
    pen = ImageDraw.Draw(canvas)
    x, y = side * rng.uniform(0.08, 0.5), side * 0.12
    w, h = side * rng.uniform(0.22, 0.36), side * rng.uniform(0.28, 0.4)
    pen.rectangle((x - 8, y - 8, x + w + 8, y + h + 8), fill=ink(WINDOW_FRAME))
    pen.rectangle((x, y, x + w, y + h), fill=ink(light.sky[1]))
    draw_tree(Sketch(pen, x + w * 0.6, y + h, h * 0.7), "round", light, far=0.2)
    pen.line((x + w / 2, y, x + w / 2, y + h), fill=ink(WINDOW_FRAME), width=8)
    for _ in range(rng.randint(0, 3)):
        x, y, w = side * rng.uniform(0.55, 0.85), side * rng.uniform(0.1, 0.35), side * rng.uniform(0.08, 0.16)
        pen.rectangle((x - 5, y - 5, x + w + 5, y + w * 1.2 + 5), fill=ink(rng.choice(ACCENTS)))
        pen.rectangle((x, y, x + w, y + w * 1.2), fill=ink(vary(rng.choice(STONES), rng)))
    cloth = vary(rng.choice((*ACCENTS, *ROOFS)), rng)
    left, wide, seat = side * rng.uniform(0.05, 0.4), side * rng.uniform(0.4, 0.6), edge + side * 0.04
    back = (left, seat - side * 0.24, left + wide, seat + side * 0.1)
    pen.rounded_rectangle(back, 24, fill=ink(blend(cloth, SHADE, 0.25)))
    pen.rounded_rectangle((left - 20, seat - side * 0.1, left + wide + 20, seat + side * 0.13), 24, fill=ink(cloth))
    lamp = Sketch(pen, side * rng.choice((0.06, 0.92)), side, side)
    lamp.line((0, (side - seat) / side - 0.08), (0, 0.64), ink(SHADE), width=5)
    lamp.polygon((-0.07, 0.62), (-0.04, 0.74), (0.04, 0.74), (0.07, 0.62), fill=LAMPSHADE_INK)
    return canvas


def paint_backcloth(side: int, top: Color, middle: Color, bottom: Color, edge: float) -> Canvas:
    """Paint a background of two gradients that meet at the row ``edge``; the lower one darkens downwards."""
    rows = np.arange(side)
    bands = [
        np.where(rows < edge, np.interp(rows, (0, edge), (a, b)), np.interp(rows, (edge, side), (c, round(c * 0.7))))
        for a, b, c in zip(ink(top), ink(middle), ink(bottom), strict=True)
    ]
    return paint_rows(np.stack(bands, axis=-1))


def paint_still_life(rng: random.Random, side: int) -> Canvas:
    """Paint things on a table: fruit, and a mug or a vase with flowers."""
    wall, table = vary(rng.choice(WALLPAPERS), rng), vary(rng.choice(TABLES), rng)
    canvas = paint_backcloth(side, blend(wall, SHADE, 0.35), wall, table, side * rng.uniform(0.5, 0.65))
    pen = ImageDraw.Draw(canvas)
    for _ in range(rng.randint(2, 6)):
        at = (side * rng.uniform(0.1, 0.9), side * rng.uniform(0.66, 0.86))
        draw_ball(Sketch(pen, *at, side * rng.uniform(0.05, 0.12)), rng)
    pot = Sketch(pen, side * rng.uniform(0.3, 0.7), side * 0.8, side * rng.uniform(0.25, 0.4))
    clay = vary(rng.choice((*ACCENTS, *STONES)), rng)
    if rng.random() < 0.6:
        for _ in range(rng.randint(4, 9)):
            at = (rng.gauss(0, 0.3), rng.uniform(1.1, 1.9))
            radius = side * rng.uniform(0.025, 0.05)
            pot.line((0, 0.8), at, STEM_INK, width=4)
            draw_flower(Sketch(pen, *pot.pixels(at)[0], radius), rng)
        pot.polygon(*VASE, *((-x, y) for x, y in reversed(VASE)), fill=ink(clay))
    else:
        pen.arc(pot.box(0.2, 0.12, 0.55, 0.5), 270, 90, fill=ink(clay), width=12)
        pen.rounded_rectangle(pot.box(-0.3, 0, 0.3, 0.6), 16, fill=ink(clay))
        pot.ellipse(-0.3, 0.52, 0.3, 0.68, ink(blend(clay, SHADE, 0.6)))
    return canvas


def paint_garden(rng: random.Random, side: int) -> Canvas:
    """Paint a close-up of flowers in front of leaves."""
    light = choose_light(rng, azimuth=0, snowy=False)
    leaf = light.shade(vary(LEAF, rng), facing=0.4)
    canvas = paint_backcloth(side, blend(leaf, light.haze, 0.5), leaf, blend(leaf, SHADE, 0.4), side * 0.6)
    pen = ImageDraw.Draw(canvas)
    for _ in range(60):
        sketch = Sketch(pen, side * rng.random(), side * rng.uniform(0.3, 1), side * rng.uniform(0.02, 0.07))
        sketch.ellipse(-1, -0.5, 1, 0.5, ink(vary(leaf, rng, 0.1)))
    for near in sorted(rng.uniform(0.3, 0.95) for _ in range(rng.randint(5, 22))):
        draw_flower(Sketch(pen, side * rng.random(), side * near, side * 0.16 * near**2), rng)
    return canvas


def paint_vehicle(rng: random.Random, side: int) -> Canvas:
    """Paint a close-up of a car on a road or a boat on water."""
    camera = open_camera(rng, side)
    light = choose_light(rng, azimuth=camera.azimuth)
    ground, backdrop = "water" if rng.random() < 0.4 else "plaza", rng.choice(("hills", "open", "city", "forest"))
    canvas = paint_backdrop(ordinary_scene(rng, ground, backdrop, rng.randrange(8)), camera, light, rng)
    pen = ImageDraw.Draw(canvas)
    if ground == "water":
        boat = Sketch(pen, side * rng.uniform(0.4, 0.6), side * 0.82, side * rng.uniform(0.35, 0.5))
        draw_boat(boat, light, rng)
        paint_reflection(canvas, side * 0.83, light, rng)
    else:
        length = side * rng.uniform(0.5, 0.8)
        rear, row = (side - length) * rng.uniform(0.2, 0.8), side * rng.uniform(0.76, 0.88)
        draw_car(Sketch(pen, rear, row, length), light, rng)
    return canvas


def paint_people(rng: random.Random, side: int) -> Canvas:
    """Paint people who stand in open country."""
    camera = open_camera(rng, side)
    light = choose_light(rng, azimuth=camera.azimuth)
    ground, backdrop = rng.choice(("lawn", "plaza", "sand")), rng.choice(("hills", "open", "forest"))
    canvas = paint_backdrop(ordinary_scene(rng, ground, backdrop, 0), camera, light, rng)
    pen = ImageDraw.Draw(canvas)
    count = rng.randint(1, 5)
    for i in range(count):
        x = side * (0.5 + 0.7 * ((i + 0.5) / count - 0.5) + rng.gauss(0, 0.02))
        draw_person(Sketch(pen, x, side * rng.uniform(0.92, 1.04), side * rng.uniform(0.55, 0.75)), light, rng)
    return canvas


SUBJECTS: dict[Callable[[random.Random, int], Canvas], float] = {
    paint_landscape: 0.22,
    paint_street: 0.18,
    paint_room: 0.08,
    paint_still_life: 0.09,
    paint_garden: 0.06,
    paint_vehicle: 0.07,
    paint_people: 0.05,
}
