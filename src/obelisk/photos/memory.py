"""One amount of memory for all photos in flight, however many threads read them."""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from obelisk.photos.limits import SHARED_DECODING_BYTES, SHARED_FILE_BYTES

LARGE = 16 * 10**6


class MemoryBudget:
    """An amount of memory that threads share; they get their parts in the order in which they ask."""

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Hold so many bytes, once they are free; who asks for more than there are gets all."""
        amount, ticket = min(amount, self._total), object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is ticket and self._free >= amount)
                self._free -= amount
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            if amount >= LARGE:
                return_memory()
            with self._changed:
                self._free += amount
                self._changed.notify_all()


def return_memory() -> None:
    """Return to the system what this process has freed: glibc would keep some blocks of pixels for each thread."""
    if trim := find_trim():
        trim(0)


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
