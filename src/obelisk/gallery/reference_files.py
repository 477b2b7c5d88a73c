"""The files of reference photos: reading those that are at hand, and counting how many are."""

from __future__ import annotations

import os
from pathlib import Path

from obelisk.errors import PhotoError
from obelisk.gallery.schema import ReferencePhoto
from obelisk.photos import content_hash, read_bytes

Signature = tuple[int, int, int]


class ReferenceFiles:
    """Reads the files of a gallery's reference photos, and remembers which of them were at hand.

    Threads may share one object.
    """

    def __init__(self) -> None:
        self._read: dict[ReferencePhoto, Signature | None] = {}

    @property
    def asked(self) -> int:
        """The number of photos that were asked for."""
        return len(self._read)

    @property
    def at_hand(self) -> int:
        """The number of these whose file could be read."""
        return sum(signature is not None for signature in self._read.values())

    def read(self, photo: ReferencePhoto | None) -> bytes | None:
        """Return the bytes of a photo's file, or None if it is gone or now holds another photo."""
        if photo is None:
            return None
        before = sign_file(photo)
        data = read_same_photo(photo)
        self._read[photo] = None if data is None else before
        return data

    def is_unchanged(self, photo: ReferencePhoto) -> bool:
        """Return whether a photo's file was read before, and was not written to since."""
        before = self._read.get(photo)
        return before is not None and sign_file(photo) == before


def sign_file(photo: ReferencePhoto) -> Signature | None:
    """Return (inode, size, time) of a photo's file, which changes when it is written to or replaced."""
    try:
        found = photo.file.stat() if photo.file else None
    except OSError:
        return None
    return found and (found.st_ino, found.st_size, found.st_mtime_ns)


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
