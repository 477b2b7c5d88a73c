"""Photos made to do harm: each asks for much more time or memory than its bytes are worth.

Every function takes the number of parts that it may write, so that the same bomb can be small or large.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from io import BytesIO

from PIL import Image

MEGABYTE = 10**6


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def small(mode: str = "RGB") -> Image.Image:
    return Image.linear_gradient("L").resize((64, 48)).convert("RGB").convert(mode)


def segment(marker: int, content: bytes = b"") -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", 2 + len(content)) + content


def in_jpeg(inserted: bytes) -> bytes:
    plain = encode(small(), "JPEG")
    return plain[:2] + inserted + plain[2:]


def frame(width: int, height: int, *, marker: int, components: int = 1, factors: int = 0x11) -> bytes:
    listed = b"".join(bytes([1 + number, factors if number == 0 else 0x11, 0]) for number in range(components))
    return segment(marker, struct.pack(">BHHB", 8, height, width, components) + listed)


def table(kind: int, symbol: int) -> bytes:
    """A Huffman table in which one bit stands for one symbol."""
    return segment(0xC4, bytes([kind, 1]) + bytes(15) + bytes([symbol]))


def scan(components: int, first: int, last: int, bits: int, *, data: bytes = b"\0") -> bytes:
    listed = b"".join(bytes([1 + number, 0]) for number in range(components))
    return segment(0xDA, bytes([components]) + listed + bytes([first, last, bits])) + data


def progressive(
    width: int, height: int, scans: int, *, components: int = 1, bits: int = 0x00, factors: int = 0x11
) -> bytes:
    """Scans in which every run of ends of block covers 32,767 blocks: a few bytes each."""
    blocks = -(-width // 8) * -(-height // 8)
    runs = bytes(2 + 15 * (blocks // 32_767 + 1) // 8 + (blocks // 32_767) // 8)
    zeros = bytes(min(blocks * components // 8 + 8, 3_000_000))
    head = (
        b"\xff\xd8"
        + segment(0xDB, b"\0" + b"\1" * 64)
        + frame(width, height, marker=0xC2, components=components, factors=factors)
    )
    parts = [head, table(0x00, 0), table(0x10, 0xE0), scan(components, 0, 0, 0, data=zeros)]
    parts += [scan(1, 1, 63, bits, data=runs)] * (scans - 1)
    return b"".join(parts) + b"\xff\xd9"


def baseline(width: int, height: int, *, marker: int = 0xC0, data: bytes = b"\0" * 1000) -> bytes:
    tables = table(0x00, 0) + table(0x10, 0)
    head = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64) + frame(width, height, marker=marker) + tables
    return head + scan(1, 0, 63, 0, data=data) + b"\xff\xd9"


def chunk(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *chunks: bytes, pixels: bytes = b"", depth: int = 8, color: int = 0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", pixels) + chunk(b"IEND")


def zeros(count: int) -> bytes:
    """So many zero bytes, deflated."""
    packer = zlib.compressobj(9)
    block = bytes(MEGABYTE)
    packed = [packer.compress(block[: min(MEGABYTE, count - at)]) for at in range(0, count, MEGABYTE)]
    return b"".join([*packed, packer.flush()])


def gif(*blocks: bytes, width: int = 10, height: int = 10, left: int = 0, data: bytes = b"\x02\x02\x44\x01\0") -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0x80, 0, 0) + bytes(6)
    return screen + b"".join(blocks) + b"," + struct.pack("<HHHHB", left, 0, width, height, 0) + data + b";"


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2) for name, content in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def canvas(width: int, height: int, flags: int = 0x02) -> tuple[bytes, bytes]:
    return b"VP8X", bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def tiff(fields: dict[int, tuple[int, int, int]], behind: bytes = b"") -> bytes:
    """A TIFF of fields tag → (type, count, value or offset); what they point at begins at byte 8."""
    width, height = (3, 1, 64), (3, 1, 48)
    known = {256: width, 257: height, 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)} | fields
    entries = b"".join(struct.pack("<HHII", tag, *known[tag]) for tag in sorted(known))
    return b"II*\0" + struct.pack("<I", 8 + len(behind)) + behind + struct.pack("<H", len(known)) + entries + bytes(4)


def strip_tiff(width: int, height: int, packed: bytes, compression: int, *, bits: int = 8, samples: int = 1) -> bytes:
    size, kind = (4, 1), 2 if samples == 3 else 1
    depths = struct.pack("<3H", bits, bits, bits)
    fields = {
        256: (*size, width),
        257: (*size, height),
        258: (3, 3, 8) if samples == 3 else (3, 1, bits),
        259: (3, 1, compression),
        262: (3, 1, kind),
        273: (4, 1, 14),
        277: (3, 1, samples),
        278: (4, 1, height),
        279: (4, 1, len(packed)),
    }
    return tiff(fields, depths + packed)


def bmp(width: int, height: int, *, bits: int = 24, compression: int = 0, colors: int = 0, data: bytes = b"") -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, colors, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(data), 0, 0, 54) + info + data


def box(name: bytes, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return struct.pack(">I", 8 + len(content)) + name + content


def avif_with(inside: bytes) -> bytes:
    """An AVIF with more boxes in its ``meta``; the picture's own offsets no longer fit."""
    plain = bytearray(encode(small(), "AVIF"))
    at = plain.index(b"meta") - 4
    (size,) = struct.unpack_from(">I", plain, at)
    plain[at + size : at + size] = inside
    struct.pack_into(">I", plain, at, size + len(inside))
    return bytes(plain)


