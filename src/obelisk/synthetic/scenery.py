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
from obelisk.synthetic.sketches import FOLIAGE, Canvas, Draw

CLOUD_SHAPES, STARS, TUFTS, HOUSES_PER_ROW, OUTLINE_POINTS = 10, 40, 45, 46, 57
GRASS = {"spring": rgb(0x86B25A), "summer": rgb(0x7A9E50), "autumn": rgb(0x9E9254), "winter": rgb(0xA6A080)}
PAVING, SAND, ROCK, SOIL, GREEN_WATER, BLUE_WATER = map(
    rgb, (0xC6BEB2, 0xE0C694, 0x8A8278, 0x96785A, 0x285C6C, 0x365884)
)
FOREST, MOUNTAIN, GRAY_HOUSE, PINK_HOUSE, LIT_WINDOW = map(rgb, (0x3C5A46, 0x606476, 0x968C86, 0xC4AA96, 0xFACE82))
STARLIGHT, SUNSHINE = (1, 1, 0.95), (1, 0.96, 0.86)
# The heights of the rows of hills, from far to near.
HILLS = {"hills": (0.5, 0.3), "mountains": (1.3, 0.55, 0.2), "forest": (0.35, 0.24), "open": ()}


def paint_backdrop(scene: Scene, camera: Camera, light: Light, rng: random.Random) -> Canvas:
    """Paint everything behind the landmark, and the ground it stands on."""
    far, near = ground_colors(scene, light)
    canvas = paint_gradients(camera, light, far, near)
    pen = ImageDraw.Draw(canvas)
    paint_sky(canvas, camera, light, rng)
    if scene.backdrop == "city":
        paint_town(pen, scene, camera, light)
    else:
        paint_hills(pen, scene, camera, light)
    if scene.ground == "plaza" and not light.snow:
        paint_paving(pen, camera, light, scene.tone)
    elif scene.ground in ("lawn", "sand", "rock"):
        paint_tufts(pen, camera, far, near, rng)
    return canvas


def ground_colors(scene: Scene, light: Light) -> tuple[Color, Color]:
    """Return the colors of the ground, far and near."""
    zenith, _, horizon = light.sky
    if scene.ground == "water":
        water = light.shade(blend(GREEN_WATER, BLUE_WATER, 0.5 + scene.tone / 2))
        return blend(horizon, water, 0.25), blend(zenith, water, 0.65)
    base = {"lawn": GRASS[light.season], "plaza": PAVING, "sand": SAND, "rock": ROCK}[scene.ground]
    base = SNOW if light.snow else blend(base, SOIL, 0.12 * (1 + scene.tone))
    facing = max(0.15, light.sun[2])
    far = light.shade(base, facing=facing, far=0.25 + 0.5 * light.fog)
    return far, light.shade(blend(base, BLACK, 0.14), facing=facing)


def paint_gradients(camera: Camera, light: Light, far: Color, near: Color) -> Canvas:
    """Paint the two gradients of every picture: the sky down to the horizon, and the ground below it."""
    horizon = min(camera.side - 1, max(1, round(camera.horizon)))
    above, below = np.linspace(0, 1, horizon) ** 1.15, np.linspace(0, 1, camera.side - horizon) ** 0.6
    channels = [
        np.concatenate([np.interp(above, (0, 0.55, 1), sky), np.interp(below, (0, 1), ground)])
        for sky, ground in zip(zip(*light.sky, strict=True), zip(far, near, strict=True), strict=True)
    ]
    return paint_rows(np.clip(np.stack(channels, axis=-1), 0, 1) * 255)


def paint_rows(colors: Floats) -> Canvas:
    """Paint a square picture whose rows have the given colors (side, 3), in 0 to 255."""
    side = len(colors)
    return Image.fromarray(colors.astype(np.uint8)[:, None]).resize((side, side), Image.Resampling.NEAREST)


