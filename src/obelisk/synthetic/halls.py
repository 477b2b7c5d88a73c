"""Landmarks that spread out: domed halls, churches, temples, pyramids."""

from __future__ import annotations

import random

from obelisk.synthetic.mesh import Builder, Mesh, Surface, rectangle, ring
from obelisk.synthetic.palette import ACCENTS, GLASS, ROOFS, SHADE, STONES, Colour, mix, rgb, vary
from obelisk.synthetic.towers import dome_profile


def domed_hall(chance: random.Random) -> Mesh:
    """Build a hall under a dome, with a portico, side domes or minarets."""
    b = Builder()
    stone, roof, accent = (vary(chance.choice(tones), chance) for tones in (STONES, ROOFS, ACCENTS))
    width, height = chance.uniform(0.9, 1.4), chance.uniform(0.3, 0.5)
    arched, columns = chance.random() < 0.6, chance.randint(4, 8)
    walls = b.box(0, 0, width, width * 0.7, 0, height, stone)
    rows = chance.choice((1, 2))
    for wall in walls:
        b.windows(wall, columns, rows, GLASS, fill=0.42, arched=arched)
        b.panel(wall, (0, 1), (0.9, 1), accent)
    b.start(0, 0, rank=2)
    radius = width * chance.uniform(0.2, 0.29)
    drum = chance.uniform(0.06, 0.26)
    sides = 16
    walls = b.loft(ring(0, 0, radius, sides), ring(0, 0, radius, sides), height, height + drum, stone, lid=False)
    for wall in walls:
        b.panel(wall, (0.25, 0.75), (0.2, 0.85), GLASS, Surface.WINDOW, arched=True)
    add_dome(b, 0, 0, radius * 1.04, height + drum, chance.choice(("round", "high", "onion", "flat")), roof, accent)
    style = chance.choice(("portico", "minarets", "side domes", "plain", "portico"))
    if style == "portico":
        b.start(0, -width * 0.5, rank=3)
        add_portico(
            b, 0, -width * 0.35, width * chance.uniform(0.4, 0.6), 0, height, chance.choice((4, 6, 8)), stone, roof
        )
    elif style == "minarets":
        tall, slim, far = chance.uniform(0.9, 1.4), chance.uniform(0.04, 0.06), chance.uniform(0.55, 0.75) * width
        for x in (-far, far):
            for y in (-width * 0.4, width * 0.4)[: chance.choice((1, 2))]:
                b.start(x, y, rank=1 if y > 0 else 2)
                b.turned(x, y, [(slim, 0), (slim * 0.9, tall * 0.8)], stone, 10)
                b.turned(x, y, [(slim * 1.5, tall * 0.66), (slim * 1.5, tall * 0.7)], accent, 10)
                b.turned(x, y, [(slim, tall * 0.8), (0, tall)], roof, 10)
    elif style == "side domes":
        for x in (-width * 0.37, width * 0.37):
            b.start(x, 0, rank=2)
            r = radius * 0.42
            b.turned(x, 0, [(r, height), (r, height + drum * 0.6)], stone, 12)
            add_dome(b, x, 0, r * 1.05, height + drum * 0.6, "round", roof, accent)
    return b.build()


def add_dome(b: Builder, x: float, y: float, radius: float, z: float, style: str, roof: Colour, accent: Colour) -> None:
    """Add a dome and the lantern or finial on it."""
    if style == "onion":
        profile = [
            (radius * 0.85, z),
            (radius * 1.08, z + radius * 0.45),
            (radius * 0.95, z + radius * 0.95),
            (radius * 0.5, z + radius * 1.4),
            (radius * 0.12, z + radius * 1.8),
        ]
    else:
        profile = dome_profile(radius, z, {"round": 1.0, "high": 1.35, "flat": 0.6}[style])
    b.turned(x, y, profile, roof, 20)
    top = profile[-1][1]
    lantern = radius * 0.14
    b.turned(
        x, y, [(lantern, top - radius * 0.06), (lantern, top + lantern * 1.6), (0, top + lantern * 3.6)], accent, 8
    )


def add_portico(
    b: Builder, x: float, y: float, width: float, z: float, height: float, columns: int, stone: Colour, roof: Colour
) -> None:
    """Add a row of columns before a wall, with a gable over it, its front at ``y − depth``."""
    depth = width * 0.28
    light = mix(stone, (1, 1, 1), 0.25)
    for i in range(columns):
        at = x + width * ((i + 0.5) / columns - 0.5)
        b.loft(
            ring(at, y - depth, width / columns * 0.2, 6),
            ring(at, y - depth, width / columns * 0.17, 6),
            z,
            z + height * 0.8,
            light,
            lid=False,
        )
    b.box(x, y - depth / 2, width * 1.04, depth * 1.3, z + height * 0.8, z + height * 0.92, light)
    b.gable(
        x, y - depth / 2, width * 1.08, depth * 1.35, z + height * 0.92, z + height * 0.92 + width * 0.18, roof, light
    )


