"""What a photo's header says, read before any decoder sees the file.

Pillow's decoders parse metadata that Obelisk has no use for, and may warn, allocate or fail on it. So the few facts
that matter are parsed here and in the readers beside, within bounds and without trust, and files are stripped down to
what holds pixels.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import IO, TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PhotoFormat = Literal["JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP", "AVIF", "HEIC"]
Piece = bytes | memoryview


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a header says about a photo.

    ``pieces`` are the file without the metadata that no decoder needs. ``size`` is (width, height) before the
    ``orientation`` (Exif, 1 to 8) is applied, or None if the header is damaged. ``held`` counts the bytes that the
    decoder keeps beside the decoded pixels, however small it decodes the photo: all coefficients of a progressive
    JPEG, the largest strip of a TIFF. ``exif`` are the Exif blocks.
    """

    format: PhotoFormat
    pieces: tuple[Piece, ...]
    size: tuple[int, int] | None = None
    orientation: int = 1
    held: int = 0
    exif: tuple[Piece, ...] = ()

    def open(self) -> IO[bytes]:
        """Open the pieces as one file, without copying them."""
        if len(self.pieces) == 1 and isinstance(self.pieces[0], bytes):
            return io.BytesIO(self.pieces[0])
        return cast("IO[bytes]", io.BufferedReader(SplicedFile(self.pieces)))


class SplicedFile(io.RawIOBase):
    """A read-only file that consists of pieces of other files."""

    def __init__(self, pieces: tuple[Piece, ...]) -> None:
        self._pieces = [memoryview(piece) for piece in pieces]
        self._ends = list(accumulate(map(len, self._pieces)))
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position in the whole file; return it."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ends[-1]}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read at most up to the end of a piece; return the number of bytes, 0 at the end of the file."""
        index = bisect_right(self._ends, self._position)
        if index == len(self._ends):
            return 0
        target = memoryview(buffer).cast("B")
        rest = self._pieces[index][self._position - self._ends[index] :]
        count = min(len(target), len(rest))
        target[:count] = rest[:count]
        self._position += count
        return count
