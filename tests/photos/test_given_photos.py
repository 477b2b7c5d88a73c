"""Photos as programs have them: the same photo gives the same pixels, whatever it is given as."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from obelisk.errors import PhotoError, UsageError
from obelisk.photos import MAX_BYTES, UntilError, map_in_order, read_photo, read_query, take_photos, weigh_photo

Encode = Callable[..., bytes]

TURNED = Image.Exif()
TURNED[274] = 6
# Each keeps every pixel: kind, mode, options.
LOSSLESS = [
    ("PNG", "RGB", {}),
    ("PNG", "RGB", {"exif": TURNED}),
    ("PNG", "LA", {}),
    ("PNG", "P", {}),
    ("PNG", "1", {}),
    ("PNG", "RGBA", {"exif": TURNED}),
    ("GIF", "P", {"transparency": 3}),
    ("TIFF", "RGB", {"exif": TURNED}),
    ("TIFF", "CMYK", {}),
    ("WEBP", "RGBA", {"lossless": True, "exif": TURNED}),
    ("BMP", "L", {}),
]


@pytest.mark.parametrize(("kind", "mode", "options"), LOSSLESS)
@pytest.mark.parametrize("min_side", [None, 8])
def test_a_photo_is_the_same_by_path_as_bytes_as_file_and_as_image(
    encode: Encode,
    picture: Image.Image,
    tmp_path: Path,
    kind: str,
    mode: str,
    options: dict[str, Any],
    min_side: int | None,
) -> None:
    path = tmp_path / "photo"
    path.write_bytes(encode(picture.convert(mode), kind, **options))
    by_path = read_photo(path, min_side=min_side)
    with Image.open(path) as lazy, Image.open(path) as loaded, path.open("rb") as file:
        loaded.load()
        sources = [str(path), path.read_bytes(), bytearray(path.read_bytes()), file, lazy, loaded]
        found = [read_photo(source, min_side=min_side) for source in sources]
    assert [one.tobytes() == by_path.tobytes() for one in found] == [True] * 6
    assert {(one.size, one.mode) for one in found} == {(by_path.size, "RGB")}


def test_an_array_is_the_photo_that_has_its_pixels(encode: Encode, picture: Image.Image) -> None:
    pixels = np.asarray(picture)
    plain = read_photo(encode(picture, "PNG"))
    assert read_photo(pixels).tobytes() == plain.tobytes()
    assert read_photo(pixels[:, ::-1]).tobytes() == ImageOps.mirror(plain).tobytes()
    assert read_photo(pixels[..., 0]).tobytes() == picture.getchannel(0).convert("RGB").tobytes()


def test_an_unloaded_jpeg_is_decoded_like_its_file(encode: Encode, picture: Image.Image) -> None:
    data = encode(picture.resize((960, 640)), "JPEG", exif=TURNED)
    image = Image.open(io.BytesIO(data))
    assert read_photo(image, min_side=100).tobytes() == read_photo(data, min_side=100).tobytes()
    assert image.size == (960, 640)
    image.draft("RGB", (240, 160))  # its owner decodes it small
    assert read_photo(image).size == (160, 240)


def test_a_later_frame_is_the_one_that_is_shown(encode: Encode, picture: Image.Image) -> None:
    later = ImageOps.flip(picture)
    data = encode(picture, "TIFF", save_all=True, append_images=[later])
    image = Image.open(io.BytesIO(data))
    image.seek(1)
    assert read_photo(image).tobytes() == later.tobytes()


def test_an_image_that_lies_about_its_mode_or_size_is_what_its_pixels_are() -> None:
    gray = Image.new("L", (40, 30), 7)
    lie = gray.copy()
    lie._mode, lie._size = "RGB", (400, 300)
    assert read_photo(lie).tobytes() == read_photo(gray).tobytes()


@pytest.mark.parametrize("mode", ["I", "F", "I;16", "I;16B", "HSV", "LAB", "YCbCr", "La", "RGBa", "RGBX", "PA"])
def test_images_of_any_mode_become_rgb(mode: str) -> None:
    assert read_photo(Image.new(mode, (20, 10))).mode == "RGB"


class Pipe(io.RawIOBase):
    """Gives a few bytes at a time, and cannot seek."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, 7))


def test_a_file_is_read_from_its_position_on(encode: Encode, picture: Image.Image) -> None:
    data = encode(picture, "PNG")
    file = io.BytesIO(b"head" + data)
    file.seek(4)
    assert read_photo(file).tobytes() == picture.tobytes()
    assert read_photo(Pipe(data)).tobytes() == picture.tobytes()
    with pytest.raises(PhotoError, match=r"read to its end · a photo given as BytesIO · seek\(0\) before"):
        read_photo(file)


class Broken:
    def read(self, size: int) -> bytes:
        raise RuntimeError("the server went away")


class Endless:
    def read(self, size: int) -> bytes:
        return bytes(size)


