"""Our header readers against Pillow's ``exif_transpose``, over many spellings of one fact."""

from __future__ import annotations

import itertools
import random
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO

import pytest
from PIL import Image, ImageOps

from obelisk.photos import read_photo

Encode = Callable[..., bytes]
PICTURE = Image.frombytes("RGB", (3, 2), bytes(range(0, 180, 10)))
# Every type of TIFF, and how a number is written in it.
TYPES = {1: "B", 2: "c", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I"}
TYPES |= {16: "Q"}


def exif_block(order: str, kind: int, value: int, *, count: int = 1, before: int = 0, mark: bytes = b"") -> bytes:
    """An Exif block that states an orientation behind some other fields."""
    number = str(value).encode()[:1] if kind == 2 else value
    one = struct.pack(order + TYPES[kind], number, *[1] * (len(TYPES[kind]) - 1))
    raw = one * count
    behind = 8 + 2 + 12 * (before + 1) + 4
    entries = b"".join(struct.pack(f"{order}HHIHH", 0x0100 + at, 3, 1, 7, 0) for at in range(before))
    short = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(f"{order}I", behind)
    entries += struct.pack(f"{order}HHI", 0x0112, kind, count) + short
    head = mark or (b"II*\0" if order == "<" else b"MM\0*")
    return head + struct.pack(f"{order}IH", 8, before + 1) + entries + bytes(4) + (raw if len(raw) > 4 else b"")


def xmp_packet(spelling: str) -> bytes:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {spelling}</x:xmpmeta>'.encode()


def spelled() -> Iterator[tuple[bytes, bytes]]:
    """Exif blocks and XMP packets, one of them or both."""
    values = (1, 3, 6, 8)
    for order, kind, value in itertools.product("<>", TYPES, values):
        yield exif_block(order, kind, value), b""
    for order, kind, before in itertools.product("<>", (3, 4, 9), (1, 20)):
        yield exif_block(order, kind, 6, before=before), b""
        yield exif_block(order, kind, 5, count=3, before=before), b""
    for value in (0, 9, 200):
        yield exif_block("<", 3, value), xmp_packet('tiff:Orientation="6"/>')
    yield exif_block(">", 3, 6, mark=b"MM*\0"), b""
    for number in range(1, 9):
        for packet in (f'tiff:Orientation="{number}"/>', f"><tiff:Orientation>{number}</tiff:Orientation>"):
            yield b"", xmp_packet(packet)
            yield exif_block("<", 3, 3), xmp_packet(packet)
            yield exif_block("<", 1, 3), xmp_packet(packet)
            # An Exif block that says nothing of it.
            yield b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0100, 3, 1, 7, 0, 0), xmp_packet(packet)
        yield exif_block(">", 3, number), b""
    yield b"", xmp_packet('tiff:Orientation="9"/>')
    yield b"", xmp_packet("/>")
    yield exif_block("<", 3, 6)[:-9], b""
    yield b"JUNK" * 8, b""


def with_png_text(png: bytes, name: bytes, content: bytes, at: int = 33) -> bytes:
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return png[:at] + chunk + png[at:]


def segment(content: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content


def encode_avif(encode: Encode, options: dict[str, bytes]) -> bytes | None:
    """An AVIF; None for an Exif block that Pillow does not write into one."""
    with warnings.catch_warnings(action="ignore"), suppress(SyntaxError, TypeError, ValueError):
        return encode(PICTURE, "AVIF", quality=100, subsampling="4:4:4", speed=10, max_threads=1, **options)
    return None


def written(encode: Encode) -> Iterator[tuple[str, bytes]]:
    """Photos that state an orientation in every spelling that their format has."""
    png = encode(PICTURE, "PNG")
    for number, (exif, xmp) in enumerate(spelled()):
        options = {
            name: value for name, value in (("exif", b"Exif\0\0" + exif if exif else b""), ("xmp", xmp)) if value
        }
        yield f"jpeg {number}", encode(PICTURE, "JPEG", quality=95, subsampling=0, **options)
        yield f"webp {number}", encode(PICTURE, "WEBP", lossless=True, **options)
        texts = [with_png_text(png, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)] if xmp else [png]
        texts += [with_png_text(png, b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp))] if xmp else []
        for text in texts:
            yield f"png {number}", with_png_text(text, b"eXIf", exif) if exif else text
            profile = f"\nexif\n{len(exif):8}\n{exif.hex()}\n".encode()
            if exif[:4] in (b"II*\0", b"MM\0*"):
                yield f"png text {number}", with_png_text(text, b"tEXt", b"Raw profile type exif\0" + profile)
                packed = b"Raw profile type exif\0\0" + zlib.compress(profile)
                yield f"png packed text {number}", with_png_text(text, b"zTXt", packed)
        yield f"tiff {number}", encode(PICTURE, "TIFF", tiffinfo={700: xmp} if xmp else {})
        if xmp and (avif := encode_avif(encode, options)):
            yield f"avif {number}", avif
    for number in range(9):
        tiffinfo = Image.Exif()
        tiffinfo[0x0112] = number
        yield f"tiff, orientation {number}", encode(PICTURE, "TIFF", exif=tiffinfo)
        yield f"avif, orientation {number}", encode(PICTURE, "AVIF", quality=100, subsampling="4:4:4", exif=tiffinfo)


