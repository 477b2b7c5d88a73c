"""Read the first page of a TIFF: TIFF 6.

Decoders get a directory of our own making, which holds what pixels need: theirs would read every field.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from obelisk.errors import PhotoFormatError, PhotoTooLargeError, PhotoTruncatedError
from obelisk.photos.headers import Header
from obelisk.photos.limits import MAX_PIXELS, refuse_above
from obelisk.photos.orientation import find_orientation

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, PLANAR = 273, 277, 278, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES, SAMPLE_FORMAT, XMP = 322, 323, 324, 325, 339, 700
FILL_ORDER, PREDICTOR, COLOR_MAP, EXTRA_SAMPLES, JPEG_TABLES, SUBSAMPLING, BLACK_WHITE = (
    266,
    317,
    320,
    338,
    347,
    530,
    532,
)
KEPT = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, PLANAR}
    | {TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES, SAMPLE_FORMAT, FILL_ORDER, PREDICTOR, COLOR_MAP}
    | {EXTRA_SAMPLES, JPEG_TABLES, SUBSAMPLING, BLACK_WHITE}
)
COMPRESSIONS = {1: "none", 5: "LZW", 7: "JPEG", 8: "deflate", 32773: "PackBits", 32946: "deflate"}
UNCOMPRESSED, JPEG = 1, 7
WHITE_IS_ZERO = 0
COLORS = frozenset({WHITE_IS_ZERO, 1, 2, 3, 5, 6})  # gray, RGB, palette, CMYK, YCbCr
MAX_ENTRIES = 512  # of a directory
MAX_STRIPS = 32_768
MAX_VALUE = 4 * MAX_STRIPS  # bytes of a field
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I"}


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of a TIFF's directory: its type, and its value as it stands in the file."""

    kind: int
    value: bytes

    def numbers(self, order: str) -> tuple[int, ...]:
        """Return the field's whole numbers; none if it holds anything else."""
        if self.kind not in _INTEGERS:
            return ()
        return struct.unpack(f"{order}{len(self.value) // _SIZES[self.kind]}{_INTEGERS[self.kind]}", self.value)


def read_tiff_header(data: bytes) -> Header:
    """Read a TIFF's first directory; raise PhotoFormatError for a kind of TIFF that is not accepted."""
    order = "<" if data[:2] == b"II" else ">"
    fields = read_directory(data, order)

    def first(tag: int, default: int) -> int:
        return next(iter(fields[tag].numbers(order)), default) if tag in fields else default

    size = first(WIDTH, 0), first(HEIGHT, 0)
    refuse_above(size, MAX_PIXELS)
    check_kind(fields, order, first(COMPRESSION, UNCOMPRESSED), first(PHOTOMETRIC, WHITE_IS_ZERO))
    samples, planes = max(1, first(SAMPLES, 1)), first(PLANAR, 1)
    across, down = size[0], min(size[1], first(ROWS_PER_STRIP, size[1]))
    if TILE_OFFSETS in fields:
        across, down = first(TILE_WIDTH, 0), first(TILE_HEIGHT, 0)
    if min(across, down, *size) < 1:
        raise PhotoTruncatedError("a damaged TIFF photo: its size, or that of its strips, is missing")
    refuse_above((across, down), MAX_PIXELS)
    strips = math.ceil(size[0] / across) * math.ceil(size[1] / down) * (samples if planes == 2 else 1)
    if strips > MAX_STRIPS:
        raise PhotoTooLargeError(f"a TIFF of {strips:,} strips or tiles, more than {MAX_STRIPS:,}")
    depth = first(BITS, 8) // 8 * samples
    held = 0
    if first(COMPRESSION, UNCOMPRESSED) != UNCOMPRESSED:
        held = across * down * (max(4, depth) + (6 if first(COMPRESSION, 0) == JPEG else 0))
    start = len(data) + len(data) % 2
    directory = write_directory({tag: field for tag, field in fields.items() if tag in KEPT}, order, start)
    head = data[:2] + struct.pack(f"{order}HI", 42, start)
    exif = (memoryview(data)[: 2**32],)
    xmp = [fields[XMP].value] if XMP in fields else []
    return Header(
        format="TIFF",
        pieces=(head, memoryview(data)[8:], bytes(len(data) % 2), directory),
        size=size,
        orientation=find_orientation(exif, xmp),
        held=held,
        exif=exif,
    )


def read_directory(data: bytes, order: str) -> dict[int, Field]:
    """Read the fields of a TIFF's first directory that lie within the file."""
    fields: dict[int, Field] = {}
    (directory,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, directory)
    for at in range(directory + 2, directory + 2 + 12 * min(entries, MAX_ENTRIES), 12):
        tag, kind, count, offset = struct.unpack_from(f"{order}HHII", data, at)
        size = count * _SIZES.get(kind, 0)
        if tag not in KEPT and tag != XMP:
            continue
        if size > MAX_VALUE:
            if tag in (STRIP_OFFSETS, TILE_OFFSETS):
                raise PhotoTooLargeError(f"a TIFF of {count:,} strips or tiles, more than {MAX_STRIPS:,}")
            continue
        value = data[at + 8 : at + 8 + size] if size <= 4 else data[offset : offset + size]
        if 0 < size == len(value):
            fields[tag] = Field(kind=kind, value=value)
    return fields


def write_directory(fields: dict[int, Field], order: str, start: int) -> bytes:
    """Return a TIFF directory of these fields, to be written at ``start``, with their values behind it."""
    entries, values = [struct.pack(f"{order}H", len(fields))], b""
    behind = start + 2 + 12 * len(fields) + 4
    for tag in sorted(fields):
        field = fields[tag]
        count = len(field.value) // _SIZES[field.kind]
        if len(field.value) <= 4:
            short = field.value.ljust(4, b"\0")
        else:
            short = struct.pack(f"{order}I", behind + len(values))
            values += field.value + bytes(len(field.value) % 2)
        entries.append(struct.pack(f"{order}HHI", tag, field.kind, count) + short)
    return b"".join([*entries, bytes(4), values])


def check_kind(fields: dict[int, Field], order: str, compression: int, colors: int) -> None:
    """Raise PhotoFormatError for a compression, colors or samples that are not accepted."""
    if STRIP_OFFSETS not in fields and TILE_OFFSETS not in fields:
        raise PhotoTruncatedError("a damaged TIFF photo: nothing says where its pixels are")
    if compression not in COMPRESSIONS:
        known = ", ".join(sorted(set(COMPRESSIONS.values()), key=str.lower))
        raise PhotoFormatError(f"a TIFF with compression {compression}; accepted are {known}", fix="save it as JPEG")
    bits = fields[BITS].numbers(order) if BITS in fields else (1,)
    kinds = fields[SAMPLE_FORMAT].numbers(order) if SAMPLE_FORMAT in fields else (1,)
    if colors not in COLORS or (colors == WHITE_IS_ZERO and 16 in bits):
        raise PhotoFormatError(f"a TIFF with colors of kind {colors}", fix="save it as JPEG")
    if set(bits) not in ({8}, {16}) or set(kinds) != {1}:
        called = " and ".join(f"{count}" for count in sorted(set(bits)))
        kind = "" if set(kinds) == {1} else ", not whole numbers"
        raise PhotoFormatError(
            f"a TIFF of {called} bits a sample{kind}; accepted are 8 and 16 bits", fix="save it as JPEG"
        )
