"""Make the outline of the world that the package carries: ``npm pack world-atlas``, unpack it, and give its land.

::

    python tools/world_outline.py package/land-110m.json > src/obelisk/outputs/world.json

The file is TopoJSON of Natural Earth's land at 1:110 million. It becomes one SVG path in tenths of a degree, x from the
180th meridian eastwards and y from the north pole southwards.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Point = tuple[int, int]
WIDTH, HEIGHT = 3600, 1800


def convert_topology(topology: dict[str, Any]) -> str:
    """Return the land of a topology as the data of one SVG path."""
    (scale_x, scale_y), (left, bottom) = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs: list[list[Point]] = []
    for steps in topology["arcs"]:
        x = y = 0
        arc = []
        for dx, dy in steps:
            x, y = x + dx, y + dy
            arc.append((round(10 * (x * scale_x + left + 180)), round(10 * (90 - y * scale_y - bottom))))
        arcs.append(arc)
    rings = (join_arcs(arcs, ring) for ring in find_rings(topology["objects"]["land"]))
    return "".join(draw_ring(part) for ring in rings for part in cut_ring(ring))


def find_rings(geometry: dict[str, Any]) -> Iterator[list[int]]:
    """Yield every ring of a geometry, as the numbers of its arcs."""
    for part in geometry.get("geometries", []):
        yield from find_rings(part)
    for polygon in geometry.get("arcs", []) if geometry["type"] == "MultiPolygon" else [geometry.get("arcs", [])]:
        yield from polygon


def join_arcs(arcs: list[list[Point]], ring: list[int]) -> list[Point]:
    """Return the points of a ring; an arc of a negative number runs backwards."""
    points: list[Point] = []
    for number in ring:
        arc = arcs[number] if number >= 0 else arcs[~number][::-1]
        points += [point for point in arc if not points or point != points[-1]]
    return points


def cut_ring(points: list[Point]) -> Iterator[list[Point]]:
    """Yield a ring as a flat map shows it: at both edges if it crosses the 180th meridian, beyond which it runs on."""
    turns, whole = 0, [points[0]]
    for (before, _), (x, y) in itertools.pairwise(points):
        turns += (x - before < -WIDTH / 2) - (x - before > WIDTH / 2)
        whole.append((x + WIDTH * turns, y))
    if abs(whole[-1][0] - whole[0][0]) > WIDTH / 2:  # around a pole
        whole += [(whole[-1][0], HEIGHT), (whole[0][0], HEIGHT)]
    for shift in (-WIDTH, 0, WIDTH):
        moved = [(x + shift, y) for x, y in whole]
        if max(x for x, _ in moved) > 0 and min(x for x, _ in moved) < WIDTH:
            yield moved


def draw_ring(points: list[Point]) -> str:
    """Return a ring as a closed part of a path, each point relative to the one before."""
    (x, y), *others = points
    steps = []
    for to_x, to_y in others:
        steps.append(f"{to_x - x}{'' if to_y < y else ' '}{to_y - y}")
        x, y = to_x, to_y
    joined = steps[0] + "".join(step if step.startswith("-") else f" {step}" for step in steps[1:])
    return f"M{points[0][0]} {points[0][1]}l{joined}z"


if __name__ == "__main__":
    path = convert_topology(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    source = "Natural Earth, land at 1:110 million, public domain; by way of the npm package world-atlas"
    sys.stdout.write(json.dumps({"source": source, "width": WIDTH, "height": HEIGHT, "path": path}, indent=1) + "\n")
