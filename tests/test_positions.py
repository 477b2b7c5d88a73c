"""Positions as people type them, medians across the 180th meridian, and distances."""

from __future__ import annotations

import numpy as np
import pytest

from obelisk.errors import UsageError
from obelisk.positions import Position, measure_kilometers, median_position, parse_position

SPELLINGS = {
    "48.8583,2.2945": (48.8583, 2.2945),
    " 48.8583 , 2.2945 ": (48.8583, 2.2945),
    "-33.8568,151.2153": (-33.8568, 151.2153),
    "+5,-.5": (5, -0.5),
    "90,-180": (90, -180),
    "0,9.45": (0, 9.45),
}


@pytest.mark.parametrize(("text", "position"), SPELLINGS.items())
def test_a_position_is_read(text: str, position: tuple[float, float]) -> None:
    assert parse_position(text, option="--near") == position


WRONG = {
    "paris": "`paris` is no position · give latitude and longitude in degrees: `--near 48.8583,2.2945`",
    "48.8583": "is no position",
    "48.8583 2.2945": "is no position",
    "48,8583,2,2945": "write decimals with a point: `--near 48.8583,2.2945`",
    "-33,8568; 151,2153": "write decimals with a point: `--near -33.8568,151.2153`",
    "nan,1": "is no position",
    "1e3,1": "is no position",
    "151.2153,-33.8568": "outside the Earth .* if they are swapped: `--near -33.8568,151.2153`",
    "91,200": "`91,200` lies outside the Earth · latitude comes first, from -90 to 90",
    "": "is no position",
    "0,0": "0, 0 is what devices write that don't know where they are · give the real position, or leave",
    "-0.0, 0": "0, 0 is what devices write",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items())
def test_what_is_no_position_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_position(text, option="--near")


@pytest.mark.parametrize(
    ("given", "median"),
    [
        ([(48.0, 2.0)], (48.0, 2.0)),
        ([(48.0, 2.0), (48.2, 2.4)], (48.1, 2.2)),
        ([(48.0, 2.0), (48.1, 2.1), (-33.0, 151.0)], (48.0, 2.1)),  # one photo taken elsewhere
        ([(-16.8, 179.9), (-16.9, -179.9), (-16.7, -179.7)], (-16.8, -179.9)),  # Fiji
    ],
)
def test_the_median_of_positions(given: list[tuple[float, float]], median: tuple[float, float]) -> None:
    assert median_position([Position(*one) for one in given]) == pytest.approx(median)


def test_distances_are_those_of_a_sphere() -> None:
    paris = Position(48.8583, 2.2945)
    places = np.array([paris, (51.5007, -0.1246), (48.8583, 2.2945 + 360), (-48.8583, 2.2945 - 180), (np.nan, np.nan)])
    found = measure_kilometers(places[:, 0], places[:, 1], paris)
    assert found == pytest.approx([0, 340.6, 0, np.pi * 6371, np.nan], abs=0.5, nan_ok=True)
    across = measure_kilometers(np.array([0.0]), np.array([-179.5]), Position(0.0, 179.5))
    assert across == pytest.approx([np.pi * 6371 / 180])
