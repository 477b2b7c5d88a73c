"""Read photos from tars in place: GLDv2 comes as 500 tars of some 8,000 photos each, which need not be unpacked.

A photo inside a tar has the path ``train/images_000.tar/0/0/0/000….jpg``, as if the tar were a folder. One pass over
a tar finds the offsets of its photos; they are saved beside the tar, and used until it changes.
"""

from __future__ import annotations

import contextlib
import re
import stat
import tarfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from obelisk.errors import DataError
from obelisk.files import read_limited, replace_file
from obelisk.npy import parse_npy
from obelisk.photos.limits import MAX_BYTES

TAR_NAME = re.compile(r"images_\d+\.tar")
CACHED_TABLES = 1024  # more than GLDv2 has tars; one is about 300 KB
# GLDv2's own paths: a/b/c/abc….jpg.
PHOTO_PATH = re.compile(r"(?:\./)?(([0-9a-f])/([0-9a-f])/([0-9a-f])/(\2\3\4[0-9a-f]*)\.jpg)")
# A tar ends with two empty blocks.
END = bytes(2 * 512)
CHUNK = 2**20
MAX_ENTRIES = 50_000  # GLDv2's tars have 12,000, folders included
MAX_HEADER = 2**16  # bytes that a header may take, with long names and pax records
MAX_HEADERS = 2**26  # bytes that all headers of a tar may take
MAX_PADDING = 2**26  # bytes of zeros at the end
MAX_PATH = 200
LARGEST_TABLE = 2**24  # bytes of a saved table; GLDv2's largest has 600 KB
# tarfile of Python 3.11 takes quadratic time for a run of digits (CVE-2024-6232).
MANY_DIGITS = re.compile(rb"\d{100}")
# What tarfile raises on headers that contradict themselves, state absurd sizes, or point at each other.
UNREADABLE = (tarfile.TarError, ValueError, LookupError, OverflowError, MemoryError, RecursionError)


class HeaderFile:
    """An open tar of which only headers are read: tarfile reads as much for one as the tar claims that it takes."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell = file.seek, file.tell
        self._file = file
        self._left = MAX_HEADERS

    def read(self, size: int) -> bytes:
        """Read bytes of a header; raises tarfile.ReadError beyond the limits."""
        self._left -= size
        if not 0 <= size <= MAX_HEADER or self._left < 0:
            raise tarfile.ReadError(f"a header takes {size:,} bytes, or all of them more than {MAX_HEADERS:,}")
        content = self._file.read(size)
        if MANY_DIGITS.search(content):
            raise tarfile.ReadError("a header with a number of more than 100 digits")
        return content


@dataclass(frozen=True, kw_only=True)
class TarredPhoto:
    """A photo inside a tar: its id, its path below the split's folder, the offset and number of its bytes."""

    image_id: str
    path: str
    offset: int
    bytes: int


def list_tarred_photos(tar: Path) -> list[TarredPhoto]:
    """List the photos of a tar; other files are skipped.

    Raises DataError for a tar that cannot be read to its end, that holds a link, an absolute path or one with ``..``,
    or that holds no photo.
    """
    photos: list[TarredPhoto] = []
    try:
        with tar.open("rb") as file, tarfile.open(fileobj=cast("BinaryIO", HeaderFile(file)), mode="r:") as opened:
            for number, entry in enumerate(opened):
                refuse_unsafe(entry, tar)
                if number >= MAX_ENTRIES:
                    raise DataError(f"the tar holds more than {MAX_ENTRIES:,} files; it was not used", where=tar)
                found = PHOTO_PATH.fullmatch(entry.name)
                if found and entry.isreg() and entry.size <= MAX_BYTES and len(found[1]) <= MAX_PATH:
                    photos.append(
                        TarredPhoto(image_id=found[5], path=found[1], offset=entry.offset_data, bytes=entry.size)
                    )
            end = opened.offset
    except UNREADABLE as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"the tar cannot be read: {reason}", where=tar, fix="fetch it again") from error
    except OSError as error:
        # Also for a size of an entry that lies beyond what a file can have.
        raise DataError(f"the tar cannot be read: {error.strerror}", where=tar, fix="fetch it again") from error
    refuse_truncated_tar(tar, end)
    if not photos:
        raise DataError("the tar holds no photo a/b/c/abc….jpg", where=tar)
    return photos


def refuse_unsafe(entry: tarfile.TarInfo, tar: Path) -> None:
    """Raise DataError for an entry that could reach outside the folder it is unpacked into."""
    path = PurePosixPath(entry.name)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.name or ":" in entry.name:
        raise DataError(f"the tar holds the path `{entry.name}`; it was not used", where=tar)
    if entry.size < 0:
        raise DataError(f"the tar holds `{entry.name}` of {entry.size:,} bytes; it was not used", where=tar)
    if not (entry.isreg() or entry.isdir()) or entry.issparse():
        kind = "link" if entry.issym() or entry.islnk() else "special file"
        raise DataError(f"the tar holds the {kind} `{entry.name}`; it was not used", where=tar)


