"""Landmarks that reach across or open: bridges, gates, great wheels."""

from __future__ import annotations

import math
import random
from itertools import pairwise

from obelisk.synthetic.mesh import Builder, Mesh, Point, Surface, Wall, rectangle, ring
from obelisk.synthetic.palette import ACCENTS, GLASS, IRON, ROOFS, SHADE, STONES, Colour, mix, rgb, vary
from obelisk.synthetic.towers import dome_profile

PAINTS = (
    rgb(184, 66, 48),
    rgb(90, 120, 140),
    rgb(230, 226, 216),
    rgb(96, 128, 104),
    rgb(70, 76, 86),
    rgb(200, 150, 60),
)


def bridge(chance: random.Random) -> Mesh:
    """Build a bridge along x: stone arches, a suspension bridge, a cable-stayed one, or a steel arch."""
    style = chance.choice(("arches", "suspension", "stayed", "steel"))
    builders = {
        "arches": arch_bridge,
        "suspension": suspension_bridge,
        "stayed": stayed_bridge,
        "steel": steel_bridge,
    }
    return builders[style](chance)


def add_banks(b: Builder, chance: random.Random, half: float, level: float) -> None:
    """Add the two banks that a bridge joins, as high as its deck."""
    grass = vary(chance.choice((rgb(116, 142, 84), rgb(146, 140, 112), rgb(128, 118, 104))), chance)
    for side in (-1, 1):
        b.start(side * (half + 0.8), 0, rank=-1)
        foot, top = rectangle(side * (half + 0.9), 0.1, 1.9, 1.9), rectangle(side * (half + 0.98), 0.1, 1.9, 1.6)
        b.loft(foot, top, 0, level, grass)


def arch_bridge(chance: random.Random) -> Mesh:
    """Build a stone bridge of two to six arches."""
    b = Builder()
    stone = vary(chance.choice(STONES), chance)
    half, deep, height = chance.uniform(0.9, 1.2), chance.uniform(0.1, 0.16), chance.uniform(0.26, 0.44)
    arches = chance.randint(2, 6)
    hump = chance.choice((0.0, 0.0, 0.12))
    pier = chance.uniform(0.16, 0.3)

    def deck(x: float) -> float:
        return height + hump * (1 - (x / half) ** 2)

    add_banks(b, chance, half, height)
    for i in range(arches):
        x0 = -half + 2 * half * i / arches
        x1 = x0 + 2 * half / arches
        b.start((x0 + x1) / 2, 0)
        add_arch(b, x0, x1, deep, deck(x0), deck(x1), pier, stone, rise=min(deck(x0), deck(x1)) * 0.86)
    b.start(rank=2)
    light = mix(stone, (1, 1, 1), 0.2)
    spots = 12
    for i in range(spots):
        x0, x1 = (-half + 2 * half * j / spots for j in (i, i + 1))
        for y, face in ((-deep, -1), (deep, 1)):
            corners = [(x0, y, deck(x0)), (x1, y, deck(x1)), (x1, y, deck(x1) + 0.05), (x0, y, deck(x0) + 0.05)]
            b.face(corners if face < 0 else corners[::-1], light)
    if chance.random() < 0.5:
        for x in (-half * 0.5, half * 0.5) if chance.random() < 0.5 else (-half * 0.8, half * 0.8):
            b.start(x, 0, rank=3)
            b.box(x, 0, 0.12, deep * 2.2, deck(x), deck(x) + chance.uniform(0.2, 0.35), stone)
            top = deck(x) + 0.36
            b.loft(
                ring(x, 0, 0.13, 4),
                [(x, 0.0)] * 4,
                top - 0.04,
                top + 0.16,
                vary(chance.choice(ROOFS), chance),
                lid=False,
            )
    return b.build()