def paint_sky(canvas: Canvas, camera: Camera, light: Light, rng: random.Random) -> None:
    """Paint the glow around the sun, stars, and clouds."""
    side, horizon, (zenith, middle, low) = camera.side, camera.horizon, light.sky
    ahead = math.atan2(light.sun[0], light.sun[1]) + camera.azimuth
    if math.cos(ahead) > 0.2 and light.night < 1:
        column = camera.center + camera.focal * math.tan(ahead)
        row = horizon - camera.focal * light.sun[2] / max(0.25, math.hypot(light.sun[0], light.sun[1]))
        canvas.paste(ink(blend(SUNSHINE, low, 0.5)), (int(column - side / 2), int(row - side / 2)), glow_mask(side))
    pen = ImageDraw.Draw(canvas)
    for _ in range(STARS if light.night == 1 else 0):
        star = (rng.uniform(0, side), rng.uniform(0, horizon * 0.8))
        pen.circle(star, rng.uniform(0.4, 1.3), ink(blend(STARLIGHT, zenith, rng.random() * 0.6)))
    for _ in range(round(light.clouds * 7)):
        shape = cloud_masks(side)[rng.randrange(CLOUD_SHAPES)]
        x, y = rng.uniform(-0.3, 0.9) * side, horizon * rng.uniform(-0.1, 0.72) - shape.height / 2
        canvas.paste(ink(blend(light.cloud, middle, rng.uniform(0, 0.35))), (int(x), int(y)), shape)


@functools.cache
def glow_mask(side: int) -> Image.Image:
    """Return the soft disc of light around the sun."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    near = np.clip(1 - np.hypot(x, y), 0, 1)
    return Image.fromarray((np.clip(near**2.6 * 0.75 + (near > 0.965) * 0.5, 0, 1) * 255).astype(np.uint8))


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
    """Paint the hills, mountains or forest along the horizon, row by row, paler with distance."""
    columns = np.linspace(0, camera.side, OUTLINE_POINTS)
    angles = np.arctan((columns - camera.center) / camera.focal) - camera.azimuth
    unit, base = camera.side * 0.16, camera.horizon + 3
    haze, green = blend(light.haze, light.sky[1], 0.35), blend(FOLIAGE[light.season], FOREST, 0.5)
    if scene.backdrop == "forest":
        green = blend(green, BLACK, 0.2)
    for layer, height in enumerate(HILLS[scene.backdrop]):
        rows = camera.horizon + 2 - unit * height * outline_heights(scene, angles * (1 + layer * 0.7) + layer * 2.1)
        color = blend(MOUNTAIN, green, 0.4 * layer) if scene.backdrop == "mountains" else green
        color = blend(light.shade(blend(color, SNOW, 0.6 * light.snow)), haze, 0.72 - 0.26 * layer)
        ridge = list(zip(columns.tolist(), rows.tolist(), strict=True))
        pen.polygon([*ridge, (camera.side, base), (0, base)], fill=ink(color))
        if scene.backdrop == "mountains" and layer == 0:
            caps = np.minimum(rows + unit * 0.16 * (1 + np.sin(columns * 0.9)), base)
            high = rows < camera.horizon - unit * 0.75
            snow = ink(blend(light.shade(SNOW, facing=0.6), haze, 0.5))
            edges = np.stack([columns, rows, columns, caps], axis=1)
            for i in np.flatnonzero(high[:-1] & high[1:]).tolist():
                pen.polygon([*edges[i, :2], *edges[i + 1], *edges[i, 2:]], fill=snow)


def outline_heights(scene: Scene, angles: Floats) -> Floats:
    """Return the heights of the scene's hills at some angles, from 0.05 to a little more than 1."""
    waves = sum(amplitude * np.sin(angles * frequency + phase) for amplitude, frequency, phase in scene.outline)
    heights = 0.5 + 0.28 * np.asarray(waves)
    if scene.backdrop == "mountains":
        heights += 0.35 * np.abs(np.sin(angles * 7 + scene.tone * 9)) + 0.12 * np.abs(np.sin(angles * 19))
    elif scene.backdrop == "forest":
        heights += 0.1 * np.sin(angles * 60) + 0.07 * np.sin(angles * 97 + 1)
    return np.maximum(heights, 0.05)


