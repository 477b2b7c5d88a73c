"""A disk that is full at one write after the other: an error that says so, the gallery as it was, and still read."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from obelisk.embedding import Bundle
from obelisk.gallery import Gallery, check_gallery

pytestmark = pytest.mark.stress

D = 64
BLOCK = 4096
BALLAST = "ballast"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, timeout=60
    )
    if made.returncode:
        pytest.skip("a small file system can only be mounted by root")
    yield place
    subprocess.run(["umount", str(place)], check=True, timeout=60)


@pytest.fixture
def bundle(tmp_path: Path, write_any_bundle: Callable[..., Bundle]) -> Bundle:
    return write_any_bundle(tmp_path / "model", bytes(5 * BLOCK), dimensions=D)


def leave_blocks(disk: Path, blocks: int) -> None:
    """Fill the disk but for so many blocks."""
    (disk / BALLAST).unlink(missing_ok=True)
    with (disk / BALLAST).open("wb") as ballast:
        ballast.write(bytes(max(0, os.statvfs(disk).f_bavail - blocks) * BLOCK))


def attempt(change: Callable[[], object]) -> OSError | None:
    try:
        change()
    except OSError as error:
        return error
    return None


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, D))


CHANGES: dict[str, Callable[[Gallery], object]] = {
    "add": lambda g: g.add(rows(300, 1), ["Tower"] * 300, [f"new {number}" for number in range(300)]),
    "remove": lambda g: g.remove(landmarks=[1]),
    "merge": lambda g: g.merge([1], 2),
    "rename": lambda g: g.rename(1, "Arch"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_made_whole_or_refused(disk: Path, change: Callable[[Gallery], object], bundle: Bundle) -> None:
    gallery = Gallery.create(disk / "city", bundle)
    gallery.add(rows(400), ["Dome"] * 200 + ["Gate"] * 200, [f"photo {number}" for number in range(400)])
    before = gallery.search(rows(3, 2), 5)
    for blocks in count():
        leave_blocks(disk, blocks)
        refused = attempt(lambda: change(gallery))
        if refused is None:
            break
        assert refused.errno == errno.ENOSPC
        again = Gallery.open(disk / "city")
        for found, expected in zip(again.search(rows(3, 2), 5), before, strict=True):
            np.testing.assert_array_equal(found, expected)
        assert check_gallery(disk / "city") == []
    assert blocks > 0
    assert check_gallery(disk / "city") == []
    print(f"refused {blocks} times, made with {blocks} free blocks")


def test_a_gallery_is_created_whole_or_not_at_all(disk: Path, bundle: Bundle) -> None:
    for blocks in count():
        leave_blocks(disk, blocks)
        refused = attempt(lambda: Gallery.create(disk / "city", bundle))
        if refused is None:
            break
        assert refused.errno == errno.ENOSPC
        assert [path.name for path in disk.iterdir()] == [BALLAST]
    assert check_gallery(disk / "city") == []
    print(f"refused {blocks} times, made with {blocks} free blocks")
