"""Buildings: lighthouses, castles, domed halls, churches, temples."""

from __future__ import annotations

import random

from obelisk.synthetic.canvas import Spot
from obelisk.synthetic.mesh import Mesh, MeshBuilder, Surface, dome_profile, rectangle, ring
from obelisk.synthetic.palette import ACCENTS, GLASS, ROOFS, SHADE, STONES, WHITE, Color, blend, rgb, vary

DIAL = rgb(0xF4F0E2)
STRIPES = tuple(map(rgb, (0xBE362E, 0x2C4A7A, 0x343438, 0xCE8C32)))


def draw_colors(rng: random.Random) -> tuple[Color, Color, Color]:
    """Draw the colors of stone, roof and ornament."""
    stone, roof, accent = (vary(rng.choice(tones), rng) for tones in (STONES, ROOFS, ACCENTS))
    return stone, roof, accent


def lighthouse(rng: random.Random) -> Mesh:
    """Build a lighthouse: a tapering shaft with rings of color, a gallery, a lantern."""
    b = MeshBuilder()
    white, stripe = vary(rgb(0xF0ECE4), rng), vary(rng.choice(STRIPES), rng)
    low, high = rng.uniform(0.15, 0.24), rng.uniform(0.09, 0.14)
    height = rng.uniform(0.9, 1.5)
    bands, sides = rng.choice((1, 3, 4, 5, 6, 7)), rng.choice((8, 14, 14))
    if rng.random() < 0.6:
        x = rng.choice((-0.42, 0.42))
        b.start(x, 0.1)
        for wall in b.box(x, 0.1, 0.4, 0.3, 0, 0.2, white):
            b.windows(wall, 2, 1)
        b.gable(x, 0.1, 0.46, 0.34, 0.2, 0.36, vary(rng.choice(ROOFS), rng), white)
        b.start()
    rings = [(low + (high - low) * band / bands, height * band / bands) for band in range(bands + 1)]
    for band in range(bands):
        walls = b.turned(0, 0, rings[band : band + 2], stripe if band % 2 else white, sides)
        if band % 2 == 0:
            b.panel(walls[0], (0.2, 0.8), (0.3, 0.7), GLASS, Surface.WINDOW, arched=True)
    gallery = ring(0, 0, high * 1.5, sides)
    b.loft(gallery, gallery, height, height + 0.05, stripe)
    lantern, foot, top = ring(0, 0, high * 0.85, 8), height + 0.05, height + 0.05 + rng.uniform(0.14, 0.2)
    for wall in b.loft(lantern, lantern, foot, top, stripe):
        b.panel(wall, (0.12, 0.88), (0.12, 0.88), rgb(0xFAE296), Surface.WINDOW)
    pointed = [(high * 1.1, top), (0, top + high * 1.3)]
    b.turned(0, 0, dome_profile(high, top, 0.9, steps=3) if rng.random() < 0.5 else pointed, stripe, 12)
    return b.build()