def lying_avif(width: int, height: int) -> bytes:
    """An AVIF that says that it is small."""
    large = bytearray(encode(Image.new("L", (width, height), 90), "AVIF", speed=10, max_threads=1))
    struct.pack_into(">II", large, large.index(b"ispe") + 8, 64, 48)
    return bytes(large)


def nested(depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = box(b"iprp", content)
    return content


def sound_photos() -> list[bytes]:
    """One of each kind of file, small, so that mutations hit structure as often as pixels."""
    picture = small()
    alpha = picture.convert("RGBA")
    alpha.putalpha(picture.convert("L"))
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [picture.rotate(9)], "duration": 40}
    return [
        encode(picture, "JPEG", exif=exif),
        encode(picture, "JPEG", progressive=True),
        encode(picture.convert("CMYK"), "JPEG"),
        encode(alpha, "PNG", exif=exif),
        encode(picture.quantize(16), "PNG", transparency=3),
        encode(picture, "PNG", **frames),
        encode(alpha, "WEBP", exif=exif),
        encode(picture, "WEBP", lossless=True),
        encode(picture, "WEBP", **frames),
        encode(picture.quantize(16), "GIF", transparency=2),
        encode(picture, "GIF", **frames),
        encode(picture, "TIFF", exif=exif),
        encode(picture, "TIFF", compression="tiff_lzw"),
        encode(picture, "TIFF", compression="jpeg"),
        encode(alpha, "TIFF", compression="tiff_adobe_deflate"),
        encode(picture, "BMP"),
        encode(picture.quantize(16), "BMP"),
        encode(picture, "AVIF", exif=exif, speed=10),
        encode(alpha, "AVIF", speed=10),
    ]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Damage a file: flip, cut, repeat, drop, or write a length that lies."""
    damaged = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = rng.randrange(max(1, len(damaged)))
        span = rng.randrange(1, 40)
        kind = rng.randrange(6)
        if kind == 0:
            damaged[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del damaged[at:]
        elif kind == 2:
            damaged[at:at] = damaged[at : at + span]
        elif kind == 3:
            del damaged[at : at + span]
        elif kind == 4:
            damaged[at : at + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xd8\xff\xd9"])
        else:
            # The first 64 bytes hold the sizes.
            damaged[at % 64 : at % 64 + 1] = bytes([rng.randrange(256)])
    return bytes(damaged)


EXIF = b"Exif\0\0II*\0"
BRANDS = box(b"ftyp", b"avif", bytes(4), b"avifmif1miaf")
SEQUENCE = box(b"ftyp", b"avis", bytes(4), b"avisavifmif1")

# Bombs by name; each gets the number of parts.
MANY_PARTS: dict[str, Callable[[int], bytes]] = {
    "jpeg: scans": lambda n: progressive(64, 48, n),
    "jpeg: scans of a large picture": lambda n: progressive(7000, 7000, min(n, 100)),
    "jpeg: reserved segments": lambda n: in_jpeg(b"\xff\xf0\0\2" * n),
    "jpeg: comments": lambda n: in_jpeg(b"\xff\xfe\0\2" * n),
    "jpeg: restart markers as padding": lambda n: in_jpeg(b"\xff\xd0" * n),
    "jpeg: fill bytes": lambda n: in_jpeg(b"\xff" * n),
    "jpeg: Adobe segments": lambda n: in_jpeg(segment(0xEE, b"Adobe" + bytes(7)) * n),
    "jpeg: JFIF segments": lambda n: in_jpeg(segment(0xE0, b"JFIF\0" + bytes(9)) * n),
    "jpeg: Exif segments": lambda n: in_jpeg(segment(0xE1, b"Exif\0\0") * n),
    "jpeg: Huffman tables": lambda n: in_jpeg(segment(0xC4) * n),
    "jpeg: quantization tables": lambda n: in_jpeg(segment(0xDB) * n),
    "png: empty chunks of pixels": lambda n: png(64, 48, chunk(b"IDAT") * n),
    "png: empty palettes": lambda n: png(64, 48, chunk(b"PLTE") * n),
    "png: frames": lambda n: png(64, 48, chunk(b"acTL", struct.pack(">II", n, 0)), chunk(b"fcTL", bytes(26)) * n),
    "gif: a comment in blocks of one byte": lambda n: gif(b"!\xfe" + b"\1x" * n + b"\0"),
    "gif: comments": lambda n: gif(b"!\xfe\1x\0" * n),
    "gif: control extensions": lambda n: gif(b"!\xf9\4\0\0\0\0\0" * n),
    "gif: garbage": lambda n: gif(b"\0" * n),
    "webp: frames": lambda n: riff(canvas(64, 48), *[(b"ANMF", bytes(16))] * n),
    "webp: unknown chunks": lambda n: riff(canvas(64, 48), *[(b"abcd", b"")] * n),
    "tiff: strips": lambda n: tiff(
        {257: (4, 1, n), 273: (4, n, 8), 278: (4, 1, 1), 279: (4, n, 8)}, struct.pack("<I", 8) * n
    ),
    "avif: boxes": lambda n: avif_with(box(b"free") * n),
    "avif: boxes within boxes": lambda n: avif_with(nested(min(n, 2000)) + box(b"free") * n),
    "avif: places of items": lambda n: avif_with(box(b"iloc", bytes(8), bytes(64) * n)),
    "avif: samples of a sequence": lambda n: (
        SEQUENCE + box(b"moov", box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", box(b"stsz", bytes(64) * n))))))
    ),
}

# Bombs that are refused by what their headers say.
TOO_LARGE: dict[str, Callable[[], bytes]] = {
    "jpeg: 65,000 × 65,000": lambda: baseline(65_000, 65_000),
    "jpeg: 201 megapixels": lambda: baseline(15_000, 13_400),
    "jpeg: progressive, 65,000 × 65,000": lambda: progressive(65_000, 65_000, 1),
    "jpeg: progressive 4:4:4 of 70 megapixels": lambda: progressive(10_000, 7000, 1, components=3),
    "jpeg: progressive 4:2:0 of 140 megapixels": lambda: progressive(14_000, 10_000, 1, components=3, factors=0x22),
    "png: 60,000 × 60,000": lambda: png(60_000, 60_000),
    "png: 2³¹ × 2³¹": lambda: png(2**31 - 1, 2**31 - 1),
    "png: a column of 50,000,000": lambda: png(1, 50_000_000, pixels=zeros(MEGABYTE)),
    "png: a row of 50,000,000": lambda: png(50_000_000, 1, pixels=zeros(MEGABYTE)),
    "gif: a frame far outside its screen": lambda: gif(width=60_000, height=60_000),
    "gif: a frame behind garbage": lambda: gif(b"\0" * 9, width=9000, height=9000, left=900),
    "webp: 16,384 × 16,384": lambda: riff(canvas(16_384, 16_384)),
    "tiff: 65,000 × 65,000": lambda: tiff({256: (4, 1, 65_000), 257: (4, 1, 65_000), 273: (4, 1, 8), 279: (4, 1, 8)}),
    "tiff: one tile of 65,000 × 65,000": lambda: tiff(
        {322: (4, 1, 65_000), 323: (4, 1, 65_000), 324: (4, 1, 8), 325: (4, 1, 8)}
    ),
    "bmp: 2³¹ rows": lambda: bmp(64, 2**31 - 1),
    "bmp: 2³¹ rows from the top": lambda: bmp(64, -(2**31)),
    "avif: 60,000 × 60,000": lambda: (
        BRANDS
        + box(b"meta", bytes(4), box(b"iprp", box(b"ipco", box(b"ispe", struct.pack(">III", 0, 60_000, 60_000)))))
    ),
}

# Files that are damaged, lie, or cost as much as is allowed: they are read or refused.
ODD: dict[str, Callable[[], bytes]] = {
    "jpeg: the most scanned pixels": lambda: progressive(8000, 8000, 23),
    "jpeg: refining scans": lambda: progressive(8000, 8000, 23, bits=0x10),
    "jpeg: a hundred scans of a small picture": lambda: progressive(3800, 3800, 100),
    "jpeg: progressive, all that may be held": lambda: progressive(14_000, 14_000, 1),
    "jpeg: progressive 4:2:0, all that may be held": lambda: progressive(13_000, 10_000, 1, components=3, factors=0x22),
    "jpeg: 199 megapixels, without data": lambda: baseline(14_900, 13_400),
    "jpeg: 199 megapixels, black": lambda: baseline(14_900, 13_400, data=bytes(14_900 * 13_400 // 64 // 4 + 9)),
    "jpeg: arithmetic coding": lambda: baseline(14_000, 14_000, marker=0xC9),
    "jpeg: lossless": lambda: baseline(7000, 7000, marker=0xC3),
    "jpeg: two frames": lambda: in_jpeg(frame(9000, 9000, marker=0xC0)),
    "jpeg: sampling factors of zero": lambda: baseline(64, 48).replace(b"\1\x11\0", b"\1\0\0"),
    "jpeg: cut off, 199 megapixels": lambda: baseline(14_900, 13_400, data=bytes(500_000))[:-2],
    "jpeg: cut off, zeros at the end": lambda: encode(small(), "JPEG")[:-200] + bytes(20 * MEGABYTE),
    "jpeg: Exif with counts of 2³²": lambda: in_jpeg(
        segment(0xE1, EXIF + struct.pack("<IHHHII", 8, 1, 0x0112, 3, 2**32 - 1, 8))
    ),
    "jpeg: Exif with 65,535 entries": lambda: in_jpeg(
        segment(0xE1, EXIF + struct.pack("<IH", 8, 65_535) + bytes(60_000))
    ),
    "jpeg: XMP full of blanks": lambda: in_jpeg(
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"tiff:Orientation" + b" " * 60_000) * 200
    ),
    "png: profile of 500 MB": lambda: png(
        64, 48, chunk(b"iCCP", b"x\0\0" + zeros(500 * MEGABYTE)), pixels=zeros(65 * 48)
    ),
    "png: texts of 1 MB": lambda: png(
        64, 48, chunk(b"zTXt", b"Raw profile type exif\0\0" + zeros(MEGABYTE)) * 5000, pixels=zeros(65 * 48)
    ),
    "png: international texts of 1 MB": lambda: png(
        64, 48, chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zeros(MEGABYTE)) * 5000, pixels=zeros(65 * 48)
    ),
    "png: 600 MB of pixels for 64 × 48": lambda: png(64, 48, pixels=zeros(600 * MEGABYTE)),
    "png: 49 megapixels of 16 bits": lambda: png(7000, 7000, pixels=zeros(7000 * 28_001), depth=16, color=2),
    "png: 49 megapixels with alpha": lambda: png(7000, 7000, pixels=zeros(7000 * 28_001), color=6),
    "png: a column of 100,000": lambda: png(1, 100_000, pixels=zeros(200_000)),
    "png: two headers": lambda: png(64, 48, chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0))),
    "png: a chunk that says 4 GB": lambda: png(64, 48) + b"\xff\xff\xff\xffIDAT",
    "png: Exif of 50 MB": lambda: png(64, 48, chunk(b"eXIf", b"II*\0" + bytes(50 * MEGABYTE)), pixels=zeros(65 * 48)),
    "gif: 49 megapixels in a few bytes": lambda: gif(width=7000, height=7000),
    "gif: data in blocks of one byte": lambda: gif(
        width=7000, height=7000, data=b"\x08" + b"\1\x80" * 5_000_000 + b"\0"
    ),
    "gif: two thousand frames": lambda: gif(*[gif()[19:-1]] * 2000),
    "webp: 24 megapixels": lambda: encode(Image.new("RGBA", (4900, 4900)), "WEBP", lossless=True, method=0),
    "webp: a large frame on a small canvas": lambda: riff(
        canvas(64, 48, 0), (b"VP8L", encode(Image.new("RGB", (4900, 4900)), "WEBP", lossless=True, method=0)[20:])
    ),
    "webp: sixty frames": lambda: encode(
        Image.new("RGB", (900, 900)), "WEBP", save_all=True, append_images=[Image.new("RGB", (900, 900), "red")] * 60
    ),
    "webp: Exif of 50 MB": lambda: riff(canvas(64, 48, 8), (b"EXIF", bytes(50 * MEGABYTE))),
    "tiff: deflated 49 megapixels": lambda: strip_tiff(7000, 7000, zeros(7000 * 7000), 8),
    "tiff: deflated 49 megapixels of 16 bits": lambda: strip_tiff(
        7000, 7000, zeros(7000 * 42_000), 8, bits=16, samples=3
    ),
    "tiff: 600 MB in one strip of 64 × 48": lambda: strip_tiff(64, 48, zeros(600 * MEGABYTE), 8),
    "tiff: a JPEG of 10,000 scans": lambda: strip_tiff(64, 48, progressive(64, 48, 10_000), 7),
    "tiff: a JPEG of another size": lambda: strip_tiff(64, 48, progressive(14_000, 14_000, 3), 7),
    "tiff: 2³² offsets": lambda: tiff({273: (4, 2**32 - 1, 8), 279: (4, 2**32 - 1, 8)}, bytes(9999)),
    "tiff: 32,768 strips over each other": lambda: tiff(
        {256: (4, 1, 1500), 257: (4, 1, 32_768), 273: (4, 32_768, 8), 278: (4, 1, 1), 279: (4, 32_768, 8)},
        struct.pack("<I", 8) * 32_768,
    ),
    "tiff: a description of 50 MB": lambda: tiff(
        {270: (2, 50 * MEGABYTE, 8), 273: (4, 1, 8), 279: (4, 1, 3072)}, bytes(50 * MEGABYTE)
    ),
    "tiff: a page that follows itself": lambda: (
        tiff({273: (4, 1, 8), 279: (4, 1, 3072)}, bytes(3072))[:-4] + struct.pack("<I", 3080)
    ),
    "bmp: run lengths": lambda: bmp(7000, 7000, bits=8, compression=1, data=bytes(1024) + b"\xff\1" * 500_000),
    "bmp: more run lengths": lambda: bmp(7000, 7000, bits=8, compression=1, data=bytes(1024) + b"\1\1" * 10_000_000),
    "bmp: 2³² colors": lambda: bmp(64, 48, bits=8, colors=2**32 - 1, data=bytes(9999)),
    "bmp: 49 megapixels": lambda: bmp(7000, 7000, bits=1, data=bytes(7000 * 876 + 8)),
    "avif: larger than it says": lambda: lying_avif(6000, 5000),
    "avif: 24 megapixels": lambda: encode(Image.new("RGB", (4900, 4900), "teal"), "AVIF", speed=10, max_threads=1),
    "avif: properties of 2³² items": lambda: avif_with(box(b"ipma", bytes(4), b"\xff" * 4, bytes(9))),
    "avif: a box of size 1": lambda: avif_with(struct.pack(">I4sQ", 1, b"free", 3)),
    "avif: a box without end": lambda: avif_with(struct.pack(">I4s", 0, b"free")),
    "heic: nothing but a size": lambda: (
        box(b"ftyp", b"heic", bytes(4), b"heicmif1")
        + box(b"meta", bytes(4), box(b"iprp", box(b"ipco", box(b"ispe", struct.pack(">III", 0, 7000, 7000)))))
    ),
}
