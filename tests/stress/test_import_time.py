"""How long ``import obelisk`` takes, beside a Python that imports nothing."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

LIMIT = 4.0  # most of it is the standard library's `typing`, 1.5 to 3 times as long as `python -c pass`

pytestmark = pytest.mark.stress


def seconds(code: str) -> float:
    """The best of several: what other processes take of the machine is no property of the package."""
    taken = []
    for _ in range(10):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        taken.append(time.perf_counter() - start)
    return min(taken)


def test_importing_the_package_takes_little_longer_than_starting_python() -> None:
    assert seconds("import obelisk") <= LIMIT * seconds("pass")
