"""Photos of made-up landmarks, each a function of the landmark's seed and the photo's number."""

from __future__ import annotations

import functools
import math
import random

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from obelisk.synthetic.camera import Camera, cast_shadow, draw_mesh
from obelisk.synthetic.canvas import Canvas
from obelisk.synthetic.foreground import paint_foreground
from obelisk.synthetic.light import Light, choose_light
from obelisk.synthetic.scene import Scene, Tree, build_scene
from obelisk.synthetic.scenery import paint_backdrop, paint_island, paint_reflection
from obelisk.synthetic.trees import paint_tree

SUPERSAMPLING = 2
GRAIN_TILES = 4
MIDDLE_GRAY = 128
CAMERA_RENDERED_SIDE = 400
CAMERA_NOISE = 5.0  # standard deviation, gray levels: a JPEG of quality 90 then has the 2 to 3 MB of a camera's


def render_photo(landmark_seed: int, photo_index: int, size: int = 224) -> Image.Image:
    """Render a photo of the landmark of a seed: RGB, ``size`` × ``size`` pixels.

    Each index has its own viewpoint, distance, light, season, weather and foreground; the landmark and what stands
    around it stay the same.
    """
    scene = build_scene(landmark_seed)
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
    reach, mesh = scene.reach, scene.mesh
    azimuth = rng.gauss(rng.choice(scene.favorites), 0.28)
    if rng.random() < 0.3:
        azimuth = rng.uniform(-reach, reach)
    extent = max(mesh.height, mesh.radius * (1.9 if reach < math.pi else 1.5))
    distance = extent * rng.uniform(1.5, 3.4)
    fill = rng.choice((rng.uniform(0.32, 0.55), rng.uniform(0.55, 0.82), rng.uniform(0.8, 1.25)))
    focal = fill * side * distance / extent
    height = extent * rng.choice((0.06, 0.08, 0.1, 0.14, 0.2, 0.35))
    base = side * rng.uniform(0.7, 0.9)
    return Camera(
        azimuth=min(reach, max(-reach, azimuth)),
        distance=distance,
        height=height,
        focal=focal,
        center=side * (0.5 + rng.gauss(0, 0.07)),
        horizon=base - focal * height / distance,
        keystone=rng.choice((0.0, 0.0, 0.12, 0.22)),
        side=side,
    )


def paint_scene(scene: Scene, camera: Camera, light: Light, rng: random.Random) -> Canvas:
    """Paint a scene from the sky to the foreground."""
    canvas = paint_backdrop(scene, camera, light, rng)
    pen = ImageDraw.Draw(canvas)
    lamps = np.random.default_rng(rng.getrandbits(32)).random(len(scene.mesh.surfaces))
    rng.random()  # unused, but without this draw every photo would change
    shore = None
    if scene.ground != "water":
        cast_shadow(canvas, scene.mesh, camera, light)
    elif scene.kind == "bridge":
        shore = camera.spot(0, 0)[1]
    else:
        shore = paint_island(pen, scene, camera, light)
    behind, before = sort_trees(scene, camera)
    for tree in behind:
        paint_tree(pen, camera, light, tree)
    draw_mesh(pen, scene.mesh, camera, light, lamps)
    for tree in before:
        paint_tree(pen, camera, light, tree)
    if shore is not None:
        paint_reflection(canvas, shore, light, rng)
    paint_foreground(canvas, scene, camera, light, rng)
    return canvas


def sort_trees(scene: Scene, camera: Camera) -> tuple[list[Tree], list[Tree]]:
    """Return the trees behind and those before the landmark, each from far to near."""
    x, y, _ = camera.position

    def distance(tree: Tree) -> float:
        return math.hypot(tree.x - x, tree.y - y)

    ordered = sorted(scene.trees, key=distance, reverse=True)
    count = sum(distance(tree) >= camera.distance for tree in ordered)
    return ordered[:count], ordered[count:]


def develop(canvas: Canvas, rng: random.Random) -> Image.Image:
    """Make a photo of a painted scene: reduced to its size, exposed, toned, with vignette, grain and blur."""
    photo = canvas.reduce(SUPERSAMPLING)
    exposure, contrast = rng.gauss(1.03, 0.09), rng.gauss(1.08, 0.08)
    levels = np.arange(256) / 255
    table: list[int] = []
    for _ in range(3):
        gain = exposure * (1 + rng.gauss(0, 0.025))
        curve = (np.clip(levels * gain, 0, 1.2) - 0.5) * contrast + 0.5
        table += (np.clip(curve, 0, 1) * 255).round().astype(int).tolist()
    photo = photo.point(table)
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
