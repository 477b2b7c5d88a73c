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

from obelisk.arrays import Floats, Integers, l2_normalize
from obelisk.synthetic.canvas import Spot
from obelisk.synthetic.palette import GLASS, Color

Point = tuple[float, float, float]
Wall = tuple[Point, Point, Point, Point]
Range = tuple[float, float]

ARCH_STEPS = 6


class Surface(IntEnum):
    """What a face is made of, as far as light is concerned."""

    SOLID = 0
    PAINT = 1
    WINDOW = 2
    LINE = 3


@dataclass(frozen=True, kw_only=True)
class MeshPart:
    """Faces ``first`` to ``last`` (exclusive), drawn in that order, and what decides their turn.

    Parts are drawn by ``rank`` (a plinth before what stands on it), then by ``layer`` (planes across y, for long
    things), then from far to near by the distance of the ``anchor``.
    """

    first: int
    last: int
    anchor: Spot
    rank: int
    layer: int


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
        own = [
            self.points[self.starts[part.first] : self.starts[part.last], :2] for part in self.parts if part.rank >= 0
        ]
        return float(max(np.hypot(points[:, 0], points[:, 1]).max() for points in own))


class MeshBuilder:
    """Gathers faces into a :class:`Mesh`. Corners run counter-clockwise seen from above; walls face outwards."""

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._starts: list[int] = [0]
        self._colors: list[Color] = []
        self._surfaces: list[int] = []
        self._parts: list[MeshPart] = []
        self.start()

    def start(self, x: float = 0.0, y: float = 0.0, *, rank: int = 1, layer: int = 0) -> None:
        """Begin a new part, anchored at a spot on the ground."""
        self._close()
        self._first, self._anchor, self._rank, self._layer = len(self._colors), (x, y), rank, layer

    def _close(self) -> None:
        last = len(self._colors)
        if last and last > self._first:
            self._parts.append(
                MeshPart(first=self._first, last=last, anchor=self._anchor, rank=self._rank, layer=self._layer)
            )

    def face(self, points: Sequence[Point], color: Color, surface: Surface = Surface.SOLID) -> None:
        """Add one flat face."""
        self._points.extend(points)
        self._starts.append(len(self._points))
        self._colors.append(color)
        self._surfaces.append(surface)

    def line(self, start: Point, end: Point, color: Color) -> None:
        """Add a cable, seen from every side."""
        self.face((start, end), color, Surface.LINE)

    def loft(
        self, bottom: Sequence[Spot], top: Sequence[Spot], z0: float, z1: float, color: Color, *, lid: bool = True
    ) -> list[Wall]:
        """Add a solid between two outlines with the same number of corners, and return its walls."""
        corners = list(zip(bottom, top, strict=True))
        walls: list[Wall] = []
        for (a, d), (b, c) in pairwise([*corners, corners[0]]):
            walls.append(((*a, z0), (*b, z0), (*c, z1), (*d, z1)))
            self.face(walls[-1], color)
        if lid:
            self.face([(x, y, z1) for x, y in top], color)
        return walls

    def box(self, x: float, y: float, width: float, depth: float, z0: float, z1: float, color: Color) -> list[Wall]:
        """Add a box and return its walls: front, right, back, left."""
        outline = rectangle(x, y, width, depth)
        return self.loft(outline, outline, z0, z1, color)

    def turned(self, x: float, y: float, profile: Sequence[Range], color: Color, sides: int) -> list[Wall]:
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
        x0, x1, y0, y1 = x - width / 2, x + width / 2, y - depth / 2, y + depth / 2
        self.face(((x1, y1, z0), (x0, y1, z0), (x, y1, z1)), wall)
        self.face(((x1, y0, z0), (x1, y1, z0), (x, y1, z1), (x, y0, z1)), roof)
        self.face(((x0, y1, z0), (x0, y0, z0), (x, y0, z1), (x, y1, z1)), roof)
        self.face(((x0, y0, z0), (x1, y0, z0), (x, y0, z1)), wall)

    def panel(
        self, wall: Wall, u: Range, v: Range, color: Color, surface: Surface = Surface.PAINT, *, arched: bool = False
    ) -> None:
        """Paint a rectangle on a wall, ``u`` along it and ``v`` up it in [0, 1]; an arched one has a round top."""
        (u0, u1), (v0, v1) = u, v
        outline = [(u0, v0), (u1, v0)]
        if arched:
            spring = v1 - (v1 - v0) * 0.35
            for step in range(ARCH_STEPS + 1):
                angle = math.pi * step / ARCH_STEPS
                along = (u0 + u1) / 2 + (u1 - u0) / 2 * math.cos(angle)
                outline.append((along, spring + (v1 - spring) * math.sin(angle)))
        else:
            outline += [(u1, v1), (u0, v1)]
        self.face([on_wall(wall, a, b) for a, b in outline], color, surface)

    def disc(self, wall: Wall, u: float, v: float, radius: float, color: Color, surface: Surface) -> None:
        """Paint a circle on a wall; its radius is a share of the wall's width."""
        width, height = math.dist(wall[0], wall[1]), math.dist(wall[0], wall[3])
        turns = [2 * math.pi * step / 12 for step in range(12)]
        outline = [on_wall(wall, u + radius * math.cos(t), v + radius * width / height * math.sin(t)) for t in turns]
        self.face(outline, color, surface)

    def windows(
        self,
        wall: Wall,
        columns: int,
        rows: int,
        *,
        color: Color = GLASS,
        fill: float = 0.5,
        span: Range = (0.08, 0.92),
        arched: bool = False,
    ) -> None:
        """Paint a grid of windows on a wall between two heights; ``fill`` is the share of a cell that is glass."""
        low, high = span
        half_u, half_v = 0.88 / columns * fill / 2, (high - low) / rows * min(0.46, fill * 0.62)
        for row in range(rows):
            v = low + (high - low) * (row + 0.5) / rows
            for column in range(columns):
                u = 0.06 + 0.88 * (column + 0.5) / columns
                self.panel(
                    wall, (u - half_u, u + half_u), (v - half_v, v + half_v), color, Surface.WINDOW, arched=arched
                )

    def build(self) -> Mesh:
        """Return the finished mesh."""
        self._close()
        points = np.array(self._points, dtype=np.float64)
        first, last = np.array(self._starts[:-1]), np.array(self._starts[1:])
        # The last corner of a line is its second one, too: its normal is zero, and it is never culled.
        normals = np.cross(points[first + 1] - points[first], points[last - 1] - points[first])
        return Mesh(
            points=points,
            starts=self._starts,
            centers=np.add.reduceat(points, first, axis=0) / (last - first)[:, None],
            normals=l2_normalize(normals, strict=False).astype(np.float64),
            colors=np.array(self._colors, dtype=np.float64),
            surfaces=np.array(self._surfaces, dtype=np.int64),
            parts=tuple(self._parts),
        )


