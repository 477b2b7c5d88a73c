"""The light of a photo: time of day, weather, season."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from obelisk.synthetic.palette import WHITE, Color, Ink, blend, ink, rgb, scale_color

SEASONS = ("spring", "summer", "summer", "autumn", "winter")
FOG = rgb(0xCED4DC)


@dataclass(frozen=True, kw_only=True)
class Light:
    """What lights a scene.

    ``sky`` has the colors at the zenith, halfway down, and at the horizon. ``sun`` is a unit vector towards the sun (z
    up). ``sunlight`` and ``ambient`` multiply colors. Distant things fade to ``haze``, by the share ``fog`` in [0, 1].
    ``night`` in [0, 1] lights up the windows.
    """

    sky: tuple[Color, Color, Color]
    sun: tuple[float, float, float]
    sunlight: Color
    ambient: Color
    haze: Color
    fog: float
    night: float
    clouds: float
    cloud: Color
    season: str
    snow: bool

    def shade(self, color: Color, *, facing: float = 0.5, far: float = 0.0) -> Color:
        """Light a color: ``facing`` is the cosine to the sun, ``far`` the share lost to haze."""
        red, green, blue = (
            min(1.0, own * (ambient + sunlight * max(0.0, facing)))
            for own, ambient, sunlight in zip(color, self.ambient, self.sunlight, strict=True)
        )
        return blend((red, green, blue), self.haze, far)

    def ink(self, color: Color, *, facing: float = 0.5, far: float = 0.0) -> Ink:
        """Light a color as :meth:`shade` does, and return it as Pillow draws it."""
        return ink(self.shade(color, facing=facing, far=far))


@dataclass(frozen=True)
class Hour:
    """A kind of light: how often it comes up, its colors, and the ranges that a photo draws from.

    ``height`` is that of the sun above the horizon, in right angles.
    """

    weight: float
    sunlight: Color
    ambient: Color
    height: tuple[float, float]
    fog: tuple[float, float]
    night: float
    clouds: tuple[float, float]


HOURS = {
    "noon": Hour(0.3, (0.8, 0.76, 0.66), (0.5, 0.54, 0.62), (0.55, 0.85), (0.0, 0.12), 0, (0, 0.8)),
    "morning": Hour(0.14, (0.8, 0.68, 0.5), (0.48, 0.5, 0.56), (0.25, 0.5), (0.05, 0.25), 0, (0, 0.7)),
    "golden": Hour(0.15, (0.98, 0.66, 0.36), (0.4, 0.4, 0.48), (0.12, 0.3), (0.05, 0.2), 0.1, (0.1, 0.8)),
    "sunset": Hour(0.08, (0.6, 0.32, 0.22), (0.36, 0.32, 0.42), (0.05, 0.14), (0.05, 0.2), 0.45, (0.2, 0.9)),
    "overcast": Hour(0.17, (0.16, 0.16, 0.15), (0.8, 0.82, 0.85), (0.5, 0.9), (0.05, 0.3), 0, (0.4, 1)),
    "mist": Hour(0.05, (0.14, 0.13, 0.12), (0.72, 0.74, 0.77), (0.3, 0.6), (0.35, 0.6), 0, (0, 0)),
    "dusk": Hour(0.07, (0.08, 0.08, 0.14), (0.36, 0.38, 0.54), (0.1, 0.2), (0.05, 0.15), 0.85, (0, 0.5)),
    "night": Hour(0.04, (0.42, 0.33, 0.2), (0.34, 0.31, 0.38), (0.05, 0.1), (0.0, 0.1), 1.0, (0, 0.3)),
}
# The sky of each hour: at the zenith, halfway down, at the horizon.
SKIES = {
    "noon": (0x4886D0, 0x78ACE2, 0xCEE2EE),
    "morning": (0x6896CE, 0xB0CADE, 0xFAE4C6),
    "golden": (0x5676B0, 0xC4B2AA, 0xFFCE8A),
    "sunset": (0x403E7A, 0xBE687A, 0xFFAA62),
    "overcast": (0xA4AEBA, 0xBEC6CE, 0xDADEE2),
    "mist": (0xC0CAD2, 0xD4DADE, 0xE4E6E6),
    "dusk": (0x182860, 0x4A5492, 0xD69692),
    "night": (0x080C22, 0x121838, 0x383858),
}


def choose_light(rng: random.Random, *, azimuth: float, snowy: bool = True) -> Light:
    """Draw the light of one photo taken from ``azimuth``; only a ``snowy`` place has snow in winter.

    More often than not the sun is behind the photographer, as photographers prefer.
    """
    name = rng.choices(list(HOURS), [hour.weight for hour in HOURS.values()])[0]
    hour, season = HOURS[name], rng.choice(SEASONS)
    height = rng.uniform(*hour.height) * math.pi / 2
    side = azimuth + rng.choice((-1, 1)) * rng.uniform(0.25, 1.9)
    fog, warmth = rng.uniform(*hour.fog), rng.uniform(-0.03, 0.03)
    zenith, middle, horizon = (blend(rgb(code), FOG, fog * 0.7 * (hour.night < 0.5)) for code in SKIES[name])
    return Light(
        sky=(zenith, middle, horizon),
        sun=(math.sin(side) * math.cos(height), -math.cos(side) * math.cos(height), math.sin(height)),
        sunlight=scale_color(hour.sunlight, (1 + warmth, 1, 1 - warmth)),
        ambient=hour.ambient,
        haze=blend(horizon, middle, 0.3),
        fog=fog,
        night=hour.night,
        clouds=rng.uniform(*hour.clouds),
        cloud=blend(blend(horizon, WHITE, 0.6 * (1 - hour.night)), zenith, 0.25 * (name == "overcast")),
        season=season,
        snow=snowy and season == "winter" and rng.random() < 0.75,
    )
