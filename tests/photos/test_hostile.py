"""Photos made to do harm: bombs, and thousands of damaged files."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFile
from tests.photos.hostile_photos import MANY_PARTS, TOO_LARGE, mutate, sound_photos

from obelisk.data import read_catalog
from obelisk.errors import PhotoError, PhotoTooLargeError
from obelisk.evaluation.run_reader import Run
from obelisk.gallery import build_gallery
from obelisk.photos import ModelInput, decoding, prepare, read_photo
from obelisk.records import Recognition

Encode = Callable[..., bytes]
RULE = ModelInput(size=64, resize="crop", mean=(0.5,) * 3, std=(0.5,) * 3)


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def webp_header(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + size


def jpeg_header(width: int, height: int, *, frame: int = 0xC0) -> bytes:
    components = b"\1\x11\0\2\x11\0\3\x11\0"
    return (
        b"\xff\xd8\xff"
        + bytes([frame])
        + struct.pack(">HBHHB", 17, 8, height, width, 3)
        + components
        + b"\xff\xda\0\x0c\3\1\0\2\0\3\0\0\x3f\0"
    )


def gif_header(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0, 0, 0) + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0)


BOMBS = {
    "png of 60,000 × 60,000": png_header(60_000, 60_000),
    "png of 2³¹ × 2³¹": png_header(2**31 - 1, 2**31 - 1),
    "webp of 16,384 × 16,384": webp_header(16_384, 16_384),
    "jpeg of 65,000 × 65,000": jpeg_header(65_000, 65_000),
    "gif frame far outside its screen": gif_header(60_000, 60_000),
    "between the limits at which Pillow warns and fails": gif_header(10_000, 10_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_a_decoder_sees_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_image(header: object) -> Image.Image:
        raise AssertionError("a decoder was opened")

    monkeypatch.setattr(decoding, "open_image", open_image)
    with pytest.raises(PhotoTooLargeError):
        read_photo(BOMBS[name])


@pytest.mark.stress
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_cost_neither_time_nor_memory(name: str) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    with pytest.raises(PhotoTooLargeError):
        read_photo(BOMBS[name])
    assert time.monotonic() - start < 0.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


@pytest.mark.parametrize("name", MANY_PARTS)
def test_files_of_tiny_parts_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "load_pixels", None)  # no decoder sees them
    data = MANY_PARTS[name](101 if "scans" in name else 40_000 if "tiff" in name else 10_000)
    with pytest.raises(PhotoTooLargeError, match=r"more than|scans"):
        read_photo(data)


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_asks_for_too_much_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "load_pixels", None)
    with pytest.raises(PhotoTooLargeError, match=r"pixels, more than"):
        read_photo(TOO_LARGE[name](), min_side=224)


def test_drafting_is_no_way_around_the_cap() -> None:
    # An eighth of 65,000 × 65,000 is 66 megapixels; a progressive photo is held at full size whatever is asked for.
    for side, frame in ((65_000, 0xC0), (20_000, 0xC2)):
        with pytest.raises(PhotoTooLargeError, match=f"{side:,} × {side:,} pixels"):
            read_photo(jpeg_header(side, side, frame=frame), min_side=224)


def peak_of_reading(path: Path, *, threads: int) -> int:
    """KiB that reading a photo takes, in as many threads at once; in a process of its own, whose peak it is."""
    script = f"""
        import resource
        from concurrent.futures import ThreadPoolExecutor
        from pathlib import Path
        from obelisk.photos import read_photo
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with ThreadPoolExecutor({threads}) as pool:
            photos = list(pool.map(lambda path: read_photo(path, min_side=224), [Path({str(path)!r})] * {threads}))
        assert {{min(photo.size) for photo in photos}} <= {{884, 625}}, photos
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=300
    )
    return int(done.stdout)


@pytest.mark.stress
def test_the_largest_photo_allowed_stays_within_half_a_gigabyte(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("LA", (7070, 7070), (90, 128)).save(path, compress_level=1)
    assert peak_of_reading(path, threads=1) < 512 * 1024


# What needs most memory a pixel, at the largest size allowed.
LARGEST: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "transparent png": ("RGBA", "PNG", 7070, {"compress_level": 1}),
    "progressive cmyk jpeg, of which libjpeg holds every coefficient": ("CMYK", "JPEG", 7070, {"progressive": True}),
    "transparent webp": ("RGBA", "WEBP", 5000, {"method": 0}),
    "gif": ("P", "GIF", 7070, {}),
}


@pytest.mark.stress
@pytest.mark.parametrize("name", LARGEST)
def test_large_photos_take_turns(name: str, tmp_path: Path) -> None:
    mode, kind, side, options = LARGEST[name]
    path = tmp_path / "large"
    Image.effect_noise((101, 101), 90).resize((side, side)).convert("RGB").convert(mode).save(path, kind, **options)
    # Each of four threads may hold the file; only one decodes.
    assert peak_of_reading(path, threads=4) < 560 * 1024


def test_pillows_switches_are_left_alone(encode: Encode, picture: Image.Image) -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    read_photo(encode(picture, "JPEG"))
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


def fuzz(photos: list[bytes], *, rounds: int, seed: int) -> int:
    """Read damaged photos; return how many were refused. Anything but a PhotoError fails the test."""
    rng = random.Random(seed)
    refused = 0
    for number in range(rounds):
        damaged = mutate(photos[number % len(photos)], rng)
        try:
            prepare(read_photo(damaged, min_side=rng.choice([None, 16, 64])), RULE)
        except PhotoError:
            refused += 1
    return refused


def test_damaged_photos_raise_nothing_but_photo_errors(encode: Encode, picture: Image.Image) -> None:
    refused = fuzz(sound_photos(), rounds=660, seed=0)
    # Most are refused; some damage leaves a photo that still decodes.
    assert 300 < refused < 660


@pytest.mark.stress
def test_ten_thousand_damaged_photos(encode: Encode, picture: Image.Image) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert fuzz(sound_photos(), rounds=10_000, seed=1) > 5_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 * 1024


@pytest.mark.stress
def test_ten_thousand_damaged_photos_through_the_command_line(
    encode: Encode, picture: Image.Image, tiny_dataset: Path, tiny_run: Run, tmp_path: Path
) -> None:
    gallery = build_gallery(tmp_path / "gallery", read_catalog(tiny_dataset), tiny_run.bundle).gallery.path
    (tmp_path / "photos").mkdir()
    rng, photos = random.Random(2), sound_photos()
    for number in range(10_000):
        (tmp_path / "photos" / f"{number:05}.jpg").write_bytes(mutate(photos[number % len(photos)], rng))
    # /proc/self/status has the peak of this program alone; the resource module counts the parent's memory, too.
    program = (
        "import atexit, sys\n"
        "from obelisk.cli.main import run\n"
        "atexit.register(lambda: sys.stderr.write(open('/proc/self/status').read()))\n"
        "run()\n"
    )
    command = [
        sys.executable,
        "-c",
        program,
        "recognize",
        str(tmp_path / "photos"),
        "--gallery",
        str(gallery),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    answers = [Recognition.from_json(line) for line in done.stdout.splitlines()]
    refused = sum(answer.error is not None for answer in answers)
    assert (done.returncode, len(answers)) == (1, 10_000)
    assert 5_000 < refused < 10_000
    assert f"{refused} of 10000 photos could not be used" in done.stderr
    assert "Traceback" not in done.stderr
    assert int(done.stderr.partition("VmHWM:")[2].split()[0]) < 700 * 1024
