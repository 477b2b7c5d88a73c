"""Bridges along x, of stone arches or hung from cables."""

from __future__ import annotations

import math
import random
from itertools import pairwise

from obelisk.synthetic.mesh import Mesh, MeshBuilder, Surface, rectangle, ring
from obelisk.synthetic.palette import IRON, ROOFS, SHADE, STONES, WHITE, Color, blend, rgb, vary

BRIDGE_PAINTS = tuple(map(rgb, (0xB84230, 0x5A788C, 0xE6E2D8, 0x608068, 0x464C56, 0xC8963C)))
BANKS = tuple(map(rgb, (0x748E54, 0x928C70, 0x807668)))
PARAPET_PIECES = 12
VAULT_PIECES = 10


def bridge(rng: random.Random) -> Mesh:
    """Build a bridge: stone arches or a suspension bridge."""
    return rng.choice((arch_bridge, suspension_bridge, suspension_bridge, arch_bridge))(rng)


def add_banks(b: MeshBuilder, rng: random.Random, half: float, level: float) -> None:
    """Add the two banks that a bridge joins, as high as its deck."""
    grass = vary(rng.choice(BANKS), rng)
    for side in (-1, 1):
        b.start(side * (half + 0.8), 0, rank=-1)
        foot, top = rectangle(side * (half + 0.9), 0.1, 1.9, 1.9), rectangle(side * (half + 0.98), 0.1, 1.9, 1.6)
        b.loft(foot, top, 0, level, grass)


def arch_bridge(rng: random.Random) -> Mesh:
    """Build a stone bridge of two to six arches, level or humped, with two gate towers or none."""
    b = MeshBuilder()
    stone = vary(rng.choice(STONES), rng)
    half, deep, height = rng.uniform(0.9, 1.2), rng.uniform(0.1, 0.16), rng.uniform(0.26, 0.44)
    arches, hump, pier = rng.randint(2, 6), rng.choice((0.0, 0.0, 0.12)), rng.uniform(0.16, 0.3)

    def deck(x: float) -> float:
        return height + hump * (1 - (x / half) ** 2)

    add_banks(b, rng, half, height)
    for i in range(arches):
        x0 = -half + 2 * half * i / arches
        x1 = x0 + 2 * half / arches
        b.start((x0 + x1) / 2, 0)
        add_arch(b, (x0, x1), deep, (deck(x0), deck(x1)), pier, stone)
    b.start(rank=2)
    parapet = blend(stone, WHITE, 0.2)
    knots = [-half + 2 * half * i / PARAPET_PIECES for i in range(PARAPET_PIECES + 1)]
    for x0, x1 in pairwise(knots):
        for y in (-deep, deep):
            corners = [(x0, y, deck(x0)), (x1, y, deck(x1)), (x1, y, deck(x1) + 0.05), (x0, y, deck(x0) + 0.05)]
            b.face(corners if y < 0 else corners[::-1], parapet)
    if rng.random() < 0.5:
        at = half * (0.5 if rng.random() < 0.5 else 0.8)
        for x in (-at, at):
            b.start(x, 0, rank=3)
            b.box(x, 0, 0.12, deep * 2.2, deck(x), deck(x) + rng.uniform(0.2, 0.35), stone)
            top = deck(x) + 0.36
            b.turned(x, 0, [(0.13, top - 0.04), (0, top + 0.16)], vary(rng.choice(ROOFS), rng), 4)
    return b.build()


def add_arch(
    b: MeshBuilder, ends: tuple[float, float], deep: float, tops: tuple[float, float], pier: float, stone: Color
) -> None:
    """Add one bay of a wall with an arched opening: two faces as strips above the arch, and the vault between them.

    ``tops`` are the heights of the wall at its ``ends``, ``pier`` the share of the bay that is closed.
    """
    (x0, x1), (left, right) = ends, tops
    width, middle, rise = x1 - x0, (x0 + x1) / 2, min(tops) * 0.86
    radius = width * (1 - pier) / 2
    turns = [math.pi * i / VAULT_PIECES for i in range(VAULT_PIECES + 1)]
    edge = [(middle - radius * math.cos(turn), rise * math.sin(turn)) for turn in turns]
    if rise > radius:
        # A tall opening is upright up to where a half circle springs.
        spring = rise - radius
        edge = [(middle - radius, 0.0), *((x, spring + z * radius / rise) for x, z in edge), (middle + radius, 0.0)]
    for (xa, za), (xb, zb) in pairwise([(x0, 0.0), *edge, (x1, 0.0)]):
        ta, tb = (left + (right - left) * (x - x0) / width for x in (xa, xb))
        vault = [(xa, -deep, za), (xa, deep, za), (xb, deep, zb), (xb, -deep, zb)]
        b.face(vault, blend(stone, SHADE, 0.45), Surface.PAINT)
        b.face([(xa, -deep, za), (xb, -deep, zb), (xb, -deep, tb), (xa, -deep, ta)], stone)
        b.face([(xb, deep, zb), (xa, deep, za), (xa, deep, ta), (xb, deep, tb)], stone)
    b.face([(x0, -deep, left), (x1, -deep, right), (x1, deep, right), (x0, deep, left)], blend(stone, SHADE, 0.2))


def suspension_bridge(rng: random.Random) -> Mesh:
    """Build a suspension bridge: two pylons, a sagging cable on each side, hangers."""
    b = MeshBuilder()
    paint = vary(rng.choice(BRIDGE_PAINTS), rng)
    half, deep, level = 1.2, 0.1, rng.uniform(0.2, 0.34)
    pylon, tall, leg = rng.uniform(0.5, 0.68), rng.uniform(0.8, 1.15), rng.uniform(0.05, 0.1)
    stone = vary(rng.choice(STONES), rng) if rng.random() < 0.4 else paint
    hangers = rng.choice((9, 13, 17))
    add_banks(b, rng, half, level)

    def cable(x: float) -> float:
        if abs(x) > pylon:
            return level + (tall - level) * (half - abs(x)) / (half - pylon)
        return level + 0.06 + (tall - level - 0.06) * (x / pylon) ** 2

    knots = [-half + 2 * half * i / (2 * hangers) for i in range(2 * hangers + 1)]
    for y, layer in ((deep, 1), (-deep, -1)):
        for x in (-pylon, pylon):
            b.start(x, y, layer=layer)
            b.loft(ring(x, y, leg, 4), ring(x, y, leg * 0.7, 4), 0, tall, stone)
        b.start(0, y, layer=layer)
        for x0, x1 in pairwise(knots):
            b.line((x0, y, cable(x0)), (x1, y, cable(x1)), paint)
            b.line((x1, y, cable(x1)), (x1, y, level), blend(paint, IRON, 0.4))
    b.start()
    b.box(0, 0, half * 2, deep * 2, level, level + 0.05, paint)
    for x in (-pylon, pylon):
        b.start(x, 0)
        for z in (tall * 0.96, level + (tall - level) * 0.5)[: rng.choice((1, 2))]:
            b.box(x, 0, leg * 0.9, deep * 2, z - 0.06, z, stone)
    return b.build()
