"""Downloading from a server that misbehaves."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from mirror import Fault, Mirror, draw_photo, name_photo, pack, place_photo, put_tar

from obelisk.data import read_catalog
from obelisk.data.download import Downloader, DownloadReport, DownloadRequest, DownloadState, RetryPolicy, http
from obelisk.errors import DownloadError, UsageError
from obelisk.records import Progress, no_progress

TAR, SUM = "train/images_000.tar", "md5sum/train/md5.images_000.txt"
QUICK = RetryPolicy(retries=3, first_wait=0.01, longest_wait=0.02, timeout=2.0)
Fetch = Callable[..., DownloadReport]


@pytest.fixture
def fetch(mirror: Mirror, folder: Path) -> Fetch:
    """Download three tars of train, unless told otherwise."""

    def run(*, jobs: int = 2, progress: Progress = no_progress, **wanted: object) -> DownloadReport:
        given = {"splits": ("train",), "tars": (0, 1, 2), "base_url": mirror.url} | wanted
        request = DownloadRequest(directory=folder, **given)  # type: ignore[arg-type]
        with DownloadState(folder) as state:
            return Downloader(request, state, jobs=jobs, rate=1000.0, policy=QUICK, progress=progress).run()

    return run


def photos_on_disk(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in (folder / "train").rglob("*.jpg")}


def photos_of(mirror: Mirror) -> dict[str, bytes]:
    served = {Path(path).stem: data for path, data in mirror.files.items() if path.startswith("commons/")}
    assert len(served) == 12
    return served


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if ".partial" in path.name)


def test_tables_come_first_and_tars_are_kept_byte_for_byte(mirror, fetch, folder):
    report = fetch(splits=("train", "test"), tars=(0,))
    assert (report.fetched, report.there, report.failed, report.remarks) == (10, 0, (), ())
    for path in ("metadata/train.csv", "metadata/recognition_solution_v2.1.csv", TAR, "test/images_000.tar"):
        assert (folder / path).read_bytes() == mirror.files[path]
    got = [asked.path for asked in mirror.asked if asked.method == "GET"]
    assert all(path.startswith("metadata/") for path in got[:8])
    assert left_over(folder) == []


def test_progress_counts_the_bytes_of_tables_then_of_tars(mirror, fetch):
    mirror.faults[TAR] = [Fault(reset_after=3000), Fault(body=b"\0" * len(mirror.files[TAR]))]
    last: dict[str, tuple[int, int]] = {}
    fetch(progress=lambda what, done, total: last.update({what: (done, total)}))
    tables = sum(len(mirror.files[path]) for path in mirror.files if path.startswith("metadata/train"))
    tars = sum(len(mirror.files[f"train/images_00{number}.tar"]) for number in range(3))
    assert list(last.items()) == [("tables", (tables, tables)), ("tars", (tars, tars))]


def test_what_is_there_is_not_asked_for_again(mirror, fetch):
    fetch()
    mirror.asked.clear()
    report = fetch()
    assert (report.fetched, report.there) == (0, 8)
    assert mirror.asked == []


def test_extracted_photos_are_a_dataset_and_the_tars_go(mirror, fetch, folder):
    fetch(extract=True)
    assert photos_on_disk(folder) == photos_of(mirror)
    assert list(folder.rglob("*.tar")) == []
    assert read_catalog(folder).references.height == 12
    mirror.asked.clear()
    assert fetch(extract=True).there == 8
    assert mirror.asked == []


def test_of_clean_only_the_listed_photos_are_extracted_and_train_brings_the_rest(mirror, fetch, folder):
    fetch(splits=("clean",), extract=True)
    assert set(photos_on_disk(folder)) == {name_photo(0), name_photo(6)}
    fetch(extract=True)
    assert photos_on_disk(folder) == photos_of(mirror)
    mirror.asked.clear()
    fetch(splits=("clean",), extract=True)
    assert mirror.asked == [], "all photos of a tar hold the clean ones"


def test_tars_that_are_there_are_extracted_without_asking_for_them(mirror, fetch, folder):
    fetch()
    mirror.asked.clear()
    fetch(extract=True)
    assert photos_on_disk(folder) == photos_of(mirror)
    assert mirror.asked == []


def test_photos_are_shrunk_and_another_size_is_refused(fetch, folder):
    from PIL import Image

    fetch(extract=True, max_side=40)
    for path in (folder / "train").rglob("*.jpg"):
        with Image.open(path) as photo:
            assert photo.size == (40, 30)
    with pytest.raises(UsageError, match="in train are kept with --max-side 40"):
        fetch(extract=True)


def test_a_photo_that_cannot_be_shrunk_is_kept_and_reported(mirror, fetch, folder):
    odd = name_photo(0)
    put_tar(mirror.files, "train", 0, pack({place_photo(odd): b"no photo"}))
    report = fetch(extract=True, max_side=40, tars=(0,))
    assert report.failed == ()
    assert len(report.remarks) == 1
    assert odd in report.remarks[0]
    assert (folder / "train" / place_photo(odd)).read_bytes() == b"no photo"


PASSING = {
    "a reset in the middle": [Fault(reset_after=9000)],
    "several resets": [Fault(reset_after=3000)] * 4,  # more than the retries, but each brings new bytes
    "an end that comes early": [Fault(end_after=5000)],
    "503": [Fault(status=503), Fault(status=500)],
    "429 with a wait": [Fault(status=429, headers={"Retry-After": "0"})],
    "a date to come back, in the past": [Fault(status=503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})],
    "a nonsense Retry-After": [Fault(status=503, headers={"Retry-After": "soon"})],
    "a Retry-After that looks like a number": [Fault(status=503, headers={"Retry-After": "²"})],
    "a date too far away": [Fault(status=503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 +99999999999999999"})],
    "a length of too many digits": [Fault(headers={"Content-Length": "9" * 5000})],
    "silence longer than the timeout": [Fault(silence=2.5)],
}


@pytest.mark.parametrize("faults", PASSING.values(), ids=PASSING)
def test_a_failure_that_passes_costs_no_byte_twice(mirror, fetch, folder, faults):
    mirror.faults[TAR] = list(faults)
    report = fetch(tars=(0,))
    assert report.failed == ()
    assert (folder / TAR).read_bytes() == mirror.files[TAR]
    assert mirror.sent[TAR] == len(mirror.files[TAR])


LASTING = {
    "404": ([Fault(status=404)], "404"),
    "403": ([Fault(status=403)], "403"),
    "503 for ever": ([Fault(status=503)] * 9, "tried 4 times"),
    "a reset at the same byte for ever": ([Fault(reset_after=0)] * 9, "tried 4 times"),
    "a way to no address": ([Fault(status=302, headers={"Location": "http://[bad/x"})], "not a valid address"),
    "a way back to itself": ([Fault(status=302, headers={"Location": f"/{TAR}"})] * 20, "infinite loop"),
    "come back tomorrow": ([Fault(status=503, headers={"Retry-After": "86400"})], "come back in 86400 s"),
}


@pytest.mark.parametrize(("faults", "reported"), LASTING.values(), ids=LASTING)
def test_a_part_that_fails_is_named_and_it_alone_is_fetched_by_the_next_run(mirror, fetch, folder, faults, reported):
    mirror.faults[TAR] = list(faults)
    report = fetch()
    assert [failure.path for failure in report.failed] == [TAR]
    assert reported in report.failed[0].reason
    assert "\n" not in report.failed[0].reason
    assert report.fetched == 7
    mirror.faults.clear()
    mirror.asked.clear()
    assert fetch().fetched == 1
    assert {asked.path for asked in mirror.asked} == {TAR, SUM}
    assert (folder / TAR).read_bytes() == mirror.files[TAR]


def test_a_retry_after_is_waited_for(mirror, fetch):
    mirror.faults[TAR] = [Fault(status=429, headers={"Retry-After": "1"})]
    assert fetch(tars=(0,)).failed == ()
    first, second = [asked.moment for asked in mirror.asked if asked.path == TAR and asked.method == "GET"]
    assert second - first >= 1.0


@pytest.mark.parametrize("etags", [True, False], ids=["ETag", "no ETag"])
def test_a_file_that_changes_in_the_middle_is_not_glued_together(mirror, fetch, folder, etags):
    mirror.etags = etags
    mirror.faults[TAR] = [Fault(reset_after=4000), *[Fault(status=503)] * 4]
    assert fetch(tars=(0,)).failed != ()
    put_tar(mirror.files, "train", 0, pack({place_photo(name_photo(50)): draw_photo(50)}))
    assert fetch(tars=(0,)).failed == ()
    assert (folder / TAR).read_bytes() == mirror.files[TAR]


def test_a_table_without_an_etag_starts_anew(mirror, fetch, folder):
    table = "metadata/train.csv"
    mirror.etags = False
    mirror.faults[table] = [Fault(reset_after=100)]
    assert fetch(tars=(0,)).failed == ()
    assert (folder / table).read_bytes() == mirror.files[table]
    assert mirror.sent[table] == len(mirror.files[table]) + 100


@pytest.mark.parametrize("lacking", ["ranges", "heads", "etags"])
def test_a_simple_server_will_do(mirror, fetch, folder, lacking):
    setattr(mirror, lacking, False)
    mirror.faults[TAR] = [Fault(reset_after=7000)]
    assert fetch(tars=(0,)).failed == ()
    assert (folder / TAR).read_bytes() == mirror.files[TAR]


def test_slow_bytes_are_kept_as_they_come(mirror, fetch, folder):
    mirror.chunk, mirror.rest = 4000, 0.01
    mirror.faults[TAR] = [Fault(reset_after=12_000)]
    assert fetch(tars=(0,)).failed == ()
    assert (folder / TAR).read_bytes() == mirror.files[TAR]
    assert mirror.sent[TAR] == len(mirror.files[TAR])


NO_TABLES = {
    "a page to log in": b"<html><body>please, log in</body></html>\n",
    "another table": b"id,landmarks,Usage\n",
    "nothing": b"",
}


@pytest.mark.parametrize("there", [True, False], ids=["found there", "fetched"])
@pytest.mark.parametrize("page", NO_TABLES.values(), ids=NO_TABLES)
def test_what_is_no_table_fails_its_part_and_is_fetched_again(mirror, fetch, folder, page, there):
    table = "metadata/train.csv"
    if there:
        (folder / table).parent.mkdir(parents=True)
        (folder / table).write_bytes(page)
    mirror.faults[table] = [Fault(body=page)] * 2
    for fetched in (7, 0):
        report = fetch()
        assert [failure.path for failure in report.failed] == [table]
        assert "this is not the table metadata/train.csv" in report.failed[0].reason
        assert report.fetched == fetched
    assert fetch().failed == ()
    assert (folder / table).read_bytes() == mirror.files[table]
    assert left_over(folder) == []


def test_a_wrong_sum_is_fetched_twice_then_reported_with_both_sums_then_accepted(mirror, fetch, folder):
    listed, found = "0" * 32, hashlib.md5(mirror.files[TAR]).hexdigest()
    mirror.files[SUM] = f"{listed}  images_000.tar\n".encode()
    report = fetch()
    assert [failure.path for failure in report.failed] == [TAR]
    assert listed in report.failed[0].reason
    assert found in report.failed[0].reason
    assert mirror.count(TAR) == 2
    assert not (folder / TAR).exists()
    report = fetch(accept_md5_mismatch=True)
    assert mirror.count(TAR) == 2, "the bytes were here"
    assert report.failed == ()
    assert len(report.remarks) == 1
    assert listed in report.remarks[0]
    assert found in report.remarks[0]
    assert (folder / TAR).read_bytes() == mirror.files[TAR]


def test_bytes_damaged_on_the_way_are_fetched_again(mirror, fetch, folder):
    mirror.faults[TAR] = [Fault(body=b"\0" * len(mirror.files[TAR]))]
    assert fetch().failed == ()
    assert (folder / TAR).read_bytes() == mirror.files[TAR]


def test_a_missing_sum_fails_the_part_unless_accepted(mirror, fetch):
    del mirror.files[SUM]
    assert [failure.path for failure in fetch().failed] == [TAR]
    assert fetch(accept_md5_mismatch=True).failed == ()


def test_tars_from_elsewhere_are_verified_and_taken_over(mirror, fetch, folder):
    (folder / "train").mkdir(parents=True)
    (folder / TAR).write_bytes(mirror.files[TAR])
    (folder / "train/images_001.tar").write_bytes(mirror.files["train/images_001.tar"][:-512])
    assert fetch().failed == ()
    assert mirror.sent[TAR] == 0
    for number in range(3):
        path = f"train/images_00{number}.tar"
        assert (folder / path).read_bytes() == mirror.files[path]


def with_entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    """Make a tar of one sound photo and one entry more."""
    written = BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        photo = tarfile.TarInfo(place_photo(name_photo(0)))
        photo.size = 4
        tar.addfile(photo, BytesIO(b"\xff\xd8\xff\xe0"))
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, target
        tar.addfile(entry)
    return written.getvalue()


SOUND = pack({place_photo(name_photo(number)): draw_photo(number) for number in range(3)})


def with_headers(**headers: str) -> bytes:
    """Make a tar of one sound photo and one with such PAX headers."""
    written = BytesIO(with_entry("a"))
    with tarfile.open(fileobj=written, mode="a", format=tarfile.PAX_FORMAT) as tar:
        photo = tarfile.TarInfo(place_photo(name_photo(1)))
        photo.size, photo.pax_headers = 512, headers
        tar.addfile(photo, BytesIO(b"?" * 512))
    return written.getvalue()


LONG_NAME = with_entry("a", tarfile.GNUTYPE_LONGNAME)[1024:1536]
SECOND = SOUND.index(place_photo(name_photo(1)).encode())
HOSTILE = {
    "an absolute path": (with_entry("/tmp/evil.jpg"), "the path `/tmp/evil.jpg`"),
    "a way out": (with_entry("a/../../evil.jpg"), r"the path `a/../../evil.jpg`"),
    "a drive": (with_entry("C:\\evil.jpg"), "the path"),
    "a symbolic link": (with_entry("a/b/c/abc.jpg", tarfile.SYMTYPE, "/etc/passwd"), "the link `a/b/c/abc.jpg`"),
    "a hard link": (with_entry("a/b/c/abc.jpg", tarfile.LNKTYPE, "0/0/0/000.jpg"), "the link"),
    "a pipe": (with_entry("a/b/c/abc.jpg", tarfile.FIFOTYPE), "the special file"),
    "an end in the middle of a photo": (SOUND[:3000], "cannot be read|too early"),
    "an end between two photos": (SOUND[:SECOND], "too early"),
    "a damaged header": (SOUND[:SECOND] + b"?" + SOUND[SECOND + 1 :], "cannot be read to its end"),
    "an end before the end": (SOUND[:SECOND] + bytes(1024) + SOUND[SECOND:], "cannot be read to its end"),
    "something after its end": (SOUND + b"?" * 512, "cannot be read to its end"),
    "a sparse file of junk": (with_headers(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}), "cannot be read"),
    "a size below zero": (with_headers(size="-5120"), "of -5,120 bytes"),
    "names that lead to names": (SOUND[:SECOND] + LONG_NAME * 2000, "cannot be read"),
    "no tar": (b"<html>not here</html>" * 100, "cannot be read"),
    "no photo": (pack({"readme.txt": b"hello"}), "no photo"),
    "nothing": (b"", "cannot be read"),
}


@pytest.mark.parametrize("extract", [True, False], ids=["extracted", "kept"])
@pytest.mark.parametrize(("tar", "reported"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_or_truncated_tar_is_refused_whole(mirror, fetch, folder, tar, reported, extract):
    put_tar(mirror.files, "train", 0, tar)
    report = fetch(tars=(0,), extract=extract)
    assert [failure.path for failure in report.failed] == [TAR]
    with pytest.raises(DownloadError, match=reported):
        raise DownloadError(report.failed[0].reason)
    assert photos_on_disk(folder) == {}
    asked = mirror.count(TAR)
    assert fetch(tars=(0,), extract=extract).failed != (), "it is not taken for whole the next time"
    assert mirror.count(TAR) == asked, "nor fetched again, as its sum is right"


def test_too_little_room_is_reported_before_anything_is_written(mirror, fetch, folder, monkeypatch):
    monkeypatch.setattr("obelisk.data.download.plan.measure_free", lambda directory: 1000)
    with pytest.raises(DownloadError, match=r"about \d+\.\d\d kB are needed, 1\.00 kB are free"):
        fetch()
    assert mirror.count("metadata/train.csv") == 0
    assert [path.name for path in folder.iterdir()] == [".download.sqlite"]


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="this system follows links")
def test_a_link_in_the_place_of_an_unfinished_tar_is_not_written_through(mirror, fetch, folder, tmp_path):
    mirror.faults[TAR] = [Fault(reset_after=3000), *[Fault(status=503)] * 9]
    assert len(fetch().failed) == 1
    (tmp_path / "victim").write_bytes(mirror.files[TAR][:3000])
    (folder / f"{TAR}.partial").unlink()
    (folder / f"{TAR}.partial").symlink_to(tmp_path / "victim")
    mirror.faults.clear()
    with pytest.raises(OSError, match="symbolic link") as raised:
        fetch()
    assert str(folder / f"{TAR}.partial") == raised.value.filename
    assert (tmp_path / "victim").read_bytes() == mirror.files[TAR][:3000]


def test_two_downloads_into_one_folder_do_not_meet(folder):
    with (
        DownloadState(folder),
        pytest.raises(DownloadError, match="another download is running"),
        DownloadState(folder),
    ):
        pass


def test_a_damaged_state_is_reported_with_the_remedy(folder):
    folder.mkdir()
    (folder / ".download.sqlite").write_bytes(b"no database at all, " * 100)
    with pytest.raises(UsageError, match="delete it"):
        DownloadState(folder)


def test_a_state_damaged_behind_its_header_is_reported_with_the_remedy(fetch, folder):
    fetch()
    state = folder / ".download.sqlite"
    state.write_bytes(state.read_bytes()[:4096] + b"?" * 8192)
    with pytest.raises(UsageError, match=r"is damaged: .*delete it"):
        fetch()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize(("extract", "place"), [(False, "metadata"), (True, "train")], ids=["bytes", "photos"])
def test_a_full_disk_is_reported_with_the_place(fetch, folder, monkeypatch, extract, place):
    fetch()
    if not extract:
        (folder / "metadata/train.csv").unlink()
    whole = Path.open

    def open_full(path: Path, mode: str = "r") -> object:
        return whole(Path("/dev/full"), "wb", buffering=0) if mode == "xb" else whole(path, mode)

    monkeypatch.setattr(Path, "open", open_full)
    monkeypatch.setattr(http, "without_links", lambda path, flags: os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(OSError, match="No space left") as caught:
        fetch(extract=extract)
    assert str(folder / place) in caught.value.filename