def drawn(encode: Encode) -> Iterator[tuple[str, bytes]]:
    """Photos with drawn statements: none or one of each kind, in any order and on either side of the pixels."""
    rng = random.Random(5)
    png = encode(PICTURE, "PNG")
    for number in range(400):
        kind = rng.choice([3, *TYPES])
        count, before = rng.choice([1, 1, 2, 5]), rng.choice([0, 3, 40])
        exif = exif_block(rng.choice("<>"), kind, rng.randrange(10), count=count, before=before)
        spelling = rng.choice(['tiff:Orientation="%d"/>', "><tiff:Orientation>%d</tiff:Orientation>", 'x="%d"/>'])
        xmp = xmp_packet(spelling % rng.randrange(10))
        segments = [segment(b"Exif\0\0" + exif), segment(b"http://ns.adobe.com/xap/1.0/\0" + xmp)]
        jpeg = encode(PICTURE, "JPEG", quality=95, subsampling=0)
        at = rng.choice([2, 20])  # before and after the JFIF segment
        chosen = rng.sample(segments, rng.randrange(3))
        yield f"jpeg {number}: {chosen}", jpeg[:at] + b"".join(chosen) + jpeg[at:]
        digits = "\n".join(re.findall(".{1,72}", exif.hex()))
        profile = f"\nexif\n{len(exif):8}\n{digits}\n".encode()
        chunks = [
            (b"eXIf", exif),
            (b"tEXt", b"Raw profile type exif\0" + profile),
            (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        ]
        drawn_chunks = rng.sample(chunks, rng.randrange(4))
        changed = png
        for name, content in drawn_chunks:
            changed = with_png_text(changed, name, content, at=rng.choice([33, 33, len(changed) - 12]))
        yield f"png {number}: {drawn_chunks}", changed


def turned_by_pillow(data: bytes) -> Image.Image | None:
    """The photo as Pillow turns it; None if it refuses to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ImageOps.exif_transpose(Image.open(BytesIO(data))).convert("RGB")
        except SyntaxError:
            return None


def test_photos_are_turned_as_pillow_turns_them(encode: Encode) -> None:
    counted, wrong = 0, []
    for name, data in itertools.chain(written(encode), drawn(encode)):
        if (expected := turned_by_pillow(data)) is not None:
            counted += 1
            found = read_photo(data)
            if found.size != expected.size or found.tobytes() != expected.tobytes():
                wrong.append(name)
    assert counted > 2000
    assert wrong == []


def with_segments(encode: Encode, *blocks: bytes) -> bytes:
    plain = encode(PICTURE, "JPEG")
    return plain[:2] + b"".join(map(segment, blocks)) + plain[2:]


NONE = b"Exif\0\0II*\0" + struct.pack("<IHI", 8, 0, 0)
SIX, THREE = (b"Exif\0\0" + exif_block("<", 3, value) for value in (6, 3))
XMP = b"http://ns.adobe.com/xap/1.0/\0" + xmp_packet('tiff:Orientation="6"/>')
# Segments of a JPEG, and whether they turn it by 90°. The first Exif block that states an orientation decides.
SEGMENTS = {
    "one that states it, then one that doesn't": ([SIX, NONE], True),
    "one that doesn't, then one that does": ([NONE, SIX], True),
    "two that contradict each other": ([THREE, SIX], False),
    "XMP before Exif": ([XMP, THREE], False),
    "XMP beside an Exif block without it": ([XMP, NONE], True),
    "XMP that quotes with apostrophes": ([XMP.replace(b'="6"', b" = '6'")], True),
}


@pytest.mark.parametrize("name", SEGMENTS)
def test_the_first_statement_wins(name: str, encode: Encode) -> None:
    blocks, turned = SEGMENTS[name]
    assert read_photo(with_segments(encode, *blocks)).size == ((2, 3) if turned else (3, 2))


def test_a_profile_of_imagemagick_is_read(encode: Encode) -> None:
    exif = b"Exif\0\0" + exif_block(">", 3, 8)
    profile = b"Raw profile type APP1\0" + f"\ngeneric\n{len(exif):8}\n{exif.hex()}\n".encode()
    assert read_photo(with_png_text(encode(PICTURE, "PNG"), b"tEXt", profile)).size == (2, 3)
