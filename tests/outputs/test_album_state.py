"""What an album keeps for the next run: whole answers only, by content, and for one process at a time."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from obelisk.errors import ObeliskError
from obelisk.outputs import AlbumState, Thumbnail
from obelisk.records import Recognition

ANSWER = Recognition(photo="a\udcff.jpg", landmark="塔", landmark_id=1, verdict="sure", confidence=0.9, links=("x",))
PICTURE = Thumbnail(uri="data:image/jpeg;base64,/9j/", width=3, height=2)


def test_what_is_kept_comes_back_whatever_happened_in_between(tmp_path: Path) -> None:
    folder = tmp_path / "a.partial"
    with AlbumState(folder, ["key", 0.5]) as state:
        for content in ("one", "two", "one"):
            state.keep(content, ANSWER, PICTURE)
    (kept,) = folder.glob("*.jsonl")
    whole = kept.read_bytes()
    for rest in (b"", whole[:100], b"\x00\xff\n" + whole, b"[]\n"):  # what a kill may leave
        kept.write_bytes(whole + rest)
        with AlbumState(folder, ["key", 0.5]) as state:
            assert len(state) == 2
            state.keep("three", ANSWER, PICTURE)
            answer, picture = state.read("two", "b.jpg")
            assert (answer.photo, answer.landmark, answer.links, picture) == ("b.jpg", "塔", ("x",), PICTURE)
            assert state.read("three", ANSWER.photo)[0] == ANSWER
    with AlbumState(folder, ["key", 0.6]) as state:
        assert len(state) == 0


def test_its_folder_goes_but_not_what_others_put_there(tmp_path: Path) -> None:
    for name in ("a.partial", "b.partial"):
        with AlbumState(tmp_path / name, "key") as state:
            state.keep("one", ANSWER, PICTURE)
            if name == "b.partial":
                (tmp_path / name / "notes.txt").write_text("mine", encoding="utf-8")
            state.remove()
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "b.partial",
        "b.partial/notes.txt",
    ]


def test_nothing_stays_of_an_album_that_never_began(tmp_path: Path) -> None:
    with AlbumState(tmp_path / "a.partial", "key"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_two_processes_do_not_make_one_album(tmp_path: Path) -> None:
    with AlbumState(tmp_path / "a.partial", "key"), pytest.raises(ObeliskError, match="another process") as refused:
        AlbumState(tmp_path / "a.partial", "key").__enter__()
    assert "--out" in refused.value.fix


def test_a_full_disk_names_the_folder_and_loses_one_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a.partial"

    class FullFile:
        """A file on a disk with room for 40 bytes."""

        def __init__(self, file: object) -> None:
            self._file, self._room = file, 40

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

        def write(self, data: bytes) -> int:
            if not self._room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._room -= 40
            return int(self._file.write(bytes(data[:40])))  # type: ignore[attr-defined]

    with AlbumState(folder, "key") as state:
        state.keep("one", ANSWER, PICTURE)
        monkeypatch.setattr(state, "_appended", FullFile(state._appended))
        with pytest.raises(OSError, match="No space left") as failed:
            state.keep("two", ANSWER, PICTURE)
        assert failed.value.filename == str(folder)
        assert "1 answer" in state.advice
    with AlbumState(folder, "key") as state:
        assert len(state) == 1
        state.keep("two", ANSWER, PICTURE)
        assert state.read("two", ANSWER.photo) == (ANSWER, PICTURE)
