"""Photos that show no landmark of a dataset: landscapes, streets, rooms, still lifes, vehicles, other landmarks."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from obelisk.synthetic.camera import Camera
from obelisk.synthetic.canvas import Canvas, Sketch
from obelisk.synthetic.foreground import draw_boat, draw_car, draw_person
from obelisk.synthetic.light import choose_light
from obelisk.synthetic.mesh import Mesh, MeshBuilder
from obelisk.synthetic.palette import ACCENTS, ROOFS, SHADE, STONES, WHITE, Color, blend, ink, rgb, vary
from obelisk.synthetic.rendering import SUPERSAMPLING, develop, paint_scene, render_photo
from obelisk.synthetic.scene import Backdrop, Ground, Scene, Tree, TreeKind
from obelisk.synthetic.scenery import paint_backdrop, paint_reflection
from obelisk.synthetic.trees import draw_tree, paint_tree

# A quarter shows landmarks that are in no dataset: their seeds are out of reach of any. (The background of the bundled
# model dates from when there were thirteen kinds of landmarks: 24 of its 160 photos would show another kind today.)
LANDMARK_SHARE, FIRST_SEED, SEED_STEP = 0.25, 1 << 40, 100_003
TREE_KINDS: tuple[TreeKind, ...] = ("round", "conifer", "cypress")
WALLPAPERS = tuple(map(rgb, (0xE8DECC, 0xBCCCCE, 0xD6BAA6, 0xB0BEA6, 0xE2E2E4)))
FLOORS, TABLES = tuple(map(rgb, (0x966E4E, 0xBAA082))), tuple(map(rgb, (0x8C6242, 0xCEBEA6)))
FRUIT = tuple(map(rgb, (0xCE3A2E, 0xECAA36, 0x80A63E, 0x783E6E, 0xF0D054)))
PETALS = (*FRUIT, rgb(0xF0ECF0), rgb(0xD682AA))
WINDOW_FRAME = rgb(0xF4F2EC)
STEM_INK, POLLEN_INK, BALL_SHADOW_INK, LAMPSHADE_INK = (74, 110, 62), (226, 178, 64), (60, 48, 44), (250, 226, 168)
# The right half of a vase's outline, from the table up.
VASE = ((0.2, 0.0), (0.3, 0.3), (0.12, 1.0))


def render_distractor(seed: int, photo_index: int, size: int = 224) -> Image.Image:
    """Render a photo that shows no landmark of any dataset: RGB, ``size`` × ``size`` pixels."""
    rng = random.Random(f"distractor {seed} {photo_index}")
    if rng.random() < LANDMARK_SHARE:
        return render_photo(FIRST_SEED + seed * SEED_STEP + photo_index, 0, size)
    subject = rng.choices(list(SUBJECTS), list(SUBJECTS.values()))[0]
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
        keystone=0,
        side=side,
    )


def ordinary_scene(rng: random.Random, ground: Ground, backdrop: Backdrop, mesh: Mesh) -> Scene:
    """Return a scene without a landmark."""
    kind: TreeKind = "palm" if ground == "sand" else rng.choice(TREE_KINDS)
    trees = tuple(
        Tree(x=rng.uniform(-3, 3), y=rng.uniform(-2, 3), height=rng.uniform(0.2, 0.6), kind=kind)
        for _ in range(rng.choice((0, 6, 14)))
    )
    return Scene(
        kind=None,
        mesh=mesh,
        ground=ground,
        backdrop=backdrop,
        outline=tuple((rng.uniform(0.3, 1) / i, i * 2.0, rng.uniform(0, 6.28)) for i in range(1, 5)),
        trees=() if ground == "water" else trees,
        tone=rng.uniform(-1, 1),
        snowy=True,
    )


@functools.lru_cache(maxsize=16)
def house_row(seed: int) -> Mesh:
    """Build a row of plain houses, or one block of flats, as found in any town."""
    rng = random.Random(f"houses {seed}")
    b = MeshBuilder()
    count = rng.choice((1, 2, 3, 4))
    width = 1.8 / count
    for i in range(count):
        x = (i - (count - 1) / 2) * width * rng.uniform(1.0, 1.15)
        wall, roof = vary(rng.choice(STONES), rng), vary(rng.choice(ROOFS), rng)
        height, deep = rng.uniform(0.35, 0.9), rng.uniform(0.4, 0.7)
        b.start(x, 0)
        walls = b.box(x, 0, width * 0.92, deep, 0, height, wall)
        for side in walls:
            b.windows(side, max(2, round(width * 5)), max(1, round(height * 5)), fill=0.45)
        b.panel(walls[0], (0.42, 0.58), (0, 0.2 / height), vary(rng.choice(ACCENTS), rng))
        if rng.random() < 0.6:
            b.gable(x, 0, width * 0.98, deep * 1.06, height, height + width * rng.uniform(0.2, 0.45), roof, wall)
    return b.build()


def paint_landscape(rng: random.Random, side: int) -> Canvas:
    """Paint hills, a forest, a beach, a lake or a desert."""
    camera = open_camera(rng, side)
    light = choose_light(rng, azimuth=camera.azimuth, snowy=True)
    grounds: tuple[Ground, ...] = ("lawn", "lawn", "sand", "rock", "water")
    backdrops: tuple[Backdrop, ...] = ("hills", "mountains", "forest", "open", "mountains")
    scene = ordinary_scene(rng, rng.choice(grounds), rng.choice(backdrops), house_row(rng.randrange(8)))
    canvas = paint_backdrop(scene, camera, light, rng)
    pen = ImageDraw.Draw(canvas)
    if scene.ground == "water":
        paint_reflection(canvas, camera.horizon + 4, light, rng)
        if rng.random() < 0.5:
            y = camera.horizon + side * rng.uniform(0.1, 0.3)
            draw_boat(pen, side * rng.uniform(0.2, 0.8), y, side * 0.14, light, rng)
    for tree in sorted(scene.trees, key=lambda tree: -tree.y):
        paint_tree(pen, camera, light, tree)
    for _ in range(0 if scene.ground == "water" else rng.choice((0, 0, 2))):
        draw_person(Sketch(pen, side * rng.random(), side * rng.uniform(0.85, 0.98), side * 0.16), light, rng)
    return canvas


def paint_street(rng: random.Random, side: int) -> Canvas:
    """Paint ordinary houses."""
    mesh = house_row(rng.randrange(10**6))
    country = open_camera(rng, side)
    base, height = side * rng.uniform(0.72, 0.88), country.height * 0.6
    focal = side * rng.uniform(0.6, 1.1) * country.distance / 2
    camera = Camera(
        azimuth=rng.uniform(-0.7, 0.7),
        distance=country.distance,
        height=height,
        focal=focal,
        center=side * rng.uniform(0.4, 0.6),
        horizon=base - focal * height / country.distance,
        keystone=0,
        side=side,
    )
    light = choose_light(rng, azimuth=camera.azimuth, snowy=True)
    grounds: tuple[Ground, ...] = ("plaza", "lawn")
    backdrops: tuple[Backdrop, ...] = ("city", "hills", "open", "forest")
    return paint_scene(ordinary_scene(rng, rng.choice(grounds), rng.choice(backdrops), mesh), camera, light, rng)


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
    pen.rectangle((x, y, x + w, y + h), fill=ink(light.middle))
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
    column = np.stack(bands, axis=-1).astype(np.uint8)[:, None]
    return Image.fromarray(column).resize((side, side), Image.Resampling.NEAREST)


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
            draw_flower(Sketch(pen, *pot.pixel(*at), radius), rng)
        pot.polygon(*VASE, *((-x, y) for x, y in reversed(VASE)), fill=ink(clay))
    else:
        pen.arc(pot.box(0.2, 0.12, 0.55, 0.5), 270, 90, fill=ink(clay), width=12)
        pen.rounded_rectangle(pot.box(-0.3, 0, 0.3, 0.6), 16, fill=ink(clay))
        pot.ellipse(-0.3, 0.52, 0.3, 0.68, ink(blend(clay, SHADE, 0.6)))
    return canvas


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


def paint_garden(rng: random.Random, side: int) -> Canvas:
    """Paint a close-up of flowers in front of leaves."""
    light = choose_light(rng, azimuth=0, snowy=False)
    leaf = light.shade(vary(rgb(0x46703E), rng), facing=0.4)
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
    light = choose_light(rng, azimuth=camera.azimuth, snowy=True)
    ground: Ground = "water" if rng.random() < 0.4 else "plaza"
    backdrops: tuple[Backdrop, ...] = ("hills", "open", "city", "forest")
    scene = ordinary_scene(rng, ground, rng.choice(backdrops), house_row(rng.randrange(8)))
    canvas = paint_backdrop(scene, camera, light, rng)
    pen = ImageDraw.Draw(canvas)
    if ground == "water":
        draw_boat(pen, side * rng.uniform(0.4, 0.6), side * 0.82, side * rng.uniform(0.35, 0.5), light, rng)
        paint_reflection(canvas, side * 0.83, light, rng)
    else:
        length = side * rng.uniform(0.5, 0.8)
        rear, row = (side - length) * rng.uniform(0.2, 0.8), side * rng.uniform(0.76, 0.88)
        draw_car(Sketch(pen, rear, row, length), light, rng)
    return canvas


def paint_people(rng: random.Random, side: int) -> Canvas:
    """Paint people who stand in open country."""
    camera = open_camera(rng, side)
    light = choose_light(rng, azimuth=camera.azimuth, snowy=True)
    grounds: tuple[Ground, ...] = ("lawn", "plaza", "sand")
    backdrops: tuple[Backdrop, ...] = ("hills", "open", "forest")
    scene = ordinary_scene(rng, rng.choice(grounds), rng.choice(backdrops), house_row(0))
    canvas = paint_backdrop(scene, camera, light, rng)
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
