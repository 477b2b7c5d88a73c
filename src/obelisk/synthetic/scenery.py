"""What lies behind and below a landmark: sky, clouds, hills, towns, ground, water, trees."""

from __future__ import annotations

import functools
import math
import random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from obelisk.synthetic.camera import Camera, Canvas, Draw
from obelisk.synthetic.landmark import Backdrop, Ground, Landmark, Tree
from obelisk.synthetic.light import Light, lit, times
from obelisk.synthetic.palette import Colour, mix, rgb, to_bytes

CLOUD_SHAPES = 10
FOLIAGE = {
    "spring": rgb(138, 182, 92),
    "summer": rgb(84, 134, 66),
    "autumn": rgb(206, 132, 58),
    "winter": rgb(122, 108, 92),
}
GRASS = {
    "spring": rgb(134, 178, 90),
    "summer": rgb(122, 158, 80),
    "autumn": rgb(158, 146, 84),
    "winter": rgb(166, 160, 128),
}
PAVING, SAND, ROCK, SNOW = rgb(198, 190, 178), rgb(224, 198, 148), rgb(138, 130, 120), rgb(240, 244, 250)


def paint_backdrop(landmark: Landmark, camera: Camera, light: Light, chance: random.Random) -> Canvas:
    """Return a picture of everything behind the landmark, and of the ground it stands on."""
    canvas = paint_gradients(camera, light, ground_colours(landmark.ground, landmark.tone, light))
    paint_sky(canvas, camera, light, chance)
    paint_distance(canvas, landmark, camera, light)
    if landmark.ground == "plaza" and not light.snow:
        paint_paving(ImageDraw.Draw(canvas), camera, light, landmark)
    elif landmark.ground in ("lawn", "sand", "rock"):
        paint_tufts(ImageDraw.Draw(canvas), camera, light, landmark, chance)
    return canvas


def ground_colours(ground: Ground, tone: float, light: Light) -> tuple[Colour, Colour]:
    """Return the colours of the ground, far and near."""
    if ground == "water":
        deep = mix(rgb(40, 92, 108), rgb(54, 88, 132), 0.5 + tone / 2)
        return mix(light.horizon, lit(deep, light), 0.25), mix(light.zenith, lit(deep, light), 0.65)
    base = {"lawn": GRASS[light.season], "plaza": PAVING, "sand": SAND, "rock": ROCK}[ground]
    base = SNOW if light.snow else mix(base, rgb(150, 120, 90), 0.12 * (1 + tone))
    facing = max(0.15, light.sun[2])
    return lit(base, light, facing=facing, far=0.25 + 0.5 * light.fog), lit(
        mix(base, (0, 0, 0), 0.14), light, facing=facing
    )


