"""Process photos on all cores, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from obelisk.photos.cores import usable_cores
from obelisk.photos.limits import IN_FLIGHT_BYTES

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], weigh: Callable[[Item], int] = lambda _: 0
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in order, computed by one thread per core.

    Decoding releases the interpreter's lock, so threads are enough. Only a few items are in flight at a time, however
    many there are; fewer if they hold more bytes, as ``weigh`` says, than photos in flight may hold.
    """
    workers = usable_cores()
    waiting: deque[tuple[int, Future[Result]]] = deque()
    held = 0
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            weight = weigh(item)
            while waiting and held + weight > IN_FLIGHT_BYTES:
                held -= waiting[0][0]
                yield waiting.popleft()[1].result()
            held += weight
            waiting.append((weight, pool.submit(function, item)))
            if len(waiting) > 4 * workers:
                held -= waiting[0][0]
                yield waiting.popleft()[1].result()
        while waiting:
            yield waiting.popleft()[1].result()


class UntilError(Generic[Item]):
    """Passes items on until their iterable raises: then it ends, and keeps the ``error`` for later.

    So what was taken before can be finished first.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        try:
            return next(self._items)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise StopIteration from None
