from __future__ import annotations

import errno
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from obelisk.errors import UsageError
from obelisk.photos import PhotoFilter, advise_unlistable, find_photos


def test_find_photos_is_recursive_sorted_and_skips_what_is_hidden(tmp_path: Path) -> None:
    shown = ["B.JPG", "a.jpeg", "b/c/d.webp", "b/e.gif", "z.heic"]
    for name in [*shown, ".hidden.jpg", ".git/x.jpg", "notes.txt", "b/jpg", "._B.JPG"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert find_photos(tmp_path) == [tmp_path / name for name in shown]


def test_find_photos_follows_links_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.jpg").write_bytes(b"")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    (tmp_path / "album").symlink_to(tmp_path / "real")
    assert len(find_photos(tmp_path)) == 1


def test_find_photos_of_one_file_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "photo.dat"
    path.write_bytes(b"")
    assert find_photos(path) == [path]


def test_find_photos_reports_a_folder_that_may_not_be_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.jpg").write_bytes(b"")
    scandir = os.scandir

    def forbid(path: str) -> Iterator[os.DirEntry[str]]:
        if path == str(tmp_path / "locked"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbid)
    reported: list[OSError] = []
    assert find_photos(tmp_path, reported.append) == [tmp_path / "a.jpg"]
    assert [error.filename for error in reported] == [str(tmp_path / "locked")]
    with pytest.raises(UsageError, match="cannot be searched: Permission denied"):
        find_photos(tmp_path)


@pytest.mark.skipif(os.mkdir not in os.supports_dir_fd, reason="no such deep folders")
def test_a_folder_deeper_than_paths_may_be_long_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(18):
        os.mkdir("deep" * 60, dir_fd=folder)
        below = os.open("deep" * 60, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    reported: list[OSError] = []
    assert find_photos(tmp_path, reported.append) == [tmp_path / "a.jpg"]
    assert [advise_unlistable(error) for error in reported] == ["move it up: its path is too long"]


def test_find_photos_of_a_missing_folder_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none"):
        find_photos(tmp_path / "none")


def make_files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


# What lies in a folder of photos beside the photo itself, and what is said of it.
PASSED_OVER = {
    "pictures of other formats": (("b.psd", "c.JXL", "in/d.jxl"), "3 pictures of other formats (2 jxl, 1 psd)"),
    "one picture of another format": (("b.cr2",), "1 picture of another format (1 cr2)"),
    "texts and videos": (("b.txt", "c.mp4", "Thumbs.db"), ""),
    "hidden files": ((".b.jpg", "._b.jpg", ".cache/c.jpg", ".c.psd"), ""),
    "thumbnails of a Synology": (("@eaDir/a.jpg/S.jpg", "in/@eaDir/b.jpg"), "2 folders that machines make (2 @eaDir)"),
    "bins": (
        ("#recycle/b.jpg", "@Recycle/c.jpg", "$Recycle.Bin/d.jpg", ".Trash-1000/files/e.jpg"),
        "4 folders that machines make (1 #recycle, 1 $Recycle.Bin, 1 .Trash-1000, 1 @Recycle)",
    ),
    "folders of systems": (
        ("System Volume Information/b.jpg", "lost+found/c.jpg", "__MACOSX/d.jpg"),
        "3 folders that machines make (1 System Volume Information, 1 __MACOSX, 1 lost+found)",
    ),
    "explained answers": (("a.explained.png", "in/b.explained.JPG", "c.explained.webp"), "3 of Obelisk's own pictures"),
    "a run": (("run/run.json", "run/recipe.toml", "run/curves.png"), "1 folder of Obelisk's own output"),
    "a gallery": (("g/gallery.sqlite", "g/model/x.png"), "1 folder of Obelisk's own output"),
    "what data clean writes": (
        ("out/suspects.csv", "out/manifest.json", "out/pictures/1.png"),
        "1 folder of Obelisk's own output",
    ),
}


@pytest.mark.parametrize(("names", "told"), PASSED_OVER.values(), ids=PASSED_OVER)
def test_what_is_passed_over_is_counted_by_kind(names: tuple[str, ...], told: str, tmp_path: Path) -> None:
    make_files(tmp_path, "a.jpg", *names)
    chosen = PhotoFilter()
    assert find_photos(tmp_path, photo_filter=chosen) == [tmp_path / "a.jpg"]
    assert chosen.describe() == (f"passed over: {told}" if told else "")


def test_all_kinds_are_told_in_one_sentence(tmp_path: Path) -> None:
    make_files(tmp_path, "a.jpg", "b.psd", "lost+found/c.jpg", "a.explained.png", "raw/d.jpg")
    chosen = PhotoFilter(["raw"])
    find_photos(tmp_path, photo_filter=chosen)
    assert chosen.describe() == (
        "passed over: 1 picture of another format (1 psd), 1 folder that machines make (1 lost+found), "
        "1 of Obelisk's own pictures, 1 excluded"
    )


def test_a_folder_is_searched_if_it_is_named_itself(tmp_path: Path) -> None:
    make_files(tmp_path, "@eaDir/a.jpg", "run/run.json", "run/recipe.toml", "run/b.jpg", ".hidden/c.jpg")
    for folder in ("@eaDir", "run", ".hidden"):
        assert len(find_photos(tmp_path / folder)) == 1


# A glob, and which of these four photos it leaves.
PHOTOS = ("a.jpg", "Raw/b.jpg", "in/Raw/c.jpg", "in/d_edited.jpg")
GLOBS = {
    "Raw": ("a.jpg", "in/d_edited.jpg"),
    "Raw/": ("a.jpg", "in/d_edited.jpg"),
    "raw": PHOTOS,
    "/Raw": ("a.jpg", "in/Raw/c.jpg", "in/d_edited.jpg"),
    "in/Raw": ("a.jpg", "Raw/b.jpg", "in/d_edited.jpg"),
    "*_edited.*": ("a.jpg", "Raw/b.jpg", "in/Raw/c.jpg"),
    "in/*.jpg": ("a.jpg", "Raw/b.jpg"),
    "**/Raw/**": ("a.jpg", "Raw/b.jpg", "in/d_edited.jpg"),
    "[ab].jpg": ("in/Raw/c.jpg", "in/d_edited.jpg"),
    "a.jpg/": PHOTOS,
}


@pytest.mark.parametrize(("glob", "left"), GLOBS.items())
def test_globs_exclude_names_or_paths(glob: str, left: tuple[str, ...], tmp_path: Path) -> None:
    make_files(tmp_path, *PHOTOS)
    found = find_photos(tmp_path, photo_filter=PhotoFilter([glob]))
    assert [path.relative_to(tmp_path).as_posix() for path in found] == sorted(left)


def test_globs_are_compared_in_nfc(tmp_path: Path) -> None:
    make_files(tmp_path, unicodedata.normalize("NFD", "Zürich/a.jpg"), "b.jpg")
    assert find_photos(tmp_path, photo_filter=PhotoFilter(["Zürich"])) == [tmp_path / "b.jpg"]


@pytest.mark.parametrize("glob", ["", "/", "./"])
def test_an_empty_glob_is_refused(glob: str) -> None:
    with pytest.raises(UsageError, match="names nothing"):
        PhotoFilter([glob])


def test_a_link_never_takes_the_name_of_a_folder(tmp_path: Path) -> None:
    make_files(tmp_path, "Alps/a.jpg", "Zoo/b.jpg", "Zoo/in/c.jpg")
    (tmp_path / "Again").symlink_to(tmp_path / "Zoo")
    (tmp_path / "Alps" / "deep").symlink_to(tmp_path / "Zoo" / "in")
    (tmp_path / "Zoo" / "circle").symlink_to(tmp_path)
    chosen = PhotoFilter()
    found = find_photos(tmp_path, photo_filter=chosen)
    assert found == [tmp_path / name for name in ("Alps/a.jpg", "Zoo/b.jpg", "Zoo/in/c.jpg")]
    links = "Again → Zoo, Alps/deep → Zoo/in, Zoo/circle → the whole folder"
    assert chosen.describe() == f"passed over: 3 links to folders that are read anyway ({links})"


def test_a_link_to_a_folder_that_is_not_walked_is_followed_once(tmp_path: Path) -> None:
    make_files(tmp_path, "elsewhere/a.jpg", "places/.store/b.jpg", "places/C/c.jpg")
    places = tmp_path / "places"
    (places / "A").symlink_to(tmp_path / "elsewhere")
    (places / "Also A").symlink_to(tmp_path / "elsewhere")
    (places / "B").symlink_to(places / ".store")
    chosen = PhotoFilter()
    assert find_photos(places, photo_filter=chosen) == [places / name for name in ("A/a.jpg", "B/b.jpg", "C/c.jpg")]
    assert chosen.links == ["Also A → A"]
