"""A folder of pictures, one per photo, under names that every system accepts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from PIL import Image

from obelisk.errors import UsageError, near_names
from obelisk.files import replace_file
from obelisk.photos import OWN_PICTURE_SUFFIX

DEVICE = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9¹²³]", re.IGNORECASE)  # on Windows, whatever follows a dot
# How Pillow writes each format. Encoding a PNG takes three times as long as all the rest of a picture.
PICTURE_FORMATS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "jpg": {"format": "JPEG", "quality": 88},
        "webp": {"format": "WEBP", "quality": 82, "method": 0},
        "png": {"format": "PNG"},
    }
)
LONGEST = 120  # bytes of a name before the suffix; file systems take 255 in all


class PictureFolder:
    """Saves one picture per photo, named after the photo, and numbered if several photos share a name.

    ``kind`` is one of :data:`PICTURE_FORMATS`. The folder is made if it does not exist. Raises
    :class:`~obelisk.errors.UsageError` if it can't be, and for another format.
    """

    def __init__(self, path: Path, kind: str = "jpg") -> None:
        if kind not in PICTURE_FORMATS:
            fix = near_names(kind, PICTURE_FORMATS) or f"choose one of {', '.join(PICTURE_FORMATS)}"
            raise UsageError(f"unknown format of pictures `{kind}`", fix=fix)
        self.path = path
        self._kind = kind
        self._taken: set[str] = set()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"the folder for pictures cannot be made: {error.strerror}"
            raise UsageError(what, where=path, fix="give another folder") from error

    def save(self, photo: str, picture: Image.Image) -> Path:
        """Save the picture of a photo, whole or not at all, and return its path."""
        return self.write(self.reserve(photo), picture)

    def write(self, path: Path, picture: Image.Image) -> Path:
        """Write a picture to a path of :meth:`reserve`, whole or not at all, and return the path."""
        return replace_file(path, lambda partial: picture.save(partial, **PICTURE_FORMATS[self._kind]), synced=False)

    def reserve(self, photo: str) -> Path:
        """Return the path for the picture of a photo, which no other picture of this folder will get."""
        stem = make_safe(Path(photo).stem)
        name, number = stem, 1
        # Some file systems take a and A for the same name.
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name.casefold())
        return self.path / f"{name}{OWN_PICTURE_SUFFIX}.{self._kind}"


def make_safe(stem: str) -> str:
    """Keep letters and digits of any script, replace the rest by ``_``: a name that every operating system takes.

    It is neither hidden, nor too long, nor the name of a device.
    """
    plain = unicodedata.normalize("NFC", stem)
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in plain).lstrip(".")
    safe = safe.encode()[:LONGEST].decode(errors="ignore")
    return f"_{safe}" if DEVICE.fullmatch(safe.partition(".")[0]) else safe or "photo"
