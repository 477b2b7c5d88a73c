"""What the command line says when the system refuses something."""

from __future__ import annotations

import errno
import io
import os

import pytest

from obelisk.cli import console, main
from obelisk.cli.main import explain_system_error, run


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/out/model"),
            "the disk is full · /out/model · free some space, and do the same again",
        ),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "the disk is full · free some space, and do the same again"),
        (
            OSError(errno.EACCES, os.strerror(errno.EACCES), "/out"),
            "permission denied · /out · name a place that is there, and that you may use",
        ),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "[Errno 12] Cannot allocate memory"),
        (OSError("no device"), "no device"),
    ],
)
def test_what_where_and_what_to_do(error: OSError, told: str) -> None:
    assert explain_system_error(error) == told


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


def test_a_full_standard_output_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for write in (lambda: console.result("x"), lambda: console.table(("x",), [("y",)])):
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(NothingFits()))
        with pytest.raises(OSError, match="No space left") as raised:
            write()
        assert raised.value.filename == "standard output"


class NothingFits(io.BytesIO):
    def write(self, content: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
