"""What lies behind and below a landmark: sky, clouds, hills, towns, ground, water."""

from __future__ import annotations

import functools
import math
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from obelisk.arrays import Floats
from obelisk.synthetic.camera import Camera
from obelisk.synthetic.light import Light
from obelisk.synthetic.palette import BLACK, SNOW, WHITE, Color, blend, ink, rgb
from obelisk.synthetic.scene import Scene
from obelisk.synthetic.sketches import FOLIAGE, Draw

Canvas = Image.Image

CLOUD_SHAPES, STARS, TUFTS, BLOCKS, OUTLINE_POINTS = 10, 40, 45, 160, 321
GRASS = {"spring": rgb(0x86B25A), "summer": rgb(0x7A9E50), "autumn": rgb(0x9E9254), "winter": rgb(0xA6A080)}
PAVING, SAND, ROCK, HOUSES = map(rgb, (0xC6BEB2, 0xE0C694, 0x8A8278, 0xAC9A90))
GREEN_WATER, BLUE_WATER, SUNSHINE, MOUNTAIN, FOREST = map(rgb, (0x285C6C, 0x365884, 0xFFF5DB, 0x606476, 0x3C5A46))
# The heights of the rows of hills, from far to near.
HILLS = {"hills": (0.5, 0.3), "mountains": (1.3, 0.55, 0.2), "forest": (0.35, 0.24), "city": (0.9, 0.5), "open": ()}


def paint_backdrop(scene: Scene, camera: Camera, light: Light, rng: random.Random) -> Canvas:
    """Paint everything behind the landmark, and the ground it stands on."""
    far, near = ground_colors(scene, light)
    horizon = min(camera.side - 1, max(1, round(camera.horizon)))
    canvas = paint_bands(camera.side, light.sky, (far, near), horizon)
    pen = ImageDraw.Draw(canvas)
    paint_sky(canvas, camera, light, rng)
    paint_hills(pen, scene, camera, light)
    if scene.ground != "water":
        paint_tufts(pen, camera, far, near, rng)
    return canvas


def paint_bands(side: int, above: tuple[Color, Color, Color], below: tuple[Color, Color], edge: int) -> Canvas:
    """Paint a background of two gradients that meet at the row ``edge``."""
    upper, lower = np.linspace(0, 1, edge) ** 1.15, np.linspace(0, 1, side - edge) ** 0.6
    channels = [
        np.concatenate([np.interp(upper, (0, 0.55, 1), top), np.interp(lower, (0, 1), bottom)])
        for top, bottom in zip(zip(*above, strict=True), zip(*below, strict=True), strict=True)
    ]
    column = (np.clip(np.stack(channels, axis=-1), 0, 1) * 255).astype(np.uint8)[:, None]
    return Image.fromarray(column).resize((side, side), Image.Resampling.NEAREST)


def ground_colors(scene: Scene, light: Light) -> tuple[Color, Color]:
    """Return the colors of the ground, far and near."""
    zenith, _, horizon = light.sky
    if scene.ground == "water":
        water = light.shade(blend(GREEN_WATER, BLUE_WATER, 0.5 + scene.tone / 2))
        return blend(horizon, water, 0.25), blend(zenith, water, 0.65)
    base = {"lawn": GRASS[light.season], "plaza": PAVING, "sand": SAND, "rock": ROCK}[scene.ground]
    base = SNOW if light.snow else blend(base, ROCK, 0.12 * (1 + scene.tone))
    facing = max(0.15, light.sun[2])
    far = light.shade(base, facing=facing, far=0.25 + 0.5 * light.fog)
    return far, light.shade(blend(base, BLACK, 0.14), facing=facing)


def paint_sky(canvas: Canvas, camera: Camera, light: Light, rng: random.Random) -> None:
    """Paint the glow around the sun, stars, and clouds."""
    side, horizon, (zenith, middle, _) = camera.side, camera.horizon, light.sky
    ahead = math.atan2(light.sun[0], light.sun[1]) + camera.azimuth
    if math.cos(ahead) > 0.2 and light.night < 1:
        column = camera.center + camera.focal * math.tan(ahead)
        row = horizon - camera.focal * light.sun[2] / max(0.25, math.hypot(light.sun[0], light.sun[1]))
        glow = (
            Image.radial_gradient("L")
            .resize((side, side))
            .point([round(max(0, 1 - i / 128) ** 2 * 190) for i in range(256)])
        )
        canvas.paste(ink(blend(SUNSHINE, light.sky[2], 0.5)), (int(column - side / 2), int(row - side / 2)), glow)
    if light.night == 1:
        pen = ImageDraw.Draw(canvas)
        for _ in range(STARS):
            star = (rng.uniform(0, side), rng.uniform(0, horizon * 0.8))
            pen.circle(star, rng.uniform(0.4, 1.3), ink(blend(WHITE, zenith, rng.random() * 0.6)))
    for _ in range(round(light.clouds * 7)):
        shape = rng.choice(cloud_masks(side))
        x, y = rng.uniform(-0.3, 0.9) * side, horizon * rng.uniform(-0.1, 0.72) - shape.height / 2
        canvas.paste(ink(blend(light.cloud, middle, rng.uniform(0, 0.35))), (int(x), int(y)), shape)