def church(chance: random.Random) -> Mesh:
    """Build a church: a nave, one tower before it, beside it or two of them, spires, a rose window."""
    b = Builder()
    stone, roof, accent = (vary(chance.choice(tones), chance) for tones in (STONES, ROOFS, ACCENTS))
    width, length, height = chance.uniform(0.36, 0.52), chance.uniform(0.8, 1.2), chance.uniform(0.36, 0.55)
    b.start(0, 0.1)
    walls = b.box(0, 0.1, width, length, 0, height, stone)
    bays = chance.choice((5, 6))
    for wall in (walls[1], walls[3]):
        b.windows(wall, bays, 1, GLASS, fill=0.4, arched=True)
    ridge = height + width * chance.uniform(0.5, 0.85)
    front = walls[0]
    b.gable(0, 0.1, width * 1.08, length * 1.02, height, ridge, roof, stone)
    b.panel(front, (0.38, 0.62), (0, 0.42), mix(accent, SHADE, 0.4), arched=True)
    if chance.random() < 0.6:
        b.disc(front, 0.5, 0.76, chance.uniform(0.14, 0.22), accent, Surface.PAINT)
        b.disc(front, 0.5, 0.76, 0.13, GLASS, Surface.WINDOW)
    layout = chance.choice(("front", "twin", "side", "crossing"))
    thick = width * chance.uniform(0.42, 0.56)
    tall = height * chance.uniform(1.5, 2.2)
    front_y = 0.1 - length / 2
    spots = {
        "front": [(0.0, front_y - thick * 0.3, thick)],
        "twin": [(-width * 0.55, front_y, thick * 0.7), (width * 0.55, front_y, thick * 0.7)],
        "side": [(chance.choice((-1, 1)) * width * 0.72, front_y + thick * 0.3, thick * 0.8)],
        "crossing": [(0.0, 0.2, thick)],
    }[layout]
    style = chance.choice(("spire", "onion", "cap", "helm"))
    openings, clock = chance.randint(1, 3), chance.random() < 0.5
    for x, y, side in spots:
        b.start(x, y, rank=2)
        foot = height * 1.1 if layout == "crossing" else 0.0
        walls = b.box(x, y, side, side, foot, tall, stone)
        for wall in walls:
            b.windows(wall, openings, 1, SHADE, fill=0.44, span=(0.7, 0.9), arched=True)
            b.panel(wall, (0, 1), (0.6, 0.63), accent)
            if clock:
                b.disc(wall, 0.5, 0.52, 0.2, rgb(244, 240, 226), Surface.WINDOW)
            if layout == "front":
                b.panel(wall, (0.34, 0.66), (0, 0.22), mix(accent, SHADE, 0.4), arched=True)
        add_spire(b, x, y, side, tall, style, roof, accent)
    return b.build()


def add_spire(b: Builder, x: float, y: float, side: float, z: float, style: str, roof: Colour, accent: Colour) -> None:
    """Add the roof of a square church tower, with a cross on it."""
    r = side * 0.62
    if style == "onion":
        b.turned(
            x,
            y,
            [
                (r * 0.9, z),
                (r, z + r * 0.5),
                (r * 0.7, z + r),
                (r * 0.25, z + r * 1.4),
                (r * 0.3, z + r * 1.7),
                (0, z + r * 2.4),
            ],
            roof,
            12,
        )
        top = z + r * 2.4
    else:
        top = z + side * {"spire": 2.6, "cap": 1.0, "helm": 1.7}[style]
        sides = 8 if style == "helm" else 4
        b.loft(ring(x, y, side * 0.76, sides), [(x, y)] * sides, z, top, roof, lid=False)
    b.line((x, y, top), (x, y, top + side * 0.35), accent)
    b.line((x - side * 0.1, y, top + side * 0.22), (x + side * 0.1, y, top + side * 0.22), accent)


