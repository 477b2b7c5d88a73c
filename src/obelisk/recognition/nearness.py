"""Where a photo was taken, as evidence of what it shows.

With d the distance from the camera to a landmark l, in kilometers, and the mean taken over all landmarks of the gallery
whose position is known::

    f(d)   = (1 + (d / R)²)^(−3/2)                    how far from a landmark people stand: most near, some far away
    r(l)   = f(d) / (mean of f over landmarks + E)    how much likelier this distance is if the photo shows l
    g(l)   = ln(1 − T + T · r(l))                     the evidence, as a position may be wrong: T is the trust in it
    score' = min(1, score · exp(g(l) / w))            w: the weights of a calibration's score and margin together

r is about 1 for any landmark of a crowd, since the camera is near all of them, and large for a landmark that stands
alone. A candidate far away loses at most ln(1 − T), however far: parks and mountains are seen from afar, and a wrong
position shall not hide a right answer. Over wrong candidates the mean of exp(g) is about 1, so that a threshold keeps
its precision with and without positions. A landmark without a position has g = 0: its score stays as it is.

T, R and E were chosen with simulated positions of reference photos, of which some landmarks were kept out of the
gallery (``tools/simulate_positions.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import repeat
from numbers import Real
from typing import Any

import numpy as np

from obelisk.arrays import Floats, Integers
from obelisk.embedding import Embedded
from obelisk.errors import UsageError
from obelisk.gallery import Landmark
from obelisk.positions import Position, measure_kilometers
from obelisk.recognition.calibration import Calibration
from obelisk.recognition.ranking import Ranking

TRUST = 0.3  # T
REACH = 20.0  # R, km
ELSEWHERE = 0.005  # E: f where no landmark is near
TYPICAL_WEIGHT = 30.0  # w where nothing is calibrated
NEARBY = 20  # candidates that a position may bring to the front
KEPT_POSITIONS = 64
DECIMALS = 1  # of kilometers

Near = str | tuple[float, float] | Iterable[tuple[float, float] | None]
"""Where photos were taken: ``exif`` (as their Exif says), ``none`` (not to be considered), a latitude and a longitude
in degrees for all photos, or one for each, None where it is not known."""


class LandmarkPositions:
    """The positions of a gallery's landmarks."""

    def __init__(self, landmarks: Mapping[int, Landmark]) -> None:
        self._ids = np.array(sorted(landmarks), dtype=np.int64)
        known = [(landmarks[number].latitude, landmarks[number].longitude) for number in self._ids.tolist()]
        self._latitudes, self._longitudes = np.array(known, dtype=np.float64).reshape(-1, 2).T
        self.expect = lru_cache(maxsize=KEPT_POSITIONS)(self._average)

    def measure(self, candidates: Integers, position: Position | None) -> Floats:
        """Return the kilometers (T,) from a position to landmarks (T,), given by id; NaN where one is not known."""
        if position is None:
            return np.full(len(candidates), np.nan)
        indices = np.searchsorted(self._ids, candidates)
        return measure_kilometers(self._latitudes[indices], self._longitudes[indices], position)

    def _average(self, position: Position) -> float:
        """Return the mean of f over all landmarks that have a position; 0 if none has."""
        spread = spread_of(measure_kilometers(self._latitudes, self._longitudes, position))
        known = ~np.isnan(spread)
        return float(spread[known].mean()) if known.any() else 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Nearness:
    """The positions of Q photos, None where one is not known, beside those of the landmarks."""

    landmarks: LandmarkPositions
    positions: Sequence[Position | None]

    def measure(self, candidates: Integers) -> Floats:
        """Return the kilometers (Q, T) from each photo to its candidates, landmark ids (Q, T)."""
        pairs = zip(candidates, self.positions, strict=True)
        return np.array([self.landmarks.measure(row, position) for row, position in pairs]).reshape(candidates.shape)

    def weigh(self, kilometers: Floats) -> Floats:
        """Return g (Q, T) at these distances (Q, T); 0 where a distance is NaN."""
        expected = [0.0 if position is None else self.landmarks.expect(position) for position in self.positions]
        ratio = spread_of(kilometers) / (np.array(expected)[:, np.newaxis] + ELSEWHERE)
        return np.nan_to_num(np.log(1 - TRUST + TRUST * ratio), nan=0.0)

    def rank(self, ranking: Ranking, weight: float) -> Ranking:
        """Return a ranking by score', given w."""
        scores = ranking.scores * np.exp(self.weigh(self.measure(ranking.candidates)) / weight)
        order = np.argsort(-scores, axis=1, kind="stable")
        scores = np.minimum(np.take_along_axis(scores, order, axis=1), 1.0)
        candidates = np.take_along_axis(ranking.candidates, order, axis=1)
        return replace(ranking, candidates=candidates, scores=scores, confidence=scores[:, 0])

    def describe(self, candidates: Integers) -> list[dict[str, Any]]:
        """Return what answers say of their first candidates (Q,): how far each is, and whether that speaks for it."""
        kilometers = self.measure(candidates[:, np.newaxis])
        helped = self.weigh(kilometers) > 0
        return [
            {} if math.isnan(distance) else {"distance_km": round(distance, DECIMALS), "position_helped": speaks}
            for distance, speaks in zip(kilometers[:, 0].tolist(), helped[:, 0].tolist(), strict=True)
        ]


def spread_of(kilometers: Floats) -> Floats:
    """Return f of distances."""
    spread: Floats = (1 + (kilometers / REACH) ** 2) ** -1.5
    return spread


def choose_weight(calibration: Calibration | None, *, probabilities: bool) -> float:
    """Return w; if the scores are ``probabilities``, those of a softmax layer, it is 1."""
    if calibration:
        return calibration.slope + calibration.margin
    return 1.0 if probabilities else TYPICAL_WEIGHT


@dataclass
class CameraPositions:
    """Hands out where each photo was taken; counts the ``faulty`` positions of Exif, and keeps the first ``fault``."""

    given: Iterator[object] | None
    faulty: int = 0
    fault: str = ""

    @classmethod
    def read(cls, near: Near) -> CameraPositions | None:
        """Return the positions that a caller asks for; None if they shall not be considered."""
        if isinstance(near, str):
            if near not in ("exif", "none"):
                raise UsageError(f"near = `{near}`", fix="give exif, none, or a latitude and a longitude in degrees")
            return cls(given=None) if near == "exif" else None
        if isinstance(near, tuple) and len(near) == 2 and all(isinstance(one, Real) for one in near):
            return cls(given=repeat(check_given(near)))
        return cls(given=iter(near))

    def take(self, photo: Embedded, name: str) -> Position | None:
        """Return the position of the next photo."""
        if self.given is not None:
            try:
                return check_given(next(self.given))
            except StopIteration:
                raise UsageError("`near` has fewer positions than there are photos", fix="give one for each") from None
        if photo.stated is None:
            return None
        if photo.stated.fault:
            self.faulty += 1
            self.fault = self.fault or f"{name}: {photo.stated.fault}"
        return photo.stated.position


def check_given(position: object) -> Position | None:
    """Return a position that a caller gave; raise UsageError for anything else."""
    if position is None:
        return None
    try:
        checked = Position(*map(float, position))  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise UsageError(f"near = {position!r}", fix="give a latitude and a longitude in degrees") from None
    if not checked.is_sound:
        fix = "latitude comes first, from -90 to 90, then longitude, from -180 to 180"
        raise UsageError(f"near = {position!r} lies outside the Earth", fix=fix)
    return checked
