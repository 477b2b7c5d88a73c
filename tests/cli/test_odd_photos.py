"""Every kind of photo that people and their disks have, through the command line.

What cannot be a photo is named, counted and skipped, with exit code 1; what is odd but sound is answered.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from obelisk.cli.gallery import gallery_app
from obelisk.cli.recognize import recognize_command
from obelisk.recognition.calibration import UNCALIBRATED

app = typer.Typer()
app.command("recognize")(recognize_command)
app.add_typer(gallery_app)

Make = Callable[[Path], object]


@pytest.fixture
def city(tmp_path: Path, places: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(app, ["gallery", "build", "city", "--data", "places", "--model", "run"])
    return Path("city")


def recognize(*words: object) -> tuple[Result, list[dict[str, Any]]]:
    printed = CliRunner().invoke(app, ["recognize", *map(str, words), "--gallery", "city", "--json"])
    return printed, [json.loads(line) for line in printed.stdout.splitlines()]


def picture(width: int = 60, height: int = 40) -> Image.Image:
    """Something red, with detail."""
    noise = np.random.default_rng(0).normal((230, 60, 60), 20, (height, width, 3))
    return Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))


def cut(kind: str) -> Make:
    """Half a file."""

    def make(path: Path) -> None:
        picture(300, 200).save(path, format=kind)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return make


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def lock(path: Path) -> None:
    picture().save(path)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")


def pipe(path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(path)


# How each is made in place of photo.jpg, and what the error says.
REFUSED: dict[str, tuple[Make, str]] = {
    "the beginning of a jpeg": (
        lambda path: (picture().save(path), path.write_bytes(path.read_bytes()[:640])),
        "incomplete JPEG",
    ),
    "half a png": (cut("PNG"), "incomplete PNG"),
    "half a webp": (cut("WEBP"), "incomplete WebP"),
    "half a gif": (cut("GIF"), "incomplete GIF"),
    "bomb": (lambda path: path.write_bytes(png_header(60_000, 60_000)), "60,000 × 60,000 pixels"),
    "the header of a strip": (lambda path: path.write_bytes(png_header(65_000, 1)), "incomplete PNG"),
    "text": (lambda path: path.write_text("not a photo at all"), "not a photo"),
    "another format": (lambda path: picture().save(path, format="JPEG2000"), "JPEG 2000 is not an accepted"),
    "zero bytes": (lambda path: path.write_bytes(b""), "an empty file"),
    "broken link": (lambda path: path.symlink_to("gone.jpg"), "a broken link"),
    "link to itself": (lambda path: path.symlink_to(path.name), "leads back to itself"),
    "no permission": (lock, "no permission"),
    "named pipe": (pipe, "not a regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_photo_is_named_counted_and_skipped(city: Path, name: str) -> None:
    make, words = REFUSED[name]
    Path("in").mkdir()
    picture().save("in/a.jpg")
    make(Path("in/photo.jpg"))
    picture().save("in/z.jpg")
    printed, (first, bad, last) = recognize("in")
    assert printed.exit_code == 1
    assert (bad["photo"], bad["landmark"], bad["confidence"], bad["candidates"]) == ("in/photo.jpg", None, 0.0, [])
    assert words in bad["error"]
    assert "in/photo.jpg" in bad["error"]
    assert f"warning: {bad['error']}" in printed.stderr
    assert "1 of 3 photos could not be used" in printed.stderr
    assert first["error"] is last["error"] is None
    assert recognize("in/photo.jpg")[1] == [bad], "given by name it gets the same answer"


def test_a_photo_that_was_cut_off_is_answered_with_a_warning(city: Path) -> None:
    Path("in").mkdir()
    picture(300, 200).save("in/a.jpg")
    Path("in/b.jpg").write_bytes(Path("in/a.jpg").read_bytes()[:-2])  # its end marker is missing, but no pixel
    cut("JPEG")(Path("in/c.jpg"))
    for options in ([], ["--augment"]):
        printed, (whole, unended, half) = recognize("in", *options)
        assert printed.exit_code == 0
        assert whole["warning"] is unended["warning"] is None
        assert unended | {"photo": whole["photo"]} == whole
        assert half["warning"].startswith("the JPEG was cut off: the lowest 5")
        assert half["candidates"]
        assert half["error"] is None
        assert f"warning: {half['warning']} · in/c.jpg" in printed.stderr
        assert "1 photo of 3 had been cut off" in printed.stderr
    assert recognize("in/c.jpg")[1][0]["warning"] == half["warning"], "by name it gets the same warning"


def test_a_photo_that_was_cut_off_is_no_reference(city: Path) -> None:
    cut("JPEG")(Path("half.jpg"))
    printed = CliRunner().invoke(app, ["gallery", "add", "city", "half.jpg", "--landmark", "tower"])
    assert printed.exit_code == 1
    assert "the JPEG was cut off: the lowest" in printed.stderr
    assert "fetch or copy it again" in printed.stderr


def test_a_folder_named_like_a_photo_is_searched(city: Path) -> None:
    Path("in/holiday.jpg").mkdir(parents=True)
    picture().save("in/holiday.jpg/a.png")
    printed, answers = recognize("in")
    assert printed.exit_code == 0
    assert [answer["photo"] for answer in answers] == ["in/holiday.jpg/a.png"]


def turned(orientation: int) -> Make:
    """The picture, stored lying or mirrored, with the orientation that sets it right."""
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]

    def make(path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = picture() if undo is None else picture().transpose(Image.Transpose(undo))
        stored.save(path, format="PNG", exif=exif)

    return make


def gray16(path: Path) -> None:
    Image.fromarray(np.asarray(picture().convert("L")).astype(np.uint16) * 257).save(path, format="PNG")


def translucent(path: Path) -> None:
    layer = picture()
    layer.putalpha(230)
    layer.save(path, format="PNG")


def animated(kind: str) -> Make:
    return lambda path: picture().save(path, format=kind, save_all=True, append_images=[Image.new("RGB", (60, 40))])


# How each is made, whatever its suffix, and whether its colors still say which landmark it is.
SOUND: dict[str, tuple[Make, bool]] = {
    "cmyk": (lambda path: picture().convert("CMYK").save(path, format="JPEG"), True),
    "progressive": (lambda path: picture().save(path, format="JPEG", progressive=True), True),
    "gray": (lambda path: picture().convert("L").save(path, format="JPEG"), False),
    "palette": (lambda path: picture().quantize(16).save(path, format="PNG"), True),
    "16 bits": (gray16, False),
    "1 bit": (lambda path: picture().convert("1").save(path, format="PNG"), False),
    "alpha": (translucent, True),
    "animated gif": (animated("GIF"), True),
    "animated png": (animated("PNG"), True),
    "animated webp": (animated("WEBP"), True),
    "a png that is called jpg": (lambda path: picture().save(path, format="PNG"), True),
    "one pixel": (lambda path: picture(1, 1).save(path, format="PNG"), True),
    "a strip of 65,000 × 1": (lambda path: picture(65_000, 1).save(path, format="PNG"), True),
    "a strip of 1 × 65,000": (lambda path: picture(1, 65_000).save(path, format="JPEG"), True),
    **{f"orientation {orientation}": (turned(orientation), True) for orientation in range(1, 9)},
}


@pytest.mark.parametrize("name", SOUND)
def test_what_is_odd_but_sound_is_answered(city: Path, name: str) -> None:
    make, colored = SOUND[name]
    make(Path("photo.jpg"))
    printed, (answer,) = recognize("photo.jpg", "--threshold", "0")
    assert (printed.exit_code, printed.stderr, answer["error"]) == (0, f"{UNCALIBRATED}\n", None)
    assert answer["landmark"]
    assert answer["landmark"] == "Dome" or not colored


def test_all_orientations_get_the_same_answer(city: Path) -> None:
    for orientation in range(1, 9):
        turned(orientation)(Path(f"{orientation}.jpg"))
    _, answers = recognize(*(f"{orientation}.jpg" for orientation in range(1, 9)))
    assert len({json.dumps({**answer, "photo": ""}) for answer in answers}) == 1


@pytest.mark.parametrize("name", ["föto.jpg", "with space.JPG", "-dash.jpg", "no suffix", "照片.heic"])
def test_any_file_name_will_do(city: Path, name: str) -> None:
    picture().save(name, format="JPEG")
    printed, (answer,) = recognize(f"./{name}")
    assert (printed.exit_code, answer["photo"], answer["error"]) == (0, f"./{name}", None)
