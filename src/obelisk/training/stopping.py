"""Stopping between two steps, never within one."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class StopSignal:
    """While entered, SIGTERM is noted in ``asked`` instead of acted on.

    Signals reach the main thread only; entered in another one, it notes nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._main = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> StopSignal:
        if self._main:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *reason: object) -> None:
        if self._main:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
