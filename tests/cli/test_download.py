"""``obelisk data download``: what it prints, and how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mirror import Fault, Mirror, open_mirror

from obelisk.cli.download import describe_progress

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    """A server with a tiny Google Landmarks v2."""
    opened = open_mirror()
    yield opened
    opened.close()


def words_for(mirror: Mirror, *words: object) -> list[str]:
    return [sys.executable, "-m", "obelisk", "data", *map(str, words), "--base-url", mirror.url]


@pytest.fixture
def download(mirror: Mirror, tmp_path: Path) -> Command:
    def run(*words: object, folder: Path = tmp_path / "gldv2") -> subprocess.CompletedProcess[str]:
        command = words_for(mirror, "download", folder, *words)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert "Traceback" not in done.stdout + done.stderr
        return done

    return run


def test_dry_run_lists_what_is_missing_and_writes_nothing(mirror, download, tmp_path):
    done = download("--split", "test", "--tars", "0", "--dry-run")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "missing",
        "metadata/test.csv",
        "metadata/recognition_solution_v2.1.csv",
        "metadata/retrieval_solution_v2.1.csv",
        "test/images_000.tar",
    ]
    assert "4 files missing, 0 there" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert {asked.method for asked in mirror.asked} == {"HEAD"}


def test_dry_run_counts_single_photos_once_the_tables_are_here(download):
    done = download("--landmarks", 2, "--dry-run")
    assert "they list the photos of the 2 landmarks" in done.stderr
    assert download("--landmarks", 1, "--rate", 50).returncode == 0
    done = download("--landmarks", 2, "--dry-run")
    assert "2 photos are missing, to be fetched one by one" in done.stderr


def test_some_parts_that_failed_are_named_and_exit_1(mirror, download, tmp_path):
    mirror.faults["train/images_001.tar"] = [Fault(status=404)]
    done = download("--split", "train", "--tars", "0-2")
    assert done.returncode == 1
    assert "train/images_001.tar failed: the server says 404" in done.stderr
    assert "7 fetched, 0 there before, 1 failed" in done.stderr
    assert done.stdout == f"{tmp_path / 'gldv2'}\n"
    done = download("--split", "train", "--tars", "0-2")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'gldv2'}\n")
    assert "1 fetched, 7 there before, 0 failed" in done.stderr


MISTAKES = {
    "no split": ([], "no split was asked for"),
    "an unknown split": (["--split", "trian"], "did you mean `train`?"),
    "tars that are none": (["--split", "train", "--tars", "one"], "names no tars"),
    "too many landmarks": (["--landmarks", "7"], "ask for at most 6"),
    "shrinking inside tars": (["--split", "test", "--max-side", "512"], "add --extract"),
}


@pytest.mark.parametrize(("words", "reported"), MISTAKES.values(), ids=MISTAKES)
def test_the_users_mistakes_exit_2(download, words, reported):
    done = download(*words)
    assert done.returncode == 2
    assert reported in done.stderr


def test_a_file_in_place_of_the_folder_exits_2(download, tmp_path):
    (tmp_path / "file").write_text("")
    assert download("--split", "test", folder=tmp_path / "file").returncode == 2


def test_a_table_that_is_needed_and_does_not_come_ends_the_run(mirror, download):
    mirror.files["metadata/train_clean.csv"] = b"<html>not here</html>"
    done = download("--split", "clean", "--tars", "0-2", "--extract")
    assert done.returncode == 1
    assert "no photos without this table: this is not the table metadata/train_clean.csv" in done.stderr


def test_sigterm_exits_143_and_the_next_run_resumes(mirror, download, tmp_path):
    mirror.chunk, mirror.rest = 500, 0.02
    tar = "train/images_000.tar"
    words = ("--split", "train", "--tars", "0")
    command = words_for(mirror, "download", tmp_path / "gldv2", *words)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started = time.monotonic()
    while mirror.sent[tar] < 3000 and process.poll() is None and time.monotonic() < started + 60:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, reported = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "Traceback" not in reported
    there = (tmp_path / "gldv2" / f"{tar}.partial").stat().st_size
    assert 3000 <= there < len(mirror.files[tar])
    mirror.chunk, mirror.rest = 2**16, 0.0
    assert download(*words).returncode == 0
    asked = [one.headers.get("Range") for one in mirror.asked if one.path == tar and one.method == "GET"]
    assert asked == [None, f"bytes={there}-"]
    assert (tmp_path / "gldv2" / tar).read_bytes() == mirror.files[tar]


SHOWN = {
    "kB": ((12_340, 56_700), "tars: 12.34 kB of 56.70 kB, "),
    "MB": ((0, 98_000_000), "tars: 0 bytes of 98.00 MB, "),
    "GB": ((12_310_000_000, 498_200_000_000), "tars: 12.31 GB of 498.20 GB, "),
}


@pytest.mark.parametrize(("counts", "reported"), SHOWN.values(), ids=SHOWN)
def test_what_has_come_is_shown_in_a_fitting_unit(counts, reported):
    assert describe_progress("tars", *counts, rate=0.0) == f"{reported}0 bytes/s"


def test_photos_are_counted_with_their_rate_and_the_time_left():
    shown = describe_progress("photos", 1200, 4000, rate=2.0)
    assert shown == "photos: 1,200 of 4,000, 2.0/s, 0:23:20 left"
