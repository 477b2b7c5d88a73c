"""Photos that show no landmark of a dataset: landscapes, streets, rooms, still lifes, vehicles, other landmarks."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from obelisk.synthetic.camera import Camera, Canvas, Draw
from obelisk.synthetic.clutter import draw_boat, draw_car, draw_person
from obelisk.synthetic.landmark import Backdrop, Ground, Landmark, Tree, TreeKind
from obelisk.synthetic.light import Light, choose_light, lit
from obelisk.synthetic.mesh import Builder, Mesh
from obelisk.synthetic.palette import ACCENTS, GLASS, ROOFS, SHADE, STONES, mix, rgb, to_bytes, vary
from obelisk.synthetic.rendering import SUPERSAMPLING, develop, paint_scene, render_photo
from obelisk.synthetic.scenery import draw_tree, paint_backdrop, paint_reflection, paint_tree

# A quarter of them are landmarks that are in no dataset: their seeds are out of reach of any.
OTHERS, OTHER_LANDMARKS = 0.25, 1 << 40
WALLS = (rgb(232, 222, 204), rgb(188, 204, 206), rgb(214, 186, 166), rgb(176, 190, 166), rgb(226, 226, 228))
FRUIT = (rgb(206, 58, 46), rgb(236, 170, 54), rgb(128, 166, 62), rgb(120, 62, 110), rgb(240, 208, 84))


def render_distractor(seed: int, photo_index: int, size: int = 224) -> Image.Image:
    """Return a photo that shows no landmark of any dataset: RGB, ``size`` × ``size`` pixels."""
    chance = random.Random(f"distractor {seed} {photo_index}")
    if chance.random() < OTHERS:
        return render_photo(OTHER_LANDMARKS + seed * 100_003 + photo_index, 0, size)
    subject = chance.choices(list(SUBJECTS), list(SUBJECTS.values()))[0]
    return develop(subject(chance, size * SUPERSAMPLING), chance)


def open_camera(chance: random.Random, side: int) -> Camera:
    """Return a camera that looks at open country."""
    return Camera(
        azimuth=chance.uniform(-math.pi, math.pi),
        distance=chance.uniform(3, 5),
        height=chance.uniform(0.15, 0.5),
        focal=side * chance.uniform(0.9, 1.6),
        centre=side / 2,
        horizon=side * chance.uniform(0.4, 0.66),
        keystone=0,
        side=side,
    )


def landscape(chance: random.Random, side: int) -> Canvas:
    """Paint hills, a forest, a beach, a lake or a desert."""
    camera = open_camera(chance, side)
    light = choose_light(chance, azimuth=camera.azimuth, snowy=True)
    grounds: tuple[Ground, ...] = ("lawn", "lawn", "sand", "rock", "water")
    backdrops: tuple[Backdrop, ...] = ("hills", "mountains", "forest", "open", "mountains")
    place = stage(chance, chance.choice(grounds), chance.choice(backdrops), house_row(chance.randrange(8)))
    canvas = paint_backdrop(place, camera, light, chance)
    if place.ground == "water":
        paint_reflection(canvas, camera.horizon + 4, light, chance)
        if chance.random() < 0.5:
            y = camera.horizon + side * chance.uniform(0.1, 0.3)
            draw_boat(ImageDraw.Draw(canvas), side * chance.uniform(0.2, 0.8), y, side * 0.14, light, chance)
    pen = ImageDraw.Draw(canvas)
    for tree in sorted(place.trees, key=lambda tree: -tree.y):
        paint_tree(pen, camera, light, tree)
    for _ in range(0 if place.ground == "water" else chance.choice((0, 0, 2))):
        draw_person(pen, side * chance.random(), side * chance.uniform(0.85, 0.98), side * 0.16, light, chance)
    return canvas


def stage(chance: random.Random, ground: Ground, backdrop: Backdrop, mesh: Mesh) -> Landmark:
    """Return a place that is no landmark."""
    kinds: tuple[TreeKind, ...] = ("round", "conifer", "cypress", "palm")
    kind: TreeKind = "palm" if ground == "sand" else chance.choice(kinds[:3])
    trees = [
        Tree(x=chance.uniform(-3, 3), y=chance.uniform(-2, 3), height=chance.uniform(0.2, 0.6), kind=kind)
        for _ in range(chance.choice((0, 6, 14)))
    ]
    return Landmark(
        kind="tower",
        mesh=mesh,
        ground=ground,
        backdrop=backdrop,
        outline=tuple((chance.uniform(0.3, 1) / (i + 1), (i + 1) * 2.0, chance.uniform(0, 6.28)) for i in range(4)),
        trees=() if ground == "water" else tuple(trees),
        favourites=(0.0,),
        tone=chance.uniform(-1, 1),
        snowy=True,
    )


@functools.lru_cache(maxsize=16)
def house_row(seed: int) -> Mesh:
    """Return a row of plain houses, or one block of flats, such as stand in any town."""
    chance = random.Random(f"houses {seed}")
    b = Builder()
    count = chance.choice((1, 2, 3, 4))
    width = 1.8 / count
    for i in range(count):
        x = (i - (count - 1) / 2) * width * chance.uniform(1.0, 1.15)
        wall, roof = vary(chance.choice(STONES), chance), vary(chance.choice(ROOFS), chance)
        height, deep = chance.uniform(0.35, 0.9), chance.uniform(0.4, 0.7)
        b.start(x, 0)
        walls = b.box(x, 0, width * 0.92, deep, 0, height, wall)
        for side in walls:
            b.windows(side, max(2, round(width * 5)), max(1, round(height * 5)), GLASS, fill=0.45)
        b.panel(walls[0], (0.42, 0.58), (0, 0.2 / height), vary(chance.choice(ACCENTS), chance))
        if chance.random() < 0.6:
            b.gable(x, 0, width * 0.98, deep * 1.06, height, height + width * chance.uniform(0.2, 0.45), roof, wall)
    return b.build()


def street(chance: random.Random, side: int) -> Canvas:
    """Paint ordinary houses."""
    mesh = house_row(chance.randrange(10**6))
    camera = open_camera(chance, side)
    base, height = side * chance.uniform(0.72, 0.88), camera.height * 0.6
    focal = side * chance.uniform(0.6, 1.1) * camera.distance / 2
    camera = Camera(
        azimuth=chance.uniform(-0.7, 0.7),
        distance=camera.distance,
        height=height,
        focal=focal,
        centre=side * chance.uniform(0.4, 0.6),
        horizon=base - focal * height / camera.distance,
        keystone=0,
        side=side,
    )
    light = choose_light(chance, azimuth=camera.azimuth, snowy=True)
    grounds: tuple[Ground, ...] = ("plaza", "lawn")
    backdrops: tuple[Backdrop, ...] = ("city", "hills", "open", "forest")
    place = stage(chance, chance.choice(grounds), chance.choice(backdrops), mesh)
    return paint_scene(place, camera, light, chance)


def indoor_light(chance: random.Random) -> Light:
    """Return the even light of a room."""
    return choose_light(chance, azimuth=0, snowy=False)


def room(chance: random.Random, side: int) -> Canvas:
    """Paint a room: a wall, a floor, a window, a sofa, a lamp, pictures."""
    light, s = indoor_light(chance), side
    wall, floor = (
        vary(chance.choice(WALLS), chance),
        vary(chance.choice((rgb(150, 110, 78), rgb(186, 160, 130))), chance),
    )
    edge = s * chance.uniform(0.62, 0.74)
    canvas = shaded(s, to_bytes(mix(wall, SHADE, 0.12)), to_bytes(wall), to_bytes(floor), edge)
    pen = ImageDraw.Draw(canvas)
    x, y, w, h = s * chance.uniform(0.08, 0.5), s * 0.12, s * chance.uniform(0.22, 0.36), s * chance.uniform(0.28, 0.4)
    pen.rectangle((x - 8, y - 8, x + w + 8, y + h + 8), fill=to_bytes(rgb(244, 242, 236)))
    pen.rectangle((x, y, x + w, y + h), fill=to_bytes(light.middle))
    draw_tree(pen, x + w * 0.6, y + h, h * 0.7, "round", light, far=0.2)
    pen.line((x + w / 2, y, x + w / 2, y + h), fill=to_bytes(rgb(244, 242, 236)), width=8)
    for _ in range(chance.randint(0, 3)):
        px, py, pw = s * chance.uniform(0.55, 0.85), s * chance.uniform(0.1, 0.35), s * chance.uniform(0.08, 0.16)
        pen.rectangle((px - 5, py - 5, px + pw + 5, py + pw * 1.2 + 5), fill=to_bytes(chance.choice(ACCENTS)))
        pen.rectangle((px, py, px + pw, py + pw * 1.2), fill=to_bytes(vary(chance.choice(STONES), chance)))
    cloth = vary(chance.choice((*ACCENTS, *ROOFS)), chance)
    left, wide, seat = s * chance.uniform(0.05, 0.4), s * chance.uniform(0.4, 0.6), edge + s * 0.04
    pen.rounded_rectangle(
        (left, seat - s * 0.24, left + wide, seat + s * 0.1), 24, fill=to_bytes(mix(cloth, SHADE, 0.25))
    )
    pen.rounded_rectangle((left - 20, seat - s * 0.1, left + wide + 20, seat + s * 0.13), 24, fill=to_bytes(cloth))
    at = s * chance.choice((0.06, 0.92))
    pen.line((at, seat + s * 0.08, at, s * 0.36), fill=to_bytes(SHADE), width=5)
    pen.polygon(
        (at - s * 0.07, s * 0.38, at - s * 0.04, s * 0.26, at + s * 0.04, s * 0.26, at + s * 0.07, s * 0.38),
        fill=(250, 226, 168),
    )
    return canvas


def shaded(
    side: int, top: tuple[int, int, int], middle: tuple[int, int, int], bottom: tuple[int, int, int], edge: float
) -> Canvas:
    """Return a background of two gradients that meet at a row."""
    rows = np.arange(side)
    dark = [round(value * 0.7) for value in bottom]
    bands = [
        np.where(
            rows < edge,
            np.interp(rows, (0, edge), (top[i], middle[i])),
            np.interp(rows, (edge, side), (bottom[i], dark[i])),
        )
        for i in range(3)
    ]
    column = np.stack(bands, axis=-1).astype(np.uint8)[:, None]
    return Image.fromarray(column).resize((side, side), Image.Resampling.NEAREST)


def still_life(chance: random.Random, side: int) -> Canvas:
    """Paint things on a table: fruit, a mug, a vase with flowers."""
    s = side
    back, table = (
        vary(chance.choice(WALLS), chance),
        vary(chance.choice((rgb(140, 98, 66), rgb(206, 190, 166))), chance),
    )
    canvas = shaded(s, to_bytes(mix(back, SHADE, 0.35)), to_bytes(back), to_bytes(table), s * chance.uniform(0.5, 0.65))
    pen = ImageDraw.Draw(canvas)
    for _ in range(chance.randint(2, 6)):
        draw_ball(
            pen, s * chance.uniform(0.1, 0.9), s * chance.uniform(0.66, 0.86), s * chance.uniform(0.05, 0.12), chance
        )
    x, y, h = s * chance.uniform(0.3, 0.7), s * 0.8, s * chance.uniform(0.25, 0.4)
    clay = vary(chance.choice((*ACCENTS, *STONES)), chance)
    if chance.random() < 0.6:
        for _ in range(chance.randint(4, 9)):
            fx, fy, r = x + chance.gauss(0, 0.3) * h, y - h * chance.uniform(1.1, 1.9), s * chance.uniform(0.025, 0.05)
            pen.line((x, y - h * 0.8, fx, fy), fill=(74, 110, 62), width=4)
            draw_flower(pen, fx, fy, r, chance)
        pen.polygon(
            (
                x - h * 0.12,
                y - h,
                x + h * 0.12,
                y - h,
                x + h * 0.3,
                y - h * 0.3,
                x + h * 0.2,
                y,
                x - h * 0.2,
                y,
                x - h * 0.3,
                y - h * 0.3,
            ),
            fill=to_bytes(clay),
        )
    else:
        pen.arc((x + h * 0.2, y - h * 0.5, x + h * 0.55, y - h * 0.12), 270, 90, fill=to_bytes(clay), width=12)
        pen.rounded_rectangle((x - h * 0.3, y - h * 0.6, x + h * 0.3, y), 16, fill=to_bytes(clay))
        pen.ellipse((x - h * 0.3, y - h * 0.68, x + h * 0.3, y - h * 0.52), fill=to_bytes(mix(clay, SHADE, 0.6)))
    return canvas


def draw_ball(pen: Draw, x: float, y: float, r: float, chance: random.Random) -> None:
    """Draw a fruit or a ball, round by its shading."""
    paint = vary(chance.choice(FRUIT), chance)
    pen.ellipse((x - r * 1.1, y + r * 0.6, x + r * 1.2, y + r * 1.1), fill=(60, 48, 44))
    for step in range(6):
        k = 1 - step / 7
        colour = mix(mix(paint, SHADE, 0.4), mix(paint, (1, 1, 1), 0.35), step / 5)
        pen.ellipse(
            (
                x - r * k - r * 0.2 * (1 - k),
                y - r * k - r * 0.3 * (1 - k),
                x + r * k - r * 0.2 * (1 - k),
                y + r * k - r * 0.3 * (1 - k),
            ),
            fill=to_bytes(colour),
        )


def draw_flower(pen: Draw, x: float, y: float, r: float, chance: random.Random) -> None:
    """Draw a flower of six petals."""
    petal = to_bytes(vary(chance.choice((*FRUIT, rgb(240, 236, 240), rgb(214, 130, 170))), chance))
    for turn in range(6):
        px, py = x + r * 0.7 * math.cos(turn * math.pi / 3), y + r * 0.7 * math.sin(turn * math.pi / 3)
        pen.ellipse((px - r * 0.55, py - r * 0.55, px + r * 0.55, py + r * 0.55), fill=petal)
    pen.ellipse((x - r * 0.4, y - r * 0.4, x + r * 0.4, y + r * 0.4), fill=(226, 178, 64))


def garden(chance: random.Random, side: int) -> Canvas:
    """Paint flowers from near, before leaves."""
    light = choose_light(chance, azimuth=0, snowy=False)
    leaf = lit(vary(rgb(70, 112, 62), chance), light, facing=0.4)
    canvas = shaded(
        side, to_bytes(mix(leaf, light.haze, 0.5)), to_bytes(leaf), to_bytes(mix(leaf, SHADE, 0.4)), side * 0.6
    )
    pen = ImageDraw.Draw(canvas)
    for _ in range(60):
        x, y, r = side * chance.random(), side * chance.uniform(0.3, 1), side * chance.uniform(0.02, 0.07)
        pen.ellipse((x - r, y - r * 0.5, x + r, y + r * 0.5), fill=to_bytes(vary(leaf, chance, 0.1)))
    for place in sorted(chance.uniform(0.3, 0.95) for _ in range(chance.randint(5, 22))):
        draw_flower(pen, side * chance.random(), side * place, side * 0.16 * place**2, chance)
    return canvas


def vehicle(chance: random.Random, side: int) -> Canvas:
    """Paint a car on a road or a boat on water, from near."""
    camera = open_camera(chance, side)
    light = choose_light(chance, azimuth=camera.azimuth, snowy=True)
    afloat = chance.random() < 0.4
    backdrops: tuple[Backdrop, ...] = ("hills", "open", "city", "forest")
    place = stage(chance, "water" if afloat else "plaza", chance.choice(backdrops), house_row(chance.randrange(8)))
    canvas = paint_backdrop(place, camera, light, chance)
    pen = ImageDraw.Draw(canvas)
    if afloat:
        draw_boat(pen, side * chance.uniform(0.4, 0.6), side * 0.82, side * chance.uniform(0.35, 0.5), light, chance)
        paint_reflection(canvas, side * 0.83, light, chance)
    else:
        long = side * chance.uniform(0.5, 0.8)
        draw_car(pen, (side - long) * chance.uniform(0.2, 0.8), side * chance.uniform(0.76, 0.88), long, light, chance)
    return canvas


def company(chance: random.Random, side: int) -> Canvas:
    """Paint people who stand before open country."""
    camera = open_camera(chance, side)
    light = choose_light(chance, azimuth=camera.azimuth, snowy=True)
    grounds: tuple[Ground, ...] = ("lawn", "plaza", "sand")
    place = stage(chance, chance.choice(grounds), chance.choice(("hills", "open", "forest")), house_row(0))
    canvas = paint_backdrop(place, camera, light, chance)
    pen = ImageDraw.Draw(canvas)
    count = chance.randint(1, 5)
    for i in range(count):
        x = side * (0.5 + 0.7 * ((i + 0.5) / count - 0.5) + chance.gauss(0, 0.02))
        draw_person(pen, x, side * chance.uniform(0.92, 1.04), side * chance.uniform(0.55, 0.75), light, chance)
    return canvas


SUBJECTS: dict[Callable[[random.Random, int], Canvas], float] = {
    landscape: 0.22,
    street: 0.18,
    room: 0.08,
    still_life: 0.09,
    garden: 0.06,
    vehicle: 0.07,
    company: 0.05,
}
