"""Solids made of flat faces, built once per landmark and drawn from any side.

x runs to the right, y away from a viewer in front, z up. The ground is z = 0, and a landmark stands around the origin,
about one unit high. Every solid is convex, so drawing its front faces is enough. Solids are gathered in parts, which
are drawn from the farthest to the nearest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

import numpy as np

from obelisk.arrays import Floats, Integers
from obelisk.synthetic.palette import GLASS, Color

Spot = tuple[float, float]
Point = tuple[float, float, float]
Wall = tuple[Point, Point, Point, Point]
Outline = Sequence[Spot]

# What is painted on a wall, in a unit square.
HALF_CIRCLE = [(0.5 + 0.5 * math.cos(math.pi * i / 6), math.sin(math.pi * i / 6)) for i in range(7)]
PLAIN: Outline = [(0, 0), (1, 0), (1, 1), (0, 1)]
ARCHED: Outline = [(0, 0), (1, 0), *((x, 0.65 + 0.35 * y) for x, y in HALF_CIRCLE)]
ROUND: Outline = [*((x, 0.5 + 0.5 * y) for x, y in HALF_CIRCLE), *((x, 0.5 - 0.5 * y) for x, y in HALF_CIRCLE[-2:0:-1])]


class Surface(IntEnum):
    """What a face is made of, as far as light is concerned."""

    SOLID = 0
    PAINT = 1
    WINDOW = 2


@dataclass(frozen=True, kw_only=True)
class MeshPart:
    """Faces ``first`` to ``last`` (exclusive), drawn in that order.

    Parts are drawn by ``rank`` (a plinth before what stands on it), then from far to near by the ``anchor``.
    """

    first: int
    last: int
    anchor: Spot
    rank: int


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """F faces over V points (V, 3); face i has the points ``starts[i]`` to ``starts[i + 1]``."""

    points: Floats
    starts: list[int]
    centers: Floats
    normals: Floats
    colors: Floats
    surfaces: Integers
    parts: tuple[MeshPart, ...]

    @property
    def height(self) -> float:
        """The highest point above the ground."""
        return float(self.points[:, 2].max())

    @property
    def radius(self) -> float:
        """The largest distance of a point from the axis through the origin, leaving out land (parts of rank < 0)."""
        spots = [
            self.points[self.starts[part.first] : self.starts[part.last], :2] for part in self.parts if part.rank >= 0
        ]
        return float(np.hypot(*np.concatenate(spots).T).max())


class MeshBuilder:
    """Gathers faces into a :class:`Mesh`. Corners run counter-clockwise seen from above; walls face outwards."""

    def __init__(self) -> None:
        self._faces: list[tuple[Sequence[Point], Color, Surface]] = []
        self._parts: list[tuple[int, Spot, int]] = []
        self.start()

    def start(self, x: float = 0.0, y: float = 0.0, *, rank: int = 1) -> None:
        """Begin a new part, anchored at a spot on the ground."""
        self._parts.append((len(self._faces), (x, y), rank))

    def face(self, points: Sequence[Point], color: Color, surface: Surface = Surface.SOLID) -> None:
        """Add one flat face."""
        self._faces.append((points, color, surface))

    def loft(
        self, bottom: Outline, top: Outline, z0: float, z1: float, color: Color, *, lid: bool = True
    ) -> list[Wall]:
        """Add a solid between two outlines with the same number of corners, and return its walls."""
        corners = list(zip(bottom, top, strict=True))
        walls: list[Wall] = [
            ((*a, z0), (*b, z0), (*c, z1), (*d, z1)) for (a, d), (b, c) in pairwise([*corners, corners[0]])
        ]
        for wall in walls:
            self.face(wall, color)
        if lid:
            self.face([(x, y, z1) for x, y in top], color)
        return walls

    def box(self, x: float, y: float, width: float, depth: float, z0: float, z1: float, color: Color) -> list[Wall]:
        """Add a box and return its walls: front, right, back, left."""
        outline = rectangle(x, y, width, depth)
        return self.loft(outline, outline, z0, z1, color)

    def turned(self, x: float, y: float, profile: Outline, color: Color, sides: int) -> list[Wall]:
        """Add a body turned on a lathe from a profile of (radius, height) pairs, open at the top; return its walls."""
        return [
            wall
            for (r0, z0), (r1, z1) in pairwise(profile)
            for wall in self.loft(ring(x, y, r0, sides), ring(x, y, r1, sides), z0, z1, color, lid=False)
        ]

    def gable(
        self, x: float, y: float, width: float, depth: float, z0: float, z1: float, roof: Color, wall: Color
    ) -> None:
        """Add a roof whose ridge runs along y."""
        a, b, c, d = ((*corner, z0) for corner in rectangle(x, y, width, depth))
        near, far = (x, a[1], z1), (x, c[1], z1)
        self.face((c, d, far), wall)
        self.face((b, c, far, near), roof)
        self.face((d, a, near, far), roof)
        self.face((a, b, near), wall)

    def panel(
        self,
        wall: Wall,
        u: tuple[float, float],
        v: tuple[float, float],
        color: Color,
        surface: Surface = Surface.PAINT,
        outline: Outline = PLAIN,
    ) -> None:
        """Paint an outline on a wall, ``u`` along it and ``v`` up it, both in [0, 1]."""
        (u0, u1), (v0, v1) = u, v
        corners = [(u0 + (u1 - u0) * x, v0 + (v1 - v0) * y) for x, y in outline]
        self.face([on_wall(wall, *corner) for corner in corners], color, surface)

    def windows(
        self,
        wall: Wall,
        columns: int,
        rows: int,
        fill: float = 0.45,
        span: Spot = (0.08, 0.92),
        outline: Outline = PLAIN,
    ) -> None:
        """Paint a grid of windows on a wall between two heights; ``fill`` is the share of a cell that is glass."""
        wide, high = 0.88 / columns, (span[1] - span[0]) / rows
        half_u, half_v = wide * fill / 2, high * min(0.46, fill * 0.62)
        for i in range(rows * columns):
            u, v = 0.06 + wide * (i % columns + 0.5), span[0] + high * (i // columns + 0.5)
            self.panel(wall, (u - half_u, u + half_u), (v - half_v, v + half_v), GLASS, Surface.WINDOW, outline)

    def build(self) -> Mesh:
        """Return the finished mesh."""
        corners, colors, surfaces = zip(*self._faces, strict=True)
        points = np.array([point for face in corners for point in face], dtype=np.float64)
        starts = np.cumsum([0, *map(len, corners)])
        first, last = starts[:-1], starts[1:]
        normals = np.cross(points[first + 1] - points[first], points[last - 1] - points[first])
        ends = [*(begin for begin, *_ in self._parts[1:]), len(corners)]
        return Mesh(
            points=points,
            starts=starts.tolist(),
            centers=np.add.reduceat(points, first, axis=0) / (last - first)[:, None],
            normals=normals / np.linalg.norm(normals, axis=1, keepdims=True),
            colors=np.array(colors, dtype=np.float64),
            surfaces=np.array(surfaces, dtype=np.int64),
            parts=tuple(
                MeshPart(first=begin, last=end, anchor=anchor, rank=rank)
                for (begin, anchor, rank), end in zip(self._parts, ends, strict=True)
                if end > begin
            ),
        )


def rectangle(x: float, y: float, width: float, depth: float) -> list[Spot]:
    """Return the corners of a rectangle around a spot, the front left one first."""
    x0, x1, y0, y1 = x - width / 2, x + width / 2, y - depth / 2, y + depth / 2
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def ring(x: float, y: float, radius: float, sides: int) -> list[Spot]:
    """Return the corners of a regular polygon around a spot; one of its sides faces the front."""
    angles = [-math.pi / 2 - math.pi / sides + 2 * math.pi * i / sides for i in range(sides)]
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


def on_wall(wall: Wall, u: float, v: float) -> Point:
    """Return the point at ``u`` along and ``v`` up a wall."""
    a, b, c, d = wall
    x, y, z = ((1 - u) * (1 - v) * a[i] + u * (1 - v) * b[i] + u * v * c[i] + (1 - u) * v * d[i] for i in range(3))
    return (x, y, z)
