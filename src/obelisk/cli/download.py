"""``obelisk data download``: Google Landmarks v2, or a part of it, onto the disk."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from obelisk.cli.console import SECONDS_BETWEEN_LINES, errors, note, result, table, warn

if TYPE_CHECKING:
    from obelisk.data.download import Outlook, Report, Tally


def download_command(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The dataset's folder, made here or gone on with.", show_default=False)
    ],
    split: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            metavar="SPLIT",
            help="train, clean (the cleaned part of train), index or test; may be repeated.",
            show_default="train with --landmarks",
        ),
    ] = None,
    tars: Annotated[
        str | None,
        typer.Option("--tars", metavar="WHICH", help="Some tars of each split: 0-9,42 or a share such as 10%."),
    ] = None,
    landmarks: Annotated[
        int | None,
        typer.Option("--landmarks", min=1, help="Only the photos of so many landmarks, one by one from Wikimedia."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Which landmarks: the same seed, the same landmarks.")] = 0,
    from_tars: Annotated[
        bool, typer.Option("--from-tars", help="With --landmarks: take the photos out of the tars.")
    ] = False,
    extract: Annotated[bool, typer.Option("--extract", help="Unpack the photos and delete the tars.")] = False,
    max_side: Annotated[
        int | None, typer.Option("--max-side", metavar="PIXELS", min=16, help="Shrink larger photos to this side.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is missing and how large it is, and fetch nothing.")
    ] = False,
    accept_md5_mismatch: Annotated[
        bool, typer.Option("--accept-md5-mismatch", help="Keep a tar whose MD5 sum differs twice from the listed one.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=32, help="How many files come side by side.")] = 4,
    rate: Annotated[float, typer.Option("--rate", min=0.01, max=50, help="Single photos asked for a second.")] = 2.0,
    retries: Annotated[int, typer.Option("--retries", min=0, help="Tries after a failure that brought no byte.")] = 6,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Silence that counts as a failure.")
    ] = 60.0,
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", metavar="URL", help="Another mirror.", show_default="that of the dataset's makers"),
    ] = None,
) -> None:
    """Fetch Google Landmarks v2, or a part of it: its tables first, then tars or single photos.

    The same command again goes on where the last one ended, however it ended; only what is missing or failed is
    fetched. Exits 1 when some parts failed, each named.
    """
    from obelisk.data.download import BASE_URL, Download, DownloadState, Order, Patience, parse_splits, parse_tars

    order = Order(
        directory=directory,
        splits=parse_splits(split or ([] if landmarks is None else ["train"])),
        base_url=base_url or BASE_URL,
        tars=parse_tars(tars) if tars else None,
        landmarks=landmarks,
        seed=seed,
        from_tars=from_tars,
        extract=extract,
        max_side=max_side,
        accept_md5_mismatch=accept_md5_mismatch,
    )
    patience = Patience(retries=retries, timeout=timeout)
    with DownloadState(directory, keep=not dry_run) as state, Gauge() as gauge:
        download = Download(order, state, jobs=jobs, rate=rate, patience=patience, watch=gauge)
        if dry_run:
            show_outlook(download.look_ahead(), directory, landmarks=landmarks)
            return
        report = download.run()
    show_report(report, directory)


class Gauge:
    """Shows on stderr how much has come, how fast, and how long the rest takes.

    On a terminal one line is redrawn; a log file gets a line every half minute.
    """

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=errors, disable=not errors.is_terminal)
        self._tasks: dict[str, TaskID] = {}
        self._said = time.monotonic()

    def __enter__(self) -> Gauge:
        self._progress.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._progress.stop()

    def __call__(self, tally: Tally) -> None:
        """Show a count."""
        line = describe_tally(tally)
        if errors.is_terminal:
            if tally.what not in self._tasks:
                self._tasks[tally.what] = self._progress.add_task(line, total=None)
            self._progress.update(
                self._tasks[tally.what], description=line, completed=tally.done, total=tally.total or None
            )
        elif time.monotonic() - self._said > SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            note(line)


def describe_tally(tally: Tally) -> str:
    """Say how far a download is: ``tars: 12.31 GB of 498.20 GB, 45.10 MB/s, 2:59:10 left``."""
    from obelisk.data.download import describe_bytes

    left = tally.seconds_left
    rest = "" if left is None else f", {timedelta(seconds=round(left))} left"
    if tally.unit == "photos":
        return f"{tally.what}: {tally.done:,} of {tally.total:,}, {tally.rate:.1f}/s{rest}"
    done, total, rate = map(describe_bytes, (tally.done, tally.total, tally.rate))
    return f"{tally.what}: {done} of {total}, {rate}/s{rest}"


def show_outlook(outlook: Outlook, directory: Path, *, landmarks: int | None) -> None:
    """Print what is missing, and say what room it needs."""
    from obelisk.data.download import describe_bytes

    rows = [(part.path, describe_bytes(outlook.sizes.get(part.path))) for part in outlook.missing]
    table(("missing", "size"), rows)
    unknown = sum(part.path not in outlook.sizes for part in outlook.missing)
    if unknown:
        warn(f"the server does not say how large {unknown} of the parts are")
    if outlook.photos is not None:
        note(f"{outlook.photos:,} photos are to come one by one")
    elif landmarks is not None:
        note(f"the photos of {landmarks} landmarks come after the tables, which tell how many they are")
    note(
        f"{directory}: {len(outlook.missing)} parts missing, {outlook.there} there; "
        f"{describe_bytes(outlook.to_fetch)} to fetch, about {describe_bytes(outlook.needed)} needed, "
        f"{describe_bytes(outlook.free)} free"
    )


def show_report(report: Report, directory: Path) -> None:
    """Say what came and what did not; exit 1 when something failed."""
    for remark in report.remarks:
        warn(remark)
    for failure in report.failed:
        warn(f"{failure.path} failed: {failure.reason}")
    note(f"{report.fetched:,} fetched, {report.there:,} there before, {len(report.failed):,} failed")
    result(str(directory))
    if report.failed:
        note("the same command again fetches what failed")
        raise typer.Exit(1)
