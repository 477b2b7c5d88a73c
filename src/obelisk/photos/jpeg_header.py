"""Read a JPEG's segments: ISO/IEC 10918-1 annex B."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from obelisk.errors import PhotoTooLargeError
from obelisk.photos.headers import Header
from obelisk.photos.limits import DECODING_BYTES, MAX_SCANNED_PIXELS, MAX_SCANS, PartCounter, refuse_above
from obelisk.photos.orientation import find_orientation

# Start-of-frame markers are C0…CF without DHT (C4), JPG (C8) and DAC (CC).
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
ALONE = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
END, SCAN, EXIF_SEGMENT, JFIF, ADOBE, COMMENT = 0xD9, 0xDA, 0xE1, 0xE0, 0xEE, 0xFE
APPLICATION = frozenset(range(0xE0, 0xF0))
XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
COEFFICIENTS = 64  # of a block
BYTES_A_COEFFICIENT = 2
# Among the coded bits, FF stands before 00, or for a restart marker (D0…D7).
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

Segment = tuple[int, int, int]
"""A marker, and where its segment begins and ends in the file."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A JPEG's frame. ``components`` are their ids and sampling factors (horizontal, vertical)."""

    size: tuple[int, int]
    progressive: bool
    components: tuple[tuple[int, int, int], ...]

    @property
    def coefficients(self) -> int:
        """Bytes of all coefficients, which libjpeg holds at once if it needs several scans."""
        _, across, down = (max(1, *factors) for factors in zip(*self.components, (0, 0, 0), strict=True))
        samples = sum(h * v for _, h, v in self.components) / (across * down)
        return int(BYTES_A_COEFFICIENT * samples * self.size[0] * self.size[1])


@dataclass(frozen=True, kw_only=True)
class Scans:
    """A JPEG's scans: their number, whether an end marker follows them, and whether they give every coefficient."""

    count: int
    ended: bool
    complete: bool


def read_jpeg_header(data: bytes) -> Header:
    """Read a JPEG's segments up to the first scan; drop comments and application data."""
    kept: list[bytes] = []
    application: dict[int, bytes] = {}
    exif: list[bytes] = []
    xmp: list[bytes] = []
    frame: Frame | None = None
    scan, coefficients = len(data), 0
    for marker, start, end in walk_segments(data):
        segment = data[start + 4 : end]
        if marker in FRAMES and len(segment) >= 6:
            frame = read_frame(marker, segment)
        if marker in (SCAN, END):
            scan = start
            if frame and (frame.progressive or (segment != b"" and segment[0] < len(frame.components))):
                coefficients = frame.coefficients
                check_scans(survey_scans(data), frame)
            break
        if marker == EXIF_SEGMENT and segment.startswith(b"Exif\0\0"):
            exif.append(segment)
        elif marker == EXIF_SEGMENT and segment.startswith(XMP_PREFIX):
            xmp.append(segment)
        if marker in (JFIF, ADOBE):
            application[marker] = data[start:end]  # decoders go by the last of each
        elif marker not in APPLICATION and marker != COMMENT:
            kept.append(data[start:end])
    if len(exif) > 1:  # a block of more than 64 KB goes on in the next segment
        exif.insert(0, exif[0] + b"".join(block[6:] for block in exif[1:]))
    return Header(
        format="JPEG",
        pieces=(b"".join([data[:2], *application.values(), *kept]), memoryview(data)[scan:]),
        size=frame.size if frame else None,
        orientation=find_orientation(exif, xmp),
        held=coefficients,
        exif=tuple(exif),
    )


def walk_segments(data: bytes, position: int = 2) -> Iterator[Segment]:
    """Yield the segments of a JPEG, its scans without their coded bits, up to the end marker or the end of the file."""
    parts = PartCounter(data, "segments")
    while (position := data.find(b"\xff", position)) >= 0 and position + 1 < len(data):
        parts.count()
        marker = data[position + 1]
        if marker in (0x00, 0xFF):
            position += 1
            continue
        if marker in ALONE:
            position += 2
            continue
        if marker == END or position + 4 > len(data):
            if marker == END:
                yield marker, position, position + 2
            return
        (length,) = struct.unpack_from(">H", data, position + 2)
        end = position + 2 + max(length, 2)
        yield marker, position, end
        if marker == SCAN:
            if (found := _AFTER_SCAN.search(data, end)) is None:
                return
            end = found.start()
        position = end


def read_frame(marker: int, segment: bytes) -> Frame:
    """Read a start-of-frame segment of at least 6 bytes."""
    height, width, count = struct.unpack_from(">HHB", segment, 1)
    components = [segment[at : at + 3] for at in range(6, len(segment) - 2, 3)][:count]
    return Frame(
        size=(width, height),
        progressive=marker in PROGRESSIVE,
        components=tuple((name, factors >> 4, factors & 15) for name, factors, _ in components),
    )


def survey_scans(data: bytes) -> Scans:
    """Look at all scans of a JPEG."""
    lacking: dict[int, list[int]] = {}  # the bits of each coefficient that are still to come
    progressive, count, ended = False, 0, False
    for marker, start, end in walk_segments(data):
        ended = ended or marker == END
        segment = data[start + 4 : end]
        if marker in FRAMES and len(segment) >= 6:
            frame = read_frame(marker, segment)
            progressive = frame.progressive
            lacking = {name: [-1] * COEFFICIENTS for name, _, _ in frame.components}
        if marker != SCAN or len(segment) < 4:
            continue
        count += 1
        if count > MAX_SCANS:
            break
        first, last, bits = segment[-3:] if progressive else (0, COEFFICIENTS - 1, 0)
        last = min(last, COEFFICIENTS - 1)
        for name in segment[1 : 1 + 2 * segment[0] : 2]:
            if name in lacking:
                lacking[name][first : last + 1] = [bits & 15] * len(range(first, last + 1))
    return Scans(count=count, ended=ended, complete=not any(map(any, lacking.values())))


def check_scans(scans: Scans, frame: Frame) -> None:
    """Raise PhotoTooLargeError for too many coefficients, or too many passes over them."""
    pixels = frame.size[0] * frame.size[1]
    if frame.coefficients > DECODING_BYTES:
        refuse_above(frame.size, pixels * DECODING_BYTES // frame.coefficients)
    if scans.count > MAX_SCANS or scans.count * pixels > MAX_SCANNED_PIXELS:
        many = f"more than {MAX_SCANS}" if scans.count > MAX_SCANS else f"{scans.count}"
        allowed = min(MAX_SCANS, MAX_SCANNED_PIXELS // max(1, pixels))
        raise PhotoTooLargeError(
            f"a progressive JPEG of {many} scans; at this size, {allowed} are accepted",
            fix="save it as a baseline JPEG",
        )