def refuse_truncated_tar(tar: Path, end: int) -> None:
    """Raise DataError unless a tar has empty blocks, and nothing else, from ``end``, where its last entry ends.

    ``tarfile`` takes a damaged header, or a single empty block, for the end of the tar, and ignores the rest.
    """
    padding = tar.stat().st_size - end
    if padding < len(END):
        raise DataError("the tar ends too early; it was not used", where=tar, fix="fetch it again")
    if padding > MAX_PADDING:
        what = f"{padding:,} bytes follow the last file of the tar; it was not used"
        raise DataError(what, where=tar, fix="fetch it again")
    with tar.open("rb") as file:
        file.seek(end)
        while chunk := file.read(CHUNK):
            if chunk.count(0) < len(chunk):
                what = f"the tar cannot be read to its end: no sound header at byte {end:,}; it was not used"
                raise DataError(what, where=tar, fix="fetch it again")


def tarred_photo_table(tar: Path) -> NDArray[np.void]:
    """Return the table of a tar's photos: rows (path, offset, bytes) sorted by path, paths as ASCII bytes.

    The table is saved in a hidden file beside the tar, if possible, and read from there the next time. Raises
    DataError for a tar that :func:`list_tarred_photos` refuses.
    """
    try:
        found = tar.stat()
    except OSError as error:
        raise DataError(f"the tar cannot be read: {error.strerror}", where=tar) from error
    if not stat.S_ISREG(found.st_mode):
        raise DataError("not a regular file; it was not used", where=tar, fix="fetch the tar again")
    return _read_table(tar, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=CACHED_TABLES)
def _read_table(tar: Path, size: int, modified: int) -> NDArray[np.void]:
    saved = tar.with_name(f".{tar.name}.{size}-{modified}.npy")
    try:
        table: NDArray[np.void] = parse_npy(read_limited(saved, LARGEST_TABLE))
        if fits_tar(table, size):
            return table
    except (OSError, ValueError):
        pass  # not saved yet, or damaged
    rows = [(photo.path.encode(), photo.offset, photo.bytes) for photo in list_tarred_photos(tar)]
    longest = max(len(path) for path, _, _ in rows)
    table = np.array(rows, dtype=table_type(longest))
    table.sort(order="path")
    save_table(table, saved)
    return table


def table_type(longest: int) -> np.dtype[np.void]:
    """Return the type of a row whose path has up to ``longest`` bytes."""
    return np.dtype([("path", f"S{longest}"), ("offset", np.int64), ("bytes", np.int64)])


def fits_tar(table: NDArray[np.void], size: int) -> bool:
    """Return whether a saved table can be that of a tar of ``size`` bytes: of its type, sorted, within the tar."""
    if table.dtype.names != ("path", "offset", "bytes") or table.ndim != 1 or not 0 < len(table) <= MAX_ENTRIES:
        return False
    longest = table.dtype["path"].itemsize
    if not 0 < longest <= MAX_PATH or table.dtype != table_type(longest):
        return False
    path, offset, length = (table[name] for name in ("path", "offset", "bytes"))
    ascii_only = bool((np.ascontiguousarray(path).view(np.uint8) < 128).all())
    within = (offset >= 0) & (length >= 0) & (length <= MAX_BYTES) & (offset <= size - length)
    return ascii_only and bool((path[:-1] <= path[1:]).all() and within.all())


def save_table(table: NDArray[np.void], path: Path) -> None:
    """Write a table beside its tar; if nothing can be written there, the tar is scanned again the next time."""

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            np.save(file, table, allow_pickle=False)

    with contextlib.suppress(OSError):
        replace_file(path, write)


def split_at_tar(path: Path) -> tuple[Path, bytes] | None:
    """Split a path into a tar and the path inside it; None if it leads into no tar."""
    for depth, folder in enumerate(path.parents):
        if TAR_NAME.fullmatch(folder.name) and folder.is_file():
            return folder, "/".join(path.parts[-depth - 1 :]).encode()
    return None


def find_in_tar(path: Path) -> tuple[Path, int, int] | None:
    """Return (tar, offset, bytes) for the path of a photo inside a tar; None if there is no such photo.

    Raises DataError for a tar that cannot be used.
    """
    if (inside := split_at_tar(path)) is None:
        return None
    tar, name = inside
    table = tarred_photo_table(tar)
    index = int(np.searchsorted(table["path"], name))
    if index == len(table) or table["path"][index] != name:
        return None
    return tar, int(table["offset"][index]), int(table["bytes"][index])