@functools.cache
def cloud_masks(side: int) -> tuple[Image.Image, ...]:
    """Return soft clouds: puffs along a flat base, blurred, with room for the blur around them."""
    rng = random.Random("clouds")
    blur = side / 70
    pad = round(blur * 3)
    masks = []
    for _ in range(CLOUD_SHAPES):
        width, height = side * rng.uniform(0.3, 0.75), side * rng.uniform(0.06, 0.13)
        mask = Image.new("L", (round(width) + 2 * pad, round(height) + 2 * pad))
        pen = ImageDraw.Draw(mask)
        for _ in range(rng.randint(10, 18)):
            along = min(0.95, max(0.05, rng.gauss(0.5, 0.2)))
            r = height * rng.uniform(0.2, 0.5) * (1.1 - 1.6 * abs(along - 0.5))
            long = min(r * 2.4, width * min(along, 1 - along))
            x, y = pad + width * along, pad + height - r
            pen.ellipse((x - long, y - r, x + long, y + r), fill=rng.randint(130, 225))
        masks.append(mask.filter(ImageFilter.GaussianBlur(blur)))
    return tuple(masks)


def paint_hills(pen: Draw, scene: Scene, camera: Camera, light: Light) -> None:
    """Paint the hills, mountains, forest or town along the horizon, row by row, paler with distance."""
    columns = np.linspace(0, camera.side, OUTLINE_POINTS)
    angles = np.arctan((columns - camera.center) / camera.focal) - camera.azimuth
    unit, base = camera.side * 0.16, camera.horizon + 3
    haze, near = blend(light.haze, light.sky[1], 0.35), blend(FOLIAGE[light.season], FOREST, 0.5)
    far = {"mountains": MOUNTAIN, "city": HOUSES}.get(scene.backdrop, near)
    for layer, height in enumerate(HILLS[scene.backdrop]):
        rows = camera.horizon + 2 - unit * height * outline_heights(scene, angles * (1 + layer * 0.7) + layer * 2.1)
        color = blend(far, near, 0.4 * layer)
        color = blend(light.shade(blend(color, SNOW, 0.6 * light.snow)), haze, 0.72 - 0.26 * layer)
        ridge = list(zip(columns.tolist(), rows.tolist(), strict=True))
        pen.polygon([*ridge, (camera.side, base), (0, base)], fill=ink(color))
        if scene.backdrop == "mountains" and layer == 0:
            # Snow caps: what is high, down to a jagged line.
            line = camera.horizon - unit * (0.75 + 0.12 * np.sin(columns * 40 / camera.side))
            snow, high = ink(blend(light.shade(SNOW, facing=0.6), haze, 0.5)), rows < line
            edges = np.stack([columns, rows, columns, line], axis=1)
            for i in np.flatnonzero(high[:-1] & high[1:]).tolist():
                pen.polygon([*edges[i, :2], *edges[i + 1], *edges[i, 2:]], fill=snow)


def outline_heights(scene: Scene, angles: Floats) -> Floats:
    """Return the heights of the scene's hills or houses at some angles, from 0.05 to a little more than 1."""
    waves = sum(amplitude * np.sin(angles * frequency + phase) for amplitude, frequency, phase in scene.outline)
    heights = 0.5 + 0.28 * np.asarray(waves)
    if scene.backdrop == "mountains":
        heights += 0.35 * np.abs(np.sin(angles * 7 + scene.tone * 9)) + 0.12 * np.abs(np.sin(angles * 19))
    elif scene.backdrop == "forest":
        heights += 0.1 * np.sin(angles * 60) + 0.07 * np.sin(angles * 97 + 1)
    elif scene.backdrop == "city":
        blocks = np.random.default_rng(round(1e6 * scene.outline[0][0])).random(BLOCKS) ** 2
        heights = blocks[(angles * BLOCKS / (2 * math.pi)).astype(int) % BLOCKS]
    return np.maximum(heights, 0.05)


def paint_tufts(pen: Draw, camera: Camera, far: Color, near: Color, rng: random.Random) -> None:
    """Speckle a lawn, a beach or rocks with lighter and darker strokes, finer with distance."""
    for _ in range(TUFTS):
        depth = rng.random() ** 2
        y = camera.horizon + (camera.side - camera.horizon) * (0.05 + 0.95 * depth)
        x, long = rng.uniform(-10, camera.side), (4 + 30 * depth) * rng.uniform(0.4, 1.4)
        color = blend(blend(far, near, depth**0.6), rng.choice((WHITE, BLACK)), rng.uniform(0.03, 0.1))
        pen.ellipse((x, y, x + long, y + 1 + 4 * depth), fill=ink(color))


def paint_reflection(canvas: Canvas, shore: float, light: Light, rng: random.Random) -> None:
    """Mirror what stands above the shore in the water below it, darker and rippled."""
    side, top = canvas.width, round(shore)
    deep = min(side - top, top)
    if deep < 4:
        return
    rows, phase = np.arange(deep), rng.uniform(0, 6)
    sway = np.sin(rows * 0.42 + phase) * np.sin(rows * 0.13) * (1.5 + rows * 0.05)
    columns = np.clip(np.arange(side) + sway.astype(int)[:, None], 0, side - 1)
    mirrored = Image.fromarray(np.asarray(canvas)[top - 1 - rows[:, None], columns])
    share = (0.55 - 0.34 * rows / deep) * (1 + 0.16 * np.sin(rows * 0.9 + phase) * np.sin(rows * 0.23))
    mask = Image.fromarray((share * 255).astype(np.uint8)[:, None]).resize((side, deep), Image.Resampling.NEAREST)
    canvas.paste(Image.blend(mirrored, Image.new("RGB", mirrored.size, ink(light.sky[0])), 0.2), (0, top), mask)
