"""Landmarks that reach up: towers, lighthouses, windmills, pagodas, obelisks, castles."""

from __future__ import annotations

import math
import random

from obelisk.synthetic.mesh import Builder, Mesh, Surface, Wall, rectangle, ring
from obelisk.synthetic.palette import ACCENTS, GLASS, ROOFS, SHADE, STONES, Colour, mix, rgb, vary


def crown(b: Builder, chance: random.Random, radius: float, z: float, roof: Colour, accent: Colour, sides: int) -> None:
    """Put an end to a tower of this radius at this height: a spire, a cap, a dome, an onion, or battlements."""
    style = chance.choice(("spire", "cap", "dome", "onion", "battlements", "double"))
    outline = ring(0, 0, radius * 1.12, sides)
    point = [(0.0, 0.0)] * sides
    if style == "spire":
        b.loft(outline, point, z, z + radius * chance.uniform(3.2, 5), roof, lid=False)
    elif style == "cap":
        b.loft(outline, point, z, z + radius * chance.uniform(1.2, 2), roof, lid=False)
    elif style == "dome":
        b.turned(0, 0, dome_profile(radius * 1.1, z, chance.uniform(0.9, 1.3)), roof, 14)
        b.turned(0, 0, [(radius * 0.2, z + radius), (radius * 0.16, z + radius * 1.6), (0, z + radius * 2)], accent, 8)
    elif style == "onion":
        r = radius * 1.15
        b.turned(
            0, 0, [(r * 0.7, z), (r, z + r * 0.5), (r * 0.9, z + r), (r * 0.4, z + r * 1.6), (0, z + r * 2.4)], roof, 14
        )
    elif style == "battlements":
        b.loft(outline, outline, z, z + radius * 0.35, mix(roof, STONES[0], 0.6))
        for x, y in ring(0, 0, radius, 8):
            b.box(x, y, radius * 0.34, radius * 0.34, z + radius * 0.35, z + radius * 0.7, mix(roof, STONES[0], 0.6))
    else:
        small = ring(0, 0, radius * 0.55, sides)
        b.loft(outline, small, z, z + radius * 0.9, roof)
        walls = b.loft(small, small, z + radius * 0.9, z + radius * 1.7, accent)
        for wall in walls:
            b.panel(wall, (0.25, 0.75), (0.1, 0.85), SHADE, Surface.WINDOW, arched=True)
        b.loft(ring(0, 0, radius * 0.66, sides), point, z + radius * 1.7, z + radius * 3.4, roof, lid=False)


def dome_profile(radius: float, z: float, rise: float, *, steps: int = 5) -> list[tuple[float, float]]:
    """Return the profile of a dome that is ``rise`` times as high as its radius."""
    angles = [math.pi / 2 * i / steps for i in range(steps + 1)]
    return [(radius * math.cos(a), z + radius * rise * math.sin(a)) for a in angles]


def tower(chance: random.Random) -> Mesh:
    """Build a tower of one to four storeys, each a little narrower, with a clock or not."""
    b = Builder()
    stone, roof, accent = (vary(chance.choice(tones), chance) for tones in (STONES, ROOFS, ACCENTS))
    sides = chance.choice((4, 4, 4, 6, 8, 12))
    radius = chance.uniform(0.16, 0.3)
    storeys = chance.randint(1, 4)
    base = chance.choice((0.0, 0.18, 0.3))
    z = 0.0
    if base:
        walls = b.box(0, 0, radius * chance.uniform(3, 6), radius * 3, 0, base, vary(stone, chance))
        bays = chance.randint(4, 7)
        for wall in walls:
            b.windows(wall, bays, 1, GLASS, arched=True)
        z = base
    heights = [chance.uniform(0.6, 1.2) * 1.3 / storeys for _ in range(storeys)]
    columns, rows, arched = chance.randint(1, 3), chance.randint(1, 4), chance.random() < 0.5
    banded = chance.random() < 0.35
    clock = chance.random() < 0.4
    for storey, height in enumerate(heights):
        outline = ring(0, 0, radius, sides)
        taper = chance.uniform(0.9, 1.0)
        walls = b.loft(outline, ring(0, 0, radius * taper, sides), z, z + height, stone)
        dress(b, walls, columns if sides < 8 else 1, rows, accent if banded else None, arched=arched)
        if clock and storey == storeys - 1:
            for wall in walls:
                b.disc(wall, 0.5, 0.82, 0.3, rgb(244, 240, 226), Surface.WINDOW)
                b.disc(wall, 0.5, 0.82, 0.05, SHADE, Surface.PAINT)
        z += height
        ledge = ring(0, 0, radius * 1.14, sides)
        b.loft(ledge, ledge, z, z + 0.035, accent)
        z += 0.035
        radius *= taper * chance.uniform(0.72, 0.95)
    crown(b, chance, radius, z, roof, accent, sides)
    return b.build()


