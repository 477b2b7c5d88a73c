"""The downloader: it plans what is missing and fetches it on several threads, tables first, then tars or photos."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from obelisk.data.download.choose import match_categories
from obelisk.data.download.commons import write_attribution
from obelisk.data.download.extract import FileFetcher
from obelisk.data.download.http import HttpClient, RetryPolicy, StoppedError, TransientError
from obelisk.data.download.plan import (
    DownloadPlan,
    DownloadRequest,
    RemoteFile,
    estimate_photos,
    make_plan,
    refuse_too_little_room,
)
from obelisk.data.download.state import DownloadState
from obelisk.data.formats.gldv2 import CATEGORIES, find_tables
from obelisk.errors import DownloadError, ObeliskError, UsageError
from obelisk.records import Progress, no_progress

PHOTO_JOBS = 2
SECONDS_BETWEEN_REPORTS = 0.2
SECONDS_TO_STOP = 5.0
LARGEST_CATEGORIES = 2**26  # bytes of the table of categories; it has 14 MB


@dataclass(frozen=True, kw_only=True)
class FailedFile:
    """A file that could not be fetched, by its path in the dataset's folder, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class DownloadReport:
    """The result of a download: counts of fetched files and of those already there, the failures, and remarks."""

    fetched: int
    there: int
    failed: tuple[FailedFile, ...]
    remarks: tuple[str, ...]


