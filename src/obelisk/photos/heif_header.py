"""Read the boxes of an AVIF or HEIC file: ISO/IEC 14496-12 (boxes) and 23008-12 (HEIF)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from obelisk.errors import PhotoTooLargeError
from obelisk.photos.headers import Header
from obelisk.photos.limits import PartCounter
from obelisk.photos.orientation import UPRIGHT, find_orientation, read_orientation

# Boxes that hold boxes, and how many bytes of their own come first.
_FOLDERS = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0}
_UNREAD_ITEMS = (b"Exif", b"mime")
XMP_TYPE = b"\0application/rdf+xml\0"  # behind the name of an item
LONGEST_NAME = 256
MAX_ITEMS = 4096
LARGEST_LIST = 64 * MAX_ITEMS  # bytes of a box that lists them
# Which of Exif's orientations a rotation by so many quarter turns, and a mirror afterwards, amount to.
_TURNED = (1, 8, 3, 6)
_MIRRORED = {0: (4, 5, 2, 7), 1: (2, 7, 4, 5)}


@dataclass
class Boxes:
    """What the boxes of a file say."""

    sizes: list[tuple[int, int]] = field(default_factory=list)
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    primary: int = 0
    associations: dict[int, list[int]] = field(default_factory=dict)
    unread: list[int] = field(default_factory=list)
    """where the types of items stand that no decoder needs"""
    exif_item: int = 0
    xmp_item: int = 0
    locations: dict[int, tuple[int, int]] = field(default_factory=dict)
    """item → where its content begins and ends, if it lies in one piece of the file"""


def read_avif_header(data: bytes) -> Header:
    """Read an AVIF's size and orientation, and hide its metadata from the decoder.

    A rotation or mirroring decides. By the standard, metadata turns no picture; Pillow goes by XMP where neither the
    picture nor Exif says anything, and so does this.
    """
    boxes = read_boxes(data)
    hidden = bytearray(data) if boxes.unread else data
    for at in boxes.unread:
        hidden[at : at + 4] = b"skip"  # type: ignore[index]
    exif, orientation = find_exif(data, boxes), find_transformation(boxes)
    if orientation == UPRIGHT and all(read_orientation(block) is None for block in exif):
        orientation = find_orientation((), (item_content(data, boxes, boxes.xmp_item),))
    return Header(format="AVIF", pieces=(bytes(hidden),), size=largest_size(boxes), orientation=orientation, exif=exif)


def read_heic_header(data: bytes) -> Header:
    """Read a HEIC's size; its decoder turns the photo upright."""
    boxes = read_boxes(data)
    return Header(format="HEIC", pieces=(data,), size=largest_size(boxes), exif=find_exif(data, boxes))


def largest_size(boxes: Boxes) -> tuple[int, int] | None:
    """Return the size of the largest picture in a file; a grid's is that of the whole."""
    return max(boxes.sizes, key=lambda size: size[0] * size[1], default=None)


def find_transformation(boxes: Boxes) -> int:
    """Return the Exif orientation that the primary item's rotation and mirroring amount to."""
    angle, mirror = 0, None
    for index in boxes.associations.get(boxes.primary, []):
        name, content = boxes.properties[index - 1] if 0 < index <= len(boxes.properties) else (b"", b"")
        if name == b"irot" and content:
            angle = content[0] & 3
        elif name == b"imir" and content:
            mirror = content[0] & 1
    return _TURNED[angle] if mirror is None else _MIRRORED[mirror][angle]


