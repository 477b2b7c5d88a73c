"""A download that is killed again and again, on a line that fails: every byte right, none fetched twice but a tail."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirror import Fault, Mirror, open_mirror

from obelisk.data import check_dataset

pytestmark = pytest.mark.stress

KILLS = 50
LIMIT = 600.0  # s
JOBS = 3
TARS = 12
RESETS = 40
# What a server has sent, and a killed client has not read yet, is in the buffers of the connection.
TAIL = 2**16


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    """Twelve tars of some 1.7 MB, sent at 0.4 MB/s a connection: slow enough not to be over before all kills."""
    opened = open_mirror(tars=TARS, photos=12, size=(400, 300))
    opened.chunk, opened.rest = 2**14, 0.04
    yield opened
    opened.close()


def start(mirror: Mirror, folder: Path, *words: str) -> subprocess.Popen[bytes]:
    command = ["data", "download", str(folder), "--split", "train", "--tars", f"0-{TARS - 1}", "--jobs", str(JOBS)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(
        [sys.executable, "-m", "obelisk", *command, "--base-url", mirror.url, *words],
        **quiet,  # type: ignore[call-overload]
    )


def wait_for_start(mirror: Mirror, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process asks for something, so that kills hit the download and not the interpreter's start."""
    asked, begun = len(mirror.asked), time.monotonic()
    while process.poll() is None and len(mirror.asked) == asked and time.monotonic() < begun + LIMIT:
        time.sleep(0.005)


@pytest.mark.parametrize("extract", [False, True], ids=["kept", "extracted"])
def test_fifty_kills_lose_a_tail_each_and_no_byte(mirror: Mirror, tmp_path: Path, extract: bool) -> None:
    rng = random.Random(0)
    folder, words = tmp_path / "gldv2", ("--extract", "--max-side", "4000") if extract else ()
    tars = [f"train/images_{number:03}.tar" for number in range(TARS)]
    for _ in range(RESETS):
        fault = rng.choice((Fault(reset_after=rng.randrange(2**21)), Fault(status=503), Fault(silence=0.1)))
        mirror.faults.setdefault(rng.choice(tars), []).append(fault)
    kills = 0
    while kills < KILLS:
        process = start(mirror, folder, *words)
        wait_for_start(mirror, process)
        time.sleep(rng.uniform(0.0, 0.4))
        process.kill()
        assert process.wait(LIMIT) == -9, "the download was over before it was killed often enough"
        kills += 1
    assert start(mirror, folder, *words).wait(LIMIT) == 0
    if extract:
        served = {Path(path).stem: data for path, data in mirror.files.items() if path.startswith("commons/")}
        assert {path.stem: path.read_bytes() for path in (folder / "train").rglob("*.jpg")} == served
    else:
        assert all((folder / tar).read_bytes() == mirror.files[tar] for tar in tars)
    assert [path for path in folder.rglob("*") if ".partial" in path.name] == []
    whole, sent = (sum(count) for count in ((len(mirror.files[t]) for t in tars), (mirror.sent[t] for t in tars)))
    assert sent - whole <= (kills + RESETS) * JOBS * TAIL
    print(f"{kills} kills, {RESETS} faults: {whole:,} bytes, {sent - whole:,} of them sent twice")
    if extract:
        assert {finding.kind for finding in check_dataset(folder)} <= {"unnamed"}
