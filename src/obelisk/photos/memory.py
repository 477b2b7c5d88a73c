"""One amount of memory for all photos in flight, however many threads read them."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from obelisk.photos.limits import SHARED_DECODING_BYTES, SHARED_FILE_BYTES

MOST_KEPT = 20 * 10**6
M_ARENA_MAX = -8  # as glibc's malloc.h numbers it


class MemoryBudget:
    """An amount of memory that threads share; they get their parts in the order in which they ask.

    What a thread has freed counts until the system has it back, because glibc keeps blocks of pixels for each thread.
    """

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._waiting: deque[object] = deque()
        self._kept: dict[int, int] = {}
        self._changed = threading.Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Hold so many bytes, once they are free; who asks for more than there are gets all."""
        amount, ticket, thread = min(amount, self._total), object(), threading.get_ident()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is ticket and self._free >= amount)
                self._free -= amount
                # A photo that goes alone takes blocks of other sizes than its thread has freed.
                reused = self._kept.get(thread, 0) if amount < self._total else 0
                if sum(self._kept.values()) - reused > min(self._free, MOST_KEPT):
                    self._kept.clear()
                    return_memory()
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._kept[thread] = max(self._kept.get(thread, 0), amount)
                self._changed.notify_all()


def return_memory() -> None:
    """Return to the system what this process has freed."""
    if trim := find_trim():
        trim(0)


def share_arenas(count: int) -> None:
    """Let all threads of this process share ``count`` of glibc's arenas, each of which keeps what was freed in it.

    By default there may be eight a core, and a process that lives for long fills them all. Other C libraries do nothing
    of the kind.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, count)


@cache
def find_trim() -> Callable[[int], int] | None:
    """Return glibc's ``malloc_trim``; None on other systems."""
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return found


FILES = MemoryBudget(SHARED_FILE_BYTES)
"""held by files while they are being decoded, or wait for that"""
DECODING = MemoryBudget(SHARED_DECODING_BYTES)
"""held by photos that are being decoded"""
