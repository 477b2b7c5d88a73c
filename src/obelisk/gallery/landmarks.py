"""Names and ids of landmarks: which are allowed, and how those of a dataset or a user map to those of a gallery."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from obelisk.errors import GalleryError, near_names, quote
from obelisk.gallery.columns import MAX_ID

BARRED = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe"})
"""Letters that Unicode doesn't take apart."""


@dataclass(frozen=True, kw_only=True)
class Landmark:
    """A landmark of a gallery, with its coordinates in degrees, or None where they are not known.

    ``links`` are web addresses about it. ``origins`` are its names in the data it was built from, such as those of its
    folders, if it was renamed or merged in the gallery; without any, data knows it by its name.
    """

    id: int
    name: str
    latitude: float | None = None
    longitude: float | None = None
    links: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    @property
    def data_names(self) -> tuple[str, ...]:
        """The names by which data knows the landmark."""
        return self.origins or (self.name,)


def resolve_landmarks(
    given: Sequence[Landmark | int | str], known: Mapping[int, str], last: int
) -> tuple[list[int], list[Landmark]]:
    """Return the landmark id of each photo, and the landmarks to insert or update.

    ``given`` says what each photo shows: an id, a name, or a :class:`Landmark`. ``known`` maps id → name for the
    gallery's landmarks with these ids and names, and ``last`` is the largest id of the gallery. A name that no
    landmark has becomes a new landmark.
    """
    names = dict(known)
    by_name: dict[str, set[int]] = defaultdict(set)
    for landmark_id, name in known.items():
        by_name[compared(name)].add(landmark_id)
    written: dict[int, Landmark] = {}
    ids = []
    for landmark in given:
        if isinstance(landmark, str):
            found = one_of(landmark, by_name[compared(landmark)])
            landmark = Landmark(id=last + 1, name=landmark) if found is None else found
        if isinstance(landmark, Landmark):
            check_id(landmark.id)
            names[landmark.id] = landmark.name
            by_name[compared(landmark.name)].add(landmark.id)
            written[landmark.id] = landmark
            last = max(last, landmark.id)
            landmark = landmark.id
        if landmark not in names:
            raise GalleryError(f"the gallery has no landmark with the id {landmark}", fix="give its name or a Landmark")
        ids.append(int(landmark))
    return ids, list(written.values())


def one_of(name: str, ids: Collection[int]) -> int | None:
    """Return the only one of ``ids``, the landmarks called ``name``; None if there are none.

    Raises :class:`GalleryError` if several landmarks have the name.
    """
    if len(ids) > 1:
        what = f"{len(ids)} landmarks are called `{name}`"
        raise GalleryError(what, where=f"ids {sorted(ids)}", fix="give the id")
    return next(iter(ids), None)


def check_id(landmark_id: int) -> None:
    """Raise :class:`GalleryError` for an id that JSON could not carry."""
    if not 0 <= landmark_id <= MAX_ID:
        raise GalleryError(f"{landmark_id} cannot be a landmark's id", fix=f"give a number from 0 to {MAX_ID}")


def check_name(name: str) -> None:
    """Raise :class:`GalleryError` for a name that nobody could read or type."""
    if not name.strip() or any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        what = f"{name!r} cannot be a landmark's name"
        raise GalleryError(what, fix="give one with letters, and without line breaks or control characters")


def find_landmark(given: str, known: Mapping[int, str], gallery: Path | str) -> int:
    """Return the id of the landmark that a user means: ``given`` is its name or, if no landmark has it, its id.

    ``known`` maps id → name; ``gallery`` is how errors call the gallery. Raises :class:`GalleryError` for a name that
    several landmarks have, and for an unknown name, with the nearest known one.
    """
    ids = [landmark_id for landmark_id, name in known.items() if compared(name) == compared(given)]
    if not ids and given.isascii() and given.isdigit() and int(given) in known:
        ids = [int(given)]
    found = one_of(given, ids)
    if found is None:
        listing = f"`obelisk gallery info {quote(str(gallery))} --landmarks` lists them"
        hint = near_names(given, known.values()) or listing
        raise GalleryError(f"the gallery has no landmark `{given}`", fix=hint)
    return found


def matches_name(search: str, name: str) -> bool:
    """Return whether a name contains every word of a search; capitals and accents make no difference."""
    folded = fold_letters(name)
    return all(fold_letters(word) in folded for word in search.split())


def fold_letters(text: str) -> str:
    """Return a text without capitals and accents: ``Haleakalā`` and ``haleakala`` are one."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(part for part in parts if not unicodedata.combining(part)).translate(BARRED)


def match_landmarks(brought: Iterable[Landmark], known: Mapping[int, Landmark]) -> dict[int, Landmark]:
    """Map each landmark of a dataset to a landmark of the gallery: the dataset's id → :class:`Landmark`.

    The ids of folders change when a folder is added, those of Google Landmarks do not, and names may repeat. So a
    landmark keeps its id if the gallery has it under the same name; else it is the only landmark of the gallery with
    its name; else it is new, under its own id if that is free. Names are those that data knows it by
    (:attr:`Landmark.data_names`), or failing that the one it has in the gallery. That name it keeps, and so it does the
    position and the links that the gallery has of it.
    """
    brought = list(brought)
    by_origin = ids_by_name((origin, landmark.id) for landmark in known.values() for origin in landmark.origins)
    by_name = ids_by_name((one.name, one.id) for one in known.values() if one.name not in one.origins)
    found: dict[int, int] = {}
    for holders, same_id in ((by_origin, True), (by_name, True), (by_origin, False), (by_name, False)):
        for landmark in brought:
            name = compared(landmark.name)
            if landmark.id in found or (holders is by_name and by_origin[name]):
                continue
            ids = [one for one in holders[name] if one == landmark.id or not same_id]
            if len(set(ids)) == 1:
                found[landmark.id] = ids[0]
                holders[name].remove(ids[0])

    free = count(max([*known, *(landmark.id for landmark in brought)], default=0) + 1)
    kept: dict[int, Landmark] = {}
    for landmark in brought:
        if landmark.id in found:
            same = known[found[landmark.id]]
            new = same.origins and compared(landmark.name) not in map(compared, same.origins)
            origins = (*same.origins, landmark.name) if new else same.origins
            kept[landmark.id] = replace(merge_facts(same, landmark), origins=origins)
        else:
            kept[landmark.id] = replace(landmark, id=next(free)) if landmark.id in known else landmark
    return kept


def merge_facts(known: Landmark, other: Landmark) -> Landmark:
    """Return a landmark with the position, links and origins of another one where it has none."""
    if known.latitude is None or known.longitude is None:
        known = replace(known, latitude=other.latitude, longitude=other.longitude)
    return replace(known, links=known.links or other.links, origins=known.origins or other.origins)


def ids_by_name(pairs: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    """Collect the ids of pairs (name, id) by name, in the form in which names are compared."""
    ids: dict[str, list[int]] = defaultdict(list)
    for name, landmark_id in pairs:
        ids[compared(name)].append(landmark_id)
    return ids


def compared(name: str) -> str:
    """Return a name in the form in which names are compared: Unicode NFC, which is what looks alike."""
    return unicodedata.normalize("NFC", name)
