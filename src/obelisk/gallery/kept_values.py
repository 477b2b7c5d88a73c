"""Values that are computed once for each photo or landmark, as far as a memory of fixed size holds them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from obelisk.arrays import Integers

COMPUTED_AT_ONCE = 1 << 12


class KeptValues:
    """Computes a value for each number n ≥ 0, and keeps it until another number takes its slot, n modulo S.

    ``compute`` takes distinct numbers (M,) and returns their values, (M, …) of the shape and type given. The memory
    grows with the slots that were used, up to S. Threads may share it.
    """

    def __init__(
        self, compute: Callable[[Integers], NDArray[Any]], slots: int, shape: tuple[int, ...], dtype: DTypeLike
    ) -> None:
        self._compute = compute
        self._slots = max(1, slots)
        # Zeros take no memory until they are overwritten, so a slot says 1 + n.
        self._holders = np.zeros(self._slots, dtype=np.int64)
        self._values = np.zeros((self._slots, *shape), dtype=dtype)
        self._lock = threading.Lock()

    def look_up(self, numbers: Integers) -> NDArray[Any]:
        """Return the values (M, …) of distinct numbers (M,)."""
        slots = numbers % self._slots
        with self._lock:
            known = self._holders[slots] == numbers + 1
            values = self._values[slots]
        missing = np.flatnonzero(~known)
        for start in range(0, len(missing), COMPUTED_AT_ONCE):
            part = missing[start : start + COMPUTED_AT_ONCE]
            values[part] = self._compute(numbers[part])
        with self._lock:
            self._holders[slots[missing]] = numbers[missing] + 1
            self._values[slots[missing]] = values[missing]
        return values