class Downloader:
    """Carries out one download request.

    ``jobs`` files are fetched at a time, but only two single photos, at ``rate`` per second. ``progress`` is called
    several times a second, on the calling thread: it counts bytes of "tables" and "tars", and "photos".
    """

    def __init__(
        self,
        request: DownloadRequest,
        state: DownloadState,
        *,
        jobs: int = 4,
        rate: float = 2.0,
        policy: RetryPolicy | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self.request = request
        self.state = state
        self.jobs = jobs
        self.progress = progress
        self._stopping = threading.Event()
        self._fetcher = FileFetcher(
            request=request,
            state=state,
            client=HttpClient(policy=policy, stopping=self._stopping),
            photo_client=HttpClient(policy=policy, stopping=self._stopping, rate=rate),
        )
        self._there = 0
        self._fetched: list[str] = []  # the threads append to these, which needs no lock
        self._failed: list[FailedFile] = []
        self._remarks: list[str] = []

    def plan(self) -> DownloadPlan:
        """Return what is missing, its size, and the free disk space; nothing is written.

        Raises UsageError if existing photos have another size than the requested one.
        """
        self._refuse_other_size()
        files = [*self.request.list_tables(), *self.request.list_tars()]
        missing = [file for file in files if not self._fetcher.is_done(file)]
        photos = None
        if self.request.by_photo and not missing:  # the tables, which list the photos, are there
            photos = sum(not self._fetcher.is_done(photo) for photo in self.request.list_photos())
        there = len(files) - len(missing)
        return make_plan(self.request, missing, self._ask_sizes(missing), there=there, jobs=self.jobs, photos=photos)

    def list_landmarks(self) -> list[tuple[str, int | None]]:
        """Return the landmarks that match, by name, with the number of their photos; None without the tables.

        The table of categories is fetched if it is not there, but not kept.
        """
        tables, match = find_tables(self.request.directory), self.request.match or ""
        if tables.train and tables.categories:
            counts = dict(self.request.select_photos().group_by("landmark_id").len().iter_rows())
            names = match_categories(tables.categories, match)
            return [(name, counts.get(landmark, 0)) for landmark, name in names.items()]
        url = next(table.url for table in self.request.list_tables() if table.path.endswith(CATEGORIES))
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / CATEGORIES
            table.write_bytes(self._fetcher.client.fetch_bytes(url, limit=LARGEST_CATEGORIES))
            return [(name, None) for name in match_categories(table, match).values()]

    def run(self) -> DownloadReport:
        """Fetch what is missing.

        Raises DownloadError if there is not enough disk space, or if a required table can't be fetched; UsageError or
        DataError for a request that the tables don't allow.
        """
        plan = self.plan()
        self._there = plan.there
        refuse_too_little_room(plan.needed, self.request.directory)
        tables, tars = plan.missing_of("table"), plan.missing_of("tar")
        self._fetch("tables", tables, plan.count_bytes(tables), jobs=self.jobs)
        if self.request.by_photo:
            self._fetch_photos()
        elif tars:
            if self.request.selecting_tables and any(tar.folder == "train" for tar in tars):
                self._require_tables()
                self._fetcher.wanted = frozenset(self.request.select_photos()["image_id"])
            self._fetch("tars", tars, plan.count_bytes(tars), jobs=self.jobs)
        return DownloadReport(
            fetched=len(self._fetched), there=self._there, failed=tuple(self._failed), remarks=tuple(self._remarks)
        )

    def _refuse_other_size(self) -> None:
        """Raise UsageError if existing photos have another size than the requested one."""
        requested = self.request.max_side or 0
        for kept in self.state.list_extracted() if self.request.extracts else ():
            folder = kept.path.partition("/")[0]
            if kept.max_side == requested or folder not in self.request.folders:
                continue
            if not any((self.request.directory / folder).rglob("*.jpg")):
                continue
            size = f"with --max-side {kept.max_side}" if kept.max_side else "at full size"
            fix = "ask for the same size, or name another folder"
            raise UsageError(f"the photos in {folder} are kept {size}", where="--max-side", fix=fix)

    def _ask_sizes(self, files: Sequence[RemoteFile]) -> dict[str, int]:
        """Return the sizes of the files as far as the state or the server knows them; stop if the server is silent."""
        sizes = {file.path: size for file in files if (size := self.state.read(file.path).bytes) is not None}
        silent = 0

        def ask(file: RemoteFile) -> None:
            nonlocal silent
            if silent > self.jobs:
                return
            try:
                size, silent = self._fetcher.client.ask_size(file.url), 0
            except TransientError:
                size, silent = None, silent + 1
            if size is not None:
                sizes[file.path] = size

        run_workers((partial(ask, file) for file in files if file.path not in sizes), self.jobs, self._stopping)
        return sizes

    def _require_tables(self) -> None:
        """Raise DownloadError if a table that decides which photos are wanted is missing."""
        found = find_tables(self.request.directory)
        tables = (found.train, found.train_clean, found.categories)
        there = {path.name for path in tables if path is not None}
        for failure in self._failed:
            name = failure.path.removeprefix("metadata/")
            if name in self.request.selecting_tables and name not in there:
                raise DownloadError(f"no photos without this table: {failure.reason}")

    def _fetch_photos(self) -> None:
        """Fetch single photos."""
        self._require_tables()
        photos = list(self.request.list_photos())
        missing = [photo for photo in photos if not self._fetcher.is_done(photo)]
        there = len(photos) - len(missing)
        self._there += there
        refuse_too_little_room(estimate_photos(self.request, len(missing)), self.request.directory)
        self._fetch("photos", missing, {"": (there, len(photos))}, jobs=PHOTO_JOBS)
        write_attribution(self.request.directory, self.request.select_photos())

    def _fetch(
        self, what: str, files: Sequence[RemoteFile], counts: Mapping[str, tuple[int, int]], *, jobs: int
    ) -> None:
        """Fetch files on several threads and note what fails; ``counts`` maps paths to (done, total) at the start."""
        total = TotalProgress(counts)

        def fetch(file: RemoteFile) -> None:
            try:
                for remark in self._fetcher.fetch(file, total):
                    self._remarks.append(remark)
            except ObeliskError as error:
                self.state.write(replace(self.state.read(file.path), progress="failed", error=str(error)))
                self._failed.append(FailedFile(path=file.path, reason=str(error)))
            else:
                self._fetched.append(file.path)
            if file.kind == "photo":
                total(file.path, 1, 0)

        if files:
            tasks = (partial(fetch, file) for file in files)
            run_workers(tasks, jobs, self._stopping, lambda: self.progress(what, total.done, total.total))


class TotalProgress:
    """Adds up the progress of single files; threads may share it."""

    def __init__(self, counts: Mapping[str, tuple[int, int]]) -> None:
        self._counts = dict(counts)
        self._lock = threading.Lock()
        self.done = sum(done for done, _ in counts.values())
        self.total = sum(total for _, total in counts.values())

    def __call__(self, path: str, done: int, total: int) -> None:
        """Set the progress of one file; a total of 0 is not known."""
        with self._lock:
            done_before, total_before = self._counts.get(path, (0, 0))
            total = total or total_before
            self._counts[path] = (done, total)
            self.done += done - done_before
            self.total += total - total_before


def run_workers(
    tasks: Iterable[Callable[[], None]],
    workers: int,
    stopping: threading.Event,
    report: Callable[[], None] = lambda: None,
) -> None:
    """Run the tasks on several threads, and call ``report`` on this one now and then.

    The first error of a task stops the others and is raised here. However the wait ends, even by an interrupt,
    ``stopping`` is set and the tasks get a few seconds to finish. A thread that hangs on a dead connection is
    abandoned; nothing is lost, because the files on disk are sound at any moment.
    """
    remaining = iter(tasks)
    taking = threading.Lock()
    errors: list[BaseException] = []

    def take() -> Callable[[], None] | None:
        with taking:
            return None if stopping.is_set() else next(remaining, None)

    def work() -> None:
        try:
            while task := take():
                task()
        except StoppedError:
            return
        except BaseException as error:
            errors.append(error)
            stopping.set()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            join_threads(threads, SECONDS_BETWEEN_REPORTS)
            report()
    except BaseException:
        stopping.set()
        join_threads(threads, SECONDS_TO_STOP)
        raise
    if errors:
        raise errors[0]


def join_threads(threads: Sequence[threading.Thread], seconds: float) -> None:
    """Wait for the threads to end, but no longer than that."""
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
