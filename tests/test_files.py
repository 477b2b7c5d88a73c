"""Files are written whole or not at all; a lock has one holder."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from obelisk.files import exclusive_lock, replace_file


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


def test_where_no_lock_can_be_made_nothing_is_locked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "other").write_bytes(b"no database" * 1000)
    for lock in (tmp_path / "file" / "lock", tmp_path / "other"):
        with exclusive_lock(lock, wait=0) as acquired:
            assert acquired
    assert (tmp_path / "other").read_bytes() == b"no database" * 1000
