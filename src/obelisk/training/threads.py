"""How many threads torch computes in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread for a while.

    Heads and a few photos are small work: a second core gains little, and costs tenfold where the cores are shared
    with other work (measured 2026-11-24). One thread also adds up in one order, whatever the number of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
