"""``index/search.index``: an :class:`IvfPqIndex` on disk. The layout is described in docs/gallery-format.md.

The file is a cache: if it cannot be trusted, it is made again. It holds plain arrays, whose sizes follow from its
header, and ends with a checksum of everything before. Nothing in it is executed or returned to a caller; it only
chooses the rows whose similarities are computed.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import weakref
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from obelisk.errors import GalleryError
from obelisk.files import sync_to_disk
from obelisk.gallery.ann.build_index import LARGEST_DEPTH, WIDEST_MARGIN, coded_width, list_count, values_per_code
from obelisk.gallery.ann.ivfpq import CODES, FINGERPRINT_ROWS, IvfPqIndex
from obelisk.gallery.columns import MAX_DIMENSIONS

INDEX = Path("index", "search.index")
MAGIC = b"obelisk search index 2\n"
CHECKSUM = 4  # bytes at the end of the file: CRC-32, little-endian
LONGEST_HEADER = 1000  # bytes
LARGEST_NUMBER = 1 << 40
ROWS_AT_ONCE = 1 << 12
MOST_REMOVED = 16  # times the rows left; with more removed, an index is made anew
PARTIAL = ".partial"
NUMBERS = ("dimensions", "width", "lists", "subvectors", "rows", "witnesses", "probes", "depth", "measured")
MARGIN = "margin"

Header = Mapping[str, Any]
"""Maps :data:`NUMBERS` to int and :data:`MARGIN` to float."""


def layout_of(header: Header) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the type and shape of each array, a field of the index, in the order of the file."""
    L, P, M, N, W, D = (header[name] for name in ("lists", "width", "subvectors", "rows", "witnesses", "dimensions"))
    return {
        "centroids": ("<f4", (L, P)),
        "codebooks": ("<f4", (M, CODES, P // M)),
        "sizes": ("<i8", (L,)),
        "rows": ("<i8", (N,)),
        "codes": ("|u1", (N, M // 2)),
        "fingerprint_rows": ("<i8", (W,)),
        "fingerprint_vectors": ("<f2", (W, D)),
    }


def header_of(index: IvfPqIndex) -> Header:
    """Return the header of an index: the numbers that give the sizes of its arrays, and those of the search."""
    lists, width = index.centroids.shape
    counts = (index.dimensions, width, lists, len(index.codebooks), len(index.rows), len(index.fingerprint_rows))
    numbers = zip(NUMBERS, (*counts, index.probes, index.depth, index.measured), strict=True)
    return {**dict(numbers), MARGIN: index.margin}


def write_index(path: Path, index: IvfPqIndex) -> None:
    """Write an index, replacing the old one; the file appears complete or not at all.

    The caller holds the lock, so what unfinished builds left can be removed.
    """
    for left in path.parent.glob(f"*{PARTIAL}"):
        left.unlink()
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PARTIAL}")
    try:
        with partial.open("xb") as file:
            header = header_of(index)
            start = MAGIC + json.dumps(header).encode() + b"\n"
            file.write(start)
            checksum = zlib.crc32(start)
            for part in arrays_of(index, header):
                checksum = zlib.crc32(part, checksum)
                file.write(part)
            file.write(checksum.to_bytes(CHECKSUM, "little"))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    sync_to_disk(path.parent)


def arrays_of(index: IvfPqIndex, header: Header) -> list[memoryview]:
    """Return the arrays of an index as the file holds them."""
    return [np.ascontiguousarray(getattr(index, name)[:], dtype).data for name, (dtype, _) in layout_of(header).items()]


def read_index(path: Path, *, dimensions: int, most_rows: int) -> IvfPqIndex | None:
    """Return the index of embeddings (N, D), N ≤ ``most_rows``, in a file; None if there is none that can be trusted.

    Its codes stay in the file, see :class:`CodesInFile`.
    """
    with contextlib.suppress(OSError, ValueError, GalleryError), contextlib.ExitStack() as opened:
        if not path.is_file():
            return None
        file = opened.enter_context(path.open("rb"))
        start = file.read(len(MAGIC)) + file.readline(LONGEST_HEADER)
        header = parse_header(start)
        if (
            not header
            or header["dimensions"] != dimensions
            or max(header["rows"], header["measured"] // MOST_REMOVED) > most_rows
        ):
            return None
        if len(start) + body_size(header) + CHECKSUM != os.fstat(file.fileno()).st_size:
            return None
        arrays, checksum = read_arrays(file, header, zlib.crc32(start))
        numbers = {name: header[name] for name in ("dimensions", "probes", "depth", "margin", "measured")}
        index = IvfPqIndex(**numbers | arrays)
        if checksum == int.from_bytes(file.read(), "little") and is_sound(index):
            opened.pop_all()  # the codes keep the file open
            return index
    return None


def read_arrays(file: BinaryIO, header: Header, checksum: int) -> tuple[dict[str, Any], int]:
    """Return the arrays of an index, and the ``checksum`` of what came before continued over them.

    Raises ValueError or :class:`GalleryError` if the file ends too early.
    """
    arrays: dict[str, Any] = {}
    for name, (dtype, shape) in layout_of(header).items():
        if name == "codes":
            codes = CodesInFile(file, shape)
            for start in range(0, shape[0], ROWS_AT_ONCE):
                checksum = zlib.crc32(codes[start : start + ROWS_AT_ONCE].data, checksum)
            arrays[name] = codes
        else:
            arrays[name] = np.fromfile(file, dtype, math.prod(shape)).reshape(shape)
            checksum = zlib.crc32(arrays[name].data, checksum)
    return arrays, checksum


class CodesInFile:
    """The codes (N, M/2) of an index, from the current position of its file on, read on demand.

    Allocating memory for all of them at once takes longer than reading them. Not for several threads at a time.
    """

    def __init__(self, file: BinaryIO, shape: tuple[int, ...]) -> None:
        self._file, self._start, self._shape = file, file.tell(), shape
        weakref.finalize(self, file.close)

    def __getitem__(self, part: slice) -> NDArray[np.uint8]:
        """Return the codes of consecutive rows; raises :class:`GalleryError` if the file has become too short."""
        rows, width = self._shape
        first, end, _ = part.indices(rows)
        self._file.seek(self._start + first * width)
        codes = np.fromfile(self._file, np.uint8, (end - first) * width)
        if len(codes) < (end - first) * width:
            what = "the search index was cut short while it was read"
            raise GalleryError(what, where=self._file.name, fix="try again")
        return codes.reshape(end - first, width)


def parse_header(start: bytes) -> Header | None:
    """Parse the start of a file; None if it is not a usable header of an index."""
    if not start.startswith(MAGIC):
        return None
    try:
        header = json.loads(start[len(MAGIC) :])
    except (ValueError, RecursionError):
        return None
    if not isinstance(header, dict) or set(header) != {*NUMBERS, MARGIN}:
        return None
    if not all(type(header[name]) is int and 0 <= header[name] <= LARGEST_NUMBER for name in NUMBERS):
        return None
    if type(header[MARGIN]) is not float or not 0 <= header[MARGIN] <= WIDEST_MARGIN:
        return None
    # All other numbers follow from D, and from N when the index was made: nothing else needs memory or time.
    dimensions, measured = header["dimensions"], header["measured"]
    if not (0 < dimensions <= MAX_DIMENSIONS and measured > 0 and 0 < header["witnesses"] <= header["rows"]):
        return None
    width = coded_width(dimensions)
    fits = (header["width"], header["subvectors"]) == (width, width // values_per_code(dimensions))
    fits &= header["lists"] == list_count(measured) and header["witnesses"] <= FINGERPRINT_ROWS
    usable = 1 <= header["probes"] <= header["lists"] and 1 <= header["depth"] <= LARGEST_DEPTH
    return header if fits and usable else None


def body_size(header: Header) -> int:
    """Return the number of bytes of all arrays."""
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in layout_of(header).values())


def is_sound(index: IvfPqIndex) -> bool:
    """Return whether a search with these arrays terminates, and never names a row twice."""
    finite = np.isfinite(index.codebooks).all() and (np.abs(index.centroids) < 1.01).all()  # unit norm
    N = len(index.rows)
    whole = ((index.sizes >= 0) & (index.sizes <= N)).all() and index.sizes.sum() == N
    different = (np.diff(np.sort(index.rows)) > 0).all() and (np.diff(index.fingerprint_rows) > 0).all()
    return bool(finite and whole and different)
