"""What the command line says when the system refuses something."""

from __future__ import annotations

import errno
import os

import pytest

from obelisk.cli.main import explain_system_error


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