def temple(chance: random.Random) -> Mesh:
    """Build a temple: columns around a cella on steps, under a low gable."""
    b = Builder()
    stone, roof = vary(chance.choice(STONES), chance), vary(chance.choice((*ROOFS[2:5], *STONES)), chance)
    width, length, height = chance.uniform(0.7, 1.1), chance.uniform(0.8, 1.5), chance.uniform(0.34, 0.5)
    steps = chance.randint(1, 5)
    b.start(rank=0)
    for step in range(steps):
        grow = 0.07 * (steps - step)
        b.box(0, 0, width + grow, length + grow, step * 0.035, (step + 1) * 0.035, mix(stone, SHADE, 0.08))
    z = steps * 0.035
    b.start(0, 0)
    walls = b.box(0, 0, width * 0.68, length * 0.76, z, z + height, mix(stone, SHADE, chance.uniform(0.2, 0.55)))
    b.panel(walls[0], (0.35, 0.65), (0, 0.8), SHADE)
    columns, thick = chance.choice((4, 6, 6, 8)), chance.uniform(0.016, 0.028)
    along = columns + chance.randint(0, 2)
    spots = [
        (width * (i / (columns - 1) - 0.5) * 0.94, y) for i in range(columns) for y in (-length * 0.47, length * 0.47)
    ]
    spots += [(x, length * (i / along - 0.5) * 0.94) for i in range(1, along) for x in (-width * 0.47, width * 0.47)]
    light = mix(stone, (1, 1, 1), 0.2)
    for x, y in spots:
        b.start(x, y, layer=0)
        b.loft(ring(x, y, thick * 1.15, 6), ring(x, y, thick, 6), z, z + height, light, lid=False)
    b.start(rank=3)
    beam = chance.uniform(0.05, 0.1)
    walls = b.box(0, 0, width * 1.04, length * 1.03, z + height, z + height + beam, light)
    frieze = vary(chance.choice(ACCENTS), chance)
    for wall in walls:
        b.panel(wall, (0, 1), (0.4, 0.6), frieze)
    rise = width * chance.uniform(0.16, 0.3)
    b.gable(0, 0, width * 1.1, length * 1.06, z + height + beam, z + height + beam + rise, roof, stone)
    return b.build()


def pyramid(chance: random.Random) -> Mesh:
    """Build a pyramid: smooth, of glass, or stepped with a stair and a shrine."""
    b = Builder()
    stone = vary(chance.choice((*STONES[:2], STONES[4], STONES[6], STONES[8])), chance)
    accent = vary(chance.choice(ACCENTS), chance)
    style = chance.choice(("smooth", "glass", "stepped", "stepped", "bent"))
    half = chance.uniform(0.55, 0.8)
    if style == "smooth":
        height, courses, tip = half * chance.uniform(0.9, 1.3), chance.choice((6, 9)), chance.choice((0.0, 0.5))
        walls = b.loft(ring(0, 0, half * 1.41, 4), [(0.0, 0.0)] * 4, 0, height, stone, lid=False)
        for wall in walls:
            for course in range(1, courses):
                v = course / courses
                b.panel(wall, (0, 1), (v, v + 0.012), mix(stone, SHADE, 0.25))
            b.panel(wall, (0, 1), (0.84, 1), mix(stone, (1, 1, 1), tip))
            b.panel(wall, (0.46, 0.54), (0, 0.12), SHADE)
    elif style == "glass":
        height, panes = half * chance.uniform(0.8, 1.1), chance.choice((5, 7))
        tint = vary(rgb(120, 160, 186), chance)
        walls = b.loft(ring(0, 0, half * 1.41, 4), [(0.0, 0.0)] * 4, 0, height, mix(tint, SHADE, 0.3), lid=False)
        for wall in walls:
            b.windows(wall, panes, 7, tint, fill=0.84, span=(0, 0.98))
    elif style == "bent":
        middle, bend = half * 0.62, half * chance.uniform(0.5, 0.8)
        b.loft(ring(0, 0, half * 1.41, 4), ring(0, 0, middle * 1.41, 4), 0, bend, stone, lid=False)
        b.loft(
            ring(0, 0, middle * 1.41, 4),
            [(0.0, 0.0)] * 4,
            bend,
            bend + half * 0.5,
            mix(stone, (1, 1, 1), 0.15),
            lid=False,
        )
    else:
        add_steps(b, chance, half, stone, accent)
    return b.build()


def add_steps(b: Builder, chance: random.Random, half: float, stone: Colour, accent: Colour) -> None:
    """Add the terraces of a stepped pyramid, a stair up its front, and a shrine on top."""
    terraces = chance.randint(4, 9)
    rise, top = chance.uniform(0.5, 0.8) / terraces, half * chance.uniform(0.25, 0.4)
    for terrace in range(terraces):
        reach = half + (top - half) * terrace / terraces
        inner = reach - (half - top) / terraces * chance.uniform(0.3, 0.7)
        walls = b.loft(
            rectangle(0, 0, reach * 2, reach * 2),
            rectangle(0, 0, inner * 2, inner * 2),
            terrace * rise,
            (terrace + 1) * rise,
            stone,
        )
        if terrace % 2:
            for wall in walls:
                b.panel(wall, (0, 1), (0.75, 1), accent)
        wide = 0.13 * half / reach
        for wall in walls[:1]:
            b.panel(wall, (0.5 - wide, 0.5 + wide), (0, 1), mix(stone, (1, 1, 1), 0.35))
            b.panel(wall, (0.5 - wide, 0.5 + wide), (0.35, 0.55), mix(stone, SHADE, 0.3))
    z = terraces * rise
    walls = b.box(0, 0, top * 1.1, top * 0.9, z, z + 0.16, mix(stone, accent, 0.3))
    for wall in walls:
        b.panel(wall, (0.38, 0.62), (0, 0.75), SHADE)
    b.box(0, 0, top * 1.2, top, z + 0.16, z + 0.2, accent)
