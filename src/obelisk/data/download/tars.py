"""Photos inside tars: where they lie, and taking them out without trusting a name in it."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from obelisk.errors import DownloadError, PhotoError
from obelisk.photos import shrink_photo
from obelisk.photos.files import MAX_BYTES

# a/b/c/abc….jpg, as GLDv2 has them.
PHOTO_PATH = re.compile(r"(?:\./)?(([0-9a-f])/([0-9a-f])/([0-9a-f])/(\2\3\4[0-9a-f]*)\.jpg)")
# A tar ends with two empty blocks.
END = bytes(2 * 512)


@dataclass(frozen=True, kw_only=True)
class Member:
    """A photo inside a tar: its id, its path from the split's folder, and where its bytes lie."""

    image_id: str
    path: str
    offset: int
    bytes: int


def read_members(tar: Path) -> list[Member]:
    """List the photos of a tar; whatever else is in it is passed over.

    Raises DownloadError for a tar that cannot be read to its end, that holds an absolute path, one with ``..`` or a
    link, or that holds no photo.
    """
    members: list[Member] = []
    try:
        with tarfile.open(tar, "r:") as opened:
            for entry in opened:
                refuse_unsafe(entry, tar)
                found = PHOTO_PATH.fullmatch(entry.name)
                if found and entry.isreg() and entry.size <= MAX_BYTES:
                    members.append(Member(image_id=found[5], path=found[1], offset=entry.offset_data, bytes=entry.size))
    except tarfile.TarError as error:
        raise DownloadError(f"the tar cannot be read: {error}", where=tar, fix="fetch it again") from error
    if not members:
        raise DownloadError("the tar holds no photo a/b/c/abc….jpg", where=tar)
    refuse_truncated(tar, members[-1])
    return members


def refuse_unsafe(entry: tarfile.TarInfo, tar: Path) -> None:
    """Raise DownloadError for an entry that would reach out of the folder it is unpacked into."""
    path = PurePosixPath(entry.name)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.name or ":" in entry.name:
        raise DownloadError(f"the tar holds the path `{entry.name}`, nothing was unpacked", where=tar)
    if not (entry.isreg() or entry.isdir()) or entry.issparse():
        kind = "link" if entry.issym() or entry.islnk() else "special file"
        raise DownloadError(f"the tar holds the {kind} `{entry.name}`, nothing was unpacked", where=tar)


def refuse_truncated(tar: Path, last: Member) -> None:
    """Raise DownloadError for a tar without the empty blocks at its end."""
    size = tar.stat().st_size
    with tar.open("rb") as file:
        file.seek(max(0, size - len(END)))
        ending = file.read()
    if size < last.offset + last.bytes + len(END) or ending != END:
        raise DownloadError("the tar ends too early, nothing was unpacked", where=tar, fix="fetch it again")


def extract_photos(
    tar: Path,
    members: list[Member],
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
        with partial.open("wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
