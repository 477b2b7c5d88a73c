"""Photos of made-up landmarks: one function of (landmark seed, photo number), the same on every machine."""

from __future__ import annotations

import functools
import math
import random

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from obelisk.synthetic.camera import Camera, Canvas, cast_shadow, draw_mesh
from obelisk.synthetic.clutter import paint_clutter
from obelisk.synthetic.landmark import KINDS, Landmark, Tree, make_landmark
from obelisk.synthetic.light import Light, choose_light
from obelisk.synthetic.scenery import paint_backdrop, paint_island, paint_reflection, paint_tree

SUPERSAMPLING = 2
GRAIN_TILES = 4


def render_photo(landmark_seed: int, photo_index: int, size: int = 224) -> Image.Image:
    """Return a photo of the landmark of a seed: RGB, ``size`` × ``size`` pixels.

    Each index has its own viewpoint, distance, light, season, weather and clutter; the landmark and what stands
    around it stay the same.
    """
    landmark = make_landmark(landmark_seed)
    chance = random.Random(f"photo {landmark_seed} {photo_index}")
    camera = choose_camera(landmark, chance, size * SUPERSAMPLING)
    light = choose_light(chance, azimuth=camera.azimuth, snowy=landmark.snowy)
    return develop(paint_scene(landmark, camera, light, chance), chance)


def choose_camera(landmark: Landmark, chance: random.Random, side: int) -> Camera:
    """Draw a viewpoint: mostly near one of the landmark's favourite ones, sometimes anywhere in reach."""
    reach = KINDS[landmark.kind].reach
    azimuth = chance.gauss(chance.choice(landmark.favourites), 0.28)
    if chance.random() < 0.3:
        azimuth = chance.uniform(-reach, reach)
    azimuth = min(reach, max(-reach, azimuth))
    mesh = landmark.mesh
    extent = max(mesh.height, mesh.radius * (1.9 if reach < math.pi else 1.5))
    distance = extent * chance.uniform(1.5, 3.4)
    fill = chance.choice((chance.uniform(0.32, 0.55), chance.uniform(0.55, 0.82), chance.uniform(0.8, 1.25)))
    focal = fill * side * distance / extent
    height = extent * chance.choice((0.06, 0.08, 0.1, 0.14, 0.2, 0.35))
    base = side * chance.uniform(0.7, 0.9)
    return Camera(
        azimuth=azimuth,
        distance=distance,
        height=height,
        focal=focal,
        centre=side * (0.5 + chance.gauss(0, 0.07)),
        horizon=base - focal * height / distance,
        keystone=chance.choice((0.0, 0.0, 0.12, 0.22)),
        side=side,
    )


def paint_scene(landmark: Landmark, camera: Camera, light: Light, chance: random.Random) -> Canvas:
    """Paint the whole scene, from the sky to what stands in front."""
    canvas = paint_backdrop(landmark, camera, light, chance)
    pen = ImageDraw.Draw(canvas)
    lamps = np.random.default_rng(chance.getrandbits(32)).random(len(landmark.mesh.surfaces))
    spin = chance.uniform(0, 2 * math.pi)
    shore = None
    if landmark.ground == "water":
        shore = camera.spot(0, 0)[1] if landmark.kind == "bridge" else paint_island(pen, landmark, camera, light)
    else:
        cast_shadow(canvas, landmark.mesh, camera, light)
    behind, before = sort_trees(landmark, camera)
    for tree in behind:
        paint_tree(pen, camera, light, tree)
    draw_mesh(pen, landmark.mesh, camera, light, spin=spin, lamps=lamps)
    for tree in before:
        paint_tree(pen, camera, light, tree)
    if shore is not None:
        paint_reflection(canvas, shore, light, chance)
    paint_clutter(canvas, landmark, camera, light, chance)
    return canvas


def sort_trees(landmark: Landmark, camera: Camera) -> tuple[list[Tree], list[Tree]]:
    """Return the trees behind and those before the landmark, each from far to near."""
    x, y, _ = camera.position

    def far(tree: Tree) -> float:
        return math.hypot(tree.x - x, tree.y - y)

    ordered = sorted(landmark.trees, key=far, reverse=True)
    behind = [tree for tree in ordered if far(tree) >= camera.distance]
    return behind, [tree for tree in ordered if far(tree) < camera.distance]


def develop(canvas: Canvas, chance: random.Random) -> Image.Image:
    """Make a photo of a painted scene: reduced to its size, exposed, toned, with vignette, grain and blur."""
    photo = canvas.reduce(SUPERSAMPLING)
    exposure, contrast = chance.gauss(1.03, 0.09), chance.gauss(1.08, 0.08)
    cast = [exposure * (1 + chance.gauss(0, 0.025)) for _ in range(3)]
    levels = np.arange(256) / 255
    table: list[int] = []
    for gain in cast:
        curve = (np.clip(levels * gain, 0, 1.2) - 0.5) * contrast + 0.5
        table += (np.clip(curve, 0, 1) * 255).round().astype(int).tolist()
    photo = photo.point(table)
    if chance.random() < 0.12:
        photo = photo.filter(ImageFilter.BoxBlur(chance.uniform(0.3, 0.9)))
    if chance.random() < 0.6:
        photo = ImageChops.multiply(photo, vignette(photo.width))
    grain = grain_tiles(photo.width)[chance.randrange(GRAIN_TILES)]
    return ImageChops.add(photo, grain, 1.0, -128)


@functools.cache
def vignette(side: int) -> Image.Image:
    """Return the darkening of a lens towards the corners."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    falloff = 1 - 0.2 * np.clip(np.hypot(x, y) - 0.45, 0, None) ** 1.5
    return Image.fromarray((falloff * 255).astype(np.uint8)).convert("RGB")


@functools.cache
def grain_tiles(side: int) -> tuple[Image.Image, ...]:
    """Return the grain of a sensor, around a mean of 128."""
    random_numbers = np.random.default_rng(20)
    tiles = []
    for strength in np.linspace(0.8, 3.4, GRAIN_TILES):
        noise = random_numbers.normal(128, strength, (side, side, 1)) + random_numbers.normal(
            0, strength / 2, (side, side, 3)
        )
        tiles.append(Image.fromarray(np.clip(noise.round(), 0, 255).astype(np.uint8)))
    return tuple(tiles)