def castle(rng: random.Random) -> Mesh:
    """Build a castle: walls between four towers, pointed or with battlements, and a keep."""
    b = MeshBuilder()
    stone, roof = vary(rng.choice(STONES), rng), vary(rng.choice(ROOFS), rng)
    half, deep, wall_height = rng.uniform(0.5, 0.75), rng.uniform(0.3, 0.5), rng.uniform(0.28, 0.42)
    pointed, sides = rng.random() < 0.65, rng.choice((8, 12, 4))
    for y in (deep, -deep):
        b.start(0, y)
        front, *_ = b.box(0, y, half * 2, 0.08, 0, wall_height, stone)
        if y < 0:
            b.panel(front, (0.42, 0.58), (0, 0.62), SHADE, arched=True)
            b.windows(front, rng.choice((6, 8)), 1, fill=0.2, span=(0.55, 0.85))
    for x in (-half, half):
        b.start(x, 0)
        b.box(x, 0, 0.08, deep * 2, 0, wall_height, stone)
    radius = rng.uniform(0.12, 0.18)
    for x, y in [(x, y) for x in (-half, half) for y in (-deep, deep)]:
        b.start(x, y)
        add_turret(b, (x, y), radius, wall_height * rng.uniform(1.3, 1.9), sides, stone, roof if pointed else None)
    b.start(0, 0)
    keep = rng.uniform(0.32, 0.5)
    top = rng.uniform(0.55, 0.85)
    for wall in b.box(0, 0.06, keep, keep * 0.8, 0, top, vary(stone, rng)):
        b.windows(wall, 3, 3, fill=0.36, span=(0.45, 0.95), arched=True)
    b.loft(rectangle(0, 0.06, keep * 1.08, keep * 0.88), rectangle(0, 0.06, keep * 0.5, 0.01), top, top + 0.25, roof)
    if rng.random() < 0.6:
        x = rng.choice((-1, 1)) * keep * 0.45
        add_turret(b, (x, 0), 0.09, top + rng.uniform(0.2, 0.4), sides, stone, roof)
    return b.build()


