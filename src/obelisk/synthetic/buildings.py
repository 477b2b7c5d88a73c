"""Landmarks of four kinds, and the houses of any town: solids made of shared parts, their measures drawn at random."""

from __future__ import annotations

import functools
import math
import random
from itertools import pairwise

from obelisk.synthetic.mesh import ARCHED, PLAIN, ROUND, Mesh, MeshBuilder, Spot, Surface, Wall, rectangle
from obelisk.synthetic.palette import ACCENTS, GLASS, ROOFS, SHADE, STONES, WHITE, Color, blend, rgb, vary

DIAL, LANTERN = rgb(0xF4F0E2), rgb(0xFAE296)
PLASTERS = tuple(map(rgb, (0xF0ECE4, 0xE6C88E, 0xC0BCB4, 0xDCA08C)))
STRIPES = tuple(map(rgb, (0xBE362E, 0x2C4A7A, 0x343438, 0xCE8C32, 0x3E7A5A, 0x7A4668)))
QUARTER = [math.pi / 2 * i / 5 for i in range(6)]
# Roofs by name: number of sides, and the profile above the rim of what they cover, in its radii.
ROOF_SHAPES = {
    "dome": (20, [(1.04 * math.cos(turn), math.sin(turn)) for turn in QUARTER]),
    "high dome": (20, [(1.04 * math.cos(turn), 1.35 * math.sin(turn)) for turn in QUARTER]),
    "onion": (14, [(0.9, 0.0), (1.1, 0.45), (0.95, 0.95), (0.5, 1.4), (0.12, 1.8), (0, 2.2)]),
    "cone": (12, [(1.18, 0), (0, 2.6)]),
    "ledge": (12, [(1.2, 0.15), (1.2, 0.5), (0, 0.5)]),
    "spire": (4, [(1.1, 0), (0, 3.8)]),
    "helm": (8, [(1.1, 0), (0, 2.4)]),
    "cap": (4, [(1.1, 0), (0, 1.4)]),
}


def add_tower(
    b: MeshBuilder, spot: Spot, radius: float, z: tuple[float, float], sides: int, stone: Color
) -> list[Wall]:
    """Add an upright shaft between two heights and return its walls."""
    return b.turned(*spot, [(radius, z[0]), (radius, z[1]), (0, z[1])], stone, sides)[:sides]


def add_roof(b: MeshBuilder, spot: Spot, radius: float, z: float, shape: str, roof: Color, tip: Color) -> None:
    """Put a roof of one of the shapes on a tower or a drum, and a finial on top."""
    sides, profile = ROOF_SHAPES[shape]
    b.turned(*spot, [(radius * wide, z + radius * high) for wide, high in [(1.0, 0.0), *profile]], roof, sides)
    top, slim = z + radius * profile[-1][1], radius * 0.12
    b.turned(*spot, [(slim, top - slim), (slim, top + slim), (0, top + slim * 4)], tip, 6)


@functools.lru_cache(maxsize=16)
def house_row(seed: int) -> Mesh:
    """Build a row of plain houses, or one block of flats, as found in any town."""
    b, rng = MeshBuilder(), random.Random(f"houses {seed}")
    count = rng.choice((1, 2, 3, 4))
    width = 1.8 / count
    for i in range(count):
        x = (i - (count - 1) / 2) * width * rng.uniform(1.0, 1.15)
        wall, roof = vary(rng.choice(STONES), rng), vary(rng.choice(ROOFS), rng)
        height, deep = rng.uniform(0.35, 0.9), rng.uniform(0.4, 0.7)
        b.start(x, 0)
        walls = b.box(x, 0, width * 0.92, deep, 0, height, wall)
        for side in walls:
            b.windows(side, max(2, round(width * 5)), max(1, round(height * 5)))
        b.panel(walls[0], (0.42, 0.58), (0, 0.2 / height), vary(rng.choice(ACCENTS), rng))
        if rng.random() < 0.6:
            b.gable(x, 0, width * 0.98, deep * 1.06, height, height + width * rng.uniform(0.2, 0.45), roof, wall)
    return b.build()


def draw_colors(rng: random.Random) -> tuple[Color, Color, Color]:
    """Draw the colors of walls, roof and ornament; some walls are painted."""
    walls, roof, accent = (vary(rng.choice(tones), rng, 0.1) for tones in ((*STONES, *ACCENTS), ROOFS, ACCENTS))
    return walls, roof, accent


