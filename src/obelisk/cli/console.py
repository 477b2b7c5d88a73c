"""Terminal output: results to stdout, progress and notes to stderr, color only on a terminal."""

from __future__ import annotations

import contextlib
import datetime
import errno
import importlib.util
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from obelisk.errors import MissingExtraError, ObeliskError, UsageError, near_names
from obelisk.markup import visible

if TYPE_CHECKING:
    from obelisk.recognition import Recognizer
    from obelisk.training.optim.logs import StepReport

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 30.0
UNLIMITED = 1 << 16  # columns: programs read a row in one line, however long its names

errors = Console(stderr=True, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def writing_output() -> Iterator[None]:
    """Say that it is the output that can't be written, and not what the command does."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if os.name == "nt" and error.errno == errno.EINVAL:  # what Windows says of a pipe without a reader
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from error
        raise ObeliskError(
            f"the output can't be written: {str(error.strerror).lower()}",
            where="standard output",
            fix="send it elsewhere; what the command changed so far is on the disk",
        ) from error


def result(text: str) -> None:
    """Write one line of the result to stdout and flush it, so that a waiting reader has it at once."""
    results([text])


def results(lines: Iterable[str]) -> None:
    """Write lines of the result to stdout, and flush them."""
    with writing_output():
        sys.stdout.write("".join(f"{visible(line)}\n" for line in lines))
        sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Print a table to stdout; text is aligned to the left, columns of numbers to the right.

    If no column has a name, there is no header.
    """
    listed = [list(row) for row in rows]
    drawn = Table(
        title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", show_header=any(columns)
    )
    for index, column in enumerate(columns):
        numeric = bool(listed) and all(isinstance(row[index], int | float) for row in listed)
        drawn.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        drawn.add_row(*(Text(f"{cell:.4f}" if isinstance(cell, float) else visible(str(cell))) for cell in row))
    with writing_output():
        if sys.stdout.isatty():
            Console(highlight=False).print(drawn)
        else:
            padded = Console(highlight=False, width=UNLIMITED)
            with padded.capture() as lines:
                padded.print(drawn)
            sys.stdout.write("".join(f"{line.rstrip()}\n" for line in lines.get().splitlines()))
            sys.stdout.flush()


def note(text: str) -> None:
    """Write a remark to stderr."""
    errors.print(visible(text), markup=False)


def warn(text: str) -> None:
    """Write a warning to stderr: something was skipped, or isn't as it should be."""
    errors.print(f"warning: {visible(text)}", markup=False, style="yellow")


def note_remark(recognizer: Recognizer) -> None:
    """Say what concerns all answers of a recognizer, such as that nothing is calibrated."""
    if remark := recognizer.find_remark():
        note(remark)


def count_of(count: int, what: str) -> str:
    """Return ``1 photo`` or ``3 photos``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


class WholeHelp(TyperGroup):
    """A group of commands whose help shows the whole first sentence of each command."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command by its name; say which there are if none is near a mistyped one."""
        if not (ctx.resilient_parsing or args[0] in self.commands):
            known = self.list_commands(ctx)
            fix = near_names(args[0], known) or f"the commands: {', '.join(known)}"
            raise UsageError(f"no such command: `{args[0]}`", where=ctx.command_path, fix=fix)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands; Typer alone would cut each sentence to one line."""
        for command in self.commands.values():
            paragraph = " ".join((command.help or "").partition("\n\n")[0].split())
            command.short_help = command.short_help or paragraph.partition(". ")[0].removesuffix(".")
        super().format_commands(ctx, formatter)


class SkippedFolders:
    """Names and counts the folders that can't be used; call it with the error of one that may not be listed.

    ``photo_filter`` decides what walks pass over, such as what the globs ``exclude`` name.
    """

    def __init__(self, exclude: Sequence[str] | None = None) -> None:
        from obelisk.photos import PhotoFilter

        self.photo_filter = PhotoFilter(exclude or ())
        self.locked = self.empty = 0

    def __bool__(self) -> bool:
        return self.locked + self.empty > 0

    def __call__(self, error: OSError) -> None:
        """Name a folder that the system doesn't let us list."""
        from obelisk.photos import advise_unlistable

        self.locked += 1
        fix = advise_unlistable(error)
        warn(f"the folder cannot be searched: {error.strerror} · {error.filename}" + (f" · {fix}" if fix else ""))

    def note_empty(self, folder: str) -> None:
        """Name a folder without a photo."""
        self.empty += 1
        warn(f"no photo in the folder {folder}")

    def report(self) -> None:
        """Report how many there were, and what was passed over, if any."""
        if passed_over := self.photo_filter.describe():
            note(passed_over)
        if self:
            warn(f"{count_of(self.locked + self.empty, 'folder')} could not be used")


def track(items: Iterable[T], *, total: int, what: str) -> Iterator[T]:
    """Yield the items, while a bar on stderr shows how many are done and how long the rest will take.

    The bar is drawn on a terminal only.
    """
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        yield from progress.track(items, total=total)


class CaptionedProgress(Progress):
    """Progress bars with a line of facts below them, if there are any."""

    def __init__(self, *columns: ProgressColumn, console: Console, disable: bool, facts: Text) -> None:
        self._facts = facts
        super().__init__(*columns, console=console, disable=disable)

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield what is drawn, from top to bottom."""
        yield from super().get_renderables()
        if self._facts.plain:
            yield self._facts


def describe_step(report: StepReport, *, time_left: bool) -> str:
    """Describe the state of fine-tuning in one line; a progress bar beside it may show the time left."""
    from obelisk.training.machine import format_bytes

    throughput = report.throughput
    parts = [
        f"epoch {report.epoch} of {report.epochs}",
        f"loss {report.loss:.3f}",
        f"top-1 {100 * report.val_top1:.1f} %" if report.val_top1 is not None else "",
        f"{throughput.photos_per_second:.1f} photos/s",
        f"{datetime.timedelta(seconds=round(report.seconds_left))} left" if time_left else "",
        f"{format_bytes(throughput.resident)}, at most {format_bytes(throughput.peak)}" if throughput.peak else "",
    ]
    return " · ".join(filter(None, parts))


class Meter:
    """Shows the progress of each stage of a long job on stderr; it is a :data:`obelisk.records.Progress`.

    A terminal shows one bar per stage; a log file gets a line every half minute and one at the end of each stage.
    """

    def __init__(self) -> None:
        self._facts = Text()
        self._progress = CaptionedProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=errors,
            disable=not errors.is_terminal,
            facts=self._facts,
        )
        self._tasks: dict[str, TaskID] = {}
        self._said = time.monotonic()

    def __enter__(self) -> Meter:
        self._progress.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._progress.stop()

    def watch(self, report: StepReport) -> None:
        """Show the progress of fine-tuning: live on a terminal, otherwise one line per epoch."""
        if errors.is_terminal:
            self._facts.plain = describe_step(report, time_left=False)
            self("fine-tuning", (report.epoch - 1) * report.steps + report.step, report.epochs * report.steps)
        elif report.ended:
            note(f"fine-tuning, {describe_step(report, time_left=True)}")

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are done."""
        if errors.is_terminal:
            if what not in self._tasks:
                self._tasks[what] = self._progress.add_task(what, total=total)
            self._progress.update(self._tasks[what], completed=done)
        elif done == total or time.monotonic() - self._said > SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            note(f"{what}: {done} of {total}")


def require_extra(extra: str, *, module: str, needed_for: str) -> None:
    """Raise MissingExtraError, with the install command, if an optional module isn't installed."""
    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(extra, needed_for=needed_for)
