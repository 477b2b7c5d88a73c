"""Looking at a database beside SQLite does not take its locks away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from obelisk.embedding import Bundle
from obelisk.gallery import Gallery, first_look

OTHER = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1], isolation_level=None) as connection:
    print(connection.execute("SELECT name FROM landmarks").fetchall())
connection.close()
"""


@pytest.fixture
def gallery(tmp_path: Path, bundle: Bundle) -> Gallery:
    gallery = Gallery.create(tmp_path / "city", bundle)
    gallery.add(np.eye(gallery.dimensions)[:1], ["Dome"], ["old"])
    return gallery


def read_elsewhere(folder: Path) -> str:
    """Read the landmarks in another process, which folds the log in and deletes it if it believes to be the last."""
    command = [sys.executable, "-c", OTHER, str(folder / "gallery.sqlite")]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def open_files_of(folder: Path) -> list[str]:
    if not Path("/proc/self/fd").exists():
        pytest.skip("nothing lists the open files")
    links = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
    return [link for link in links if link.startswith(str(folder.resolve()))]


def test_no_other_process_deletes_the_log_of_a_transaction(gallery: Gallery) -> None:
    with gallery.changing() as connection:
        connection.execute("UPDATE landmarks SET name = 'Arch' WHERE id = 1")
        first_look.refuse_strange_files(gallery.path)
        assert "Arch" not in read_elsewhere(gallery.path)
        assert (gallery.path / "gallery.sqlite-wal").exists()
    del connection
    assert "Arch" in read_elsewhere(gallery.path)
    assert open_files_of(gallery.path) == []


def test_a_look_closes_what_it_opened(gallery: Gallery) -> None:
    first_look.refuse_strange_files(gallery.path)
    gallery.add(np.eye(gallery.dimensions)[:1], ["Arch"], ["new"])
    assert Gallery.open(gallery.path).dimensions == gallery.dimensions
    assert open_files_of(gallery.path) == []
