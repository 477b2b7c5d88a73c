from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from obelisk.errors import PhotoMissingError, PhotoTooLargeError
from obelisk.photos import content_hash, photo_exists, read_bytes


def folder(path: Path) -> None:
    path.mkdir()


def broken_link(path: Path) -> None:
    path.symlink_to(path.with_name("gone.jpg"))


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def pipe(path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(path)


def nothing(path: Path) -> None:
    pass


# What may stand where a photo should be, and what the error calls it.
MISSING: list[tuple[Callable[[Path], None], str]] = [
    (nothing, "no such photo"),
    (folder, "this is a folder, not a photo"),
    (broken_link, "a broken link"),
    (link_to_itself, "leads back to itself"),
    (pipe, "not a regular file"),
]


@pytest.mark.parametrize(("make", "words"), MISSING)
def test_what_is_no_readable_file_is_named(make: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    make(path)
    with pytest.raises(PhotoMissingError) as raised:
        read_bytes(path)
    assert words in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("name", ["a\0b.jpg", "x" * 5000 + ".jpg", "file.txt/photo.jpg"])
def test_impossible_paths_are_missing_photos(name: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("not a folder")
    with pytest.raises(PhotoMissingError):
        read_bytes(tmp_path / name)


def test_no_permission_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Raised by hand: tests may run as root, who may read everything.
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"x")

    def refuse(self: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PhotoMissingError, match=r"no permission .*photo\.jpg"):
        read_bytes(path)


def test_a_file_that_no_photo_needs_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    with path.open("wb") as file:
        file.truncate(100_000_001)
    with pytest.raises(PhotoTooLargeError, match="100,000,001 bytes"):
        read_bytes(path)


def test_content_hash_is_the_same_everywhere() -> None:
    assert content_hash(b"obelisk") == "512f122aa5118ad63ad9be1876dca455"
    assert content_hash(b"obelisk") != content_hash(b"Obelisk")


def test_a_photo_that_we_may_not_look_at_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", forbid)
    assert photo_exists(Path("locked/photo.jpg"))