def add_arch(
    b: Builder, x0: float, x1: float, deep: float, left: float, right: float, pier: float, stone: Colour, *, rise: float
) -> None:
    """Add one bay of a wall with an opening: its two faces as strips above the arch, and the vault between them.

    ``left`` and ``right`` are the heights of the wall at its ends, ``pier`` the share of the bay that is closed.
    """
    width, middle = x1 - x0, (x0 + x1) / 2
    radius = width * (1 - pier) / 2
    steps = 10
    edge = [
        (middle - radius * math.cos(math.pi * i / steps), rise * math.sin(math.pi * i / steps))
        for i in range(steps + 1)
    ]
    if rise > radius:
        # A tall opening is upright to where a half circle springs from.
        spring = rise - radius
        edge = [(middle - radius, 0.0), *((x, spring + z * radius / rise) for x, z in edge), (middle + radius, 0.0)]
    edge = [(x0, 0.0), *edge, (x1, 0.0)]
    for (xa, za), (xb, zb) in pairwise(edge):
        ta, tb = (left + (right - left) * (x - x0) / width for x in (xa, xb))
        vault = [(xa, -deep, za), (xa, deep, za), (xb, deep, zb), (xb, -deep, zb)]
        b.face(vault, mix(stone, SHADE, 0.45), Surface.PAINT)
        b.face([(xa, -deep, za), (xb, -deep, zb), (xb, -deep, tb), (xa, -deep, ta)], stone)
        b.face([(xb, deep, zb), (xa, deep, za), (xa, deep, ta), (xb, deep, tb)], stone)
    b.face([(x0, -deep, left), (x1, -deep, right), (x1, deep, right), (x0, deep, left)], mix(stone, SHADE, 0.2))


def suspension_bridge(chance: random.Random) -> Mesh:
    """Build a suspension bridge: two pylons, a sagging cable on each side, hangers."""
    b = Builder()
    paint = vary(chance.choice(PAINTS), chance)
    half, deep, level = 1.2, 0.1, chance.uniform(0.2, 0.34)
    pylon, tall, leg = chance.uniform(0.5, 0.68), chance.uniform(0.8, 1.15), chance.uniform(0.05, 0.1)
    stone = vary(chance.choice(STONES), chance) if chance.random() < 0.4 else paint
    hangers = chance.choice((9, 13, 17))
    add_banks(b, chance, half, level)

    def cable(x: float) -> float:
        if abs(x) > pylon:
            return level + (tall - level) * (half - abs(x)) / (half - pylon)
        return level + 0.06 + (tall - level - 0.06) * (x / pylon) ** 2

    for y, layer in ((deep, 1), (-deep, -1)):
        for x in (-pylon, pylon):
            b.start(x, y, layer=layer)
            b.loft(ring(x, y, leg, 4), ring(x, y, leg * 0.7, 4), 0, tall, stone)
        b.start(0, y, layer=layer)
        knots = [-half + 2 * half * i / (2 * hangers) for i in range(2 * hangers + 1)]
        for x0, x1 in pairwise(knots):
            b.line((x0, y, cable(x0)), (x1, y, cable(x1)), paint)
            b.line((x1, y, cable(x1)), (x1, y, level), mix(paint, IRON, 0.4))
    b.start(0, 0)
    b.box(0, 0, half * 2, deep * 2, level, level + 0.05, paint)
    for x in (-pylon, pylon):
        b.start(x, 0)
        for z in (tall * 0.96, level + (tall - level) * 0.5)[: chance.choice((1, 2))]:
            b.box(x, 0, leg * 0.9, deep * 2, z - 0.06, z, stone)
    return b.build()


def stayed_bridge(chance: random.Random) -> Mesh:
    """Build a cable-stayed bridge: one or two pylons and fans of straight cables."""
    b = Builder()
    paint = vary(chance.choice(PAINTS), chance)
    half, deep, level = 1.2, 0.09, chance.uniform(0.2, 0.3)
    tall = chance.uniform(0.9, 1.3)
    lean = chance.choice((0.0, 0.0, 0.25))
    pylons = chance.choice(((0.0,), (-0.5, 0.5), (chance.uniform(-0.4, 0.4),)))
    cables, reach = chance.choice((5, 7, 9)), 1.05 if len(pylons) == 1 else 0.5
    harp = chance.random() < 0.5
    add_banks(b, chance, half, level)
    b.start()
    b.box(0, 0, half * 2, deep * 2, level, level + 0.045, vary(STONES[3], chance))
    for x in pylons:
        b.start(x, 0, layer=0, rank=2)
        foot, top = ring(x, 0, 0.07, 6), ring(x + lean * tall * 0.4, 0, 0.04, 6)
        b.loft(foot, top, 0, tall, paint)
        for side in (-1, 1):
            for i in range(1, cables + 1):
                share = i / cables
                z = tall * (0.42 + 0.55 * share) if harp else tall * 0.97
                start: Point = (x + lean * tall * 0.4 * z / tall, 0, z)
                b.line(start, (x + side * reach * share, -deep, level + 0.04), mix(paint, (1, 1, 1), 0.4))
                b.line(start, (x + side * reach * share, deep, level + 0.04), mix(paint, (1, 1, 1), 0.4))
    return b.build()


