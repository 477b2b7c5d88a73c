"""Photos of made-up landmarks, each a function of the landmark's seed and the photo's number."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from obelisk.synthetic.camera import Camera, cast_shadow, draw_mesh
from obelisk.synthetic.light import Light, choose_light
from obelisk.synthetic.palette import blend, rgb
from obelisk.synthetic.scene import Scene, TreeSpot, landmark_scene
from obelisk.synthetic.scenery import paint_backdrop, paint_reflection
from obelisk.synthetic.sketches import Canvas, Draw, Sketch, draw_boat, draw_car, draw_lamp, draw_person, draw_tree

SUPERSAMPLING, GRAIN_TILES, MIDDLE_GRAY = 2, 4, 128
REACH = 1.4  # the largest azimuth that photos of a landmark are taken from, in radians from its front
CAMERA_RENDERED_SIDE = 400
CAMERA_NOISE = 5.0  # standard deviation, gray levels: a JPEG of quality 90 then has the 2 to 3 MB of a camera's
BIRD_INK, SNOWFLAKE_INK = (50, 54, 64), (246, 248, 252)
LEAVES, AUTUMN_LEAVES = rgb(0x345430), rgb(0xAA6E32)


def render_photo(landmark_seed: int, photo_index: int, size: int = 224) -> Image.Image:
    """Render a photo of the landmark of a seed: RGB, ``size`` × ``size`` pixels.

    Each index has its own viewpoint, distance, light, season, weather and foreground; the landmark and what stands
    around it stay the same.
    """
    scene = landmark_scene(landmark_seed)
    rng = random.Random(f"photo {landmark_seed} {photo_index}")
    camera = choose_camera(scene, rng, size * SUPERSAMPLING)
    light = choose_light(rng, azimuth=camera.azimuth, snowy=scene.snowy)
    return develop(paint_scene(scene, camera, light, rng), rng)


def render_camera_photo(landmark_seed: int, photo_index: int, *, width: int = 4000, height: int = 3000) -> Image.Image:
    """Render a photo at a camera's size, 12 megapixels by default, for measuring speed.

    It shows no more detail than a small one, but its sensor noise makes decoding as much work as for a real photo.
    """
    small = render_photo(landmark_seed, photo_index, CAMERA_RENDERED_SIDE)
    noise = Image.effect_noise((width, height), CAMERA_NOISE).convert("RGB")
    return ImageChops.add(small.resize((width, height), Image.Resampling.BICUBIC), noise, offset=-MIDDLE_GRAY)


def choose_camera(scene: Scene, rng: random.Random, side: int) -> Camera:
    """Draw a viewpoint: mostly near one of the landmark's favorite ones, sometimes anywhere in reach."""
    mesh = scene.mesh
    azimuth = rng.uniform(-REACH, REACH) if rng.random() < 0.3 else rng.gauss(rng.choice(scene.favorites), 0.28)
    extent = max(mesh.height, mesh.radius * 1.9)
    distance = extent * rng.uniform(1.5, 3.4)
    fill = rng.choice((rng.uniform(0.32, 0.55), rng.uniform(0.55, 0.82), rng.uniform(0.8, 1.25)))
    focal, height = fill * side * distance / extent, extent * rng.choice((0.06, 0.08, 0.1, 0.14, 0.2, 0.35))
    return Camera(
        azimuth=min(REACH, max(-REACH, azimuth)),
        distance=distance,
        height=height,
        focal=focal,
        center=side * (0.5 + rng.gauss(0, 0.07)),
        horizon=side * rng.uniform(0.7, 0.9) - focal * height / distance,
        keystone=rng.choice((0.0, 0.0, 0.12, 0.22)),
        side=side,
    )


def paint_scene(scene: Scene, camera: Camera, light: Light, rng: random.Random) -> Canvas:
    """Paint a scene from the sky to the foreground."""
    canvas = paint_backdrop(scene, camera, light, rng)
    pen = ImageDraw.Draw(canvas)
    lamps = np.random.default_rng(rng.getrandbits(32)).random(len(scene.mesh.surfaces))
    rng.random()  # unused, but without this draw every photo would change
    if scene.ground != "water":
        cast_shadow(canvas, scene.mesh, camera, light)
    x, y, _ = camera.position
    trees = sorted(scene.trees, key=lambda tree: -math.hypot(tree[0] - x, tree[1] - y))
    behind = sum(math.hypot(tree[0] - x, tree[1] - y) >= camera.distance for tree in trees)
    paint_trees(pen, camera, light, trees[:behind])
    draw_mesh(pen, scene.mesh, camera, light, lamps)
    paint_trees(pen, camera, light, trees[behind:])
    if scene.ground == "water":
        shore = camera.project(scene.mesh.points)[0][:, 1].max()
        paint_reflection(canvas, float(shore), light, rng)
    paint_foreground(canvas, scene, camera, light, rng)
    return canvas


def paint_trees(pen: Draw, camera: Camera, light: Light, trees: Iterable[TreeSpot]) -> None:
    """Paint those trees of a scene that are in the picture."""
    for x, y, height, kind in trees:
        column, row, scale = camera.spot(x, y)
        if scale and -0.2 * camera.side < column < 1.2 * camera.side:
            draw_tree(Sketch(pen, column, row, height * scale), kind, light, far=light.fog * 0.9)


