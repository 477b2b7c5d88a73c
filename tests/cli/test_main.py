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
from obelisk.errors import DownloadError, GalleryLockedError, ObeliskError, PhotoError, RecipeError, UsageError


class Panic(BaseException):
    """As libraries written in Rust raise."""


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
        (
            OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/out"),
            "your disk quota is used up · /out · free some space, and run the command again",
        ),
        (
            OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
            "memory ran out · close other programs, or use a machine with more memory",
        ),
        (
            OSError(errno.EMFILE, os.strerror(errno.EMFILE), "photo.jpg"),
            "too many files are open · photo.jpg · allow more, with `ulimit -n 4096`",
        ),
        (OSError(errno.EBADF, os.strerror(errno.EBADF)), "[Errno 9] Bad file descriptor"),
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
        with pytest.raises(ObeliskError, match=r"no space left on device · standard output · .* changed so far is on "):
            write()


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
    assert names[:4] == ["recognize", "album", "landmarks", "gallery"]


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


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(MemoryError(), "memory ran out · close other programs", id="Python"),
        pytest.param(RuntimeError("DefaultCPUAllocator: can't allocate memory: you"), "memory ran out", id="torch"),
        pytest.param(RuntimeError("CUDA out of memory. Tried to"), "memory ran out", id="torch on a GPU"),
        pytest.param(RuntimeError("std::bad_alloc"), "memory ran out", id="C++"),
        pytest.param(RuntimeError("OpenCV: Insufficient memory in f"), "memory ran out", id="OpenCV"),
        pytest.param(RuntimeError("Failed to allocate memory for requested"), "memory ran out", id="ONNX Runtime"),
        pytest.param(ValueError("I/O error: No space left (os error 28)"), "the disk is full · free", id="safetensors"),
        pytest.param(OSError("No space left (os error 28)"), "the disk is full · free some space", id="polars"),
        pytest.param(OSError("x (os error 122)"), "your disk quota is used up", id="a quota, too"),
        pytest.param(
            Panic("index out of bounds"), "unexpected Panic: index out of bounds · run again", id="Rust panics"
        ),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="Windows numbers its errors in another way")
def test_what_libraries_raise_of_their_own_has_the_words_of_the_system(
    obelisk: Obelisk, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    def command() -> None:
        raise error

    monkeypatch.setitem(main.COMMANDS, "bench", command)
    code, out, err = obelisk("bench")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {said}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gallery", "list"], "no such command: `list` · obelisk gallery · the commands: build, add,"),
        (["gallery", "bild"], "no such command: `bild` · obelisk gallery · did you mean `build`?"),
        (
            ["recognize", "x", "--model", "a", "--top", "3", "--model=b"],
            "--model was given 2 times · give it once",
        ),
        (["data", "check", "x", "--data", "y"], "No such option: --data"),
        (["gallery", "build", "g", "--data", "a", "--data", "b"], "--data was given 2 times · give it once"),
        (["train", "x", "--data", "a", "--out", "b", "--out", "b"], "--out was given 2 times · give it once"),
    ],
)
def test_a_mistyped_line_is_explained(obelisk: Obelisk, words: list[str], said: str) -> None:
    code, out, err = obelisk(*words)
    assert (code, out) == (2, "")
    assert said in err


def test_an_option_may_be_given_again_if_it_is_a_list_or_a_flag(obelisk: Obelisk) -> None:
    for words in (["gallery", "remove", "g", "--photo", "a", "--photo", "b"], ["recognize", "x", "--json", "--json"]):
        assert "no such" in obelisk(*words)[2]


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


STREAMS = """
import os, sys
for descriptor in map(int, sys.argv.pop(1)):
    os.close(descriptor)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def run_with_closed(streams: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with some of the standard streams 0, 1, 2 closed."""
    command = [sys.executable, "-c", STREAMS, streams, "-m", "obelisk", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=300)


@pytest.mark.skipif(os.name == "nt", reason="there, closed streams are not passed on")
@pytest.mark.parametrize(
    ("streams", "words", "code", "said"),
    [
        ("1", ["recognize", "-h"], 2, "standard output is closed · send it to a file"),
        ("0", ["recognize", "-"], 2, "standard input is closed · give it the list of paths"),
        ("2", ["recognize", "nothing.jpg"], 2, ""),
        ("012", ["recognize", "nothing.jpg"], 2, ""),
    ],
)
def test_closed_streams_are_mistakes(streams: str, words: list[str], code: int, said: str) -> None:
    done = run_with_closed(streams, *words)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {said}" if said else "")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="there, closed streams are not passed on")
def test_no_file_gets_the_number_of_a_closed_stream(obelisk: Obelisk, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def command() -> None:
        descriptor = os.open(os.devnull, os.O_RDONLY)
        opened.append(descriptor)
        os.close(descriptor)

    monkeypatch.setitem(main.COMMANDS, "bench", command)
    kept = os.dup(0)
    os.close(0)
    try:
        assert obelisk("bench")[0] == 0
    finally:
        os.dup2(kept, 0)
        os.close(kept)
    assert opened[0] > 2


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8", "utf-16"])
def test_any_name_reaches_stdout_in_any_encoding(
    obelisk: Obelisk, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    names = "故宮, caf\udce9 and 🗼"

    def command() -> None:
        console.result(names)
        console.table(("name",), [(names,)])

    monkeypatch.setitem(main.COMMANDS, "bench", command)
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding=encoding))
    assert obelisk("bench")[0] == 0
    lines = written.getvalue().decode().splitlines()
    assert lines == ["故宮, caf\\udce9 and 🗼", "name", "故宮, caf\\udce9 and 🗼"]


def test_a_terminal_keeps_its_encoding(obelisk: Obelisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(main.COMMANDS, "bench", lambda: console.result("Café 故宮"))
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="latin-1")
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdout", stream)
    assert obelisk("bench")[0] == 0
    assert written.getvalue().rstrip() == b"Caf\xe9 \\u6545\\u5bae"


def test_completion_offers_commands_and_options() -> None:
    for line, offered in (("obelisk gallery ", "rename"), ("obelisk recognize --top 3 --top 3 --ver", "--verify")):
        environment = {"_OBELISK_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        done = subprocess.run(
            [sys.executable, "-c", "import sys; sys.argv[0] = 'obelisk'; from obelisk.cli.main import run; run()"],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | environment,
            timeout=300,
        )
        assert offered in done.stdout.split()


def test_completion_can_be_shown_and_installed(obelisk: Obelisk) -> None:
    assert {"--install-completion", "--show-completion"} <= set(obelisk("-h")[1].split())


def test_a_traceback_is_for_debugging(obelisk: Obelisk, monkeypatch: pytest.MonkeyPatch) -> None:
    def command() -> None:
        raise KeyError("x")

    monkeypatch.setitem(main.COMMANDS, "bench", command)
    code, _, err = obelisk("bench")
    assert (code, err) == (1, "error: unexpected KeyError: 'x' · run again with --debug to see where\n")
    with pytest.raises(KeyError):
        obelisk("bench", "--debug")
