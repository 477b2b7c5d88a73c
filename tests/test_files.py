"""Files are written whole or not at all; a lock has one holder."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest

from obelisk.files import (
    exclusive_lock,
    growing_beside,
    is_occupied,
    move_folder,
    partial_path,
    read_limited,
    remove_partials,
    replace_file,
)


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_text("old")

    def run_out(partial: Path) -> None:
        partial.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left") as raised:
        replace_file(path, run_out)
    assert raised.value.filename == str(path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("table", "old")]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_library_with_an_error_of_its_own_for_a_full_disk_names_the_file_too(tmp_path: Path, number: int) -> None:
    def run_out(partial: Path) -> None:
        raise ValueError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")

    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        replace_file(tmp_path / "weights", run_out)
    assert (raised.value.errno, raised.value.filename) == (number, str(tmp_path / "weights"))


def write_text(path: Path, text: str) -> Path:
    return replace_file(path, lambda partial: partial.write_text(text))


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_a_replaced_file_keeps_its_permissions_and_a_new_one_has_the_usual_ones(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    for mode in (0o600, 0o640, 0o444, 0o755):
        path = tmp_path / f"{mode:o}"
        path.write_text("old")
        path.chmod(mode)
        assert write_text(path, "new").stat().st_mode & 0o777 == mode
    assert write_text(tmp_path / "new", "").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("塔" * 85)
    assert write_text(path, "text").read_text() == "text"


def test_only_what_can_be_made_again_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = Mock()
    monkeypatch.setattr(os, "fsync", sync)
    for synced in (False, True):
        replace_file(tmp_path / "file", lambda partial: partial.write_text("new"), synced=synced)
        assert sync.called == synced
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("there", "dangling"):
        (tmp_path / f"{name} link").symlink_to(tmp_path / "folder" / name)
    (tmp_path / "folder" / "there").write_text("old")
    for name in ("there", "dangling"):
        write_text(tmp_path / f"{name} link", "new")
        assert (tmp_path / f"{name} link").is_symlink()
        assert (tmp_path / "folder" / name).read_text() == "new"
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["dangling", "there"]


def test_links_put_in_the_way_are_not_written_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "victim").write_text("mine")
    for name in (f".report.{os.getpid()}", ".report.partial", ".report.abc.partial"):
        (tmp_path / name).symlink_to(tmp_path / "victim")
    write_text(tmp_path / "report", "new")
    # Not even if the name is guessed.
    monkeypatch.setattr("obelisk.files.partial_path", lambda path: tmp_path / ".report.abc.partial")
    with pytest.raises(FileExistsError) as raised:
        write_text(tmp_path / "report", "newer")
    assert raised.value.filename == str(tmp_path / "report")
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "report").read_text() == "new"


def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    path = Path(f"/dev/fd/{writer}")
    if not path.exists():
        pytest.skip("this system does not name open files in /dev/fd")
    write_text(path, "text")
    os.close(writer)
    assert os.read(reader, 100) == b"text"
    os.close(reader)


def test_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    texts = [str(number) * 10_000 for number in range(8)]

    def write(text: str) -> None:
        for _ in range(20):
            write_text(path, text)
            assert path.read_text() in texts

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, texts))
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_what_killed_processes_left_is_recognized(tmp_path: Path) -> None:
    kept = ("run.json", ".hidden", ".gitignore", ".partial", "a.partial")
    left = (partial_path(tmp_path / "run.json").name, ".run.json.12345")
    for name in (*kept, *left):
        (tmp_path / name).write_text("")
    partial_path(tmp_path / "folder").mkdir()
    remove_partials(tmp_path)
    assert {file.name for file in tmp_path.iterdir() if file.is_file()} == set(kept)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV])
def test_what_cannot_be_renamed_to_its_place_gets_there_all_the_same(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number), str(source), None, str(target))

    (tmp_path / "file").write_text("old, and longer")
    (tmp_path / "volume").mkdir()
    (tmp_path / "made" / "model").mkdir(parents=True)
    (tmp_path / "made" / "database").write_text("rows")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refuse)
        patched.setattr(Path, "rename", refuse)
        assert write_text(tmp_path / "file", "new").read_text() == "new"
        move_folder(tmp_path / "made", tmp_path / "volume")
    assert (tmp_path / "volume" / "database").read_text() == "rows"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["database", "file", "model", "volume"]


def test_a_disk_of_its_own_is_empty_with_what_file_systems_and_interrupted_commands_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = tmp_path / "volume"
    for name in ("lost+found", "volume.partial", ".volume.build.lock", ".volume.x5_u"):
        (volume / name).mkdir(parents=True)
    assert is_occupied(volume)
    monkeypatch.setattr(os.path, "ismount", volume.__eq__)
    assert not is_occupied(volume)
    assert (growing_beside(volume), growing_beside(volume / "volume.partial")) == (volume, volume)
    (volume / "photo.jpg").touch()
    assert is_occupied(volume)


HOLD = """
import sys
from pathlib import Path
from obelisk.files import exclusive_lock
with exclusive_lock(Path(sys.argv[1]), wait=0) as acquired:
    print(acquired, flush=True)
    sys.stdin.read()
"""


def test_a_lock_has_one_holder_and_goes_with_its_process(tmp_path: Path) -> None:
    lock = tmp_path / "folder" / "lock"
    with exclusive_lock(lock, wait=0) as first, exclusive_lock(lock, wait=0) as second:
        assert (first, second) == (True, False)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    with exclusive_lock(lock, wait=0) as acquired:
        assert not acquired
    holder.kill()
    holder.communicate(timeout=60)
    with exclusive_lock(lock, wait=60) as acquired:
        assert acquired


@pytest.mark.skipif(os.name == "nt", reason="there is no such answer")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EACCES])
def test_where_the_system_grants_no_locks_nothing_is_locked_and_nobody_waits(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    with exclusive_lock(tmp_path / "lock", wait=0):  # SQLite says that it is busy, as it does after ENOLCK
        monkeypatch.setattr(fcntl, "lockf", Mock(side_effect=OSError(number, os.strerror(number))))
        with exclusive_lock(tmp_path / "lock", wait=1e6) as acquired:
            assert acquired


def test_where_no_lock_can_be_made_nothing_is_locked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "other").write_bytes(b"no database" * 1000)
    for lock in (tmp_path / "file" / "lock", tmp_path / "other"):
        with exclusive_lock(lock, wait=0) as acquired:
            assert acquired
    assert (tmp_path / "other").read_bytes() == b"no database" * 1000


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(b"12345")
    assert read_limited(path, 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_limited(path, 4)
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole: it takes no room on the disk
    with pytest.raises(OSError, match="more than 1,000 bytes"):
        read_limited(path, 1000)
    with pytest.raises(FileNotFoundError):
        read_limited(tmp_path / "missing", 5)
    with pytest.raises(OSError):
        read_limited(tmp_path, 5)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a file"):
        read_limited(tmp_path / "pipe", 5)
