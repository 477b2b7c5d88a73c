"""The command ``obelisk``: all its commands, and the one place where errors become exit codes."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Annotated

import typer

import obelisk
from obelisk.cli.ablate import ablate
from obelisk.cli.bench import bench
from obelisk.cli.console import WholeHelp, errors, visible
from obelisk.cli.data import data_app
from obelisk.cli.demo import demo
from obelisk.cli.evaluate import compare, evaluate
from obelisk.cli.export import export
from obelisk.cli.gallery import gallery_app
from obelisk.cli.recognize import recognize_command
from obelisk.cli.train import train
from obelisk.errors import ObeliskError

FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)  # a place that the caller may not use
READER_LEFT = 128 + 13  # as a shell reports a process that SIGPIPE ended; Windows has no such signal

# In the order of use, which is that of the help: photos first, then training your own models.
COMMANDS: dict[str, typer.Typer | Callable[..., None]] = {
    "recognize": recognize_command,
    "gallery": gallery_app,
    "data": data_app,
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "ablate": ablate,
    "export": export,
    "bench": bench,
    "demo": demo,
}


class MainHelp(WholeHelp):
    """Lists the commands in the order of use."""

    def list_commands(self, ctx: object) -> list[str]:
        """Return the names of the commands that this command line has."""
        return [name for name in COMMANDS if name in self.commands]


def show_version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        sys.stdout.write(f"obelisk {obelisk.__version__}\n")
        raise typer.Exit


def obelisk_command(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error (accepted anywhere).")] = False,
) -> None:
    """Name the landmark in a photo."""


def make_app(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Build the command line with some of the commands, or all."""
    app = typer.Typer(
        name="obelisk",
        cls=MainHelp,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Name the landmark in a photo.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(obelisk_command)
    for name in names:
        command = COMMANDS[name]
        if isinstance(command, typer.Typer):
            app.add_typer(command)
        else:
            app.command(name)(command)
    return app


def stop_on_sigterm(number: int, frame: FrameType | None) -> None:
    """Unwind on SIGTERM, so that open stages save their state, and exit 143."""
    raise SystemExit(128 + number)


@contextlib.contextmanager
def stopping_on_sigterm() -> Iterator[None]:
    """Unwind the block on SIGTERM; afterwards, restore the previous handler."""
    before = signal.signal(signal.SIGTERM, stop_on_sigterm)
    try:
        yield
    finally:
        # None stands for a handler that Python didn't set, and can't set again.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def run() -> None:
    """Run the command line: never a traceback, unless ``--debug`` asks for it."""
    with stopping_on_sigterm():
        run_arguments(sys.argv[1:])


def run_arguments(words: list[str]) -> None:
    """Run the command given by the arguments, and exit with its code."""
    debug = "--debug" in words
    arguments = [word for word in words if word != "--debug"]
    # More OpenBLAS threads would spin while they wait for the next small product, and take the cores from the threads
    # that embed photos: 60 instead of 78 photos a second on two cores (2026-11-24). Read when NumPy is first imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # pydantic would search all installed packages for plugins: time that no command needs.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    named = COMMANDS.keys() & arguments[:1]  # building the others as well takes long
    try:
        make_app(named or COMMANDS)(arguments)
    except SystemExit as leaving:
        # Typer exits 1 when the reader of a pipe has gone.
        if isinstance(leaving.__context__, BrokenPipeError):
            leaving.code = READER_LEFT
        raise
    except ObeliskError as error:
        leave(str(error), error.exit_code, debug=debug)
    except OSError as error:
        leave(explain_system_error(error), 2 if error.errno in FORBIDDEN else 1, debug=debug)
    except Exception as error:
        leave(f"unexpected {type(error).__name__}: {error} · run again with --debug to see where", 1, debug=debug)


def explain_system_error(error: OSError) -> str:
    """Explain what the system refused, where, and what to do about it."""
    if error.errno == errno.ENOSPC:
        parts = ["the disk is full", error.filename, "free some space, and run the command again"]
    elif error.filename:
        parts = [str(error.strerror).lower(), error.filename, "name an existing place that you may use"]
    else:
        return str(error)
    return " · ".join(str(part) for part in parts if part)


def leave(text: str, code: int, *, debug: bool) -> None:
    """Print an error, or raise it when debugging, and exit."""
    if debug:
        raise
    errors.print(f"error: {visible(text)}", markup=False, style="red")
    sys.exit(code)