def add_turret(
    b: MeshBuilder, spot: Spot, radius: float, height: float, sides: int, stone: Color, roof: Color | None
) -> None:
    """Add a slim tower with a pointed roof, or with battlements where it has no roof."""
    x, y = spot
    outline, wide = ring(x, y, radius, sides), ring(x, y, radius * 1.18, sides)
    for wall in b.loft(outline, outline, 0, height, stone)[:: max(1, sides // 4)]:
        b.panel(wall, (0.3, 0.7), (0.72, 0.86), GLASS, Surface.WINDOW, arched=True)
    if roof is not None:
        b.turned(x, y, [(radius * 1.18, height), (0, height + radius * 2.6)], roof, sides)
        return
    b.loft(wide, wide, height, height + radius * 0.4, stone)
    for px, py in ring(x, y, radius, 6):
        b.box(px, py, radius * 0.4, radius * 0.4, height + radius * 0.4, height + radius * 0.75, stone)


def domed_hall(rng: random.Random) -> Mesh:
    """Build a hall under a dome, with a portico, side domes or minarets."""
    b = MeshBuilder()
    stone, roof, accent = draw_colors(rng)
    width, height = rng.uniform(0.9, 1.4), rng.uniform(0.3, 0.5)
    arched, columns = rng.random() < 0.6, rng.randint(4, 8)
    rows = rng.choice((1, 2))
    for wall in b.box(0, 0, width, width * 0.7, 0, height, stone):
        b.windows(wall, columns, rows, fill=0.42, arched=arched)
        b.panel(wall, (0, 1), (0.9, 1), accent)
    b.start(0, 0, rank=2)
    radius = width * rng.uniform(0.2, 0.29)
    drum = rng.uniform(0.06, 0.26)
    for wall in b.turned(0, 0, [(radius, height), (radius, height + drum)], stone, 16):
        b.panel(wall, (0.25, 0.75), (0.2, 0.85), GLASS, Surface.WINDOW, arched=True)
    add_dome(b, 0, radius * 1.04, height + drum, rng.choice(("round", "high", "onion", "flat")), roof, accent)
    style = rng.choice(("portico", "minarets", "side domes", "plain", "portico"))
    if style == "portico":
        b.start(0, -width * 0.5, rank=3)
        add_portico(b, -width * 0.35, width * rng.uniform(0.4, 0.6), height, rng.choice((4, 6, 8)), stone, roof)
    elif style == "minarets":
        tall, slim, far = rng.uniform(0.9, 1.4), rng.uniform(0.04, 0.06), rng.uniform(0.55, 0.75) * width
        for x in (-far, far):
            for y in (-width * 0.4, width * 0.4)[: rng.choice((1, 2))]:
                b.start(x, y, rank=1 if y > 0 else 2)
                b.turned(x, y, [(slim, 0), (slim * 0.9, tall * 0.8)], stone, 10)
                b.turned(x, y, [(slim * 1.5, tall * 0.66), (slim * 1.5, tall * 0.7)], accent, 10)
                b.turned(x, y, [(slim, tall * 0.8), (0, tall)], roof, 10)
    elif style == "side domes":
        for x in (-width * 0.37, width * 0.37):
            b.start(x, 0, rank=2)
            side = radius * 0.42
            b.turned(x, 0, [(side, height), (side, height + drum * 0.6)], stone, 12)
            add_dome(b, x, side * 1.05, height + drum * 0.6, "round", roof, accent)
    return b.build()


def add_dome(b: MeshBuilder, x: float, radius: float, z: float, style: str, roof: Color, accent: Color) -> None:
    """Add a dome and the lantern on it."""
    onion = ((0.85, 0.0), (1.08, 0.45), (0.95, 0.95), (0.5, 1.4), (0.12, 1.8))
    if style == "onion":
        profile = [(radius * wide, z + radius * high) for wide, high in onion]
    else:
        profile = dome_profile(radius, z, {"round": 1.0, "high": 1.35, "flat": 0.6}[style])
    b.turned(x, 0, profile, roof, 20)
    top, lantern = profile[-1][1], radius * 0.14
    b.turned(
        x, 0, [(lantern, top - radius * 0.06), (lantern, top + lantern * 1.6), (0, top + lantern * 3.6)], accent, 8
    )


def add_portico(b: MeshBuilder, y: float, width: float, height: float, columns: int, stone: Color, roof: Color) -> None:
    """Add a row of columns before a wall at y, with a gable over it."""
    depth, light = width * 0.28, blend(stone, WHITE, 0.25)
    for i in range(columns):
        x = width * ((i + 0.5) / columns - 0.5)
        b.turned(x, y - depth, [(width / columns * 0.2, 0), (width / columns * 0.17, height * 0.8)], light, 6)
    b.box(0, y - depth / 2, width * 1.04, depth * 1.3, height * 0.8, height * 0.92, light)
    b.gable(0, y - depth / 2, width * 1.08, depth * 1.35, height * 0.92, height * 0.92 + width * 0.18, roof, light)


def church(rng: random.Random) -> Mesh:
    """Build a church: a nave with a rose window, and a tower before it, beside it or over it, or two in front."""
    b = MeshBuilder()
    stone, roof, accent = draw_colors(rng)
    door = blend(accent, SHADE, 0.4)
    width, length, height = rng.uniform(0.36, 0.52), rng.uniform(0.8, 1.2), rng.uniform(0.36, 0.55)
    b.start(0, 0.1)
    front, right, _, left = b.box(0, 0.1, width, length, 0, height, stone)
    bays = rng.choice((5, 6))
    for wall in (right, left):
        b.windows(wall, bays, 1, fill=0.4, arched=True)
    b.gable(0, 0.1, width * 1.08, length * 1.02, height, height + width * rng.uniform(0.5, 0.85), roof, stone)
    b.panel(front, (0.38, 0.62), (0, 0.42), door, arched=True)
    if rng.random() < 0.6:
        b.disc(front, 0.5, 0.76, rng.uniform(0.14, 0.22), accent, Surface.PAINT)
        b.disc(front, 0.5, 0.76, 0.13, GLASS, Surface.WINDOW)
    layout = rng.choice(("front", "twin", "side", "crossing"))
    thick, tall = width * rng.uniform(0.42, 0.56), height * rng.uniform(1.5, 2.2)
    front_y = 0.1 - length / 2
    towers = {
        "front": [(0.0, front_y - thick * 0.3, thick)],
        "twin": [(-width * 0.55, front_y, thick * 0.7), (width * 0.55, front_y, thick * 0.7)],
        "side": [(rng.choice((-1, 1)) * width * 0.72, front_y + thick * 0.3, thick * 0.8)],
        "crossing": [(0.0, 0.2, thick)],
    }[layout]
    style = rng.choice(("spire", "onion", "cap", "helm"))
    openings, clock = rng.randint(1, 3), rng.random() < 0.5
    for x, y, side in towers:
        b.start(x, y, rank=2)
        for wall in b.box(x, y, side, side, height * 1.1 if layout == "crossing" else 0.0, tall, stone):
            b.windows(wall, openings, 1, color=SHADE, fill=0.44, span=(0.7, 0.9), arched=True)
            b.panel(wall, (0, 1), (0.6, 0.63), accent)
            if clock:
                b.disc(wall, 0.5, 0.52, 0.2, DIAL, Surface.WINDOW)
            if layout == "front":
                b.panel(wall, (0.34, 0.66), (0, 0.22), door, arched=True)
        add_spire(b, (x, y), side, tall, style, roof, accent)
    return b.build()


def add_spire(b: MeshBuilder, spot: Spot, side: float, z: float, style: str, roof: Color, accent: Color) -> None:
    """Add the roof of a square church tower, with a cross on it."""
    (x, y), r = spot, side * 0.62
    if style == "onion":
        profile = [(r * 0.9, z), (r, z + r * 0.5), (r * 0.7, z + r), (r * 0.25, z + r * 1.4), (r * 0.3, z + r * 1.7)]
        b.turned(x, y, [*profile, (0, z + r * 2.4)], roof, 12)
        top = z + r * 2.4
    else:
        top = z + side * {"spire": 2.6, "cap": 1.0, "helm": 1.7}[style]
        b.turned(x, y, [(side * 0.76, z), (0, top)], roof, 8 if style == "helm" else 4)
    b.line((x, y, top), (x, y, top + side * 0.35), accent)
    b.line((x - side * 0.1, y, top + side * 0.22), (x + side * 0.1, y, top + side * 0.22), accent)


def temple(rng: random.Random) -> Mesh:
    """Build a temple: columns around a cella on steps, under a low gable."""
    b = MeshBuilder()
    stone, roof = vary(rng.choice(STONES), rng), vary(rng.choice((*ROOFS[2:5], *STONES)), rng)
    width, length, height = rng.uniform(0.7, 1.1), rng.uniform(0.8, 1.5), rng.uniform(0.34, 0.5)
    steps = rng.randint(1, 5)
    b.start(rank=0)
    for step in range(steps):
        grow = 0.07 * (steps - step)
        b.box(0, 0, width + grow, length + grow, step * 0.035, (step + 1) * 0.035, blend(stone, SHADE, 0.08))
    z = steps * 0.035
    b.start()
    front, *_ = b.box(0, 0, width * 0.68, length * 0.76, z, z + height, blend(stone, SHADE, rng.uniform(0.2, 0.55)))
    b.panel(front, (0.35, 0.65), (0, 0.8), SHADE)
    across, thick = rng.choice((4, 6, 6, 8)), rng.uniform(0.016, 0.028)
    along = across + rng.randint(0, 2)
    light = blend(stone, WHITE, 0.2)
    ends = [(width * (i / (across - 1) - 0.5) * 0.94, y * length) for i in range(across) for y in (-0.47, 0.47)]
    sides = [(x * width, length * (i / along - 0.5) * 0.94) for i in range(1, along) for x in (-0.47, 0.47)]
    for x, y in ends + sides:
        b.start(x, y)
        b.turned(x, y, [(thick * 1.15, z), (thick, z + height)], light, 6)
    b.start(rank=3)
    beam = z + height + rng.uniform(0.05, 0.1)
    frieze = vary(rng.choice(ACCENTS), rng)
    for wall in b.box(0, 0, width * 1.04, length * 1.03, z + height, beam, light):
        b.panel(wall, (0, 1), (0.4, 0.6), frieze)
    b.gable(0, 0, width * 1.1, length * 1.06, beam, beam + width * rng.uniform(0.16, 0.3), roof, stone)
    return b.build()