def lighthouse(rng: random.Random) -> MeshBuilder:
    """Build a lighthouse: a tapering shaft with rings of color, a gallery, a lantern, and often a cottage."""
    b = MeshBuilder()
    plaster, stripe = vary(rng.choice(PLASTERS), rng), vary(rng.choice(STRIPES), rng)
    low, high, height = rng.uniform(0.15, 0.24), rng.uniform(0.09, 0.14), rng.uniform(0.9, 1.5)
    bands, sides = rng.choice((1, 3, 4, 5, 6, 7)), rng.choice((8, 14, 14))
    if rng.random() < 0.6:
        x = rng.choice((-0.42, 0.42))
        b.start(x, 0.1)
        for wall in b.box(x, 0.1, 0.4, 0.3, 0, 0.2, plaster):
            b.windows(wall, 2, 1)
        b.gable(x, 0.1, 0.46, 0.34, 0.2, 0.36, vary(rng.choice(ROOFS), rng), plaster)
        b.start()
    rings = [(low + (high - low) * band / bands, height * band / bands) for band in range(bands + 1)]
    for band, ends in enumerate(pairwise(rings)):
        walls = b.turned(0, 0, ends, stripe if band % 2 else plaster, sides)
        if band % 2 == 0:
            b.panel(walls[0], (0.2, 0.8), (0.3, 0.7), GLASS, Surface.WINDOW, ARCHED)
    add_tower(b, (0, 0), high * 1.5, (height, height + 0.05), sides, stripe)
    top = height + rng.uniform(0.19, 0.25)
    for wall in add_tower(b, (0, 0), high * 0.85, (height + 0.05, top), 8, stripe):
        b.panel(wall, (0.12, 0.88), (0.12, 0.88), LANTERN, Surface.WINDOW)
    add_roof(b, (0, 0), high, top, rng.choice(("dome", "helm")), stripe, stripe)
    return b


