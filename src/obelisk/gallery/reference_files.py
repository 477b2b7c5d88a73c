"""The files of reference photos: reading those that are at hand, and counting how many are."""

from __future__ import annotations

import os
from pathlib import Path

from obelisk.errors import PhotoError
from obelisk.gallery.schema import ReferencePhoto
from obelisk.photos import content_hash, read_bytes


class ReferenceFiles:
    """Reads the files of a gallery's reference photos, and remembers which of them were at hand.

    Threads may share one object.
    """

    def __init__(self) -> None:
        self._at_hand: dict[ReferencePhoto, bool] = {}

    @property
    def asked(self) -> int:
        """The number of photos that were asked for."""
        return len(self._at_hand)

    @property
    def at_hand(self) -> int:
        """The number of these whose file could be read."""
        return sum(self._at_hand.values())

    def read(self, photo: ReferencePhoto | None) -> bytes | None:
        """Return the bytes of a photo's file, or None if it is gone or now holds another photo."""
        if photo is None:
            return None
        data = read_same_photo(photo)
        self._at_hand[photo] = data is not None
        return data


def read_same_photo(photo: ReferencePhoto) -> bytes | None:
    """Read the file of a photo; return None if it is gone or its bytes have changed."""
    if photo.file is None:
        return None
    try:
        data = read_bytes(photo.file)
    except PhotoError:
        return None
    return data if photo.content_hash in ("", content_hash(data)) else None


def printable(path: Path | str) -> str:
    """Return a path as text; bytes that are not UTF-8 become backslash escapes."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")
