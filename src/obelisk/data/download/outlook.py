"""What a download will bring, and whether there is room for it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from obelisk.data.download.order import Order, Part
from obelisk.errors import DownloadError

# Of the published dataset (2020): photos and landmarks of the training set and of its clean part, bytes of a photo.
TRAIN_PHOTOS: Final = 4_132_914
CLEAN_PHOTOS: Final = 1_580_470
TRAIN_LANDMARKS: Final = 203_094
CLEAN_LANDMARKS: Final = 81_313
PHOTO_BYTES: Final = 125_000
# Photos at Wikimedia Commons are as they were uploaded.
COMMONS_BYTES: Final = 3_000_000
# A JPEG of quality 90 with sides as 4 : 3.
BYTES_PER_PIXEL: Final = 0.3
SHORT_SIDE: Final = 0.75
UNITS: Final = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What is missing, and the room for it.

    ``sizes`` are the bytes of missing parts as far as the server tells them, ``present`` those already here.
    ``needed`` is an estimate of the bytes that the disk must have free at the worst moment. ``photos`` is how many
    photos are to come one by one, None where the tables that tell are not here yet.
    """

    missing: tuple[Part, ...]
    there: int
    sizes: Mapping[str, int]
    present: Mapping[str, int]
    needed: int
    free: int
    photos: int | None = None

    @property
    def to_fetch(self) -> int:
        """The bytes that are to come, of parts whose size is known."""
        return sum(size - self.present.get(path, 0) for path, size in self.sizes.items())


def look_ahead(order: Order, missing: Sequence[Part], sizes: Mapping[str, int], *, there: int, jobs: int) -> Outlook:
    """Return what is missing and the room for it; while unpacking, ``jobs`` tars at a time lie on the disk."""
    present = {part.path: count_present(order.directory, part) for part in missing}
    tars = [part for part in missing if part.sum_url]
    if order.unpacks:
        kept = sum(sizes.get(part.path, 0) * estimate_kept(order, part.split) for part in tars)
        room = round(kept) + sum(sorted(sizes.get(part.path, 0) for part in tars)[-jobs:])
    else:
        room = sum(sizes.get(part.path, 0) for part in tars)
    room += sum(sizes.get(part.path, 0) for part in missing if not part.sum_url)
    return Outlook(
        missing=tuple(missing),
        there=there,
        sizes={part.path: sizes[part.path] for part in missing if part.path in sizes},
        present=present,
        needed=max(0, room - sum(present.values())),
        free=measure_free(order.directory),
    )


def count_present(directory: Path, part: Part) -> int:
    """Return how many bytes of a missing part are on the disk; of a table in place, which is a wrong one, none."""
    place = directory / part.path
    places = (place, unfinished_name(place)) if part.sum_url else (unfinished_name(place),)
    found = [file for file in places if file.exists()]
    return found[0].stat().st_size if found else 0


def unfinished_name(place: Path) -> Path:
    """Return where a file lies until it is whole."""
    return place.with_name(f"{place.name}.partial")


def estimate_kept(order: Order, split: str) -> float:
    """Return about which share of a tar's bytes stays as photos."""
    kept = 1.0
    if split == "train" and order.restricts:
        photos, landmarks = (
            (TRAIN_PHOTOS, TRAIN_LANDMARKS) if "train" in order.splits else (CLEAN_PHOTOS, CLEAN_LANDMARKS)
        )
        kept = photos / TRAIN_PHOTOS * min(1.0, (order.landmarks or landmarks) / landmarks)
    return kept * estimate_photo(order.max_side, whole=PHOTO_BYTES) / PHOTO_BYTES


def estimate_photo(max_side: int | None, *, whole: int) -> float:
    """Return about how many bytes a photo has, if it has ``whole`` where it is not shrunk."""
    return whole if max_side is None else min(whole, BYTES_PER_PIXEL * SHORT_SIDE * max_side**2)


def measure_free(directory: Path) -> int:
    """Return the bytes that are free where a folder is, or will be."""
    existing = next(place for place in (directory, *directory.absolute().parents) if place.is_dir())
    return shutil.disk_usage(existing).free


def describe_bytes(count: float | None) -> str:
    """Say how large something is, in the unit that leaves a number before the point."""
    if count is None:
        return "unknown"
    scale, unit = next(((scale, unit) for scale, unit in UNITS if count >= scale), UNITS[-1])
    return f"{count / scale:,.2f} {unit}"


def refuse_too_little_room(needed: int, directory: Path) -> None:
    """Raise DownloadError when so many bytes are not free."""
    free = measure_free(directory)
    if needed > free:
        what = f"about {describe_bytes(needed)} are needed, {describe_bytes(free)} are free"
        fix = "free some space, take fewer with --tars, or shrink photos with --extract --max-side 512"
        raise DownloadError(what, where=directory, fix=fix)
