"""One amount of memory for all photos in flight, however many threads read them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from obelisk.photos.limits import DECODING_BYTES, FILE_BYTES


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
            with self._changed:
                self._free += amount
                self._changed.notify_all()


FILES = MemoryBudget(FILE_BYTES)
"""held by files that were read and wait to be decoded"""
DECODING = MemoryBudget(DECODING_BYTES)
"""held by photos that are being decoded"""