def steel_bridge(chance: random.Random) -> Mesh:
    """Build a steel arch that carries its deck, with bracing, between stone towers or without."""
    b = Builder()
    paint, stone = vary(chance.choice(PAINTS), chance), vary(chance.choice(STONES), chance)
    half, deep, level, rise = 1.0, 0.11, chance.uniform(0.24, 0.36), chance.uniform(0.6, 0.95)
    panels = chance.choice((10, 12, 14))
    towers = chance.random() < 0.6
    thick = chance.uniform(0.05, 0.12)
    add_banks(b, chance, half * 1.1, level)

    def arch(x: float) -> float:
        return 0.05 + rise * (1 - (x / half) ** 2)

    for y, layer in ((deep, 1), (-deep, -1)):
        b.start(0, y, layer=layer)
        for i in range(panels):
            x0, x1 = (-half + 2 * half * j / panels for j in (i, i + 1))
            strip = [(x0, y, arch(x0)), (x1, y, arch(x1)), (x1, y, arch(x1) + 0.035), (x0, y, arch(x0) + 0.035)]
            for corners in (strip, strip[::-1]):
                b.face(corners, paint)
            b.line((x0, y, arch(x0) + thick + 0.05), (x1, y, arch(x1) + thick + 0.05), paint)
            b.line((x0, y, arch(x0)), (x1, y, arch(x1) + thick + 0.05), paint)
            b.line((x1, y, arch(x1)), (x1, y, level), mix(paint, IRON, 0.3))
    b.start(0, 0)
    b.box(0, 0, half * 2.4, deep * 2, level, level + 0.045, mix(paint, SHADE, 0.2))
    if towers:
        tall = chance.uniform(0.5, 0.8)
        for x in (-half * 1.04, half * 1.04):
            b.start(x, 0, rank=2)
            walls = b.box(x, 0, 0.16, deep * 2.6, 0, tall, stone)
            for wall in walls:
                b.panel(wall, (0.3, 0.7), (0.6, 0.85), SHADE, arched=True)
            b.box(x, 0, 0.19, deep * 2.9, tall, tall + 0.04, mix(stone, (1, 1, 1), 0.2))
    return b.build()


def gate(chance: random.Random) -> Mesh:
    """Build a city gate or a triumphal arch, with one or three openings, columns, an attic, flanking towers."""
    b = Builder()
    stone, accent = vary(chance.choice(STONES), chance), vary(chance.choice(ACCENTS), chance)
    roof = vary(chance.choice(ROOFS), chance)
    half, deep, height = chance.uniform(0.4, 0.6), chance.uniform(0.1, 0.2), chance.uniform(0.6, 0.9)
    openings = chance.choice((1, 1, 3))
    b.start(0, 0)
    wide = half * chance.uniform(0.7, 0.9) if openings == 3 else half * 2
    rise, low = height * chance.uniform(0.62, 0.8), height * chance.uniform(0.4, 0.55)
    bays = [(-wide / 2, wide / 2, rise)]
    if openings == 3:
        bays += [(-half, -wide / 2, low), (wide / 2, half, low)]
    for x0, x1, top in bays:
        add_arch(b, x0, x1, deep, height, height, 0.5 if openings == 1 else 0.34, stone, rise=top)
    walls = list_walls(half, deep, height)
    for wall in (walls[1], walls[3]):
        b.face(wall, stone)
    pillars = (0.03, 0.24, 0.72, 0.93) if chance.random() < 0.6 else ()
    for wall in (walls[0], walls[2]):
        for u in pillars:
            b.panel(wall, (u, u + 0.04), (0, 0.84), mix(stone, (1, 1, 1), 0.35))
        for u in (0.1, 0.78) if openings == 3 else (0.08, 0.8):
            b.panel(wall, (u, u + 0.12), (0.62, 0.76), accent)
        b.panel(wall, (0, 1), (0.86, 0.9), mix(stone, SHADE, 0.3))
    b.box(0, 0, half * 2.1, deep * 2.3, height, height + 0.06, mix(stone, (1, 1, 1), 0.2))
    top = height + 0.06
    style = chance.choice(("attic", "roof", "quadriga", "plain", "towers"))
    if style == "attic":
        walls = b.box(0, 0, half * 1.6, deep * 1.8, top, top + 0.2, stone)
        for wall in walls:
            b.panel(wall, (0.2, 0.8), (0.3, 0.7), accent)
    elif style == "roof":
        b.loft(ring(0, 0, half * 1.5, 4), ring(0, 0, half * 0.5, 4), top, top + 0.3, roof)
    elif style == "quadriga":
        b.box(0, 0, 0.3, 0.16, top, top + 0.08, stone)
        for x in (-0.1, -0.035, 0.035, 0.1):
            b.turned(x, 0, [(0.03, top + 0.08), (0.035, top + 0.16), (0, top + 0.25)], accent, 6)
    elif style == "towers":
        add_flanks(b, chance, half, deep, height, stone, roof)
    return b.build()