def dress(b: Builder, walls: list[Wall], columns: int, rows: int, band: Colour | None, *, arched: bool) -> None:
    """Give the walls of a storey windows, and bands of another stone."""
    for wall in walls:
        if band is not None:
            for v in (0.2, 0.5, 0.8):
                b.panel(wall, (0, 1), (v, v + 0.07), band)
        b.windows(wall, columns, rows, GLASS, fill=0.4, arched=arched)


def lighthouse(chance: random.Random) -> Mesh:
    """Build a lighthouse: a tapering shaft with rings of colour, a gallery, a lantern."""
    b = Builder()
    white = vary(rgb(240, 236, 228), chance)
    colour = vary(chance.choice((rgb(190, 54, 46), rgb(44, 74, 122), rgb(52, 52, 56), rgb(206, 140, 50))), chance)
    low, high = chance.uniform(0.15, 0.24), chance.uniform(0.09, 0.14)
    height = chance.uniform(0.9, 1.5)
    bands = chance.choice((1, 3, 4, 5, 6, 7))
    sides = chance.choice((8, 14, 14))
    if chance.random() < 0.6:
        x = chance.choice((-0.42, 0.42))
        b.start(x, 0.1)
        walls = b.box(x, 0.1, 0.4, 0.3, 0, 0.2, white)
        for wall in walls:
            b.windows(wall, 2, 1, GLASS)
        b.gable(x, 0.1, 0.46, 0.34, 0.2, 0.36, vary(chance.choice(ROOFS), chance), white)
        b.start()
    for band in range(bands):
        z0, z1 = height * band / bands, height * (band + 1) / bands
        r0, r1 = low + (high - low) * band / bands, low + (high - low) * (band + 1) / bands
        tone = white if band % 2 == 0 else colour
        walls = b.loft(ring(0, 0, r0, sides), ring(0, 0, r1, sides), z0, z1, tone, lid=False)
        if band % 2 == 0:
            b.panel(walls[0], (0.2, 0.8), (0.3, 0.7), GLASS, Surface.WINDOW, arched=True)
    b.turned(0, 0, [(high * 1.5, height), (high * 1.5, height + 0.05)], colour, sides)
    b.face([(x, y, height + 0.05) for x, y in ring(0, 0, high * 1.5, sides)], colour)
    lantern = chance.uniform(0.14, 0.2)
    glass = b.loft(
        ring(0, 0, high * 0.85, 8), ring(0, 0, high * 0.85, 8), height + 0.05, height + 0.05 + lantern, colour
    )
    for wall in glass:
        b.panel(wall, (0.12, 0.88), (0.12, 0.88), rgb(250, 226, 150), Surface.WINDOW)
    top = height + 0.05 + lantern
    if chance.random() < 0.5:
        b.turned(0, 0, dome_profile(high, top, 0.9, steps=3), colour, 12)
    else:
        b.turned(0, 0, [(high * 1.1, top), (0, top + high * 1.3)], colour, 12)
    return b.build()


def windmill(chance: random.Random) -> Mesh:
    """Build a windmill, whose sails stand differently in every photo."""
    b = Builder()
    body = vary(chance.choice((rgb(240, 234, 222), rgb(120, 84, 62), rgb(150, 92, 74), rgb(96, 112, 96))), chance)
    roof, accent = vary(chance.choice(ROOFS), chance), vary(chance.choice(ACCENTS), chance)
    sides = chance.choice((8, 8, 12, 4))
    low, high, height = chance.uniform(0.28, 0.36), chance.uniform(0.16, 0.22), chance.uniform(0.7, 1.0)
    foot = chance.uniform(0.1, 0.3)
    b.loft(ring(0, 0, low * 1.08, sides), ring(0, 0, low, sides), 0, foot, vary(chance.choice(STONES), chance))
    walls = b.loft(ring(0, 0, low, sides), ring(0, 0, high, sides), foot, height, body)
    for wall in walls:
        b.windows(wall, 1, 2, GLASS, fill=0.34)
    if chance.random() < 0.6:
        gallery = ring(0, 0, low * 1.4, sides)
        b.loft(gallery, gallery, foot, foot + 0.03, accent)
        b.loft(ring(0, 0, low * 0.97, sides), ring(0, 0, low * 0.9, sides), foot + 0.03, foot + 0.12, body, lid=False)
    b.panel(walls[0], (0.3, 0.7), (0.0, 0.2), accent, arched=True)
    if chance.random() < 0.5:
        b.turned(0, 0, dome_profile(high * 1.15, height, 0.9, steps=3), roof, 12)
    else:
        b.turned(0, 0, [(high * 1.15, height), (0, height + high * 1.3)], roof, 8)
    hub = (0.0, -high * 1.5, height + high * 0.35)
    b.start(0, -high * 2, layer=-1, axle=hub)
    length, breadth = chance.uniform(0.5, 0.62), chance.uniform(0.07, 0.11)
    cloth = vary(chance.choice((rgb(238, 226, 200), rgb(170, 60, 50), rgb(214, 204, 188))), chance)
    sails = chance.choice((4, 4, 4, 6))
    for sail in range(sails):
        add_sail(b, hub, sail * 2 * math.pi / sails, length, breadth, cloth)
    return b.build()


