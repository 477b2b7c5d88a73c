"""Trees of four kinds, in the colors of the season."""

from __future__ import annotations

import math

from obelisk.synthetic.camera import Camera
from obelisk.synthetic.canvas import Draw, Sketch
from obelisk.synthetic.light import Light
from obelisk.synthetic.palette import SNOW, blend, rgb, scale_color
from obelisk.synthetic.scene import Tree

FOLIAGE = {"spring": rgb(0x8AB65C), "summer": rgb(0x548642), "autumn": rgb(0xCE843A), "winter": rgb(0x7A6C5C)}
NEEDLES, BARK = blend(rgb(0x426846), FOLIAGE["summer"], 0.3), rgb(0x604A3A)
# Of a round crown: the center and radius of each ball, and how bright it is (an index).
BALLS = (
    *((-0.16, 0.5, 0.2, 0), (0.17, 0.5, 0.2, 0), (0.0, 0.58, 0.27, 0), (-0.1, 0.66, 0.2, 1), (0.12, 0.64, 0.2, 1)),
    *((0.03, 0.78, 0.19, 1), (0.1, 0.76, 0.13, 2), (-0.05, 0.84, 0.09, 2)),
)
PALM_LEAVES = 7


def paint_tree(pen: Draw, camera: Camera, light: Light, tree: Tree) -> None:
    """Paint a tree of the scene, if it is in the picture."""
    x, y, scale = camera.spot(tree.x, tree.y)
    if scale and -0.2 * camera.side < x < 1.2 * camera.side:
        draw_tree(Sketch(pen, x, y, tree.height * scale), tree.kind, light, far=light.fog * 0.9)


def draw_tree(sketch: Sketch, kind: str, light: Light, *, far: float) -> None:
    """Draw a tree one unit high: dark below, bright on the side of the sun; ``far`` is the share lost to haze."""
    leaf = FOLIAGE[light.season] if kind == "round" else NEEDLES
    if light.snow:
        leaf = blend(leaf, SNOW, 0.45)
    trunk = light.ink(BARK, facing=0.3, far=far)
    fills = [
        light.ink(scale_color(leaf, (gain, gain, gain)), facing=facing, far=far)
        for gain, facing in ((0.66, 0.1), (0.9, 0.45), (1.1, 0.9))
    ]
    dark, middle, _ = fills
    left, top, right, bottom = sketch.box(-0.04, 0, 0.04, 0.45)
    sketch.pen.rectangle((min(left, sketch.column - 1), top, max(right, sketch.column + 1), bottom), fill=trunk)
    if kind == "conifer":
        for low, high, reach in ((0.12, 0.55, 0.26), (0.34, 0.78, 0.2), (0.58, 1.0, 0.14)):
            sketch.polygon((-reach, low), (reach, low), (0, high), fill=dark)
            sketch.polygon((-reach * 0.2, low), (reach, low), (0, high), fill=middle)
    elif kind == "cypress":
        sketch.ellipse(-0.11, 0.06, 0.11, 1.0, dark)
        sketch.ellipse(-0.05, 0.15, 0.1, 0.95, middle)
    elif kind == "palm":
        sketch.line((0, 0), (0.05, 0.8), trunk, width=max(1, round(sketch.size * 0.05)))
        for leaf_number in range(PALM_LEAVES):
            angle = math.pi * leaf_number / (PALM_LEAVES - 1)
            tip = (0.05 + 0.34 * math.cos(angle), 0.74 + 0.22 * math.sin(angle))
            sketch.line((0.05, 0.8), tip, fills[leaf_number % 2], width=max(2, round(sketch.size * 0.06)))
    else:
        for x, y, radius, brightness in BALLS:
            sketch.circle(x, y, radius, fills[brightness])
