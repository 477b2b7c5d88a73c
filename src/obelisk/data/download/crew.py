"""Threads that do tasks side by side while the caller watches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from obelisk.data.download.http import StoppedError

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_STOP = 5.0


def do_all(
    tasks: Iterable[Callable[[], None]], *, workers: int, stopping: threading.Event, look: Callable[[], None]
) -> None:
    """Do the tasks on so many threads, and call ``look`` on this one now and then.

    The first error of a task stops the others and is raised here. Whatever ends the waiting here, an interrupt
    included, sets ``stopping`` and gives the tasks a few seconds to end; one that hangs on a dead connection is left
    behind, which loses nothing, because what is on the disk is sound at any moment.
    """
    remaining = iter(tasks)
    taking = threading.Lock()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while not stopping.is_set():
                with taking:
                    task = next(remaining, None)
                if task is None:
                    return
                task()
        except StoppedError:
            return
        except BaseException as error:
            errors.append(error)
            stopping.set()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            wait_for(threads, SECONDS_BETWEEN_LOOKS)
            look()
    except BaseException:
        stopping.set()
        wait_for(threads, SECONDS_TO_STOP)
        raise
    if errors:
        raise errors[0]


def wait_for(threads: list[threading.Thread], seconds: float) -> None:
    """Wait until the threads have ended, for so long at most."""
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