def add_sail(
    b: Builder, hub: tuple[float, float, float], angle: float, length: float, breadth: float, cloth: Colour
) -> None:
    """Add a sail, seen from the front and from behind."""
    x, y, z = hub
    out, across = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))

    def at(along: float, aside: float) -> tuple[float, float, float]:
        return (x + out[0] * along + across[0] * aside, y, z + out[1] * along + across[1] * aside)

    corners = [at(length * 0.18, 0), at(length, 0), at(length, breadth), at(length * 0.18, breadth)]
    b.face(corners, cloth, Surface.PAINT)
    b.face(corners[::-1], cloth, Surface.PAINT)
    b.line(at(0, 0), at(length, 0), rgb(84, 62, 48))
    for step in (0.35, 0.52, 0.69, 0.86):
        b.line(at(length * step, 0), at(length * step, breadth), rgb(120, 96, 74))


def pagoda(chance: random.Random) -> Mesh:
    """Build a pagoda of three to seven storeys with wide eaves."""
    b = Builder()
    body = vary(chance.choice((rgb(168, 56, 44), rgb(236, 226, 206), rgb(126, 88, 64), rgb(190, 150, 96))), chance)
    roof = vary(chance.choice((rgb(78, 84, 92), rgb(70, 108, 92), rgb(190, 146, 62), rgb(58, 62, 74))), chance)
    sides = chance.choice((4, 4, 6, 8))
    storeys = chance.randint(3, 7)
    radius, shrink = chance.uniform(0.26, 0.38), chance.uniform(0.82, 0.93)
    height = chance.uniform(1.1, 1.6) / storeys
    eaves, slope = chance.uniform(1.4, 1.75), chance.uniform(0.28, 0.5)
    base = ring(0, 0, radius * 1.7, sides)
    b.loft(base, base, 0, 0.07, vary(STONES[4], chance))
    z = 0.07
    for storey in range(storeys):
        walls = b.loft(
            ring(0, 0, radius, sides), ring(0, 0, radius, sides), z, z + height * (1 - slope), body, lid=False
        )
        for wall in walls:
            b.windows(wall, 3 if sides == 4 else 1, 1, SHADE if storey else GLASS, fill=0.55)
        z += height * (1 - slope)
        wide, narrow = ring(0, 0, radius * eaves, sides), ring(0, 0, radius * shrink * 0.98, sides)
        middle = ring(0, 0, radius * (eaves + shrink) / 2 * 0.9, sides)
        b.face([(px, py, z) for px, py in reversed(wide)], mix(roof, SHADE, 0.6))
        b.loft(wide, middle, z, z + height * slope * 0.4, roof, lid=False)
        b.loft(middle, narrow, z + height * slope * 0.4, z + height * slope, roof)
        z += height * slope
        radius *= shrink
    b.loft(ring(0, 0, radius * 1.3, sides), [(0.0, 0.0)] * sides, z, z + height * 0.6, roof, lid=False)
    b.turned(0, 0, [(0.025, z + height * 0.4), (0.02, z + height * 1.1), (0, z + height * 1.4)], ACCENTS[0], 6)
    return b.build()


