"""Who is who among landmarks: the names and ids of a gallery, and those that are brought to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from obelisk.errors import GalleryError


@dataclass(frozen=True, kw_only=True)
class Landmark:
    """A landmark of a gallery; its place in degrees, where known."""

    id: int
    name: str
    latitude: float | None = None
    longitude: float | None = None


def resolve_landmarks(
    given: Sequence[Landmark | int | str], known: Mapping[int, str]
) -> tuple[list[int], list[Landmark]]:
    """Return the landmark id of each photo, and the landmarks to write.

    ``given`` says for each photo what it shows: an id, a name, or a :class:`Landmark`; ``known`` are the
    gallery's landmarks, id → name. A name that nobody has becomes a new landmark.
    """
    names = dict(known)
    written: dict[int, Landmark] = {}
    ids = []
    for landmark in given:
        if isinstance(landmark, str):
            found = find_name(landmark, names)
            landmark = Landmark(id=max(names, default=0) + 1, name=landmark) if found is None else found
        if isinstance(landmark, Landmark):
            names[landmark.id] = landmark.name
            written[landmark.id] = landmark
            landmark = landmark.id
        if landmark not in names:
            raise GalleryError(f"the gallery has no landmark with the id {landmark}", fix="give its name or a Landmark")
        ids.append(int(landmark))
    return ids, list(written.values())


def find_name(name: str, names: Mapping[int, str]) -> int | None:
    """Return the id of the landmark with this name, None if there is none; refuse a name of several."""
    ids = [landmark_id for landmark_id, known in names.items() if known == name]
    if len(ids) > 1:
        raise GalleryError(f"`{name}` is the name of {len(ids)} landmarks", where=f"ids {ids}", fix="give the id")
    return ids[0] if ids else None


def match_landmarks(brought: Iterable[Landmark], known: Mapping[int, str]) -> dict[int, Landmark]:
    """Say as which landmark of the gallery each landmark of a dataset is kept: its own id → :class:`Landmark`.

    Ids of folders change when a folder is added, ids of Google Landmarks do not, and names may repeat.
    So: a landmark keeps its id where the gallery has it under the same name; otherwise it is the one
    landmark of the gallery with its name; otherwise it is new, under its own id if that is free.
    """
    brought = list(brought)
    same = {landmark.id for landmark in brought if known.get(landmark.id) == landmark.name}
    elsewhere = {landmark_id: name for landmark_id, name in known.items() if landmark_id not in same}
    times = Counter(elsewhere.values())
    by_name = {name: landmark_id for landmark_id, name in elsewhere.items() if times[name] == 1}

    free = count(max([*known, *(landmark.id for landmark in brought)], default=0) + 1)
    kept: dict[int, Landmark] = {}
    for landmark in brought:
        if landmark.id in same:
            kept[landmark.id] = landmark
        elif landmark.name in by_name:
            kept[landmark.id] = replace(landmark, id=by_name.pop(landmark.name))
        elif landmark.id not in known:
            kept[landmark.id] = landmark
        else:
            kept[landmark.id] = replace(landmark, id=next(free))
    return kept
