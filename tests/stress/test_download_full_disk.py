"""A disk that fills up during a download: an error that says so, and what came before is not fetched again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirror import Mirror, open_mirror

from obelisk.data.download import Downloader, DownloadRequest, DownloadState, RetryPolicy
from obelisk.errors import DownloadError

pytestmark = pytest.mark.stress

TARS = (0, 1, 2)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    """A server that does not say how large its files are before it sends them."""
    opened = open_mirror(tars=len(TARS), photos=6, size=(160, 120))
    opened.heads = False
    yield opened
    opened.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(place)], capture_output=True, timeout=60
    )
    if made.returncode:
        pytest.skip("a small file system can only be mounted by root")
    yield place
    subprocess.run(["umount", str(place)], check=True, timeout=60)


@pytest.mark.parametrize("extract", [False, True], ids=["kept", "extracted"])
def test_a_disk_that_grows_step_by_step_ends_with_every_byte(
    mirror: Mirror, disk: Path, extract: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obelisk.data.download.plan.measure_free", lambda directory: 2**40)
    request = DownloadRequest(
        directory=disk / "gldv2", splits=("train",), tars=TARS, base_url=mirror.url, extract=extract
    )
    reported: list[str] = []
    for size in range(128, 4096, 64):
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(disk)], check=True, timeout=60)
        try:
            with DownloadState(request.directory) as state:
                report = Downloader(request, state, jobs=1, policy=RetryPolicy(retries=1, first_wait=0.01)).run()
        except (OSError, DownloadError) as error:
            reported.append(str(error))
            continue
        assert report.failed == ()
        break
    assert len(reported) >= 2
    assert all("No space left" in text or "full" in text for text in reported)
    tars = [f"train/images_{number:03}.tar" for number in TARS]
    if extract:
        served = {Path(path).stem: data for path, data in mirror.files.items() if path.startswith("commons/")}
        assert {path.stem: path.read_bytes() for path in request.directory.rglob("*.jpg")} == served
    else:
        assert all((request.directory / tar).read_bytes() == mirror.files[tar] for tar in tars)
    whole, sent = (sum(count) for count in ((len(mirror.files[t]) for t in tars), (mirror.sent[t] for t in tars)))
    assert sent - whole <= len(reported) * 2**18, "one piece that did not fit is lost each time"
