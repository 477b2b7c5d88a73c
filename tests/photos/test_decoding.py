from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from obelisk.errors import PhotoError, PhotoFormatError, PhotoMissingError, PhotoTooLargeError, PhotoTruncatedError
from obelisk.photos import decoding, jpeg_header, read_photo
from obelisk.photos.headers import Header

Encode = Callable[..., bytes]


def distance(photo: Image.Image, expected: Image.Image) -> float:
    """Mean absolute difference of two pictures of one size, in gray levels."""
    assert photo.size == expected.size
    return float(np.abs(np.asarray(photo, dtype=float) - np.asarray(expected, dtype=float)).mean())


def with_hole(picture: Image.Image) -> Image.Image:
    """The picture, its left half transparent."""
    mask = Image.new("L", picture.size, 255)
    mask.paste(0, (0, 0, picture.width // 2, picture.height))
    holed = picture.convert("RGBA")
    holed.putalpha(mask)
    return holed


def on_white(picture: Image.Image) -> Image.Image:
    """What :func:`with_hole` must look like."""
    expected = picture.copy()
    expected.paste("white", (0, 0, picture.width // 2, picture.height))
    return expected


def gray16(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)


def gray_alpha(picture: Image.Image) -> Image.Image:
    holed = picture.convert("L").convert("LA")
    holed.putalpha(with_hole(picture).getchannel("A"))
    return holed


def big_endian_tiff(picture: Image.Image) -> bytes:
    """Put a TIFF together by hand: 16 bits a sample, two strips, fields in the file's order."""
    values = (np.asarray(picture).astype(np.uint16) * 257).astype(">u2").tobytes()
    width, height, half = picture.width, picture.height, picture.height // 2
    fields = [
        (256, 4, 1, width), (257, 3, 1, height << 16), (258, 3, 3, 8), (259, 3, 1, 1 << 16), (262, 3, 1, 2 << 16),
        (273, 4, 2, 14), (277, 3, 1, 3 << 16), (278, 4, 1, half), (279, 4, 2, 22),
    ]  # fmt: skip
    pixels = 30
    strip = len(values) // 2
    behind = struct.pack(">3H4I", 16, 16, 16, pixels, pixels + strip, strip, strip)
    directory = struct.pack(">H", len(fields)) + b"".join(struct.pack(">HHII", *field) for field in fields) + bytes(4)
    return b"MM\0*" + struct.pack(">I", pixels + len(values)) + behind + values + directory


def animated(encode: Encode, picture: Image.Image, kind: str) -> bytes:
    black = Image.new("RGB", picture.size)
    lossless = {"lossless": True} if kind == "WEBP" else {}
    return encode(picture, kind, save_all=True, append_images=[black, black], duration=50, **lossless)


# Odd photos that are sound: how each is made, what it must look like, how far it may be off in gray levels.
SOUND: dict[str, tuple[Callable[[Encode, Image.Image], bytes], Callable[[Image.Image], Image.Image], float]] = {
    "plain jpeg": (lambda e, p: e(p, "JPEG", quality=95), lambda p: p, 2.0),
    "progressive jpeg": (lambda e, p: e(p, "JPEG", quality=95, progressive=True), lambda p: p, 2.0),
    "gray jpeg": (lambda e, p: e(p.convert("L"), "JPEG", quality=95), lambda p: p.convert("L").convert("RGB"), 2.0),
    "cmyk jpeg, which Adobe stores inverted": (
        lambda e, p: e(p.convert("CMYK"), "JPEG", quality=95),
        lambda p: p,
        3.0,
    ),
    "plain png": (lambda e, p: e(p, "PNG"), lambda p: p, 0.0),
    "palette png": (
        lambda e, p: e(p.quantize(64), "PNG"),
        lambda p: p.quantize(64).convert("RGB"),
        0.0,
    ),
    "palette png with a transparent color": (
        lambda e, p: e(with_hole(p).quantize(64), "PNG"),
        lambda p: on_white(p),
        6.0,
    ),
    "rgba png": (lambda e, p: e(with_hole(p), "PNG"), on_white, 0.0),
    "gray and alpha png": (
        lambda e, p: e(gray_alpha(p), "PNG"),
        lambda p: on_white(p.convert("L").convert("RGB")),
        0.0,
    ),
    "rgb png with one transparent color": (
        lambda e, p: e(Image.new("RGB", p.size, (9, 8, 7)), "PNG", transparency=(9, 8, 7)),
        lambda p: Image.new("RGB", p.size, "white"),
        0.0,
    ),
    "16-bit gray png": (lambda e, p: e(gray16(p), "PNG"), lambda p: p.convert("L").convert("RGB"), 0.0),
    "1-bit png": (
        lambda e, p: e(p.convert("1"), "PNG"),
        lambda p: p.convert("1").convert("RGB"),
        0.0,
    ),
    "animated png": (lambda e, p: animated(e, p, "PNG"), lambda p: p, 0.0),
    "gif": (lambda e, p: e(p.quantize(128), "GIF"), lambda p: p.quantize(128).convert("RGB"), 0.0),
    "animated gif": (lambda e, p: animated(e, p, "GIF"), lambda p: p, 4.0),
    "gif with a transparent color": (
        lambda e, p: e(with_hole(p), "GIF"),
        on_white,
        12.0,
    ),
    "lossy webp": (lambda e, p: e(p, "WEBP", quality=95), lambda p: p, 3.0),
    "lossless webp": (lambda e, p: e(p, "WEBP", lossless=True), lambda p: p, 0.0),
    "webp with alpha": (lambda e, p: e(with_hole(p), "WEBP", lossless=True), on_white, 0.0),
    "animated webp": (lambda e, p: animated(e, p, "WEBP"), lambda p: p, 0.0),
    "tiff": (lambda e, p: e(p, "TIFF"), lambda p: p, 0.0),
    "tiff, LZW": (lambda e, p: e(p, "TIFF", compression="tiff_lzw"), lambda p: p, 0.0),
    "tiff, deflate": (lambda e, p: e(p, "TIFF", compression="tiff_adobe_deflate"), lambda p: p, 0.0),
    "tiff, PackBits": (lambda e, p: e(p, "TIFF", compression="packbits"), lambda p: p, 0.0),
    "tiff, JPEG": (lambda e, p: e(p, "TIFF", compression="jpeg", quality=95), lambda p: p, 2.0),
    "tiff, big-endian": (lambda e, p: big_endian_tiff(p), lambda p: p, 0.0),
    "tiff, cmyk": (lambda e, p: e(p.convert("CMYK"), "TIFF"), lambda p: p, 3.0),
    "tiff with a palette": (
        lambda e, p: e(p.quantize(64), "TIFF", compression="tiff_lzw"),
        lambda p: p.quantize(64).convert("RGB"),
        0.0,
    ),
    "tiff with alpha": (lambda e, p: e(with_hole(p), "TIFF"), on_white, 0.0),
    "tiff, 16-bit gray": (lambda e, p: e(gray16(p), "TIFF"), lambda p: p.convert("L").convert("RGB"), 0.0),
    "tiff, 16-bit gray, LZW": (
        lambda e, p: e(gray16(p), "TIFF", compression="tiff_lzw"),
        lambda p: p.convert("L").convert("RGB"),
        0.0,
    ),
    "tiff of several pages": (
        lambda e, p: e(p, "TIFF", save_all=True, append_images=[Image.new("RGB", p.size)]),
        lambda p: p,
        0.0,
    ),
    "tiff with tags that Pillow would warn about": (
        lambda e, p: e(p, "TIFF", description="x" * 999, software="y").replace(b"x" * 999, b"\xff" * 999),
        lambda p: p,
        0.0,
    ),
    "bmp": (lambda e, p: e(p, "BMP"), lambda p: p, 0.0),
    "bmp with a palette": (lambda e, p: e(p.quantize(64), "BMP"), lambda p: p.quantize(64).convert("RGB"), 0.0),
    "avif": (lambda e, p: e(p, "AVIF", quality=95), lambda p: p, 4.0),
    "avif with alpha": (lambda e, p: e(with_hole(p), "AVIF", quality=95), on_white, 12.0),
    "animated avif": (
        lambda e, p: e(p, "AVIF", quality=95, save_all=True, append_images=[Image.new("RGB", p.size)]),
        lambda p: p,
        4.0,
    ),
    "one pixel": (lambda e, p: e(p.crop((0, 0, 1, 1)), "PNG"), lambda p: p.crop((0, 0, 1, 1)), 0.0),
    "a strip of one row": (
        lambda e, p: e(p.resize((65_000, 1)), "PNG"),
        lambda p: p.resize((65_000, 1)),
        0.0,
    ),
    "metadata that Pillow would warn about": (
        lambda e, p: e(
            p, "JPEG", quality=95, exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0e\x01\x02\0\xff\xff\0\0\xff\xff\0\0"
        ),
        lambda p: p,
        2.0,
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_odd_but_sound_photos_become_rgb(name: str, encode: Encode, picture: Image.Image) -> None:
    make, expect, tolerance = SOUND[name]
    photo = read_photo(make(encode, picture))
    assert photo.mode == "RGB"
    assert distance(photo, expect(picture)) <= tolerance


def test_16_bit_rgb_keeps_its_upper_8_bits(picture: Image.Image) -> None:
    # Pillow cannot write this kind, so it is put together by hand.
    photo = read_photo(png16(picture, color_type=2, channels=3))
    assert distance(photo, picture) == 0


def png16(picture: Image.Image, *, color_type: int, channels: int) -> bytes:
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    values = (np.asarray(picture).astype(np.uint16) * 257).astype(">u2").reshape(picture.height, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    assert values.shape[1] == picture.width * channels
    header = struct.pack(">IIBBBBB", picture.width, picture.height, 16, color_type, 0, 0, 0)
    transparent = struct.pack(">HHH", 1, 300, 65535)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(name, data)
        for name, data in (
            (b"IHDR", header),
            (b"tRNS", transparent),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        )
    )


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo.txt", "photo", "föto 照片.JPG"])
def test_the_content_decides_not_the_suffix(name: str, tmp_path: Path, encode: Encode, picture: Image.Image) -> None:
    path = tmp_path / name
    path.write_bytes(encode(picture, "WEBP", lossless=True))
    assert distance(read_photo(path), picture) == 0


def jpeg_of(encode: Encode, picture: Image.Image) -> bytes:
    return encode(picture.resize((480, 320)), "JPEG")


def png_of(encode: Encode, picture: Image.Image) -> bytes:
    return encode(picture.resize((480, 320)), "PNG")


# What cannot be a photo: how each file is made, the exact error, and words that its message must hold.
REFUSED: dict[str, tuple[Callable[[Encode, Image.Image], bytes], type[PhotoError], str]] = {
    "empty": (lambda e, p: b"", PhotoFormatError, "empty file"),
    "text": (lambda e, p: b"this is no photo", PhotoFormatError, "not a photo"),
    "html": (lambda e, p: b"<html>404</html>", PhotoFormatError, "HTML"),
    "svg": (lambda e, p: b"<svg xmlns='http://www.w3.org/2000/svg'/>", PhotoFormatError, "SVG"),
    "photoshop": (lambda e, p: b"8BPS\0\1", PhotoFormatError, "Photoshop"),
    "big tiff": (lambda e, p: e(p, "TIFF", big_tiff=True), PhotoFormatError, "BigTIFF"),
    "tiff of a compression that is not listed": (
        lambda e, p: e(p, "TIFF", compression="zstd"),
        PhotoFormatError,
        "compression 50000; accepted are deflate, JPEG, LZW, none, PackBits",
    ),
    "tiff of one bit a sample": (lambda e, p: e(p.convert("1"), "TIFF"), PhotoFormatError, "a TIFF of 1 bits a sample"),
    "tiff of floating-point numbers": (lambda e, p: e(p.convert("F"), "TIFF"), PhotoFormatError, "32 bits a sample"),
    "half a tiff": (lambda e, p: e(p, "TIFF")[:900], PhotoTruncatedError, "TIFF"),
    "half a bmp": (lambda e, p: e(p, "BMP")[:900], PhotoTruncatedError, "BMP"),
    "half an avif": (lambda e, p: e(p, "AVIF")[:-40], PhotoTruncatedError, "AVIF"),
    "icon": (lambda e, p: e(p, "ICO"), PhotoFormatError, "icon"),
    "ppm": (lambda e, p: e(p, "PPM"), PhotoFormatError, "not a photo"),
    "jpeg 2000": (lambda e, p: e(p, "JPEG2000"), PhotoFormatError, "JPEG 2000"),
    "pdf": (lambda e, p: b"%PDF-1.7 ", PhotoFormatError, "PDF"),
    "an avif without a picture": (
        lambda e, p: b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf",
        PhotoTruncatedError,
        "AVIF",
    ),
    "video": (lambda e, p: b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", PhotoFormatError, "video"),
    "half a jpeg": (lambda e, p: jpeg_of(e, p)[: len(jpeg_of(e, p)) // 2], PhotoTruncatedError, "JPEG"),
    "a jpeg's first bytes": (lambda e, p: jpeg_of(e, p)[:3], PhotoTruncatedError, "JPEG"),
    "a jpeg without its pixels": (lambda e, p: jpeg_of(e, p)[:620], PhotoTruncatedError, "JPEG"),
    "half a png": (lambda e, p: png_of(e, p)[:800], PhotoTruncatedError, "PNG"),
    "a png's signature": (lambda e, p: e(p, "PNG")[:8], PhotoTruncatedError, "PNG"),
    "a png with a flipped bit": (
        lambda e, p: png_of(e, p)[:200] + bytes([png_of(e, p)[200] ^ 1]) + png_of(e, p)[201:],
        PhotoTruncatedError,
        "PNG",
    ),
    "half a gif": (lambda e, p: e(p, "GIF")[:900], PhotoTruncatedError, "GIF"),
    "half a webp": (lambda e, p: e(p, "WEBP")[:150], PhotoTruncatedError, "WebP"),
    "a webp's signature": (lambda e, p: e(p, "WEBP")[:12], PhotoTruncatedError, "WebP"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_photo_is_refused_by_name(name: str, tmp_path: Path, encode: Encode, picture: Image.Image) -> None:
    make, error, words = REFUSED[name]
    path = tmp_path / "photo.jpg"
    path.write_bytes(make(encode, picture))
    with pytest.raises(PhotoError) as raised:
        read_photo(path)
    assert type(raised.value) is error
    assert str(path) in str(raised.value)
    assert words in str(raised.value)


def test_an_error_about_bytes_names_no_path() -> None:
    with pytest.raises(PhotoFormatError, match="a photo given as bytes"):
        read_photo(b"nothing")


def test_a_missing_photo_is_named(tmp_path: Path) -> None:
    with pytest.raises(PhotoMissingError, match=r"no such photo · .*none\.jpg"):
        read_photo(tmp_path / "none.jpg")


def test_phones_of_50_megapixels_write_heic_that_is_decoded() -> None:
    photo = Header(format="HEIC", size=(8160, 6120), pieces=())
    assert decoding.bytes_to_decode(photo, 8, file_bytes=15 * 10**6) < 400 * 10**6


@pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is not None, reason="the extra heic is installed")
def test_heic_without_the_extra_says_how_to_get_it(tmp_path: Path) -> None:
    path = tmp_path / "photo.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    with pytest.raises(PhotoFormatError, match=r"extra `heic` · .*photo\.heic · .*pip install .*\[heic\]'"):
        read_photo(path)


def test_heic_with_the_extra(picture: Image.Image) -> None:
    heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    from io import BytesIO

    out = BytesIO()
    heif.from_pillow(picture.resize((96, 64))).save(out, quality=95)
    photo = read_photo(out.getvalue())
    assert photo.mode == "RGB"
    assert distance(photo, picture.resize((96, 64))) < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG", "TIFF", "AVIF"])
def test_all_orientations_become_the_same_upright_photo(
    kind: str, orientation: int, encode: Encode, picture: Image.Image
) -> None:
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = picture if undo is None else picture.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossy = {"quality": 98, "subsampling": "4:4:4"}
    options = {"JPEG": lossy, "AVIF": lossy, "WEBP": {"lossless": True}, "PNG": {}, "TIFF": {}}[kind]
    photo = read_photo(encode(stored, kind, exif=exif, **options))
    assert distance(photo, picture) <= (1.5 if kind in ("JPEG", "AVIF") else 0.0)


# min_side, and the shorter side that a photo of 640 × 480 then has: the smallest of 480/1, /2, /4, /8 that is enough.
SHORTER = [(None, 480), (1, 60), (60, 60), (61, 120), (120, 120), (121, 240), (224, 240), (241, 480), (2000, 480)]
KINDS = {
    "JPEG": {},
    "progressive": {"progressive": True},
    "PNG": {},
    "WEBP": {},
    "GIF": {},
    "TIFF": {},
    "BMP": {},
    "AVIF": {"speed": 10},
}


@pytest.mark.parametrize("kind", KINDS)
def test_shrinking_never_goes_below_the_needed_side(kind: str, encode: Encode, picture: Image.Image) -> None:
    data = encode(picture.resize((640, 480)), kind if kind != "progressive" else "JPEG", **KINDS[kind])
    assert [(side, min(read_photo(data, min_side=side).size)) for side, _ in SHORTER] == SHORTER


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (447, 900)])
def test_what_is_small_already_keeps_its_pixels(size: tuple[int, int], encode: Encode, picture: Image.Image) -> None:
    photo = picture.resize(size)
    assert distance(read_photo(encode(photo, "PNG"), min_side=224), photo) == 0


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_a_shrunk_photo_is_turned_upright(kind: str, encode: Encode, picture: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = picture.resize((640, 480), Image.Resampling.BICUBIC).transpose(Image.Transpose.ROTATE_90)
    photo = read_photo(encode(lying, kind, exif=exif), min_side=100)
    assert distance(photo, picture.resize((160, 120), Image.Resampling.BOX)) < 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_shrunk_photo_looks_like_the_whole_one(kind: str, encode: Encode, picture: Image.Image) -> None:
    data = encode(picture.resize((640, 480), Image.Resampling.BICUBIC), kind, quality=95)
    small = read_photo(data, min_side=100)
    assert distance(small, read_photo(data).resize(small.size, Image.Resampling.BOX)) < 1.5


def test_pixels_are_capped_after_drafting(
    monkeypatch: pytest.MonkeyPatch, encode: Encode, picture: Image.Image
) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100_000)
    large = picture.resize((640, 480))
    assert read_photo(encode(large, "JPEG"), min_side=200).size == (320, 240)
    # libjpeg holds all of a progressive photo, however small it is asked for.
    monkeypatch.setattr(jpeg_header, "DECODING_BYTES", 800_000)
    refused = [encode(large, "JPEG", progressive=True), encode(large, "PNG"), encode(large, "WEBP")]
    for data in refused:
        with pytest.raises(PhotoTooLargeError, match="640 × 480"):
            read_photo(data, min_side=200)
    # Of a WebP, half as many: libwebp needs more memory a pixel.
    middle = picture.resize((300, 200))
    assert read_photo(encode(middle, "PNG")).size == (300, 200)
    with pytest.raises(PhotoTooLargeError, match="300 × 200 pixels, more than 50,000"):
        read_photo(encode(middle, "WEBP"))
    with pytest.raises(PhotoTooLargeError):
        read_photo(encode(large, "JPEG"))
