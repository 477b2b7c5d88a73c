"""Taking photos out of tars; each appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Container
from pathlib import Path

from obelisk.errors import PhotoError
from obelisk.files import naming_full_disk
from obelisk.photos import shrink_photo
from obelisk.photos.tars import TarredPhoto


def extract_photos(
    tar: Path,
    members: list[TarredPhoto],
    folder: Path,
    *,
    wanted: Container[str] | None = None,
    max_side: int | None = None,
    pause: Callable[[], None] = lambda: None,
) -> list[str]:
    """Write the photos of a tar, or the wanted ones of them, into a split's folder; each appears whole or not at all.

    A photo that cannot be shrunk is kept as it is. ``pause`` is called before each and may raise to stop.
    Returns what could not be shrunk, in words.
    """
    odd: list[str] = []
    with tar.open("rb") as file:
        for member in members:
            pause()
            if wanted is not None and member.image_id not in wanted:
                continue
            file.seek(member.offset)
            data, remark = fit_photo(file.read(member.bytes), max_side)
            if remark:
                odd.append(f"{folder.name}/{member.path}: {remark}; kept as it is")
            place_photo(data, folder / member.path)
    # One order to write everything down costs less than one for each of 8,000 photos.
    os.sync()
    return odd


def fit_photo(data: bytes, max_side: int | None) -> tuple[bytes, str | None]:
    """Return a photo shrunk to ``max_side``, and why it could not be, if so."""
    if max_side is None:
        return data, None
    try:
        return shrink_photo(data, max_side), None
    except PhotoError as error:
        return data, error.what


def place_photo(data: bytes, path: Path, *, sync: bool = False) -> None:
    """Write a photo's file, whole or not at all; with ``sync`` it is on the disk afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with naming_full_disk(path), partial.open("wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