def read_boxes(data: bytes) -> Boxes:
    """Read the boxes of a file; raise PhotoTooLargeError if they are too many, or list too many items."""
    boxes = Boxes()
    for path, start, end in walk_boxes(data, 0, len(data), PartCounter(data, "boxes")):
        name = path[-1]
        content = data[start : min(end, start + 16)]
        if path[-2:-1] == (b"ipco",):
            boxes.properties.append((name, content))
            if name == b"ispe" and len(content) >= 12:
                boxes.sizes.append(struct.unpack_from(">II", content, 4))
        elif name == b"pitm" and len(content) >= 6:
            boxes.primary = int.from_bytes(content[4 : 6 if content[0] == 0 else 8], "big")
        elif name == b"ipma":
            boxes.associations |= read_associations(data[start:end])
        elif name == b"infe" and len(content) >= 12:
            at = start + (8 if content[0] < 3 else 10)
            if data[at : at + 4] in _UNREAD_ITEMS:
                boxes.unread.append(at)
            item = int.from_bytes(content[4 : 6 if content[0] < 3 else 8], "big")
            if data[at : at + 4] == b"Exif":
                boxes.exif_item = item
            elif XMP_TYPE in data[at : min(end, at + LONGEST_NAME)]:
                boxes.xmp_item = item
        elif name == b"iloc" and start < end <= start + LARGEST_LIST and not boxes.locations:
            boxes.locations = read_locations(data[start:end])
        elif name in (b"iloc", b"stsz", b"stts", b"stsc", b"stco", b"iref", b"grpl") and end - start > LARGEST_LIST:
            raise PhotoTooLargeError(f"a box `{name.decode()}` of {end - start:,} bytes, more than {LARGEST_LIST:,}")
    return boxes


def find_exif(data: bytes, boxes: Boxes) -> tuple[bytes, ...]:
    """Return the file's Exif block, or nothing."""
    content = item_content(data, boxes, boxes.exif_item)
    # The first four bytes say how many others come before the TIFF header.
    return (content[4 + int.from_bytes(content[:4], "big") :],) if len(content) > 4 else ()


def item_content(data: bytes, boxes: Boxes, item: int) -> bytes:
    """Return the content of an item that lies in one piece of the file; empty for any other."""
    start, end = boxes.locations.get(item, (0, 0))
    return data[start:end]


def read_locations(content: bytes) -> dict[int, tuple[int, int]]:
    """Read where items lie (``iloc``), those that lie in one piece of the file; what is cut off is left out."""
    found: dict[int, tuple[int, int]] = {}
    version, position = content[0], 4

    def take(size: int) -> int:
        nonlocal position
        position += size
        if position > len(content):
            raise IndexError("the box is cut off")
        return int.from_bytes(content[position - size : position], "big")

    try:
        (offset_size, length_size), (base_size, index_size) = divmod(take(1), 16), divmod(take(1), 16)
        index_size *= version > 0
        for _ in range(min(take(2 if version < 2 else 4), MAX_ITEMS)):
            item = take(2 if version < 2 else 4)
            method = take(2) & 15 if version else 0
            take(2)  # which file: 0 is this one
            base, extents = take(base_size), take(2)
            if extents != 1:
                take(extents * (index_size + offset_size + length_size))
                continue
            take(index_size)
            start, length = base + take(offset_size), take(length_size)
            if method == 0:
                found[item] = (start, start + length)
    except IndexError:
        pass
    return found


def walk_boxes(
    data: bytes, start: int, end: int, parts: PartCounter, path: tuple[bytes, ...] = ()
) -> Iterator[tuple[tuple[bytes, ...], int, int]]:
    """Yield the boxes between two bytes of a file, with those inside them: names down to it, and where it lies."""
    while start + 8 <= end:
        parts.count()
        size, name = struct.unpack_from(">I4s", data, start)
        inside = start + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, inside)
            inside += 8
        stop = min(end, start + size) if size else end
        if stop < inside:
            return
        yield (*path, name), inside, stop
        if name == b"iinf":
            inside += 6 if data[inside : inside + 1] == b"\0" else 8
        if (name in _FOLDERS or name == b"iinf") and len(path) < len(_FOLDERS):
            yield from walk_boxes(data, inside + _FOLDERS.get(name, 0), stop, parts, (*path, name))
        start = stop


def read_associations(content: bytes) -> dict[int, list[int]]:
    """Read which properties belong to which item (``ipma``); what is cut off is left out."""
    found: dict[int, list[int]] = {}
    version, flags, count = content[0], content[3], int.from_bytes(content[4:8], "big")
    position, wide = 8, bool(flags & 1)
    for _ in range(min(count, MAX_ITEMS)):
        item, number = struct.unpack_from(">HB" if version == 0 else ">IB", content, position)
        position += 3 if version == 0 else 5
        codes = struct.unpack_from(f">{number}{'H' if wide else 'B'}", content, position)
        position += number * (2 if wide else 1)
        found[item] = [code & (0x7FFF if wide else 0x7F) for code in codes]
    return found