def rectangle(x: float, y: float, width: float, depth: float) -> list[Spot]:
    """Return the corners of a rectangle around a spot, the front left one first."""
    x0, x1, y0, y1 = x - width / 2, x + width / 2, y - depth / 2, y + depth / 2
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def ring(x: float, y: float, radius: float, sides: int) -> list[Spot]:
    """Return the corners of a regular polygon around a spot; one of its sides faces the front."""
    angles = [-math.pi / 2 - math.pi / sides + 2 * math.pi * i / sides for i in range(sides)]
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


def dome_profile(radius: float, z: float, rise: float, *, steps: int = 5) -> list[Range]:
    """Return the profile, for :meth:`MeshBuilder.turned`, of a dome ``rise`` times as high as its radius."""
    angles = [math.pi / 2 * i / steps for i in range(steps + 1)]
    return [(radius * math.cos(angle), z + radius * rise * math.sin(angle)) for angle in angles]


def on_wall(wall: Wall, u: float, v: float) -> Point:
    """Return the point at ``u`` along and ``v`` up a wall."""
    a, b, c, d = wall
    x, y, z = ((1 - u) * (1 - v) * a[i] + u * (1 - v) * b[i] + u * v * c[i] + (1 - u) * v * d[i] for i in range(3))
    return (x, y, z)
