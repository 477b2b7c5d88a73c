"""``obelisk data download``: download Google Landmarks v2, or a part of it."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from obelisk.cli.console import SECONDS_BETWEEN_LINES, errors, note, result, table, warn

if TYPE_CHECKING:
    from obelisk.data.download import DownloadPlan, DownloadReport


def download_command(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of the dataset, new or incomplete.", show_default=False)
    ],
    split: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            metavar="SPLIT",
            help="train, clean (the cleaned part of train), index or test; may be repeated.",
            show_default="train with --landmarks or --match",
        ),
    ] = None,
    tars: Annotated[
        str | None,
        typer.Option("--tars", metavar="WHICH", help="Some tars of each split: 0-9,42 or a share such as 10%."),
    ] = None,
    landmarks: Annotated[
        int | None,
        typer.Option("--landmarks", min=1, help="Only the photos of this many landmarks, one by one from Wikimedia."),
    ] = None,
    match: Annotated[
        str | None,
        typer.Option(
            "--match",
            metavar="REGEX",
            help="Only the landmarks whose category at Wikimedia Commons contains this; capitals make no difference.",
            show_default=False,
        ),
    ] = None,
    per_landmark: Annotated[
        int | None,
        typer.Option(
            "--per-landmark",
            metavar="N",
            min=1,
            help="At most so many photos of each landmark, those of the cleaned part first.",
            show_default="20 with --match, else all",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the landmarks; the same seed draws the same ones.")] = 0,
    from_tars: Annotated[
        bool, typer.Option("--from-tars", help="With --landmarks or --match: take the photos from the tars.")
    ] = False,
    extract: Annotated[bool, typer.Option("--extract", help="Extract the photos and delete the tars.")] = False,
    max_side: Annotated[
        int | None,
        typer.Option(
            "--max-side",
            metavar="PIXELS",
            min=16,
            help="Shrink larger photos to this side.",
            show_default="960 with --match, else as they are",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="List what is missing and its size, with --match also the landmarks; keep nothing."
        ),
    ] = False,
    accept_md5_mismatch: Annotated[
        bool, typer.Option("--accept-md5-mismatch", help="Keep a tar whose MD5 sum differs twice from the listed one.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=32, help="Files to fetch at a time.")] = 4,
    rate: Annotated[float, typer.Option("--rate", min=0.01, max=50, help="Single photos per second.")] = 2.0,
    retries: Annotated[int, typer.Option("--retries", min=0, help="Tries after failures without a new byte.")] = 6,
    timeout: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Silence of the server that counts as a failure."),
    ] = 60.0,
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", metavar="URL", help="Another mirror.", show_default="that of the dataset's makers"),
    ] = None,
) -> None:
    """Download Google Landmarks v2, or a part of it.

    The tables come first, then tars or single photos. The same command resumes a download, however it ended: it fetches
    only what is missing or failed. Exits 1 if some files failed; each is named.
    """
    from obelisk.data.download import (
        BASE_URL,
        Downloader,
        DownloadRequest,
        DownloadState,
        RetryPolicy,
        parse_splits,
        parse_tars,
    )

    request = DownloadRequest(
        directory=directory,
        splits=parse_splits(split or (["train"] if landmarks or match else [])),
        base_url=base_url or BASE_URL,
        tars=parse_tars(tars) if tars else None,
        landmarks=landmarks,
        seed=seed,
        match=match,
        per_landmark=per_landmark or (MATCHED_PHOTOS if match else None),
        from_tars=from_tars,
        extract=extract,
        max_side=max_side or (MATCHED_SIDE if match else None),
        accept_md5_mismatch=accept_md5_mismatch,
    )
    policy = RetryPolicy(retries=retries, timeout=timeout)
    with DownloadState(directory, keep=not dry_run) as state, DownloadMeter() as meter:
        downloader = Downloader(request, state, jobs=jobs, rate=rate, policy=policy, progress=meter)
        if dry_run:
            if match:
                print_landmarks(downloader.list_landmarks())
            show_plan(downloader.plan(), directory, landmarks=landmarks)
            return
        report = downloader.run()
    show_report(report, directory)


MATCHED_PHOTOS = 20  # of each landmark
MATCHED_SIDE = 960  # pixels: a width that Wikimedia has ready, and more than any model looks at


class DownloadMeter:
    """Shows on stderr how much of a stage is done, how fast, and the time left; call it with what, done, total.

    On a terminal one line per stage is redrawn; a log file gets a line every half minute.
    """

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=errors, disable=not errors.is_terminal)
        self._tasks: dict[str, TaskID] = {}
        self._starts: dict[str, tuple[float, int]] = {}
        self._written = time.monotonic()

    def __enter__(self) -> DownloadMeter:
        self._progress.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._progress.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show the progress of a stage."""
        now = time.monotonic()
        began, done_then = self._starts.setdefault(what, (now, done))
        line = describe_progress(what, done, total, rate=max(0, done - done_then) / max(1e-3, now - began))
        if errors.is_terminal:
            if what not in self._tasks:
                self._tasks[what] = self._progress.add_task(line, total=None)
            self._progress.update(self._tasks[what], description=line, completed=done, total=total or None)
        elif now - self._written > SECONDS_BETWEEN_LINES:
            self._written = now
            note(line)


