"""Answers in words: the verdict, a confidence that no rounding makes certain, a position, an address.

Names are returned as they are; whoever writes them to a terminal or a page escapes them (:mod:`obelisk.markup`).
"""

from __future__ import annotations

import re

from obelisk.positions import Position
from obelisk.records import Recognition

UNKNOWN = "not a landmark I know"
CREATIVE_COMMONS = re.compile(
    r"https?://creativecommons\.org/(?:licenses/(?=by)|publicdomain/(?=zero))([a-z-]+)/(\d\.\d)(?:/|$)"
)


def describe_verdict(answer: Recognition, first: str = "") -> str:
    """Say what the photo shows, as far as the answer claims it; ``first`` names the first candidate, if given."""
    if answer.verdict == "unknown":
        return UNKNOWN
    name = first or answer.landmark or answer.candidates[0].landmark
    return name if answer.verdict == "sure" else f"probably {name}"


def describe_answer(answer: Recognition) -> str:
    """Return an answer as one line: verdict, confidence, position, distance from the camera, first link.

    A rejected photo's line ends with the first candidate, a failed one's is the reason.
    """
    if answer.error:
        return answer.error
    verdict, confidence = describe_verdict(answer), describe_confidence(answer)
    if answer.verdict == "unknown":
        nearest = f" (nearest: {answer.candidates[0].landmark}, {confidence})" if answer.candidates else ""
        return verdict + nearest
    parts = [f"{verdict}, {confidence}" if answer.verdict == "probable" else f"{verdict} · {confidence}"]
    if answer.latitude is not None and answer.longitude is not None:
        parts.append(format_position(answer.latitude, answer.longitude))
    if answer.distance_km is not None:
        parts.append(f"{format_kilometers(answer.distance_km)} from the camera")
    return " · ".join([*parts, *map(shorten_link, answer.links[:1])])


def describe_confidence(answer: Recognition) -> str:
    """Return the confidence in percent; if it is no probability, the score that stands for it."""
    if answer.is_calibrated:
        return format_confidence(answer.confidence)
    return f"score {format_decimal(answer.confidence)}"


def format_confidence(confidence: float) -> str:
    """Return a probability in percent, which is never 0 or 100.

    >>> [format_confidence(confidence) for confidence in (0.97, 0.9997, 1.0, 0.0004)]
    ['97 %', '>99 %', '>99 %', '<1 %']
    """
    percent = f"{100 * confidence:.0f}"
    return {"0": "<1", "100": ">99"}.get(percent, percent) + " %"


def format_decimal(value: float, digits: int = 2) -> str:
    """Return a score or similarity with some digits, none of which makes it 0 or 1 if it isn't.

    >>> [format_decimal(value) for value in (0.9712, 0.9997, 1.0, 0.0004)]
    ['0.97', '>0.99', '1.00', '<0.01']
    """
    step = 10.0**-digits
    rounded = float(f"{value:.{digits}f}")
    if value < 1.0 <= rounded:
        return f">{1.0 - step:.{digits}f}"
    if rounded == 0.0 < value:
        return f"<{step:.{digits}f}"
    return f"{value:.{digits}f}"


def format_percent(share: float, digits: int = 1) -> str:
    """Return a share in percent, without the sign; no rounding makes it 0 or 100 if it isn't.

    >>> [format_percent(share) for share in (0.911, 0.99973, 1.0, 0.0002)]
    ['91.1', '>99.9', '100.0', '<0.1']
    """
    step = 10.0**-digits
    written = f"{100 * share:.{digits}f}"
    if share < 1.0 and float(written) >= 100.0:
        return f">{100.0 - step:.{digits}f}"
    return f"<{step:.{digits}f}" if share > 0.0 and float(written) == 0.0 else written


def format_position(latitude: float, longitude: float) -> str:
    """Return a position to about ten meters, as maps take it.

    >>> format_position(48.85826, -0.00001)
    '48.8583, 0.0000'
    """
    return str(Position(latitude, longitude))


def format_kilometers(kilometers: float) -> str:
    """Return a distance in kilometers, with a decimal below ten.

    >>> [format_kilometers(distance) for distance in (0.0, 3.21, 1240.6)]
    ['0.0 km', '3.2 km', '1,241 km']
    """
    return f"{kilometers:.1f} km" if kilometers < 10 else f"{kilometers:,.0f} km"


def format_credit(author: str | None, licence: str | None) -> str:
    """Return who made a photo, and its license, as far as they are known; an address of Creative Commons by its name.

    >>> format_credit("Ann", "https://creativecommons.org/licenses/by-sa/3.0/")
    'Ann, CC BY-SA 3.0'
    >>> format_credit(None, "http://creativecommons.org/publicdomain/zero/1.0/deed.en")
    'CC0 1.0'
    """
    named = licence or ""
    if found := CREATIVE_COMMONS.match(named):
        named = f"CC0 {found[2]}" if found[1] == "zero" else f"CC {found[1].upper()} {found[2]}"
    return ", ".join(filter(None, [author, named]))


def shorten_link(link: str) -> str:
    """Return a web address without its scheme, as browsers take it.

    >>> shorten_link("https://commons.wikimedia.org/wiki/Category:Space_Needle")
    'commons.wikimedia.org/wiki/Category:Space_Needle'
    """
    return link.removeprefix("https://").removeprefix("http://")
