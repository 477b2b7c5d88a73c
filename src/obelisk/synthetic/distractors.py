"""Photos that show no landmark of a dataset: open country, streets, still lifes, other landmarks."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from PIL import Image, ImageDraw

from obelisk.synthetic.camera import Camera
from obelisk.synthetic.palette import ACCENTS, BLACK, SHADE, STONES, blend, ink, rgb, vary
from obelisk.synthetic.rendering import SUPERSAMPLING, choose_camera, develop, paint_scene, render_photo
from obelisk.synthetic.scene import COUNTRY, STREET, build_scene
from obelisk.synthetic.scenery import Canvas, paint_bands
from obelisk.synthetic.sketches import draw_ball, draw_figure, draw_flower

# A quarter shows landmarks that are in no dataset: their seeds are out of reach of any.
LANDMARK_SHARE, FIRST_SEED, SEED_STEP = 0.25, 1 << 40, 100_003
WALLPAPERS = tuple(map(rgb, (0xE8DECC, 0xBCCCCE, 0xD6BAA6, 0xB0BEA6, 0xE2E2E4)))
WOODS = tuple(map(rgb, (0x966E4E, 0xBAA082, 0x8C6242, 0xCEBEA6)))
STEM_INK = (74, 110, 62)


def render_distractor(seed: int, photo_index: int, size: int = 224) -> Image.Image:
    """Render a photo that shows no landmark of any dataset: RGB, ``size`` × ``size`` pixels."""
    rng = random.Random(f"distractor {seed} {photo_index}")
    if rng.random() < LANDMARK_SHARE:
        return render_photo(FIRST_SEED + seed * SEED_STEP + photo_index, 0, size)
    (subject,) = rng.choices(list(SUBJECTS), list(SUBJECTS.values()))
    return develop(subject(rng, size * SUPERSAMPLING), rng)


def paint_street(rng: random.Random, side: int) -> Canvas:
    """Paint ordinary houses."""
    scene = build_scene(STREET, rng)
    return paint_scene(scene, choose_camera(scene, rng, side), rng)


def paint_country(rng: random.Random, side: int) -> Canvas:
    """Paint a landscape: hills, a forest, a beach, a lake or a desert."""
    camera = Camera(
        azimuth=rng.uniform(-math.pi, math.pi),
        distance=rng.uniform(3, 5),
        height=rng.uniform(0.15, 0.6),
        focal=side * rng.uniform(0.9, 1.6),
        center=side / 2,
        horizon=side * rng.uniform(0.4, 0.66),
        side=side,
    )
    return paint_scene(build_scene(COUNTRY, rng), camera, rng)


def paint_still_life(rng: random.Random, side: int) -> Canvas:
    """Paint things on a table: fruit, and a vase with flowers."""
    wall, table = vary(rng.choice(WALLPAPERS), rng), vary(rng.choice(WOODS), rng)
    edge = round(side * rng.uniform(0.5, 0.65))
    canvas = paint_bands(side, (blend(wall, SHADE, 0.35), wall, wall), (table, blend(table, BLACK, 0.3)), edge)
    pen = ImageDraw.Draw(canvas)
    for _ in range(rng.randint(2, 6)):
        spot = (side * rng.uniform(0.1, 0.9), side * rng.uniform(0.66, 0.86))
        draw_ball(pen, spot, side * rng.uniform(0.05, 0.12), rng)
    column, row, size = side * rng.uniform(0.3, 0.7), side * 0.8, side * rng.uniform(0.25, 0.4)
    for _ in range(rng.randint(4, 9)):
        spot = (column + size * rng.gauss(0, 0.3), row - size * rng.uniform(1.1, 1.9))
        pen.line((column, row - size * 0.8, *spot), fill=STEM_INK, width=side // 100)
        draw_flower(pen, spot, side * rng.uniform(0.025, 0.05), rng)
    draw_figure(pen, (column, row), size, "vase", {"clay": ink(vary(rng.choice((*ACCENTS, *STONES)), rng))})
    return canvas


SUBJECTS: dict[Callable[[random.Random, int], Canvas], float] = {
    paint_country: 0.34,
    paint_street: 0.18,
    paint_still_life: 0.2,
}