def describe_progress(what: str, done: int, total: int, *, rate: float) -> str:
    """Return a line such as ``tars: 12.31 GB of 498.20 GB, 45.10 MB/s, 2:59:10 left``; ``rate`` is per second."""
    rest = f", {timedelta(seconds=round(max(0, total - done) / rate))} left" if rate else ""
    if what == "photos":
        return f"{what}: {done:,} of {total:,}, {rate:.1f}/s{rest}"
    return f"{what}: {describe_bytes(done)} of {describe_bytes(total)}, {describe_bytes(rate)}/s{rest}"


def describe_bytes(count: float | None) -> str:
    """Return a number of bytes in a fitting unit."""
    return "unknown" if count is None else decimal(round(count), precision=2)


def print_landmarks(landmarks: list[tuple[str, int | None]]) -> None:
    """Print the landmarks that match, with the numbers of their photos as far as they are known."""
    table(("landmark", "photos"), [(name, "" if photos is None else photos) for name, photos in landmarks])
    known = sum(photos or 0 for _, photos in landmarks)
    photos = f", with {known:,} photos" if known else "; the tables of photos come first"
    note(f"{len(landmarks):,} landmarks match{photos}")


def show_plan(plan: DownloadPlan, directory: Path, *, landmarks: int | None) -> None:
    """Print what is missing, and the room it needs."""
    table(("missing", "size"), [(file.path, describe_bytes(plan.sizes.get(file.path))) for file in plan.missing])
    unknown = sum(file.path not in plan.sizes for file in plan.missing)
    if unknown:
        warn(f"the size of {unknown} files is unknown")
    if plan.photos is not None:
        note(f"{plan.photos:,} photos are missing, to be fetched one by one")
    elif landmarks is not None:
        note(f"the tables come first: they list the photos of the {landmarks} landmarks")
    note(
        f"{directory}: {len(plan.missing)} files missing, {plan.there} there; "
        f"{describe_bytes(plan.to_fetch)} to fetch, about {describe_bytes(plan.needed)} needed, "
        f"{describe_bytes(plan.free)} free"
    )


def show_report(report: DownloadReport, directory: Path) -> None:
    """Report what was fetched and what failed; exit 1 if something did."""
    for remark in report.remarks:
        warn(remark)
    for failure in report.failed:
        warn(f"{failure.path} failed: {failure.reason}")
    note(f"{report.fetched:,} fetched, {report.there:,} there before, {len(report.failed):,} failed")
    result(str(directory))
    if report.failed:
        note("run the same command again to fetch what failed")
        raise typer.Exit(1)
