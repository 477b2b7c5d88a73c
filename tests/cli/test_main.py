"""The command line as a whole: its help, its exit codes, and what it says when the system refuses something."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
import typer

from obelisk.cli import console, main
from obelisk.cli.main import explain_system_error, run
from obelisk.errors import DownloadError, GalleryLockedError, PhotoError, RecipeError, UsageError


@pytest.mark.parametrize(
    ("error", "reported"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/out/model"),
            "the disk is full · /out/model · free some space, and run the command again",
        ),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            "the disk is full · free some space, and run the command again",
        ),
        (
            OSError(errno.EACCES, os.strerror(errno.EACCES), "/out"),
            "permission denied · /out · name an existing place that you may use",
        ),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "[Errno 12] Cannot allocate memory"),
        (OSError("no device"), "no device"),
    ],
)
def test_what_where_and_what_to_do(error: OSError, reported: str) -> None:
    assert explain_system_error(error) == reported


@pytest.mark.parametrize(("number", "code"), [(errno.EACCES, 2), (errno.EROFS, 2), (errno.ENOSPC, 1), (errno.EIO, 1)])
def test_a_forbidden_place_is_a_mistake_and_a_broken_machine_is_not(
    monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    def fail(words: list[str]) -> None:
        raise OSError(number, os.strerror(number), "/out")

    monkeypatch.setattr(main, "make_app", lambda names: fail)
    with pytest.raises(SystemExit) as left:
        run()
    assert left.value.code == code


def test_one_command_reads_as_all_do(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["bench", "--help"], ["gallery", "info", "--help"], ["recognize"]):
        shown = []
        for names in ([words[0]], main.COMMANDS):
            with pytest.raises(SystemExit):
                main.make_app(names)(words, prog_name="obelisk")
            shown.append(capsys.readouterr())
        assert shown[0] == shown[1]
        assert f"obelisk {words[0]}" in shown[0].out + shown[0].err


@pytest.mark.parametrize(
    ("columns", "printed"),
    [
        pytest.param(("name", "photos"), "name     photos\nSt Mary      12\nGate          3\n", id="header"),
        pytest.param(("", ""), "St Mary  12\nGate      3\n", id="no column has a name"),
    ],
)
def test_a_table_has_a_header_if_its_columns_have_names(
    capsys: pytest.CaptureFixture[str], columns: tuple[str, str], printed: str
) -> None:
    console.table(columns, [("St Mary", 12), ("Gate", 3)])
    assert capsys.readouterr().out == printed


def test_a_table_in_a_file_has_no_spaces_at_the_end_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(("photos", "name"), [(12, "St Mary"), (3, "Gate")])
    assert capsys.readouterr().out == "photos  name\n    12  St Mary\n     3  Gate\n"


def test_a_full_standard_output_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for write in (lambda: console.result("x"), lambda: console.table(("x",), [("y",)])):
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(NothingFits()))
        with pytest.raises(OSError, match="No space left") as raised:
            write()
        assert raised.value.filename == "standard output"


class NothingFits(io.BytesIO):
    def write(self, content: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


Obelisk = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("columns", ["80", "100"])
@pytest.mark.parametrize("group", [[], ["gallery"], ["data"]])
def test_the_help_gives_each_command_one_whole_line(
    obelisk: Obelisk, monkeypatch: pytest.MonkeyPatch, columns: str, group: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    code, out, _ = obelisk(*group, "-h")
    listed = out.partition("Commands:\n")[2]
    assert code == 0
    assert listed
    assert [line for line in listed.splitlines() if line[2] == " "] == []  # the rest of a line above
    assert "…" not in listed
    assert "..." not in listed


def test_the_help_lists_the_commands_in_the_order_of_use(obelisk: Obelisk) -> None:
    lines = obelisk("--help")[1].partition("Commands:\n")[2].splitlines()
    names = [line.split()[0] for line in lines if line[2] != " "]
    assert names == list(main.COMMANDS)
    assert names[:2] == ["recognize", "gallery"]


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        pytest.param(None, 0, id="done"),
        pytest.param(typer.Exit(1), 1, id="some inputs failed"),
        pytest.param(PhotoError("x"), 1, id="a photo failed"),
        pytest.param(DownloadError("x"), 1, id="a download failed"),
        pytest.param(GalleryLockedError("x"), 1, id="others hold the gallery"),
        pytest.param(OSError(errno.ENOSPC, "No space left on device"), 1, id="the disk is full"),
        pytest.param(MemoryError(), 1, id="the memory is full"),
        pytest.param(KeyError("x"), 1, id="a mistake of ours"),
        pytest.param(UsageError("x"), 2, id="the user's mistake"),
        pytest.param(RecipeError("x"), 2, id="an unusable recipe"),
        pytest.param(OSError(errno.EACCES, "Permission denied"), 2, id="a forbidden place"),
        pytest.param(KeyboardInterrupt(), 130, id="Ctrl-C"),
        pytest.param(BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, id="the reader of a pipe went away"),
        pytest.param(signal.SIGTERM, 143, id="SIGTERM"),
    ],
)
def test_exit_codes(
    obelisk: Obelisk, monkeypatch: pytest.MonkeyPatch, raised: BaseException | signal.Signals | None, code: int
) -> None:
    """Whatever ends a command, the handler of SIGTERM is the one that was there before."""

    def command() -> None:
        if isinstance(raised, signal.Signals):
            os.kill(os.getpid(), raised)
        elif raised:
            raise raised

    monkeypatch.setitem(main.COMMANDS, "bench", command)
    # What leaving by a broken pipe puts in their place is undone, too.
    monkeypatch.setattr("sys.stdout", sys.stdout)
    monkeypatch.setattr("sys.stderr", sys.stderr)
    before = signal.getsignal(signal.SIGTERM)
    assert obelisk("bench")[0] == code
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("words", [["recognise"], ["recognize", "--no-such-option"], ["train"], []])
def test_words_that_are_no_command_are_a_mistake(obelisk: Obelisk, words: list[str]) -> None:
    assert obelisk(*words)[0] == 2


def test_a_reader_that_went_away_leaves_no_trace() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "obelisk", "recognize", "--help"]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=300)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_traceback_is_for_debugging(obelisk: Obelisk, monkeypatch: pytest.MonkeyPatch) -> None:
    def command() -> None:
        raise KeyError("x")

    monkeypatch.setitem(main.COMMANDS, "bench", command)
    code, _, err = obelisk("bench")
    assert (code, err) == (1, "error: unexpected KeyError: 'x' · run again with --debug to see where\n")
    with pytest.raises(KeyError):
        obelisk("bench", "--debug")
