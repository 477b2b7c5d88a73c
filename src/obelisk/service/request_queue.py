"""Photos of many requests wait in one queue, and are answered together by one thread.

A batch takes the oldest request and all later ones with the same options, up to :data:`AT_ONCE` photos: under load the
cores are never idle, and a single request is answered at once. A request is refused when the photos before it would
take more than WAITING_SECONDS, so that those accepted are answered soon.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus
from statistics import median
from typing import Generic, TypeVar

from obelisk.photos import return_memory
from obelisk.service.problems import ProblemError
from obelisk.service.settings import MOST_WAITING, WAITING_SECONDS
from obelisk.service.uploads import Upload

AT_ONCE = 32  # photos
GUESSED_SECONDS = 0.02  # that a photo takes, before any was answered
REMEMBERED = 9  # batches, whose median says how long a photo takes
BATCHES_KEPT = 100  # after which freed memory goes back to the system: glibc keeps it for each thread

Options = TypeVar("Options")
Answer = TypeVar("Answer")


@dataclass(kw_only=True, eq=False)
class WaitingRequest(Generic[Options, Answer]):
    """Photos of one request, and the future of their answers."""

    photos: Sequence[Upload]
    options: Options
    entered: float = field(default_factory=time.monotonic)
    future: Future[list[Answer]] = field(default_factory=Future)


class RequestQueue(Generic[Options, Answer]):
    """Answers photos in batches with ``answer(photos, options)``, which runs in a thread of the queue's own.

    ``observe(photos, waited, seconds)`` is called after each batch.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Upload], Options], Sequence[Answer]],
        observe: Callable[[int, float, float], None] = lambda photos, waited, seconds: None,
    ) -> None:
        self._answer = answer
        self._observe = observe
        self._waiting: deque[WaitingRequest[Options, Answer]] = deque()
        self._changed = threading.Condition()
        self._photos = 0  # waiting, or being answered
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)  # that a photo took in the latest batches
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="recognizer", daemon=True)
        self._thread.start()

    @property
    def photos(self) -> int:
        """Number of photos that wait or are being answered."""
        return self._photos

    def submit(self, photos: Sequence[Upload], options: Options) -> Future[list[Answer]]:
        """Let photos wait for their answers; raise ProblemError if they would wait for too long."""
        request = WaitingRequest[Options, Answer](photos=photos, options=options)
        with self._changed:
            if self._closed:
                raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "the service is shutting down", fix="try again soon")
            expected = self._photos * (median(self._seconds) if self._seconds else GUESSED_SECONDS)
            patient = self._photos < AT_ONCE  # those are answered together with the next ones
            if (expected > WAITING_SECONDS and not patient) or self._photos + len(photos) > MOST_WAITING:
                retry = {"Retry-After": str(max(1, math.ceil(expected)))}
                raise ProblemError(
                    HTTPStatus.TOO_MANY_REQUESTS, "the service is busy", fix="try again soon", headers=retry
                )
            self._photos += len(photos)
            self._waiting.append(request)
            self._changed.notify()
        return request.future

    def close(self) -> None:
        """Answer what was accepted, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        for number in itertools.count(1):
            if not (batch := self._next_batch()):
                break
            self._answer_batch(batch)
            if number % BATCHES_KEPT == 0:
                return_memory()

    def _next_batch(self) -> list[WaitingRequest[Options, Answer]]:
        """Wait for requests and take a batch of them; an empty one if the queue was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return []
            first = self._waiting.popleft()
            batch, later, photos = [first], deque[WaitingRequest[Options, Answer]](), len(first.photos)
            for request in self._waiting:
                if request.options == first.options and photos + len(request.photos) <= AT_ONCE:
                    batch.append(request)
                    photos += len(request.photos)
                else:
                    later.append(request)
            self._waiting = later
            return batch

    def _answer_batch(self, batch: Sequence[WaitingRequest[Options, Answer]]) -> None:
        wanted = [request for request in batch if request.future.set_running_or_notify_cancel()]
        photos = [photo for request in wanted for photo in request.photos]
        begun = time.monotonic()
        try:
            answers = list(self._answer(photos, wanted[0].options)) if photos else []
        except BaseException as error:  # every request must hear of it, and the thread goes on
            for request in wanted:
                request.future.set_exception(error)
        else:
            for request in wanted:
                request.future.set_result(answers[: len(request.photos)])
                answers = answers[len(request.photos) :]
        seconds = time.monotonic() - begun
        with self._changed:
            self._photos -= sum(len(request.photos) for request in batch)
            if photos:
                self._seconds.append(seconds / len(photos))
        if photos:
            self._observe(len(photos), begun - min(request.entered for request in wanted), seconds)
