"""The map: the outline is the world, and every place lies in the frame with a link."""

from __future__ import annotations

import re
from typing import Any

import pytest

from obelisk.markup import Markup, element
from obelisk.outputs import MapPlace, draw_map, world_outline

PARIS, AUCKLAND, CHUKOTKA = (48.86, 2.29), (-36.85, 174.76), (66.0, -172.0)


def place(latitude: float, longitude: float, name: str = "Tower", count: int = 1) -> MapPlace:
    return MapPlace(name=name, latitude=latitude, longitude=longitude, count=count, link=f"#{name}")


def is_land(latitude: float, longitude: float) -> bool:
    """Even-odd rule on the rings of the outline."""
    x, y = 10 * (longitude + 180), 10 * (90 - latitude)
    inside = False
    for ring in re.findall("M([^z]*)z", world_outline()):
        numbers = [int(number) for number in re.findall("-?[0-9]+", ring)]
        points = [(numbers[0], numbers[1])]
        for dx, dy in zip(numbers[2::2], numbers[3::2], strict=True):
            points.append((points[-1][0] + dx, points[-1][1] + dy))
        for (x1, y1), (x2, y2) in zip(points, [*points[1:], points[0]], strict=True):
            if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
                inside = not inside
    return inside


@pytest.mark.parametrize("at", [(48.0, 7.0), (39.0, -98.0), (-25.0, 134.0), (66.5, -173.0), (67.0, 178.0), (-80, 0)])
def test_land_is_land(at: tuple[float, float]) -> None:
    assert is_land(*at)


@pytest.mark.parametrize("at", [(0.0, -30.0), (0.0, -150.0), (45.0, 179.5), (35.0, 18.0), (70.0, -179.9), (-20.0, 80)])
def test_sea_is_sea(at: tuple[float, float]) -> None:
    assert not is_land(*at)


@pytest.mark.parametrize(
    "places",
    [
        [PARIS],
        [PARIS, (48.87, 2.30)],
        [PARIS, AUCKLAND, CHUKOTKA],
        [AUCKLAND],
        [(90.0, 0.0)],
        [(-90.0, 180.0)],
        [(84.0, -180.0), (-58.0, 180.0)],
        [(-30.0, 20.0), (60.0, 25.0)],
    ],
)
def test_every_point_lies_in_the_frame(places: list[tuple[float, float]], parse: Any) -> None:
    page = parse(draw_map([place(*at, name=f"place {number}") for number, at in enumerate(places)]))
    (frame,) = page.attributes("viewbox")
    width, height = (float(number) for number in frame.split()[2:])
    circles = [attributes for tag, attributes in page.tags if tag == "circle"]
    assert circles
    assert all(0 < float(circle["cx"]) < width and 0 < float(circle["cy"]) < height for circle in circles)
    named = " ".join(page.attributes("aria-label"))
    assert all(f"place {number}" in named for number in range(len(places)))


def test_places_too_near_share_a_point_that_names_them(parse: Any) -> None:
    page = parse(draw_map([place(*PARIS, "Tower", 9), place(48.87, 2.30, "Arch"), place(41.9, 12.5, "Colosseum")]))
    assert page.attributes("aria-label") == ["Map of the landmarks", "Colosseum", "Tower, Arch"]
    assert page.attributes("href") == ["#Colosseum", "#Tower"], "the most important one is drawn last, on top"
    assert "Tower +1" in page.text


def test_labels_do_not_overlap_and_stay_inside(parse: Any) -> None:
    many = [place(40 + n % 7, 5 + n, f"A landmark with a long name {n}") for n in range(30)]
    page = parse(draw_map(many))
    boxes = []
    for tag, attributes in page.tags:
        if tag == "text" and attributes["class"] == "small":
            x, y, wide = float(attributes["x"]), float(attributes["y"]), 0.5 * 15 * 28
            left = {"start": x, "middle": x - wide / 2, "end": x - wide}[attributes["text-anchor"]]
            boxes.append((left, y - 11, left + wide, y))
    assert 3 < len(boxes) < 30
    for one in boxes:
        assert one[0] >= 0
        assert one[2] <= 1000
        assert not [
            o for o in boxes if o != one and o[0] < one[2] and one[0] < o[2] and o[1] < one[3] and one[1] < o[3]
        ]


def test_names_are_text(parse: Any) -> None:
    drawn = draw_map([place(*PARIS, '<b onload="x">', 3)])
    assert {tag for tag, _ in parse(element("div", Markup(drawn))).tags} == {
        "div",
        "svg",
        "path",
        "a",
        "title",
        "circle",
        "text",
    }