def list_walls(half: float, deep: float, height: float) -> list[Wall]:
    """Return the four sides of a box around the origin, the front one first, without drawing them."""
    corners = rectangle(0, 0, half * 2, deep * 2)
    return [
        ((*a, 0.0), (*c, 0.0), (*c, height), (*a, height))
        for a, c in zip(corners, corners[1:] + corners[:1], strict=True)
    ]


def add_flanks(
    b: Builder, chance: random.Random, half: float, deep: float, height: float, stone: Colour, roof: Colour
) -> None:
    """Add the round towers on both sides of a city gate."""
    radius, tall = chance.uniform(0.16, 0.22), height * chance.uniform(1.1, 1.5)
    domed, sides = chance.random() < 0.4, chance.choice((8, 12))
    for x in (-half - radius * 0.6, half + radius * 0.6):
        b.start(x, -deep, rank=2)
        walls = b.loft(ring(x, 0, radius, sides), ring(x, 0, radius * 0.95, sides), 0, tall, stone)
        for wall in walls[:: sides // 4]:
            b.windows(wall, 1, 3, GLASS, fill=0.3, arched=True)
        if domed:
            b.turned(x, 0, dome_profile(radius * 1.1, tall, 1.1), roof, 12)
        else:
            b.loft(ring(x, 0, radius * 1.2, sides), [(x, 0.0)] * sides, tall, tall + radius * 2.4, roof, lid=False)


def great_wheel(chance: random.Random) -> Mesh:
    """Build a great wheel, which stands turned differently in every photo."""
    b = Builder()
    paint, cabin = vary(chance.choice(PAINTS), chance), vary(chance.choice(ACCENTS), chance)
    radius, spokes = chance.uniform(0.45, 0.6), chance.choice((12, 16, 20))
    hub: Point = (0.0, 0.0, radius + chance.uniform(0.14, 0.25))
    depth = 0.09
    for y, layer in ((depth * 1.5, 2), (-depth * 1.5, -2)):
        b.start(0, y, layer=layer)
        for x in (-radius * 0.55, radius * 0.55):
            b.loft(ring(x, y, 0.03, 4), ring(0, y, 0.025, 4), 0, hub[2], vary(paint, chance))
    for y, layer in ((depth, 1), (-depth, -1)):
        b.start(0, y, layer=layer, axle=hub)
        for i in range(spokes):
            angles = [2 * math.pi * j / spokes for j in (i, i + 1)]
            (xa, za), (xb, zb) = ((radius * math.cos(a), hub[2] + radius * math.sin(a)) for a in angles)
            b.line((xa, y, za), (xb, y, zb), paint)
            b.line((xa * 0.9, y, hub[2] + (za - hub[2]) * 0.9), (xb * 0.9, y, hub[2] + (zb - hub[2]) * 0.9), paint)
            b.line((0, y, hub[2]), (xa, y, za), mix(paint, (1, 1, 1), 0.35))
    b.start(0, 0, axle=hub)
    every = chance.choice((1, 2))
    for i in range(0, spokes, every):
        x, z = radius * math.cos(2 * math.pi * i / spokes), hub[2] + radius * math.sin(2 * math.pi * i / spokes)
        walls = b.box(x, 0, 0.07, 0.07, z - 0.05, z + 0.03, cabin if i % (2 * every) else mix(cabin, (1, 1, 1), 0.6))
        b.panel(walls[0], (0.15, 0.85), (0.4, 0.85), GLASS, Surface.WINDOW)
    return b.build()
