"""Where landmarks are, as the Exif of their reference photos says: the median of where these were taken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from obelisk.gallery.landmarks import Landmark
from obelisk.photos import map_in_order, read_position
from obelisk.positions import Position, measure_kilometers, median_position

DECIMALS = 6  # of degrees: a tenth of a meter
SCATTERED = 100.0  # km from the median, farther than any landmark is seen from


@dataclass(frozen=True, kw_only=True)
class PhotoPositions:
    """What the positions of reference photos told.

    ``faulty`` counts photos whose position can't be used, ``fault`` says why of the first one. ``strays`` are photos
    that were taken more than :data:`SCATTERED` km from the median of their landmark: (file, kilometers).
    """

    located: tuple[Landmark, ...] = ()
    faulty: int = 0
    fault: str = ""
    strays: tuple[tuple[Path, float], ...] = ()


NO_POSITIONS = PhotoPositions()


def locate_landmarks(landmarks: Sequence[Landmark], photos: Mapping[int, Sequence[Path]]) -> PhotoPositions:
    """Give each landmark the median position of its photos, ``photos[landmark.id]``, if any states one."""
    files = [(landmark.id, file) for landmark in landmarks for file in photos.get(landmark.id, ())]
    stated: dict[int, list[tuple[Path, Position]]] = defaultdict(list)
    faults = []
    for (landmark_id, file), found in zip(files, map_in_order(read_position, [file for _, file in files]), strict=True):
        if found.position:
            stated[landmark_id].append((file, found.position))
        elif found.fault:
            faults.append(f"{file}: {found.fault}")
    located, strays = [], []
    for landmark in landmarks:
        if landmark.id in stated:
            median = median_position([position for _, position in stated[landmark.id]])
            latitude, longitude = (round(degrees, DECIMALS) for degrees in median)
            located.append(replace(landmark, latitude=latitude, longitude=longitude))
            strays += find_strays(stated[landmark.id], median)
    return PhotoPositions(located=tuple(located), faulty=len(faults), fault="".join(faults[:1]), strays=tuple(strays))


def find_strays(stated: Sequence[tuple[Path, Position]], median: Position) -> list[tuple[Path, float]]:
    """Return the photos taken far from the median, and how far."""
    latitudes, longitudes = np.array([position for _, position in stated]).T
    kilometers = measure_kilometers(latitudes, longitudes, median).tolist()
    return [(file, far) for (file, _), far in zip(stated, kilometers, strict=True) if far > SCATTERED]