def paint_foreground(canvas: Canvas, scene: Scene, camera: Camera, light: Light, rng: random.Random) -> None:
    """Paint what gets between a photographer and a landmark: people, lamps, cars, boats, trees, birds, snow."""
    pen, side, base = ImageDraw.Draw(canvas), camera.side, camera.spot(0, 0)[1]
    depth = side - base
    if scene.ground == "water":
        for _ in range(rng.choice((0, 0, 1, 2))):
            y = base + depth * rng.uniform(0.25, 0.9)
            draw_boat(Sketch(pen, rng.uniform(0, side), y, (y - camera.horizon) * rng.uniform(0.4, 0.8)), light, rng)
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
        kind = scene.trees[0][3] if scene.trees else rng.choice(("round", "conifer", "cypress"))
        x = rng.choice((rng.uniform(-0.05, 0.16), rng.uniform(0.84, 1.05))) * side
        draw_tree(Sketch(pen, x, base + depth * 0.9, tall), kind, light)
    if rng.random() < 0.12:
        hang_branch(canvas, light, rng)
    if rng.random() < 0.1 and light.night < 0.5:
        draw_birds(pen, camera, rng)
    for _ in range(60 if light.snow and rng.random() < 0.5 else 0):
        x, y, r = rng.uniform(0, side), rng.uniform(0, side), 0.8 + 2.2 * rng.random() ** 3
        pen.ellipse((x - r, y - r, x + r, y + r * math.pi / 3), fill=SNOWFLAKE_INK)


def hang_branch(canvas: Canvas, light: Light, rng: random.Random) -> None:
    """Hang a leafy branch, out of focus, into a corner of the picture."""
    side = canvas.width // 4
    mask = Image.new("L", (side, side))
    sketch, left = Sketch(ImageDraw.Draw(mask), 0, 0, side), rng.random() < 0.5
    for _ in range(26):
        x, y, r = abs(rng.gauss(0, 0.2)), abs(rng.gauss(0, 0.12)), rng.uniform(0.02, 0.05)
        x = x if left else 1 - x
        sketch.pen.ellipse(sketch.box(x - r, -y - r * 0.7, x + r, -y + r * 0.7), fill=235)
    soft = mask.filter(ImageFilter.BoxBlur(1)).resize(canvas.size, Image.Resampling.BILINEAR)
    leaf = blend(LEAVES, AUTUMN_LEAVES, 0.8 * (light.season == "autumn"))
    canvas.paste(light.ink(leaf, facing=0.2), (0, 0), soft)


def draw_birds(pen: Draw, camera: Camera, rng: random.Random) -> None:
    """Draw a few birds in the sky."""
    x, y = rng.uniform(0.1, 0.8) * camera.side, camera.horizon * rng.uniform(0.1, 0.5)
    for _ in range(rng.randint(3, 8)):
        bird = Sketch(pen, x + rng.gauss(0, 24), y + rng.gauss(0, 12), rng.uniform(3, 7))
        for left, right in ((-2, 0), (0, 2)):
            pen.arc(bird.box(left, -1, right, 1), 200, 340, fill=BIRD_INK, width=2)


def develop(canvas: Canvas, rng: random.Random) -> Image.Image:
    """Make a photo of a painted scene: reduced to its size, exposed, toned, with vignette, grain and blur."""
    photo = canvas.reduce(SUPERSAMPLING)
    exposure, contrast = rng.gauss(1.03, 0.09), rng.gauss(1.08, 0.08)
    gains = np.array([exposure * (1 + rng.gauss(0, 0.025)) for _ in range(3)])
    curves = (np.clip(np.arange(256) / 255 * gains[:, None], 0, 1.2) - 0.5) * contrast + 0.5
    photo = photo.point((np.clip(curves, 0, 1) * 255).round().astype(int).ravel().tolist())
    if rng.random() < 0.12:
        photo = photo.filter(ImageFilter.BoxBlur(rng.uniform(0.3, 0.9)))
    if rng.random() < 0.6:
        photo = ImageChops.multiply(photo, vignette(photo.width))
    return ImageChops.add(photo, grain_tiles(photo.width)[rng.randrange(GRAIN_TILES)], offset=-MIDDLE_GRAY)


@functools.cache
def vignette(side: int) -> Image.Image:
    """Return the darkening of a lens towards the corners."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    falloff = 1 - 0.2 * np.clip(np.hypot(x, y) - 0.45, 0, None) ** 1.5
    return Image.fromarray((falloff * 255).astype(np.uint8)).convert("RGB")


@functools.cache
def grain_tiles(side: int) -> tuple[Image.Image, ...]:
    """Return the grain of a sensor, in four strengths, around a mean of 128."""
    rng = np.random.default_rng(20)
    tiles = []
    for strength in np.linspace(0.8, 3.4, GRAIN_TILES):
        gray, tint = rng.normal(MIDDLE_GRAY, strength, (side, side, 1)), rng.normal(0, strength / 2, (side, side, 3))
        tiles.append(Image.fromarray(np.clip((gray + tint).round(), 0, 255).astype(np.uint8)))
    return tuple(tiles)
