"""One task a photo, on all cores, in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def map_in_order(function: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """Yield ``function(item)`` for each item, in their order, computed by a thread per core.

    Decoding a photo leaves the interpreter's lock, so threads are enough. Only a few items are under way at a time,
    whatever their number.
    """
    workers = os.cpu_count() or 1
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
