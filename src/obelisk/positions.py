"""Positions on Earth: reading them from text, their median, and distances."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from obelisk.arrays import Floats
from obelisk.errors import UsageError

EARTH_RADIUS = 6371.0  # km
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
PAIR = re.compile(rf"\s*({NUMBER})\s*,\s*({NUMBER})\s*")
COMMAS = re.compile(r"\s*([+-]?\d+),(\d+)\s*[,;\s]\s*([+-]?\d+),(\d+)\s*")


class Position(NamedTuple):
    """A latitude from -90 to 90 and a longitude from -180 to 180, in degrees; north and east are positive."""

    latitude: float
    longitude: float

    @property
    def is_sound(self) -> bool:
        """Whether both are numbers within these bounds."""
        return abs(self.latitude) <= 90 and abs(self.longitude) <= 180

    def __str__(self) -> str:
        """Return the position as people write it, to about ten meters: ``48.8583, 2.2945``."""
        return ", ".join(f"{round(degrees, 4) + 0.0:.4f}" for degrees in self)  # adding 0.0 makes -0.0 plain zero


def parse_position(text: str, *, option: str, others: str = "") -> Position:
    """Read a position as people type it: ``48.8583,2.2945``.

    Errors name the ``option``, and the ``others`` of its values, such as ``exif, none, or``.

    Raises :class:`~obelisk.errors.UsageError` for anything else, for numbers out of range, and for 0, 0, which means
    unknown.
    """
    found = PAIR.fullmatch(text)
    if not found:
        fix = f"give {others + ' ' if others else ''}latitude and longitude in degrees: `{option} 48.8583,2.2945`"
        if commas := COMMAS.fullmatch(text):
            fix = "write decimals with a point: `{} {}.{},{}.{}`".format(option, *commas.groups())
        raise UsageError(f"`{text}` is no position", fix=fix)
    position = Position(float(found[1]), float(found[2]))
    if position == (0, 0):
        fix = "give the real position, or leave the option out"
        raise UsageError(f"`{option} {text}`: 0, 0 is what devices write that don't know where they are", fix=fix)
    if position.is_sound:
        return position
    fix = "latitude comes first, from -90 to 90, then longitude, from -180 to 180"
    if Position(position.longitude, position.latitude).is_sound:
        fix += f"; if they are swapped: `{option} {found[2]},{found[1]}`"
    raise UsageError(f"`{text}` lies outside the Earth", fix=fix)


def median_position(positions: Sequence[Position]) -> Position:
    """Return the median latitude and longitude; the 180th meridian is no border."""
    latitudes, longitudes = np.array(positions, dtype=np.float64).T
    turned = np.exp(1j * np.radians(longitudes)).sum()
    center = math.degrees(np.angle(turned)) if abs(turned) > 0 else float(longitudes[0])
    longitude = center + float(np.median(wrap_degrees(longitudes - center)))
    return Position(float(np.median(latitudes)), float(wrap_degrees(np.array(longitude))))


def wrap_degrees(degrees: Floats) -> Floats:
    """Return angles in [-180, 180)."""
    wrapped: Floats = (degrees + 180.0) % 360.0 - 180.0
    return wrapped


def measure_kilometers(latitudes: Floats, longitudes: Floats, position: Position) -> Floats:
    """Return the great-circle distance (C,) of C places from a position, by the haversine formula; NaN stays NaN."""
    north, south = np.radians(latitudes), math.radians(position.latitude)
    across = np.radians(longitudes) - math.radians(position.longitude)
    chord = np.sin((north - south) / 2) ** 2 + np.cos(north) * math.cos(south) * np.sin(across / 2) ** 2
    distances: Floats = 2 * EARTH_RADIUS * np.arcsin(np.sqrt(np.clip(chord, 0.0, 1.0)))
    return distances
