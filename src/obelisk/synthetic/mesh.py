"""Solids of made-up landmarks: flat faces in space, built once a landmark and drawn from any side.

x runs to the right and y away from a viewer in front, z up; the ground is z = 0 and a landmark stands around the
origin, about one unit high. Every solid is convex, so that drawing its front faces is enough; solids are gathered
in parts, which are drawn from the farthest to the nearest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from obelisk.synthetic.palette import Colour

Spot = tuple[float, float]
Point = tuple[float, float, float]
Wall = tuple[Point, Point, Point, Point]

ARCH_STEPS = 6


class Surface(IntEnum):
    """What a face is made of, as far as light is concerned."""

    SOLID = 0
    PAINT = 1
    WINDOW = 2
    LINE = 3


@dataclass(frozen=True, kw_only=True)
class Part:
    """Faces ``first`` to ``last`` (exclusive), drawn in that order, and what decides their turn.

    Parts are drawn by ``rank`` (a plinth before what stands on it), then by ``layer`` (planes across y, for what
    is long), then from far to near by the distance of the ``anchor``. A part with an ``axle`` turns about it.
    """

    first: int
    last: int
    anchor: Spot
    rank: int
    layer: int
    axle: Point | None


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """F faces over V points; face i has the points ``starts[i]`` to ``starts[i + 1]``."""

    points: NDArray[np.float64]
    starts: list[int]
    centres: NDArray[np.float64]
    normals: NDArray[np.float64]
    colours: NDArray[np.float64]
    surfaces: NDArray[np.uint8]
    parts: tuple[Part, ...]

    @property
    def height(self) -> float:
        """The highest point above the ground."""
        return float(self.points[:, 2].max())

    @property
    def radius(self) -> float:
        """The farthest that any point lies from the axis through the origin, parts of rank < 0 (land) left out."""
        own = [
            self.points[self.starts[part.first] : self.starts[part.last], :2] for part in self.parts if part.rank >= 0
        ]
        return float(max(np.hypot(points[:, 0], points[:, 1]).max() for points in own))


class Builder:
    """Gathers faces into a :class:`Mesh`. Corners run counter-clockwise seen from above, walls face outwards."""

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._starts: list[int] = [0]
        self._colours: list[Colour] = []
        self._surfaces: list[int] = []
        self._parts: list[Part] = []
        self._open: tuple[int, Spot, int, int, Point | None] = (0, (0.0, 0.0), 1, 0, None)

    def start(
        self, x: float = 0.0, y: float = 0.0, *, rank: int = 1, layer: int = 0, axle: Point | None = None
    ) -> None:
        """Begin a new part, anchored at a spot on the ground."""
        self._close()
        self._open = (len(self._colours), (x, y), rank, layer, axle)

    def _close(self) -> None:
        first, anchor, rank, layer, axle = self._open
        last = len(self._colours)
        if last > first:
            self._parts.append(Part(first=first, last=last, anchor=anchor, rank=rank, layer=layer, axle=axle))

    def face(self, points: Sequence[Point], colour: Colour, surface: Surface = Surface.SOLID) -> None:
        """Add one flat face."""
        self._points.extend(points)
        self._starts.append(len(self._points))
        self._colours.append(colour)
        self._surfaces.append(surface)

    def line(self, start: Point, end: Point, colour: Colour) -> None:
        """Add a cable, seen from every side."""
        self.face((start, end), colour, Surface.LINE)

    def loft(
        self, bottom: Sequence[Spot], top: Sequence[Spot], z0: float, z1: float, colour: Colour, *, lid: bool = True
    ) -> list[Wall]:
        """Add a solid between two outlines of as many corners, and return its walls."""
        walls: list[Wall] = []
        count = len(bottom)
        for i in range(count):
            j = (i + 1) % count
            wall = ((*bottom[i], z0), (*bottom[j], z0), (*top[j], z1), (*top[i], z1))
            walls.append(wall)
            self.face(wall, colour)
        if lid:
            self.face([(x, y, z1) for x, y in top], colour)
        return walls

    def box(self, x: float, y: float, width: float, depth: float, z0: float, z1: float, colour: Colour) -> list[Wall]:
        """Add a box and return its walls: front, right, back, left."""
        outline = rectangle(x, y, width, depth)
        return self.loft(outline, outline, z0, z1, colour)

    def turned(self, x: float, y: float, profile: Sequence[tuple[float, float]], colour: Colour, sides: int) -> None:
        """Add a body turned on a lathe from a profile of (radius, height) pairs."""
        for (r0, z0), (r1, z1) in pairwise(profile):
            self.loft(ring(x, y, r0, sides), ring(x, y, r1, sides), z0, z1, colour, lid=False)

    def gable(
        self, x: float, y: float, width: float, depth: float, z0: float, z1: float, roof: Colour, wall: Colour
    ) -> list[Wall]:
        """Add a roof whose ridge runs along y, and return its slopes: right, left."""
        x0, x1, y0, y1 = x - width / 2, x + width / 2, y - depth / 2, y + depth / 2
        right = ((x1, y0, z0), (x1, y1, z0), (x, y1, z1), (x, y0, z1))
        left = ((x0, y1, z0), (x0, y0, z0), (x, y0, z1), (x, y1, z1))
        self.face(((x1, y1, z0), (x0, y1, z0), (x, y1, z1)), wall)
        self.face(right, roof)
        self.face(left, roof)
        self.face(((x0, y0, z0), (x1, y0, z0), (x, y0, z1)), wall)
        return [right, left]

    def panel(
        self,
        wall: Wall,
        u: tuple[float, float],
        v: tuple[float, float],
        colour: Colour,
        surface: Surface = Surface.PAINT,
        *,
        arched: bool = False,
    ) -> None:
        """Paint a rectangle on a wall, ``u`` along it and ``v`` up it in [0, 1]; an arched one ends round."""
        (u0, u1), (v0, v1) = u, v
        outline = [(u0, v0), (u1, v0)]
        if arched:
            spring = v1 - (v1 - v0) * 0.35
            for step in range(ARCH_STEPS + 1):
                angle = math.pi * step / ARCH_STEPS
                outline.append(
                    ((u0 + u1) / 2 + (u1 - u0) / 2 * math.cos(angle), spring + (v1 - spring) * math.sin(angle))
                )
        else:
            outline += [(u1, v1), (u0, v1)]
        self.face([on_wall(wall, a, b) for a, b in outline], colour, surface)

    def disc(self, wall: Wall, u: float, v: float, radius: float, colour: Colour, surface: Surface) -> None:
        """Paint a circle on a wall; its radius is a share of the wall's width."""
        width = math.dist(wall[0], wall[1])
        height = math.dist(wall[0], wall[3])
        turns = [2 * math.pi * step / 12 for step in range(12)]
        outline = [on_wall(wall, u + radius * math.cos(t), v + radius * width / height * math.sin(t)) for t in turns]
        self.face(outline, colour, surface)

    def windows(
        self,
        wall: Wall,
        columns: int,
        rows: int,
        colour: Colour,
        *,
        fill: float = 0.5,
        span: tuple[float, float] = (0.08, 0.92),
        arched: bool = False,
    ) -> None:
        """Paint a grid of windows on a wall; ``fill`` is the share of a cell that is glass."""
        low, high = span
        for row in range(rows):
            v = low + (high - low) * (row + 0.5) / rows
            half_v = (high - low) / rows * min(0.46, fill * 0.62)
            for column in range(columns):
                u = 0.06 + 0.88 * (column + 0.5) / columns
                half_u = 0.88 / columns * fill / 2
                self.panel(
                    wall, (u - half_u, u + half_u), (v - half_v, v + half_v), colour, Surface.WINDOW, arched=arched
                )

    def build(self) -> Mesh:
        """Return what has been gathered."""
        self._close()
        self._open = (len(self._colours), (0.0, 0.0), 1, 0, None)
        points = np.array(self._points, dtype=np.float64)
        first = np.array(self._starts[:-1])
        last = np.array(self._starts[1:])
        centres = np.add.reduceat(points, first, axis=0) / (last - first)[:, None]
        # The third corner from the end of a line is its start again: its normal is zero, and it is never culled.
        normals = np.cross(points[first + 1] - points[first], points[last - 1] - points[first])
        lengths = np.linalg.norm(normals, axis=1, keepdims=True)
        return Mesh(
            points=points,
            starts=self._starts,
            centres=centres,
            normals=normals / np.where(lengths == 0, 1, lengths),
            colours=np.array(self._colours, dtype=np.float64),
            surfaces=np.array(self._surfaces, dtype=np.uint8),
            parts=tuple(self._parts),
        )


def rectangle(x: float, y: float, width: float, depth: float) -> list[Spot]:
    """Return the corners of a rectangle around a spot, the front left one first."""
    x0, x1, y0, y1 = x - width / 2, x + width / 2, y - depth / 2, y + depth / 2
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def ring(x: float, y: float, radius: float, sides: int, *, phase: float | None = None) -> list[Spot]:
    """Return the corners of a regular polygon around a spot; one of its sides faces the front."""
    turn = -math.pi / 2 - math.pi / sides if phase is None else phase
    return [
        (x + radius * math.cos(turn + 2 * math.pi * i / sides), y + radius * math.sin(turn + 2 * math.pi * i / sides))
        for i in range(sides)
    ]


def on_wall(wall: Wall, u: float, v: float) -> Point:
    """Return the point at ``u`` along and ``v`` up a wall."""
    a, b, c, d = wall
    x, y, z = ((1 - u) * (1 - v) * a[i] + u * (1 - v) * b[i] + u * v * c[i] + (1 - u) * v * d[i] for i in range(3))
    return (x, y, z)
