"""SIGTERM during training: finish the step, save a checkpoint, then stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class SigtermFlag:
    """While entered, SIGTERM only sets ``received``; the handler of before is restored afterwards.

    Signals reach the main thread only: entered in another thread, this does nothing.
    """

    def __init__(self) -> None:
        self.received = False
        self._main = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> SigtermFlag:
        if self._main:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *reason: object) -> None:
        if self._main:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = True
