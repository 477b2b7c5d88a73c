"""The command ``obelisk``: all its commands, and the one place where errors become exit codes."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

import obelisk
from obelisk.cli.ablate import ablate
from obelisk.cli.album import album
from obelisk.cli.bench import bench
from obelisk.cli.bundle import bundle_app
from obelisk.cli.calibrate import calibrate
from obelisk.cli.console import WholeHelp, errors
from obelisk.cli.data import data_app
from obelisk.cli.demo import demo
from obelisk.cli.embed import embed_command
from obelisk.cli.evaluate import compare, evaluate
from obelisk.cli.export import export
from obelisk.cli.gallery import gallery_app
from obelisk.cli.landmarks import landmarks_command
from obelisk.cli.recognize import recognize_command
from obelisk.cli.serve import serve
from obelisk.cli.train import train
from obelisk.errors import ObeliskError, UsageError
from obelisk.files import system_error
from obelisk.markup import visible

# How an error of the system is told, and what to do about it.
REFUSED = {
    errno.ENOSPC: ("the disk is full", "free some space, and run the command again"),
    errno.EDQUOT: ("your disk quota is used up", "free some space, and run the command again"),
    errno.ENOMEM: ("memory ran out", "close other programs, or use a machine with more memory"),
    errno.EMFILE: ("too many files are open", "allow more, with `ulimit -n 4096`"),
    errno.ENFILE: ("too many files are open on this machine", "close other programs"),
    errno.EIO: ("the disk or the connection to it failed", "check it"),
    errno.EBUSY: ("it is in use", "close what uses it, and run the command again"),
    errno.EXDEV: ("a file can't be renamed there, between disks that are joined into one", "name a place on one disk"),
    errno.ENOLCK: ("the file system has no locks", "name a place on a local disk"),
    errno.ENAMETOOLONG: ("the name is too long", "use a shorter one"),
}
# How it reads where a library has an exception of its own for it.
OUT_OF_MEMORY = re.compile(
    r"out of memory|(not enough|insufficient) memory|alloc\w* (memory|failed)|failed to alloc|bad.alloc", re.IGNORECASE
)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)  # a place that the caller may not use
READER_LEFT = 128 + 13  # as a shell reports a process that SIGPIPE ended; Windows has no such signal

# In the order of use, which is that of the help: photos first, then training your own models.
COMMANDS: dict[str, typer.Typer | Callable[..., None]] = {
    "recognize": recognize_command,
    "album": album,
    "landmarks": landmarks_command,
    "gallery": gallery_app,
    "embed": embed_command,
    "serve": serve,
    "data": data_app,
    "train": train,
    "calibrate": calibrate,
    "evaluate": evaluate,
    "compare": compare,
    "ablate": ablate,
    "export": export,
    "bundle": bundle_app,
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


class OneValueCommand(TyperCommand):
    """Refuses an option that takes one value and is given twice: the first value would silently be lost."""

    def make_parser(self, ctx: Any) -> Any:
        """Return a parser that counts."""
        parser: Any = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_args(args: list[str]) -> Any:
            *parsed, order = parse(args)
            parameter: Any
            for parameter, times in Counter(order).items():
                if times == 1 or parameter.multiple or parameter.is_flag or parameter.count:
                    continue
                if not ctx.resilient_parsing:
                    raise UsageError(f"{parameter.opts[0]} was given {times} times", fix="give it once")
            return *parsed, order

        parser.parse_args = parse_args
        return parser


def make_app(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Build the command line with some of the commands, or all."""
    app = typer.Typer(
        name="obelisk",
        cls=MainHelp,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Name the landmark in a photo.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(obelisk_command)
    for name in names:
        command = COMMANDS[name]
        if isinstance(command, typer.Typer):
            for part in command.registered_commands:
                part.cls = OneValueCommand
            app.add_typer(command)
        else:
            app.command(name, cls=OneValueCommand)(command)
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
        prepare_streams()
        make_app(named or COMMANDS)(arguments)
    except SystemExit as leaving:
        # Typer exits 1 when the reader of a pipe has gone.
        if isinstance(leaving.__context__, BrokenPipeError):
            leaving.code = READER_LEFT
        raise
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BaseException as error:  # a panic of a library written in Rust is no Exception
        if debug:
            raise
        text, code = explain_error(error)
        errors.print(f"error: {visible(text)}", markup=False, style="red")
        sys.exit(code)


def prepare_streams() -> None:
    """Let any text through to stdout, and refuse to run without one.

    JSON escapes file names that are not UTF-8 so that they read back as the same names.
    """
    # A file must not get the number of a closed stream: what libraries print would be written into it.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stdout is None:
        raise UsageError("standard output is closed", fix="send it to a file, or to nowhere with `> /dev/null`")
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding = sys.stdout.encoding if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")


def explain_error(error: BaseException) -> tuple[str, int]:
    """Return what to say of an error, and the exit code."""
    if isinstance(error, ObeliskError):
        return str(error), error.exit_code
    refused = system_error(error)
    if isinstance(error, MemoryError) or (refused is None and OUT_OF_MEMORY.search(str(error))):
        refused = OSError(errno.ENOMEM, "")
    if refused is error or (refused and refused.errno in REFUSED):
        return explain_system_error(refused), 2 if refused.errno in FORBIDDEN else 1
    if isinstance(error, OSError):
        return str(error), 1
    return f"unexpected {type(error).__name__}: {error} · run again with --debug to see where", 1


def explain_system_error(error: OSError) -> str:
    """Explain what the system refused, where, and what to do about it."""
    what, fix = REFUSED.get(error.errno or 0, (str(error.strerror).lower(), ""))
    if not fix and not error.filename:
        return str(error)
    # A rename has two names: the second is the one that the caller knows.
    parts = [what, error.filename2 or error.filename, fix or "name an existing place that you may use"]
    return " · ".join(str(part) for part in parts if part)