def paint_gradients(camera: Camera, light: Light, ground: tuple[Colour, Colour]) -> Canvas:
    """Return the two gradients of every picture: the sky down to the horizon, and the ground below it."""
    horizon = min(camera.side - 1, max(1, round(camera.horizon)))
    above = np.linspace(0, 1, horizon) ** 1.15
    below = np.linspace(0, 1, camera.side - horizon) ** 0.6
    column = np.empty((camera.side, 1, 3))
    for i in range(3):
        column[:horizon, 0, i] = np.interp(above, (0, 0.55, 1), (light.zenith[i], light.middle[i], light.horizon[i]))
        column[horizon:, 0, i] = np.interp(below, (0, 1), (ground[0][i], ground[1][i]))
    pixels = (np.clip(column, 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(pixels).resize((camera.side, camera.side), Image.Resampling.NEAREST)


def paint_sky(canvas: Canvas, camera: Camera, light: Light, chance: random.Random) -> None:
    """Paint the glow around the sun, stars, and clouds."""
    side, horizon = camera.side, camera.horizon
    ahead = math.atan2(light.sun[0], light.sun[1]) + camera.azimuth
    if math.cos(ahead) > 0.2 and light.night < 1:
        column = camera.centre + camera.focal * math.tan(ahead)
        row = horizon - camera.focal * light.sun[2] / max(0.25, math.hypot(light.sun[0], light.sun[1]))
        wide = side
        glow = mix((1, 0.96, 0.86), light.horizon, 0.5)
        canvas.paste(to_bytes(glow), (int(column - wide / 2), int(row - wide / 2)), glow_mask(wide))
    if light.night == 1:
        pen = ImageDraw.Draw(canvas)
        for _ in range(40):
            x, y, r = chance.uniform(0, side), chance.uniform(0, horizon * 0.8), chance.uniform(0.4, 1.3)
            pen.ellipse(
                (x - r, y - r, x + r, y + r), fill=to_bytes(mix((1, 1, 0.95), light.zenith, chance.random() * 0.6))
            )
    shapes = cloud_masks(side)
    for _ in range(round(light.clouds * 7)):
        shape = shapes[chance.randrange(CLOUD_SHAPES)]
        x = int(chance.uniform(-0.3, 0.9) * side)
        y = int(horizon * chance.uniform(-0.1, 0.72) - shape.height / 2)
        canvas.paste(to_bytes(mix(light.cloud, light.middle, chance.uniform(0, 0.35))), (x, y), shape)


@functools.cache
def glow_mask(side: int) -> Image.Image:
    """Return the soft disc of light around the sun."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    far = np.clip(1 - np.hypot(x, y), 0, 1)
    return Image.fromarray((np.clip(far**2.6 * 0.75 + (far > 0.965) * 0.5, 0, 1) * 255).astype(np.uint8))


@functools.cache
def cloud_masks(side: int) -> tuple[Image.Image, ...]:
    """Return soft clouds, drawn once: puffs along a flat base, blurred, with room for the blur around them."""
    chance = random.Random("clouds")
    blur = side / 70
    pad = round(blur * 3)
    masks = []
    for _ in range(CLOUD_SHAPES):
        width, height = side * chance.uniform(0.3, 0.75), side * chance.uniform(0.06, 0.13)
        mask = Image.new("L", (round(width) + 2 * pad, round(height) + 2 * pad))
        pen = ImageDraw.Draw(mask)
        for _ in range(chance.randint(10, 18)):
            place = min(0.95, max(0.05, chance.gauss(0.5, 0.2)))
            r = height * chance.uniform(0.2, 0.5) * (1.1 - 1.6 * abs(place - 0.5))
            long = min(r * 2.4, width * min(place, 1 - place))
            x, y = pad + width * place, pad + height - r
            pen.ellipse((x - long, y - r, x + long, y + r), fill=chance.randint(130, 225))
        masks.append(mask.filter(ImageFilter.GaussianBlur(blur)))
    return tuple(masks)


def paint_distance(canvas: Canvas, landmark: Landmark, camera: Camera, light: Light) -> None:
    """Paint the hills, mountains, forest or town along the horizon."""
    if landmark.backdrop == "open":
        return
    pen = ImageDraw.Draw(canvas)
    columns = np.linspace(0, camera.side, 57)
    angles = np.arctan((columns - camera.centre) / camera.focal) - camera.azimuth
    unit = camera.side * 0.16
    far = mix(light.haze, light.middle, 0.35)
    if landmark.backdrop == "city":
        paint_town(pen, landmark, camera, light)
        return
    layers = {"hills": (0.5, 0.3), "mountains": (1.3, 0.55, 0.2), "forest": (0.35, 0.24)}[landmark.backdrop]
    for layer, height in enumerate(layers):
        rows = camera.horizon + 2 - unit * height * ridge(landmark, angles * (1 + layer * 0.7) + layer * 2.1)
        tone = layer_tone(landmark.backdrop, layer, light)
        colour = mix(lit(tone, light, facing=0.5), far, 0.72 - 0.26 * layer)
        base = camera.horizon + 3
        points = [*zip(columns.tolist(), rows.tolist(), strict=True), (camera.side, base), (0, base)]
        pen.polygon(points, fill=to_bytes(colour))
        if landmark.backdrop == "mountains" and layer == 0:
            caps = np.minimum(rows + unit * 0.16 * (1 + np.sin(columns * 0.9)), base)
            snow = mix(lit(SNOW, light, facing=0.6), far, 0.5)
            high = rows < camera.horizon - unit * 0.75
            for i in np.flatnonzero(high[:-1] & high[1:]).tolist():
                quad = [
                    columns[i],
                    rows[i],
                    columns[i + 1],
                    rows[i + 1],
                    columns[i + 1],
                    caps[i + 1],
                    columns[i],
                    caps[i],
                ]
                pen.polygon([float(value) for value in quad], fill=to_bytes(snow))


def ridge(landmark: Landmark, angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the height of the landmark's hills, in [0, 1] or a little more, at these angles."""
    waves = sum(a * np.sin(angles * f + p) for a, f, p in landmark.outline)
    rough = np.zeros_like(angles)
    if landmark.backdrop == "mountains":
        rough = 0.35 * np.abs(np.sin(angles * 7 + landmark.tone * 9)) + 0.12 * np.abs(np.sin(angles * 19))
    elif landmark.backdrop == "forest":
        rough = 0.1 * np.sin(angles * 60) + 0.07 * np.sin(angles * 97 + 1)
    heights: NDArray[np.float64] = 0.5 + 0.28 * np.asarray(waves) + rough
    return np.maximum(heights, 0.05)


def layer_tone(backdrop: Backdrop, layer: int, light: Light) -> Colour:
    """Return the colour of a row of hills before haze."""
    green = mix(FOLIAGE[light.season], rgb(60, 90, 70), 0.5)
    tone = {"hills": green, "mountains": mix(rgb(96, 100, 118), green, 0.4 * layer)}.get(
        backdrop, mix(green, (0, 0, 0), 0.2)
    )
    return mix(tone, SNOW, 0.6) if light.snow else tone


def paint_town(pen: Draw, landmark: Landmark, camera: Camera, light: Light) -> None:
    """Paint the houses of a town along the horizon, the same ones at the same angles in every photo."""
    chance = random.Random(f"town {landmark.outline}")
    for layer in (0, 1):
        for _ in range(46):
            angle, width = chance.uniform(-math.pi, math.pi), chance.uniform(0.02, 0.06)
            height = chance.uniform(0.25, 1) ** 1.6 * (1.5 if layer == 0 else 0.7)
            tone = mix(rgb(150, 140, 134), rgb(196, 170, 150), chance.random())
            roofed = chance.random() < 0.5
            shown = (angle + camera.azimuth + math.pi) % (2 * math.pi) - math.pi
            if abs(shown) > 1.1:
                continue
            x = camera.centre + camera.focal * math.tan(shown)
            half, top = camera.focal * width / 2, camera.horizon - camera.side * 0.13 * height
            colour = lit(tone, light, facing=0.4, far=min(0.92, 0.62 - 0.2 * layer + 0.4 * light.fog))
            pen.rectangle((x - half, top, x + half, camera.horizon + 3), fill=to_bytes(colour))
            if roofed:
                roof = to_bytes(mix(colour, light.haze if not light.snow else SNOW, 0.35))
                pen.polygon((x - half, top, x, top - half * 0.7, x + half, top), fill=roof)
            if light.night > 0.4 and half > 3:
                for k in range(3):
                    y = top + (camera.horizon - top) * (0.2 + 0.25 * k)
                    pen.rectangle((x - half * 0.4, y, x - half * 0.1, y + 2), fill=(250, 206, 130))


def paint_paving(pen: Draw, camera: Camera, light: Light, landmark: Landmark) -> None:
    """Paint the joints of a paved square, which run towards the landmark and across."""
    joint = to_bytes(lit(mix(PAVING, (0, 0, 0), 0.3), light, facing=max(0.15, light.sun[2]), far=0.2))
    step = 0.3 + 0.08 * landmark.tone
    for i in range(-9, 10):
        for ends in (((i * step, -3.2), (i * step, -0.2)), ((-2.7, -i * step - 2), (2.7, -i * step - 2))):
            (xa, ya, sa), (xb, yb, sb) = camera.spot(*ends[0]), camera.spot(*ends[1])
            if sa and sb and abs(xa) < 9e3 and abs(xb) < 9e3:
                pen.line((xa, ya, xb, yb), fill=joint)


def paint_tufts(pen: Draw, camera: Camera, light: Light, landmark: Landmark, chance: random.Random) -> None:
    """Speckle a lawn, a beach or rocks with lighter and darker strokes, finer with distance."""
    far, near = ground_colours(landmark.ground, landmark.tone, light)
    for _ in range(45):
        depth = chance.random() ** 2
        y = camera.horizon + (camera.side - camera.horizon) * (0.05 + 0.95 * depth)
        x, long = chance.uniform(-10, camera.side), (4 + 30 * depth) * chance.uniform(0.4, 1.4)
        base = mix(far, near, depth**0.6)
        tone = mix(base, (1, 1, 1) if chance.random() < 0.5 else (0, 0, 0), chance.uniform(0.03, 0.1))
        pen.ellipse((x, y, x + long, y + 1 + 4 * depth), fill=to_bytes(tone))


def paint_tree(pen: Draw, camera: Camera, light: Light, tree: Tree) -> None:
    """Paint one tree where it stands."""
    x, y, scale = camera.spot(tree.x, tree.y)
    if not scale or not -0.2 * camera.side < x < 1.2 * camera.side:
        return
    draw_tree(pen, x, y, tree.height * scale, tree.kind, light, far=light.fog * 0.9)


def draw_tree(pen: Draw, x: float, y: float, height: float, kind: str, light: Light, *, far: float) -> None:
    """Draw a tree of a height in pixels, its foot at (x, y): dark below, bright on the side of the sun."""
    evergreen = kind in ("conifer", "palm", "cypress")
    leaf = mix(rgb(66, 104, 70), FOLIAGE["summer"], 0.3) if evergreen else FOLIAGE[light.season]
    if light.snow:
        leaf = mix(leaf, SNOW, 0.45)
    trunk = to_bytes(lit(rgb(96, 74, 58), light, facing=0.3, far=far))
    dark, middle, bright = (
        to_bytes(lit(times(leaf, (k, k, k)), light, facing=facing, far=far))
        for k, facing in ((0.66, 0.1), (0.9, 0.45), (1.1, 0.9))
    )
    h, wide = height, max(1.0, height * 0.04)
    pen.rectangle((x - wide, y - h * 0.45, x + wide, y), fill=trunk)
    if kind == "conifer":
        for low, high, reach in ((0.12, 0.55, 0.26), (0.34, 0.78, 0.2), (0.58, 1.0, 0.14)):
            pen.polygon((x - h * reach, y - h * low, x + h * reach, y - h * low, x, y - h * high), fill=dark)
            pen.polygon((x - h * reach * 0.2, y - h * low, x + h * reach, y - h * low, x, y - h * high), fill=middle)
    elif kind == "cypress":
        pen.ellipse((x - h * 0.11, y - h, x + h * 0.11, y - h * 0.06), fill=dark)
        pen.ellipse((x - h * 0.05, y - h * 0.95, x + h * 0.1, y - h * 0.15), fill=middle)
    elif kind == "palm":
        pen.line((x, y, x + h * 0.05, y - h * 0.8), fill=trunk, width=max(1, round(h * 0.05)))
        for turn in range(7):
            angle = math.pi * (turn / 6)
            tip = (x + h * 0.05 + h * 0.34 * math.cos(angle), y - h * 0.74 - h * 0.22 * math.sin(angle))
            pen.line(
                (x + h * 0.05, y - h * 0.8, *tip), fill=middle if turn % 2 else dark, width=max(2, round(h * 0.06))
            )
    else:
        for dx, dy, r, fill in (
            (-0.16, 0.5, 0.2, dark),
            (0.17, 0.5, 0.2, dark),
            (0.0, 0.58, 0.27, dark),
            (-0.1, 0.66, 0.2, middle),
            (0.12, 0.64, 0.2, middle),
            (0.03, 0.78, 0.19, middle),
            (0.1, 0.76, 0.13, bright),
            (-0.05, 0.84, 0.09, bright),
        ):
            pen.ellipse((x + h * (dx - r), y - h * (dy + r), x + h * (dx + r), y - h * (dy - r)), fill=fill)


def paint_island(pen: Draw, landmark: Landmark, camera: Camera, light: Light) -> float:
    """Paint the island or quay of a landmark that stands in water; return the row where the water meets it."""
    reach = landmark.mesh.radius * (1.25 if landmark.kind != "wheel" else 1.5)
    tone = mix(ROCK, PAVING, 0.5 + landmark.tone / 2)
    rows = []
    for z, shade in ((-0.09, 0.45), (-0.045, 0.2), (0.0, 0.0)):
        turns = [2 * math.pi * i / 28 for i in range(28)]
        points = np.array([(reach * math.cos(t), reach * math.sin(t), z) for t in turns])
        outline, _ = camera.project(points)
        colour = SNOW if light.snow and z == 0 else mix(tone, (0, 0, 0), shade)
        pen.polygon(
            outline.ravel().tolist(), fill=to_bytes(lit(colour, light, facing=light.sun[2], far=light.fog * 0.8))
        )
        rows.append(float(outline[:, 1].max()))
    return rows[0]


def paint_reflection(canvas: Canvas, shore: float, light: Light, chance: random.Random) -> None:
    """Mirror in the water below the shore what stands above it, darker and rippled."""
    side, top = canvas.width, round(shore)
    deep = min(side - top, top)
    if deep < 4:
        return
    rows = np.arange(deep)
    source = np.clip(top - 1 - (rows * 1.05).astype(int), 0, side - 1)
    phase = chance.uniform(0, 6)
    sway = np.sin(rows * 0.42 + phase) * np.sin(rows * 0.13) * (1.5 + rows * 0.05)
    columns = np.clip(np.arange(side)[None, :] + sway[:, None].astype(int), 0, side - 1)
    mirrored = Image.fromarray(np.asarray(canvas)[source[:, None], columns])
    share = (0.6 - 0.34 * rows / deep) * (1 + 0.16 * np.sin(rows * 0.9 + phase) * np.sin(rows * 0.23))
    mask = Image.fromarray((share * 255).astype(np.uint8)[:, None]).resize((side, deep), Image.Resampling.NEAREST)
    canvas.paste(mirrored, (0, top), mask)
    canvas.paste(to_bytes(light.zenith), (0, top, side, top + deep), mask.point([round(i * 0.2) for i in range(256)]))
