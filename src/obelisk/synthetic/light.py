"""The light of a photo: time of day, weather, season."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal

from obelisk.synthetic.palette import Colour, mix, rgb

Season = Literal["spring", "summer", "autumn", "winter"]


@dataclass(frozen=True, kw_only=True)
class Light:
    """What lights a scene.

    ``sun`` points to the sun (unit length; z is its height). ``sunlight`` and ``ambient`` multiply colours.
    ``haze`` is what distance fades to and ``fog`` how fast, in [0, 1]. ``night`` in [0, 1] lights windows up.
    """

    zenith: Colour
    middle: Colour
    horizon: Colour
    sun: tuple[float, float, float]
    sunlight: Colour
    ambient: Colour
    haze: Colour
    fog: float
    night: float
    clouds: float
    cloud: Colour
    season: Season
    snow: bool


@dataclass(frozen=True, kw_only=True)
class Hour:
    """One kind of light: colours of the sky, and ranges to draw from."""

    often: float
    zenith: Colour
    middle: Colour
    horizon: Colour
    sunlight: Colour
    ambient: Colour
    height: tuple[float, float]
    fog: tuple[float, float]
    night: float
    clouds: tuple[float, float]


HOURS = {
    "noon": Hour(
        often=0.3,
        zenith=rgb(72, 134, 208),
        middle=rgb(120, 172, 226),
        horizon=rgb(206, 226, 238),
        sunlight=(0.8, 0.76, 0.66),
        ambient=(0.5, 0.54, 0.62),
        height=(0.55, 0.85),
        fog=(0.0, 0.12),
        night=0,
        clouds=(0, 0.8),
    ),
    "morning": Hour(
        often=0.14,
        zenith=rgb(104, 150, 206),
        middle=rgb(176, 202, 222),
        horizon=rgb(250, 228, 198),
        sunlight=(0.8, 0.68, 0.5),
        ambient=(0.48, 0.5, 0.56),
        height=(0.25, 0.5),
        fog=(0.05, 0.25),
        night=0,
        clouds=(0, 0.7),
    ),
    "golden": Hour(
        often=0.15,
        zenith=rgb(86, 118, 176),
        middle=rgb(196, 178, 170),
        horizon=rgb(255, 206, 138),
        sunlight=(0.98, 0.66, 0.36),
        ambient=(0.4, 0.4, 0.48),
        height=(0.12, 0.3),
        fog=(0.05, 0.2),
        night=0.1,
        clouds=(0.1, 0.8),
    ),
    "sunset": Hour(
        often=0.08,
        zenith=rgb(64, 62, 122),
        middle=rgb(190, 104, 122),
        horizon=rgb(255, 170, 98),
        sunlight=(0.6, 0.32, 0.22),
        ambient=(0.36, 0.32, 0.42),
        height=(0.05, 0.14),
        fog=(0.05, 0.2),
        night=0.45,
        clouds=(0.2, 0.9),
    ),
    "overcast": Hour(
        often=0.17,
        zenith=rgb(164, 174, 186),
        middle=rgb(190, 198, 206),
        horizon=rgb(218, 222, 226),
        sunlight=(0.16, 0.16, 0.15),
        ambient=(0.8, 0.82, 0.85),
        height=(0.5, 0.9),
        fog=(0.05, 0.3),
        night=0,
        clouds=(0.4, 1),
    ),
    "mist": Hour(
        often=0.05,
        zenith=rgb(192, 202, 210),
        middle=rgb(212, 218, 222),
        horizon=rgb(228, 230, 230),
        sunlight=(0.14, 0.13, 0.12),
        ambient=(0.72, 0.74, 0.77),
        height=(0.3, 0.6),
        fog=(0.35, 0.6),
        night=0,
        clouds=(0, 0),
    ),
    "dusk": Hour(
        often=0.07,
        zenith=rgb(24, 40, 96),
        middle=rgb(74, 84, 146),
        horizon=rgb(214, 150, 146),
        sunlight=(0.08, 0.08, 0.14),
        ambient=(0.36, 0.38, 0.54),
        height=(0.1, 0.2),
        fog=(0.05, 0.15),
        night=0.85,
        clouds=(0, 0.5),
    ),
    "night": Hour(
        often=0.04,
        zenith=rgb(8, 12, 34),
        middle=rgb(18, 24, 56),
        horizon=rgb(56, 56, 88),
        sunlight=(0.42, 0.33, 0.2),
        ambient=(0.34, 0.31, 0.38),
        height=(0.05, 0.1),
        fog=(0.0, 0.1),
        night=1.0,
        clouds=(0, 0.3),
    ),
}
SEASONS: tuple[Season, ...] = ("spring", "summer", "summer", "autumn", "winter")


def choose_light(chance: random.Random, *, azimuth: float, snowy: bool) -> Light:
    """Draw the light of one photo; ``azimuth`` is the side that the viewer stands on.

    The sun stands behind the viewer more often than not, as photographers like it.
    """
    name = chance.choices(list(HOURS), [hour.often for hour in HOURS.values()])[0]
    hour = HOURS[name]
    season = chance.choice(SEASONS)
    height = chance.uniform(*hour.height) * math.pi / 2
    side = azimuth + chance.choice((-1, 1)) * chance.uniform(0.25, 1.9)
    sun = (math.sin(side) * math.cos(height), -math.cos(side) * math.cos(height), math.sin(height))
    fog = chance.uniform(*hour.fog)
    warmth = chance.uniform(-0.03, 0.03)
    tint: Colour = (1 + warmth, 1, 1 - warmth)
    zenith, middle, horizon = (
        mix(colour, rgb(206, 212, 220), fog * 0.7 if name not in ("night", "dusk") else 0.0)
        for colour in (hour.zenith, hour.middle, hour.horizon)
    )
    return Light(
        zenith=zenith,
        middle=middle,
        horizon=horizon,
        sun=sun,
        sunlight=times(hour.sunlight, tint),
        ambient=hour.ambient,
        haze=mix(horizon, middle, 0.3),
        fog=fog,
        night=hour.night,
        clouds=chance.uniform(*hour.clouds),
        cloud=mix(mix(horizon, (1, 1, 1), 0.6 * (1 - hour.night)), zenith, 0.25 if name == "overcast" else 0.0),
        season=season,
        snow=snowy and season == "winter" and chance.random() < 0.75,
    )


def times(first: Colour, second: Colour) -> Colour:
    """Multiply two colours."""
    return (first[0] * second[0], first[1] * second[1], first[2] * second[2])


def lit(colour: Colour, light: Light, *, facing: float = 0.5, far: float = 0.0) -> Colour:
    """Return how a colour looks: ``facing`` is the cosine to the sun, ``far`` the share lost to haze."""
    ambient, sunlight, facing = light.ambient, light.sunlight, max(0.0, facing)
    red = min(1.0, colour[0] * (ambient[0] + sunlight[0] * facing))
    green = min(1.0, colour[1] * (ambient[1] + sunlight[1] * facing))
    blue = min(1.0, colour[2] * (ambient[2] + sunlight[2] * facing))
    return mix((red, green, blue), light.haze, far)
