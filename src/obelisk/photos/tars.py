"""Photos read from tars in place: GLDv2 comes as 500 tars of some 8,000 photos, which need not be unpacked.

A photo inside a tar has the path ``train/images_000.tar/0/0/0/000….jpg``, as if the tar were a folder. Where each
photo lies in its tar is found by one pass over it and kept beside it, for as long as the tar stays the same.
"""

from __future__ import annotations

import contextlib
import re
import tarfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from obelisk.errors import DataError
from obelisk.files import replace_file

MAX_BYTES = 128 * 2**20
TAR_NAME = re.compile(r"images_\d+\.tar")
KEPT_TABLES = 1024  # more than GLDv2 has tars; one is about 300 KB
# a/b/c/abc….jpg, as GLDv2 has them.
PHOTO_PATH = re.compile(r"(?:\./)?(([0-9a-f])/([0-9a-f])/([0-9a-f])/(\2\3\4[0-9a-f]*)\.jpg)")
# A tar ends with two empty blocks.
END = bytes(2 * 512)
CHUNK = 2**20
# What tarfile lets through of headers that contradict themselves, name absurd sizes, or lead into each other.
UNREADABLE = (tarfile.TarError, ValueError, LookupError, OverflowError, MemoryError, RecursionError)


@dataclass(frozen=True, kw_only=True)
class TarredPhoto:
    """A photo inside a tar: its id, its path from the split's folder, and where its bytes lie."""

    image_id: str
    path: str
    offset: int
    bytes: int


def list_tarred_photos(tar: Path) -> list[TarredPhoto]:
    """List the photos of a tar; whatever else is in it is passed over.

    Raises DataError for a tar that cannot be read to its end, that holds an absolute path, one with ``..`` or a
    link, or that holds no photo.
    """
    members: list[TarredPhoto] = []
    try:
        with tarfile.open(tar, "r:") as opened:
            for entry in opened:
                refuse_unsafe(entry, tar)
                found = PHOTO_PATH.fullmatch(entry.name)
                if found and entry.isreg() and entry.size <= MAX_BYTES:
                    members.append(
                        TarredPhoto(image_id=found[5], path=found[1], offset=entry.offset_data, bytes=entry.size)
                    )
            end = opened.offset
    except UNREADABLE as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"the tar cannot be read: {reason}", where=tar, fix="fetch it again") from error
    refuse_broken_off(tar, end)
    if not members:
        raise DataError("the tar holds no photo a/b/c/abc….jpg", where=tar)
    return members


def refuse_unsafe(entry: tarfile.TarInfo, tar: Path) -> None:
    """Raise DataError for an entry that would reach out of the folder it is unpacked into."""
    path = PurePosixPath(entry.name)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.name or ":" in entry.name:
        raise DataError(f"the tar holds the path `{entry.name}`; it was not used", where=tar)
    if entry.size < 0:
        raise DataError(f"the tar holds `{entry.name}` of {entry.size:,} bytes; it was not used", where=tar)
    if not (entry.isreg() or entry.isdir()) or entry.issparse():
        kind = "link" if entry.issym() or entry.islnk() else "special file"
        raise DataError(f"the tar holds the {kind} `{entry.name}`; it was not used", where=tar)


def refuse_broken_off(tar: Path, end: int) -> None:
    """Raise DataError for a tar without empty blocks from ``end`` on, where its last entry ends, or with others there.

    ``tarfile`` takes a damaged header, or one empty block, for the end of the tar, and is silent about the rest.
    """
    if tar.stat().st_size < end + len(END):
        raise DataError("the tar ends too early; it was not used", where=tar, fix="fetch it again")
    with tar.open("rb") as file:
        file.seek(end)
        while chunk := file.read(CHUNK):
            if chunk.count(0) < len(chunk):
                what = f"the tar cannot be read to its end: no sound header at byte {end:,}; it was not used"
                raise DataError(what, where=tar, fix="fetch it again")


def tarred_photo_table(tar: Path) -> NDArray[np.void]:
    """Return where the photos of a tar lie: rows (path, offset, bytes) sorted by path, paths as ASCII bytes.

    What was found once is read again from a hidden file beside the tar, which is made where it can be.
    Raises DataError for a tar that :func:`list_tarred_photos` refuses.
    """
    try:
        found = tar.stat()
    except OSError as error:
        raise DataError(f"the tar cannot be read: {error.strerror}", where=tar) from error
    return _read_table(tar, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=KEPT_TABLES)
def _read_table(tar: Path, size: int, modified: int) -> NDArray[np.void]:
    kept = tar.with_name(f".{tar.name}.{size}-{modified}.npy")
    try:
        table: NDArray[np.void] = np.load(kept, allow_pickle=False)
        if table.dtype.names == ("path", "offset", "bytes"):
            return table
    except (OSError, ValueError, EOFError):
        pass  # not made yet, or not whole
    rows = [(member.path.encode(), member.offset, member.bytes) for member in list_tarred_photos(tar)]
    longest = max(len(path) for path, _, _ in rows)
    table = np.array(rows, dtype=[("path", f"S{longest}"), ("offset", np.int64), ("bytes", np.int64)])
    table.sort(order="path")
    keep_table(table, kept)
    return table


def keep_table(table: NDArray[np.void], path: Path) -> None:
    """Write a table beside its tar, whole or not at all; where nothing can be, the tar is read again next time."""

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            np.save(file, table, allow_pickle=False)

    with contextlib.suppress(OSError):
        replace_file(path, write)


def split_at_tar(path: Path) -> tuple[Path, bytes] | None:
    """Return the tar that a path goes through and the path inside it; None for one that goes through no tar."""
    for depth, folder in enumerate(path.parents):
        if TAR_NAME.fullmatch(folder.name) and folder.is_file():
            return folder, "/".join(path.parts[-depth - 1 :]).encode()
    return None


def find_in_tar(path: Path) -> tuple[Path, int, int] | None:
    """Return the tar, offset and length in bytes of a photo inside it; None where there is no such photo.

    Raises DataError for a tar that cannot be used.
    """
    if (inside := split_at_tar(path)) is None:
        return None
    tar, name = inside
    table = tarred_photo_table(tar)
    place = int(np.searchsorted(table["path"], name))
    if place == len(table) or table["path"][place] != name:
        return None
    return tar, int(table["offset"][place]), int(table["bytes"][place])