def paint_town(pen: Draw, scene: Scene, camera: Camera, light: Light) -> None:
    """Paint the houses of a town along the horizon, the same ones at the same angles in every photo."""
    rng = random.Random(f"town {scene.outline}")
    for row in (0, 1):
        for _ in range(HOUSES_PER_ROW):
            angle, width = rng.uniform(-math.pi, math.pi), rng.uniform(0.02, 0.06)
            height = rng.uniform(0.25, 1) ** 1.6 * (0.7 if row else 1.5)
            wall, has_roof = blend(GRAY_HOUSE, PINK_HOUSE, rng.random()), rng.random() < 0.5
            seen_at = (angle + camera.azimuth + math.pi) % (2 * math.pi) - math.pi
            if abs(seen_at) > 1.1:
                continue
            x = camera.center + camera.focal * math.tan(seen_at)
            half, top = camera.focal * width / 2, camera.horizon - camera.side * 0.13 * height
            color = light.shade(wall, facing=0.4, far=min(0.92, 0.62 - 0.2 * row + 0.4 * light.fog))
            pen.rectangle((x - half, top, x + half, camera.horizon + 3), fill=ink(color))
            if has_roof:
                roof = ink(blend(color, SNOW if light.snow else light.haze, 0.35))
                pen.polygon((x - half, top, x, top - half * 0.7, x + half, top), fill=roof)
            if light.night > 0.4 and half > 3:
                for floor in range(3):
                    y = top + (camera.horizon - top) * (0.2 + 0.25 * floor)
                    pen.rectangle((x - half * 0.4, y, x - half * 0.1, y + 2), fill=ink(LIT_WINDOW))


def paint_paving(pen: Draw, camera: Camera, light: Light, tone: float) -> None:
    """Paint the joints of a paved square, which run towards the landmark and across."""
    joint = light.ink(blend(PAVING, BLACK, 0.3), facing=max(0.15, light.sun[2]), far=0.2)
    offsets = np.arange(-9, 10) * (0.3 + 0.08 * tone)
    ends = [[(x, -3.2, 0), (x, -0.2, 0), (-2.7, -x - 2, 0), (2.7, -x - 2, 0)] for x in offsets]
    pixels, depths = camera.project(np.array(ends).reshape(-1, 3))
    lines, seen = pixels.reshape(-1, 4), depths.reshape(-1, 2).min(axis=1) >= camera.distance * 0.12
    for line in lines[seen & (np.abs(lines[:, ::2]).max(axis=1) < 9e3)].tolist():
        pen.line(line, fill=joint)


def paint_tufts(pen: Draw, camera: Camera, far: Color, near: Color, rng: random.Random) -> None:
    """Speckle a lawn, a beach or rocks with lighter and darker strokes, finer with distance."""
    for _ in range(TUFTS):
        depth = rng.random() ** 2
        y = camera.horizon + (camera.side - camera.horizon) * (0.05 + 0.95 * depth)
        x, long = rng.uniform(-10, camera.side), (4 + 30 * depth) * rng.uniform(0.4, 1.4)
        color = blend(blend(far, near, depth**0.6), WHITE if rng.random() < 0.5 else BLACK, rng.uniform(0.03, 0.1))
        pen.ellipse((x, y, x + long, y + 1 + 4 * depth), fill=ink(color))


def paint_reflection(canvas: Canvas, shore: float, light: Light, rng: random.Random) -> None:
    """Mirror what stands above the shore in the water below it, darker and rippled."""
    side, top = canvas.width, round(shore)
    deep = min(side - top, top)
    if deep < 4:
        return
    rows = np.arange(deep)
    source = np.clip(top - 1 - (rows * 1.05).astype(int), 0, side - 1)
    phase = rng.uniform(0, 6)
    sway = np.sin(rows * 0.42 + phase) * np.sin(rows * 0.13) * (1.5 + rows * 0.05)
    columns = np.clip(np.arange(side)[None, :] + sway[:, None].astype(int), 0, side - 1)
    mirrored = Image.fromarray(np.asarray(canvas)[source[:, None], columns])
    share = (0.6 - 0.34 * rows / deep) * (1 + 0.16 * np.sin(rows * 0.9 + phase) * np.sin(rows * 0.23))
    mask = Image.fromarray((share * 255).astype(np.uint8)[:, None]).resize((side, deep), Image.Resampling.NEAREST)
    canvas.paste(mirrored, (0, top), mask)
    canvas.paste(ink(light.sky[0]), (0, top, side, top + deep), mask.point([round(i * 0.2) for i in range(256)]))
