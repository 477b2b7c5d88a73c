"""Counting what has come, for whoever shows it."""

from __future__ import annotations

import threading
import time


class Tally:
    """How much has come, of how much, how fast, and for how long yet; any thread may count."""

    def __init__(self, what: str, unit: str, *, done: int = 0) -> None:
        """Begin to count; ``unit`` is ``bytes`` or ``photos``, ``done`` what was there already."""
        self.what = what
        self.unit = unit
        self.done = done
        self._there = done
        self._expected: dict[str, int] = {}
        self._begun = time.monotonic()
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Count what has come; less than 0 for what is thrown away."""
        with self._lock:
            self.done += count

    def expect(self, part: str, count: int | None) -> None:
        """Note how much a part has in all, as soon as it is known."""
        if count is not None:
            with self._lock:
                self._expected[part] = count

    @property
    def total(self) -> int:
        """How much there is in all, as far as is known."""
        with self._lock:
            return sum(self._expected.values())

    @property
    def rate(self) -> float:
        """How much came a second, since the counting began."""
        return max(0, self.done - self._there) / max(1e-3, time.monotonic() - self._begun)

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this rate; None while nothing has come."""
        return max(0, self.total - self.done) / self.rate if self.rate else None
