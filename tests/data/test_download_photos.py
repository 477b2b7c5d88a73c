"""Downloading the photos of a few landmarks, one by one or out of the tars."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mirror import Fault, Mirror, draw_photo, name_photo, place_photo
from PIL import Image

from obelisk.data import read_catalog
from obelisk.data.download import (
    Downloader,
    DownloadReport,
    DownloadRequest,
    DownloadState,
    RetryPolicy,
    parse_splits,
    parse_tars,
)
from obelisk.data.download.extract import SINGLE_PHOTOS
from obelisk.data.download.http import HttpClient, TransientError
from obelisk.data.download.state import FileState
from obelisk.data.subset import choose_landmarks
from obelisk.errors import DownloadError, UsageError
from obelisk.records import Progress, no_progress

TABLE = "metadata/train.csv"
QUICK = RetryPolicy(retries=2, first_wait=0.01, longest_wait=0.02, timeout=2.0)
Fetch = Callable[..., DownloadReport]


@pytest.fixture
def fetch(mirror: Mirror, folder: Path) -> Fetch:
    """Download the photos of three landmarks, unless told otherwise."""

    def run(*, rate: float = 1000.0, progress: Progress = no_progress, **wanted: object) -> DownloadReport:
        given = {"splits": ("train",), "landmarks": 3, "base_url": mirror.url} | wanted
        request = DownloadRequest(directory=folder, **given)  # type: ignore[arg-type]
        with DownloadState(folder) as state:
            return Downloader(request, state, jobs=2, rate=rate, policy=QUICK, progress=progress).run()

    return run


def expected(seed: int = 0) -> dict[str, int]:
    """The photos of the drawn landmarks: six landmarks are there, of two photos each."""
    chosen = choose_landmarks(list(range(6)), landmarks=3, seed=seed)
    return {name_photo(number): number // 2 for number in range(12) if number // 2 in chosen}


def on_disk(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "train").rglob("*.jpg")}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_landmarks_are_those_of_a_subset_of_the_same_seed(fetch, folder, seed):
    assert fetch(seed=seed).failed == ()
    references = read_catalog(folder).references
    assert dict(references.select("image_id", "landmark_id").iter_rows()) == expected(seed)
    assert (folder / "metadata/train_attribution.csv").exists()


def test_photos_are_asked_for_once_by_name_and_not_too_fast(mirror, fetch, folder):
    fetch(rate=20.0)
    asked = [asked for asked in mirror.asked if asked.path.startswith("commons/")]
    assert sorted(Path(one.path).stem for one in asked) == sorted(expected())
    assert all(one.headers["User-Agent"].startswith("obelisk/") for one in asked)
    assert all("https://" in one.headers["User-Agent"] for one in asked)
    moments = sorted(one.moment for one in asked)
    assert moments[-1] - moments[0] >= 0.9 * (len(asked) - 1) / 20.0
    mirror.asked.clear()
    assert fetch().fetched == 0
    assert mirror.asked == []


def test_progress_counts_photos_failed_ones_included(mirror, fetch):
    mirror.faults[f"commons/{sorted(expected())[0]}.jpg"] = [Fault(status=404)]
    last: dict[str, tuple[int, int]] = {}
    for _ in range(2):
        fetch(progress=lambda what, done, total: last.update({what: (done, total)}))
        assert last["photos"] == (len(expected()), len(expected()))


def test_from_tars_brings_the_same_photos(mirror, fetch, folder):
    assert fetch(from_tars=True, tars=(0, 1, 2)).failed == ()
    assert on_disk(folder) == set(expected())
    assert not any(asked.path.startswith("commons/") for asked in mirror.asked)
    assert list(folder.rglob("*.tar")) == []


def test_clean_draws_among_the_landmarks_of_the_clean_list(fetch, folder):
    fetch(splits=("clean",), landmarks=2)
    assert on_disk(folder) == {name_photo(0), name_photo(6)}


ODD = {
    "404": (Fault(status=404), "404"),
    "a page in place of the photo": (Fault(body=b"<html>gone</html>"), "HTML"),
    "half a photo": (Fault(body=draw_photo(3)[:900]), "an incomplete JPEG photo"),
    "nothing": (Fault(body=b""), ""),
}


@pytest.mark.parametrize(("fault", "reported"), ODD.values(), ids=ODD)
def test_a_photo_that_does_not_come_is_named_and_fetched_the_next_time(mirror, fetch, folder, fault, reported):
    odd = sorted(expected())[0]
    mirror.faults[f"commons/{odd}.jpg"] = [fault]
    report = fetch()
    assert [failure.path for failure in report.failed] == [f"train/{place_photo(odd)}"]
    assert reported in report.failed[0].reason
    assert f"/commons/{odd}.jpg" in report.failed[0].reason
    assert on_disk(folder) == set(expected()) - {odd}
    report = fetch()
    assert (report.fetched, report.failed) == (1, ())
    assert on_disk(folder) == set(expected())


def test_what_passes_is_tried_again(mirror, fetch, folder):
    for number, photo in enumerate(expected()):
        faults = (
            Fault(status=429),
            Fault(status=503),
            Fault(reset_after=500),
            Fault(end_after=500),
            Fault(silence=2.5),
        )
        mirror.faults[f"commons/{photo}.jpg"] = [faults[number % len(faults)]]
    assert fetch().failed == ()
    assert {path.stem: path.read_bytes() for path in (folder / "train").rglob("*.jpg")} == {
        photo: mirror.files[f"commons/{photo}.jpg"] for photo in expected()
    }


def test_photos_are_shrunk(mirror, fetch, folder):
    fetch(max_side=40)
    for path in (folder / "train").rglob("*.jpg"):
        with Image.open(path) as photo:
            assert max(photo.size) == 40


def test_photos_of_another_size_are_not_mixed(mirror, fetch, folder):
    with DownloadState(folder) as state:  # a run that brought no photo binds nobody
        state.write(FileState(path=SINGLE_PHOTOS, progress="extracted", max_side=30))
    fetch(max_side=40)
    tars = {"from_tars": True, "tars": (0, 1, 2)}
    for wanted in {}, {"max_side": 50, "landmarks": 4}, tars:
        with pytest.raises(UsageError, match="in train are kept with --max-side 40"):
            fetch(**wanted)
    assert fetch(max_side=40, landmarks=4).failed == ()
    assert fetch(max_side=40, landmarks=4, **tars).failed == ()


def test_a_table_that_photos_are_chosen_by_is_needed_unless_it_is_there(mirror, fetch, folder):
    mirror.faults[TABLE] = [Fault(status=404)] * 2
    with pytest.raises(DownloadError, match=r"no photos without this table: .*404"):
        fetch(landmarks=2)  # train_clean.csv alone would give others
    folder.joinpath("train.csv").write_bytes(mirror.files[TABLE])
    report = fetch()
    assert [failure.path for failure in report.failed] == [TABLE]
    assert on_disk(folder) == set(expected())


ADDRESSES = {
    "none": b"",
    "a file of this machine": b"file:///etc/hostname",
    "another kind": b"ftp://127.0.0.1/photo.jpg",
    "no address": b"somewhere",
    "half an address": b"http://[bad/x.jpg",
    "a port that cannot be": b"http://127.0.0.1:99999/x.jpg",
}


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
def test_an_odd_address_fails_its_photo_alone(mirror, fetch, address):
    odd = sorted(expected())[0]
    plain = f"{mirror.url}/commons/{odd}.jpg".encode()
    mirror.files[TABLE] = mirror.files[TABLE].replace(plain, address)
    report = fetch()
    assert [failure.path for failure in report.failed] == [f"train/{place_photo(odd)}"]
    assert report.fetched == 5 + len(expected()) - 1


WRITTEN = {
    "a BOM": lambda table: b"\xef\xbb\xbf" + table,
    "CRLF": lambda table: table.replace(b"\n", b"\r\n"),
    "quotes": lambda table: table.replace(b"http://", b'"http://').replace(b".jpg,", b'.jpg",'),
    "ids twice": lambda table: table + table.split(b"\n", 1)[1],
    "rows that say nothing": lambda table: table + b",,\nabc\n,http://x,7\n",
}


@pytest.mark.parametrize("write", WRITTEN.values(), ids=WRITTEN)
def test_a_table_may_be_written_oddly(mirror, fetch, folder, write):
    mirror.files[TABLE] = write(mirror.files[TABLE])
    assert fetch().failed == ()
    assert on_disk(folder) == set(expected())


def test_an_address_may_have_letters_of_any_language(mirror, fetch):
    odd = sorted(expected())[0]
    mirror.files["commons/T%C3%B4rre%20(1).jpg"] = draw_photo(1)
    table = mirror.files[TABLE].decode().replace(f"commons/{odd}.jpg", "commons/Tôrre (1).jpg")
    mirror.files[TABLE] = table.encode()
    assert fetch().failed == ()


def test_more_landmarks_than_there_are_is_the_users_mistake(fetch):
    with pytest.raises(UsageError, match="at most 6"):
        fetch(landmarks=7)


WRONG = {
    "no split": {"splits": ()},
    "landmarks of test": {"splits": ("test",), "landmarks": 3},
    "tars of single photos": {"landmarks": 3, "tars": (0,)},
    "from no tars": {"from_tars": True},
    "shrinking inside tars": {"max_side": 512},
    "a file in place of an address": {"base_url": "file:///srv/mirror"},
    "no address": {"base_url": "mirror"},
    "half an address": {"base_url": "http://[bad"},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_request_that_contradicts_itself_is_refused(tmp_path, wrong):
    with pytest.raises(UsageError):
        DownloadRequest(directory=tmp_path, **{"splits": ("train",)} | wrong)


def test_which_tars_are_meant():
    assert parse_tars("0-2, 7,1") == (0, 1, 2, 7)
    request = DownloadRequest(directory=Path(), splits=("test", "index"), tars=parse_tars("10%"))
    assert [len(request.select_tars(folder)) for folder in request.folders] == [2, 10]
    assert len(DownloadRequest(directory=Path(), splits=("train",), tars=parse_tars("0.001%")).list_tars()) == 1
    for text in ("", "x", "3-1", "-1", "0%", "101%", "1;2", "1000"):
        with pytest.raises(UsageError, match="names no tars"):
            parse_tars(text)
    with pytest.raises(UsageError, match="no tar 20 of test"):
        DownloadRequest(directory=Path(), splits=("test",), tars=(20,)).list_tars()


def test_which_splits_are_meant():
    assert parse_splits(["test", "train", "test"]) == ("train", "test")
    with pytest.raises(UsageError, match="did you mean `train`"):
        parse_splits(["trian"])


def test_waits_double_up_to_a_limit_and_half_of_each_is_drawn():
    policy = RetryPolicy(first_wait=1.0, longest_wait=10.0)
    for failures, whole in ((1, 1.0), (2, 2.0), (4, 8.0), (5, 10.0), (50, 10.0)):
        drawn = [policy.draw_wait(failures) for _ in range(100)]
        assert 0.5 * whole <= min(drawn) < max(drawn) <= whole


def test_progress_starts_the_count_of_failures_anew():
    client, reached = HttpClient(policy=QUICK), iter([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    done = []

    def attempt() -> int:
        done.append(1)
        if len(done) < 8:
            raise TransientError("reset")
        return len(done)

    assert client.retry(attempt, url="", reached=lambda: next(reached)) == 8


def test_without_retries_a_failure_that_brought_bytes_is_still_gone_on_from():
    client, reached = HttpClient(policy=RetryPolicy(retries=0, first_wait=0.01)), iter([0, 1, 2, 2])

    def attempt() -> None:
        raise TransientError("reset")

    with pytest.raises(DownloadError, match="tried 1 times"):
        client.retry(attempt, url="", reached=lambda: next(reached))
    assert next(reached, None) is None