def castle(rng: random.Random) -> MeshBuilder:
    """Build a castle: walls between four towers, pointed, round or flat, and a keep."""
    b = MeshBuilder()
    stone, roof, _ = draw_colors(rng)
    half, deep, low = rng.uniform(0.5, 0.75), rng.uniform(0.3, 0.5), rng.uniform(0.28, 0.42)
    radius, sides = rng.uniform(0.12, 0.18), rng.choice((8, 12, 4))
    shape = rng.choice(("cone", "dome", "spire", "ledge"))
    for y in (deep, -deep):
        b.start(0, y)
        front, *_ = b.box(0, y, 2 * half, 0.08, 0, low, stone)
        b.panel(front, (0.42, 0.58), (0, 0.62), SHADE, outline=ARCHED)
        b.windows(front, 8, 1, fill=0.2, span=(0.55, 0.85))
    for x in (-half, half):
        b.start(x, 0)
        b.box(x, 0, 0.08, deep * 2, 0, low, stone)
    keep, top = rng.uniform(0.32, 0.5), rng.uniform(0.55, 0.85)
    turret = (rng.choice((-1, 1)) * keep * 0.45, 0.0)
    towers = [((x, y), radius, low * rng.uniform(1.3, 1.9)) for x in (-half, half) for y in (-deep, deep)]
    for spot, wide, height in [*towers, (turret, 0.09, top + rng.uniform(0.1, 0.4))]:
        b.start(*spot)
        for wall in add_tower(b, spot, wide, (0, height), sides, stone)[:: max(1, sides // 4)]:
            b.panel(wall, (0.3, 0.7), (0.72, 0.86), GLASS, Surface.WINDOW, ARCHED)
        add_roof(b, spot, wide, height, shape, stone if shape == "ledge" else roof, stone)
    b.start(0, 0.06)
    for wall in b.box(0, 0.06, keep, keep * 0.8, 0, top, vary(stone, rng)):
        b.windows(wall, 3, 3, fill=0.36, span=(0.45, 0.95), outline=ARCHED)
    b.loft(rectangle(0, 0.06, keep, keep * 0.8), rectangle(0, 0.06, keep * 0.5, 0.01), top, top + 0.25, roof)
    return b


def domed_hall(rng: random.Random) -> MeshBuilder:
    """Build a hall under a dome, with a portico, side domes or minarets."""
    b = MeshBuilder()
    stone, roof, accent = draw_colors(rng)
    width, height = rng.uniform(0.9, 1.4), rng.uniform(0.3, 0.5)
    columns, rows, outline = rng.randint(4, 8), rng.choice((1, 2)), rng.choice((PLAIN, ARCHED))
    for wall in b.box(0, 0, width, width * 0.7, 0, height, stone):
        b.windows(wall, columns, rows, outline=outline)
        b.panel(wall, (0, 1), (0.9, 1), accent)
    radius, drum = width * rng.uniform(0.2, 0.29), height + rng.uniform(0.06, 0.26)
    b.start(rank=2)
    for wall in add_tower(b, (0, 0), radius, (height, drum), 16, stone):
        b.panel(wall, (0.25, 0.75), (0.2, 0.85), GLASS, Surface.WINDOW, ARCHED)
    add_roof(b, (0, 0), radius, drum, rng.choice(("dome", "high dome", "onion")), roof, accent)
    style = rng.choice(("portico", "minarets", "side domes", "portico"))
    if style == "portico":
        wide, deep = width * rng.uniform(0.4, 0.6), width * 0.15
        front, light, count = -width * 0.35 - deep / 2, blend(stone, WHITE, 0.25), rng.choice((4, 6, 8))
        for i in range(count):
            x, thick = wide * ((i + 0.5) / count - 0.5), wide / count
            b.start(x, front - deep / 2)
            b.turned(x, front - deep / 2, [(thick * 0.21, 0), (thick * 0.18, height * 0.8)], light, 6)
        b.start(0, front, rank=3)
        b.box(0, front, wide * 1.04, deep * 1.3, height * 0.8, height * 0.92, light)
        b.gable(0, front, wide * 1.08, deep * 1.35, height * 0.92, height * 0.92 + wide * 0.18, roof, light)
    far, slim, tall = width * rng.uniform(0.55, 0.75), rng.uniform(0.04, 0.06), rng.uniform(0.7, 1.1)
    if style == "side domes":
        far, slim, tall = width * 0.37, radius * 0.42, drum
    for x in () if style == "portico" else (-far, far):
        b.start(x, 0, rank=2 if style == "side domes" else 1)
        add_tower(b, (x, 0), slim, (0, tall), 10, stone)
        add_roof(b, (x, 0), slim, tall, "dome" if style == "side domes" else "cone", roof, accent)
    return b


def church(rng: random.Random) -> MeshBuilder:
    """Build a church: a nave with a rose window, and a tower before it, beside it or over it, or two in front."""
    b = MeshBuilder()
    stone, roof, accent = draw_colors(rng)
    width, length, height = rng.uniform(0.36, 0.52), rng.uniform(0.8, 1.2), rng.uniform(0.36, 0.55)
    b.start(0, 0.1)
    front, right, _, left = b.box(0, 0.1, width, length, 0, height, stone)
    for wall in (right, left):
        b.windows(wall, 6, 1, fill=0.4, outline=ARCHED)
    b.gable(0, 0.1, width * 1.08, length * 1.02, height, height + width * rng.uniform(0.5, 0.85), roof, stone)
    b.panel(front, (0.38, 0.62), (0, 0.42), blend(accent, SHADE, 0.4), outline=ARCHED)
    b.panel(front, (0.32, 0.68), (0.58, 0.94), accent, outline=ROUND)
    b.panel(front, (0.37, 0.63), (0.63, 0.89), GLASS, Surface.WINDOW, ROUND)
    thick, tall, y = width * rng.uniform(0.28, 0.36), height * rng.uniform(1.5, 2.2), 0.1 - length / 2
    gate, middle = (0.0, y - thick * 0.5), (0.0, 0.2)
    beside = (rng.choice((-1, 1)) * width * 0.72, y + thick * 0.5)
    towers = rng.choice(([gate], [(-width * 0.55, y), (width * 0.55, y)], [beside], [middle]))
    openings, clock = rng.randint(1, 3), rng.random() < 0.5
    shape = rng.choice(("spire", "onion", "cap", "helm", "dome"))
    for spot in towers:
        b.start(*spot, rank=2)
        for wall in add_tower(b, spot, thick, (height * 1.1 if spot == middle else 0.0, tall), 4, stone):
            b.windows(wall, openings, 1, span=(0.7, 0.9), outline=ARCHED)
            b.panel(wall, (0, 1), (0.6, 0.63), accent)
            if clock:
                b.panel(wall, (0.3, 0.7), (0.46, 0.58), DIAL, Surface.WINDOW, ROUND)
            if spot == gate:
                b.panel(wall, (0.34, 0.66), (0, 0.22), blend(accent, SHADE, 0.4), outline=ARCHED)
        add_roof(b, spot, thick, tall, shape, roof, accent)
    return b