# What has a fault of its own: others go on. Source, words of the error.
FAULTY = [
    (b"", "an empty file"),
    (b"hello", "not a photo"),
    (Broken(), "the server went away"),
    (Endless(), f"more than {MAX_BYTES:,}"),
    (Image.new("RGB", (0, 5)), "without pixels"),
    (Image.new("1", (120_000, 1)), "120,000 × 1 pixels"),
    (np.zeros((60_000, 900), np.uint8), "900 × 60,000 pixels"),
    (Image.open(io.BytesIO(b"BM" + bytes(8) + b"\x1a\0\0\0\x0c\0\0\0\x10\0\x10\0\1\0\x18\0")), "BMP"),
]


@pytest.mark.parametrize(("source", "words"), FAULTY)
def test_a_photo_with_a_fault_is_named(source: Any, words: str) -> None:
    (photo,) = take_photos([source])
    with pytest.raises(PhotoError) as raised:
        read_query(photo)
    assert words in str(raised.value)
    assert "photo 1" in str(raised.value)


def closed(file: Any) -> Any:
    file.close()
    return file


# What is no photo at all: source, words of the error.
REFUSED = [
    (None, "a photo is given as None · photo 1 · give a path, bytes,"),
    (3, "given as `int`"),
    (["a.jpg"], "given as `list`"),
    ({"a": 1}, "given as `dict`"),
    (io.StringIO("text"), "mode 'rb'"),
    (closed(io.BytesIO(b"x")), "a closed file"),
    (closed(Image.new("RGB", (3, 3))), "a closed image"),
    (np.zeros((4, 5, 3)), "an array of 4 × 5 × 3, float64"),
    (np.zeros((4, 5, 3), bool), "astype(numpy.uint8)"),
    (np.zeros((3, 40, 50), np.uint8), "transpose(1, 2, 0)"),
    (np.zeros((2, 4, 5, 3), np.uint8), "list(array)"),
    (np.zeros((4, 5, 4), np.uint8), "fromarray"),
    (np.zeros(9, np.uint8), "tobytes()"),
    (np.zeros((0, 5, 3), np.uint8), "without pixels"),
    (np.array(None), "object"),
]


@pytest.mark.parametrize(("given", "words"), REFUSED)
def test_what_is_no_photo_is_refused_by_its_number_with_what_is_taken(given: Any, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        list(take_photos([given]))
    assert words in str(raised.value)
    assert "photo 1" in str(raised.value)


class Frame:
    columns = ("path",)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


@pytest.mark.parametrize(
    ("given", "words"), [(None, "a list of these"), (3, "`int`"), ({}, "`dict`"), (Frame(), "columns")]
)
def test_what_holds_no_photos_is_refused_right_away(given: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        take_photos(given)


def test_names_are_paths_or_files_or_positions(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x")
    with path.open("rb") as file:
        names = [photo.name for photo in take_photos(iter(["./b.jpg", Path("c.jpg"), b"x", file, io.BytesIO(b"x")]))]
    assert names == ["./b.jpg", "c.jpg", "photo 3", str(path), "photo 5"]
    (single,) = take_photos(b"x")
    assert single.name == "photo 1"


@pytest.mark.parametrize(
    "paths",
    [np.array(["a.jpg", "b.jpg"]), np.array([Path("a.jpg"), "b.jpg"], dtype=object), {"a.jpg": 1, "b.jpg": 2}.keys()],
)
def test_any_iterable_may_hold_photos(paths: Any) -> None:
    assert [photo.name for photo in take_photos(paths)] == ["a.jpg", "b.jpg"]


def test_what_its_owner_changes_later_is_taken_at_once(picture: Image.Image) -> None:
    def reuse_one_buffer() -> Iterator[Any]:
        for buffer in (np.zeros((10, 10, 3), np.uint8), np.zeros((10, 10), np.uint8)):
            for level in (10, 20):
                buffer[:] = level
                yield buffer
        with io.BytesIO() as file:
            picture.save(file, "PNG")
            file.seek(0)
            with Image.open(file) as image:
                yield image

    taken = list(take_photos(reuse_one_buffer()))
    assert [read_photo(photo).getpixel((0, 0))[0] for photo in taken] == [10, 20, 10, 20, 0]


def test_heavy_photos_are_not_held_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obelisk.photos.parallel.IN_FLIGHT_BYTES", 1000)
    monkeypatch.setattr("obelisk.photos.parallel.usable_cores", lambda: 8)
    taken: list[int] = []
    photos = take_photos(taken.append(n) or bytes(400) for n in range(9))  # type: ignore[func-returns-value]
    results = map_in_order(weigh_photo, photos, weigh_photo)
    assert next(results) == 400
    assert len(taken) == 3
    assert list(results) == [400] * 8


def test_an_error_of_an_iterable_waits_for_what_came_before() -> None:
    def break_off() -> Iterator[int]:
        yield 1
        raise RuntimeError("no more")

    stream = UntilError(break_off())
    assert list(stream) == [1]
    assert str(stream.error) == "no more"