def obelisk(chance: random.Random) -> Mesh:
    """Build an obelisk or a column with a figure on it, upon steps."""
    b = Builder()
    stone, accent = vary(chance.choice(STONES), chance), vary(chance.choice(ACCENTS), chance)
    steps, z, width = chance.randint(1, 4), 0.0, chance.uniform(0.7, 1.0)
    for _ in range(steps):
        b.box(0, 0, width, width, z, z + 0.05, mix(stone, SHADE, 0.12))
        z, width = z + 0.05, width * 0.84
    pedestal = chance.uniform(0.26, 0.38)
    walls = b.box(0, 0, pedestal, pedestal, z, z + 0.24, stone)
    plaque = accent if chance.random() < 0.5 else mix(stone, SHADE, 0.3)
    for wall in walls:
        b.panel(wall, (0.15, 0.85), (0.2, 0.8), plaque)
    z += 0.24
    height = chance.uniform(1.0, 1.5)
    thick = chance.uniform(0.07, 0.11)
    if chance.random() < 0.5:
        tip = ring(0, 0, thick * 0.66, 4)
        walls = b.loft(ring(0, 0, thick * 1.1, 4), tip, z, z + height, stone, lid=False)
        every = chance.choice((1, 2))
        for wall in walls:
            for v in range(2, 9, every):
                b.panel(wall, (0.3, 0.7), (v / 10, v / 10 + 0.05), mix(stone, SHADE, 0.35))
        b.loft(tip, [(0.0, 0.0)] * 4, z + height, z + height + 0.12, accent, lid=False)
        return b.build()
    b.loft(ring(0, 0, thick * 0.9, 12), ring(0, 0, thick * 0.75, 12), z, z + height, stone, lid=False)
    for band in range(chance.randint(0, 4)):
        at = z + height * (0.15 + 0.2 * band)
        b.turned(0, 0, [(thick * 0.95, at), (thick * 0.95, at + 0.05)], accent, 12)
    z += height
    b.box(0, 0, thick * 2.8, thick * 2.8, z, z + 0.06, stone)
    figure = chance.uniform(0.2, 0.32)
    b.turned(0, 0, [(0.05, z + 0.06), (0.06, z + figure * 0.5), (0.03, z + figure * 0.75), (0, z + figure)], accent, 8)
    if chance.random() < 0.6:
        for side in (-1, 1):
            b.line((0, 0, z + figure * 0.6), (side * 0.16, 0, z + figure * chance.uniform(0.6, 1.2)), accent)
    return b.build()


def castle(chance: random.Random) -> Mesh:
    """Build a castle: walls between round towers with pointed roofs, and a keep."""
    b = Builder()
    stone, roof = vary(chance.choice(STONES), chance), vary(chance.choice(ROOFS), chance)
    half, deep, wall_height = chance.uniform(0.5, 0.75), chance.uniform(0.3, 0.5), chance.uniform(0.28, 0.42)
    pointed, sides = chance.random() < 0.65, chance.choice((8, 12, 4))
    for y in (deep, -deep):
        b.start(0, y)
        walls = b.box(0, y, half * 2, 0.08, 0, wall_height, stone)
        if y < 0:
            b.panel(walls[0], (0.42, 0.58), (0, 0.62), SHADE, arched=True)
            b.windows(walls[0], chance.choice((6, 8)), 1, GLASS, fill=0.2, span=(0.55, 0.85))
    for x in (-half, half):
        b.start(x, 0)
        b.box(x, 0, 0.08, deep * 2, 0, wall_height, stone)
    radius = chance.uniform(0.12, 0.18)
    for x in (-half, half):
        for y in (-deep, deep):
            b.start(x, y)
            add_turret(b, x, y, radius, wall_height * chance.uniform(1.3, 1.9), sides, stone, roof, pointed=pointed)
    b.start(0, 0)
    keep = chance.uniform(0.32, 0.5)
    walls = b.box(0, 0.06, keep, keep * 0.8, 0, chance.uniform(0.55, 0.85), vary(stone, chance))
    for wall in walls:
        b.windows(wall, 3, 3, GLASS, fill=0.36, span=(0.45, 0.95), arched=True)
    top = walls[0][2][2]
    b.loft(rectangle(0, 0.06, keep * 1.08, keep * 0.88), rectangle(0, 0.06, keep * 0.5, 0.01), top, top + 0.25, roof)
    if chance.random() < 0.6:
        x = chance.choice((-1, 1)) * keep * 0.45
        add_turret(b, x, 0, 0.09, top + chance.uniform(0.2, 0.4), sides, stone, roof, pointed=True)
    return b.build()


def add_turret(
    b: Builder,
    x: float,
    y: float,
    radius: float,
    height: float,
    sides: int,
    stone: Colour,
    roof: Colour,
    *,
    pointed: bool,
) -> None:
    """Add a slim tower with a pointed roof or with battlements."""
    outline = ring(x, y, radius, sides)
    walls = b.loft(outline, outline, 0, height, stone)
    for wall in walls[:: max(1, sides // 4)]:
        b.panel(wall, (0.3, 0.7), (0.72, 0.86), GLASS, Surface.WINDOW, arched=True)
    wide = ring(x, y, radius * 1.18, sides)
    if pointed:
        b.loft(wide, [(x, y)] * sides, height, height + radius * 2.6, roof, lid=False)
    else:
        b.loft(wide, wide, height, height + radius * 0.4, stone)
        for px, py in ring(x, y, radius, 6):
            b.box(px, py, radius * 0.4, radius * 0.4, height + radius * 0.4, height + radius * 0.75, stone)
