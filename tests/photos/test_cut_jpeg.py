"""JPEGs without their end: whole ones are read as ever, the others only as queries, with a warning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from obelisk.errors import PhotoTruncatedError
from obelisk.photos import read_photo, read_query

Encode = Callable[..., bytes]
KINDS = {
    "baseline": {},
    "gray": {"mode": "L"},
    "cmyk": {"mode": "CMYK"},
    "4:4:4": {"subsampling": 0},
    "restart markers": {"restart_marker_blocks": 3},
    "optimized": {"optimize": True},
    "progressive": {"progressive": True},
    "progressive gray": {"progressive": True, "mode": "L"},
}


@pytest.fixture(scope="session")
def detailed() -> Image.Image:
    """A picture with detail everywhere, so that no part of it can be missed."""
    noise = np.random.default_rng(0).normal(128, 60, (161, 243, 3))
    return Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))


@pytest.fixture(params=KINDS)
def jpeg(request: pytest.FixtureRequest, encode: Encode, detailed: Image.Image) -> bytes:
    options = dict(KINDS[request.param])
    return encode(detailed.convert(options.pop("mode", "RGB")), "JPEG", **options)


@pytest.mark.parametrize("min_side", [None, 20])
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_without_its_end_marker_is_whole(jpeg: bytes, missing: int, min_side: int | None) -> None:
    expected = read_photo(jpeg, min_side=min_side)
    assert read_photo(jpeg[:-missing], min_side=min_side).tobytes() == expected.tobytes()
    photo, warning = read_query(jpeg[:-missing] + bytes(10_000), min_side=min_side)
    assert photo.tobytes() == expected.tobytes()
    assert warning is None


@pytest.mark.parametrize("min_side", [None, 20])
@pytest.mark.parametrize("missing", [20, 0.1, 0.5])
def test_a_jpeg_that_was_cut_off_is_a_query_with_a_warning(jpeg: bytes, missing: float, min_side: int | None) -> None:
    cut = jpeg[: -missing if missing > 1 else -int(len(jpeg) * missing)]
    photo, warning = read_query(cut, min_side=min_side)
    assert photo.size == read_photo(jpeg, min_side=min_side).size
    assert warning is not None
    assert warning.startswith("the JPEG was cut off: ")
    with pytest.raises(PhotoTruncatedError, match=r"the JPEG was cut off: .* · fetch or copy it again"):
        read_photo(cut, min_side=min_side)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_the_warning_tells_how_much_is_missing(encode: Encode, detailed: Image.Image, share: float) -> None:
    data = encode(detailed.resize((480, 1600)), "JPEG")
    photo, warning = read_query(data[: int(len(data) * (1 - share))])
    told = int("".join(letter for letter in warning or "" if letter.isdigit())) / 100
    assert told == pytest.approx(share, abs=0.04)
    # What is missing is gray; the rows above are those of the whole photo.
    rows = int(1600 * (1 - told)) - 32
    assert np.array_equal(np.asarray(photo)[:rows], np.asarray(read_photo(data))[:rows])
    assert np.ptp(np.asarray(photo)[-32:]) <= 2


def test_a_progressive_jpeg_without_its_last_scans_lacks_detail(encode: Encode, detailed: Image.Image) -> None:
    data = encode(detailed, "JPEG", progressive=True)
    third = [at for at in range(len(data)) if data.startswith(b"\xff\xda", at)][3]
    _, warning = read_query(data[:third])
    assert warning == "the JPEG was cut off: finer detail is missing"


def test_room_that_was_never_filled_is_missing(encode: Encode, detailed: Image.Image) -> None:
    data = encode(detailed, "JPEG")
    half = data[: len(data) // 2]
    photo, warning = read_query(half + bytes(len(data) // 2))
    assert (photo.tobytes(), warning) == (read_query(half)[0].tobytes(), read_query(half)[1])
    assert read_photo(data + bytes(10_000)).tobytes() == read_photo(data).tobytes()


def test_a_jpeg_of_which_no_row_is_left_is_refused(encode: Encode, detailed: Image.Image) -> None:
    with pytest.raises(PhotoTruncatedError, match="incomplete JPEG photo"):
        read_query(encode(detailed, "JPEG")[:640])


def test_other_damage_is_no_cut(encode: Encode, detailed: Image.Image, tmp_path: Path) -> None:
    data = bytearray(encode(detailed, "JPEG"))
    data[data.index(b"\xff\xda") :] = b"\xff\xda\0\3"
    with pytest.raises(PhotoTruncatedError, match="incomplete JPEG photo"):
        read_query(bytes(data))
