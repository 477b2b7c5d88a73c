"""A map of the world that needs no network: one outline, and landmarks as points with names."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from obelisk.markup import Markup, element, join, text

WIDTH, HEIGHT = 1000, 420  # units of the drawing
NARROWEST = 36.0  # degrees of longitude; the outline has no more detail
NORTH, SOUTH = 84.0, -58.0  # beyond lies ice
MARGIN = 0.2  # around the landmarks, of their width
EDGE = 8  # units that a point keeps from the frame
FONT, LARGE_FONT = 15, 36  # units; the style sheet takes the large one on narrow screens
LABELED_LARGE = 3  # landmarks
LONGEST_LABEL = 30
TOGETHER = 6  # units; landmarks nearer than this to the border of a point become part of it

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True, kw_only=True)
class MapPlace:
    """A landmark on the map: its name, position in degrees, number of photos, and the address a click leads to."""

    name: str
    latitude: float
    longitude: float
    count: int
    link: str


@dataclass(kw_only=True)
class MapPoint:
    """Where the map shows a place, together with others that are too near."""

    x: float
    y: float
    places: list[MapPlace] = field(default_factory=list)

    @property
    def radius(self) -> float:
        """The radius of the point in units: its area grows with the number of photos, within limits."""
        return min(16.0, 5.0 + 1.3 * math.sqrt(sum(place.count for place in self.places)))

    @property
    def label(self) -> str:
        """The name of the first place, and how many more there are."""
        name = self.places[0].name
        short = name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1].rstrip()}…"
        return f"{short} +{len(self.places) - 1}" if len(self.places) > 1 else short


@cache
def world_outline() -> str:
    """Return the land of the world as the data of an SVG path, in tenths of a degree.

    x runs from the 180th meridian eastwards, 0 to 3600, and y from the north pole southwards, 0 to 1800.
    """
    found = json.loads(resources.files("obelisk.outputs").joinpath("world.json").read_text(encoding="utf-8"))
    return str(found["path"])


def draw_map(places: Sequence[MapPlace]) -> Markup:
    """Return a map that shows all places, as an SVG; the most important places come first in the list.

    It shows the part of the world that they need. Each point is a link.
    """
    view = MapView(places)
    points = gather_points(places, view)
    land = element("path", class_="land", d=world_outline(), transform=view.transform)
    labels = join(place_labels(points))
    drawn = (draw_point(point) for point in reversed(points))  # the most important one on top
    size = f"0 0 {WIDTH} {HEIGHT}"
    return element("svg", land, *drawn, labels, viewBox=size, role="group", aria_label="Map of the landmarks")


class MapView:
    """The part of the world that a map shows, and where a position lies on it.

    It is an equirectangular projection, true to scale at the latitude in the middle, so that towns keep their shape.
    """

    def __init__(self, places: Sequence[MapPlace]) -> None:
        west, east = span([place.longitude for place in places], whole=(-180.0, 180.0))
        south, north = span([place.latitude for place in places], whole=(SOUTH, NORTH))
        middle = (north + south) / 2
        stretch = min(3.0, 1 / math.cos(math.radians(middle)))
        ratio = HEIGHT / WIDTH
        width = max(NARROWEST, (east - west) * (1 + 2 * MARGIN), (north - south) * (1 + 2 * MARGIN) * stretch / ratio)
        if width > 200:  # the whole world is better known than most of it
            width, stretch, middle, west, east = 360.0, HEIGHT * 360 / (WIDTH * (NORTH - SOUTH)), 0.0, -180.0, 180.0
        height = width * ratio / stretch
        self._left = min(max((west + east) / 2 - width / 2, -180.0), 180.0 - width)
        self._top = max(min(middle + height / 2, NORTH), SOUTH + height)
        self._scale = WIDTH / width
        self._stretch = stretch

    @property
    def transform(self) -> str:
        """How the outline, in tenths of a degree, is moved into the drawing."""
        x, y = self.locate(90.0, -180.0)
        return f"matrix({self._scale / 10:.5g} 0 0 {self._scale * self._stretch / 10:.5g} {x:.1f} {y:.1f})"

    def locate(self, latitude: float, longitude: float) -> tuple[float, float]:
        """Return where a position lies, in units of the drawing; it may be outside."""
        return (longitude - self._left) * self._scale, (self._top - latitude) * self._scale * self._stretch


def span(values: Sequence[float], *, whole: tuple[float, float]) -> tuple[float, float]:
    """Return the smallest and the largest value, or the whole range if there is none."""
    return (min(values), max(values)) if values else whole


def gather_points(places: Sequence[MapPlace], view: MapView) -> list[MapPoint]:
    """Return the points of a map: places that are too near to be told apart share the point of the first of them."""
    points: list[MapPoint] = []
    for place in places:
        x, y = view.locate(place.latitude, place.longitude)
        x, y = min(max(x, EDGE), WIDTH - EDGE), min(max(y, EDGE), HEIGHT - EDGE)  # the poles are beyond the map
        near = (point for point in points if math.hypot(point.x - x, point.y - y) < point.radius + TOGETHER)
        point = next(near, None)
        if point is None:
            points.append(point := MapPoint(x=x, y=y))
        point.places.append(place)
    return points


def draw_point(point: MapPoint) -> Markup:
    """Return a point, which leads to its first place and names all of them."""
    names = ", ".join(place.name for place in point.places[:12]) + (" …" if len(point.places) > 12 else "")
    circle = element("circle", cx=f"{point.x:.1f}", cy=f"{point.y:.1f}", r=f"{point.radius:.1f}")
    return element("a", element("title", text(names)), circle, href=point.places[0].link, aria_label=names)


def place_labels(points: Sequence[MapPoint]) -> list[Markup]:
    """Return the names of the points, as far as they fit; the first few also fit when they are written large."""
    taken = {size: [circle_box(point) for point in points] for size in (FONT, LARGE_FONT)}
    labels = []
    for number, point in enumerate(points):
        shown = [size for size in taken if size == FONT or number < LABELED_LARGE]
        for size in shown:
            found = find_room(point, size, taken[size])
            if found:
                box, anchor = found
                taken[size].append(box)
                x = {"start": box[0], "end": box[2], "middle": (box[0] + box[2]) / 2}[anchor]
                where = {"x": f"{x:.1f}", "y": f"{box[3] - 0.25 * size:.1f}", "text_anchor": anchor}
                kind = "large" if size == LARGE_FONT else "small"
                labels.append(element("text", text(point.label), class_=kind, aria_hidden="true", **where))
    return labels


def circle_box(point: MapPoint) -> Box:
    """Return the box around a point."""
    return point.x - point.radius, point.y - point.radius, point.x + point.radius, point.y + point.radius


def find_room(point: MapPoint, size: int, taken: Sequence[Box]) -> tuple[Box, str] | None:
    """Return where the label of a point fits, and how it is anchored; None if there is no room for it."""
    wide = sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1.1 for letter in point.label)
    width, gap = 0.54 * size * wide, point.radius + 0.3 * size
    boxes: list[tuple[Box, str]] = [
        ((point.x + gap, point.y - size / 2, point.x + gap + width, point.y + size / 2), "start"),
        ((point.x - gap - width, point.y - size / 2, point.x - gap, point.y + size / 2), "end"),
        ((point.x - width / 2, point.y + gap, point.x + width / 2, point.y + gap + size), "middle"),
        ((point.x - width / 2, point.y - gap - size, point.x + width / 2, point.y - gap), "middle"),
    ]
    for box, anchor in boxes:
        inside = box[0] >= 4 and box[1] >= 4 and box[2] <= WIDTH - 4 and box[3] <= HEIGHT - 4
        if inside and not any(overlap(box, other) for other in taken):
            return box, anchor
    return None


def overlap(box: Box, other: Box) -> bool:
    """Return whether two boxes share any part."""
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
