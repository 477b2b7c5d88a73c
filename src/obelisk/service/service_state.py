"""What the routes of one service share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Annotated, cast

from fastapi import Depends, Request

from obelisk.markup import is_web_address
from obelisk.photos import GivenPhoto
from obelisk.positions import Position
from obelisk.records import Recognition
from obelisk.service.live_recognizer import LiveRecognizer, public_name
from obelisk.service.monitoring import ServiceMetrics
from obelisk.service.photo_regions import PhotoRegions, find_regions
from obelisk.service.problems import ProblemError
from obelisk.service.request_queue import RequestQueue
from obelisk.service.settings import ServiceSettings
from obelisk.service.uploads import BodyBudget, Upload


@dataclass(frozen=True, kw_only=True)
class RecognitionOptions:
    """What a request for recognition asks for; requests with the same options are answered together."""

    top: int
    threshold: float | None
    precision: float
    near: Position | str | None
    explain: bool


@dataclass(frozen=True, kw_only=True)
class ServiceAnswer:
    """The answer for one photo, and its regions if they were asked for."""

    recognition: Recognition
    regions: PhotoRegions | None = None


class ServiceState:
    """The recognizer of a process, its queue, its budget for bodies and its counters."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.recognizer = LiveRecognizer(settings.galleries)
        self.bodies = BodyBudget()
        self.metrics = ServiceMetrics(lambda: self.queue.photos)
        self.queue = RequestQueue(self._answer, self.metrics.observe_batch)

    def _answer(self, photos: Sequence[Upload], options: RecognitionOptions) -> list[ServiceAnswer]:
        """Recognize photos of one or many requests, in the thread of the queue."""
        recognizer, references = self.recognizer.current()
        if not len(references):
            fix = "add a landmark first"
            raise ProblemError(HTTPStatus.CONFLICT, "the gallery has no reference photos", fix=fix)
        answers = recognizer.recognize(
            [GivenPhoto(name=photo.name, source=photo.data) for photo in photos],
            top=options.top,
            threshold=options.threshold,
            precision=options.precision,
            near=options.near,
        )
        named = []
        for photo, answer in zip(photos, answers, strict=True):
            regions = None
            if options.explain:
                regions = find_regions(recognizer, answer, photo.data)
            self.metrics.answers.labels("error" if answer.error else answer.verdict).inc()
            named.append(ServiceAnswer(recognition=publish(answer), regions=regions))
        return named


def publish(answer: Recognition) -> Recognition:
    """Return an answer without the paths of this machine."""
    candidates = tuple(replace(one, gallery=public_name(one.gallery or "")) for one in answer.candidates)
    neighbors = tuple(
        replace(one, gallery=public_name(one.gallery or ""), source=published_source(one.source))
        for one in answer.neighbours
    )
    return replace(answer, candidates=candidates, neighbours=neighbors)


def published_source(source: str | None) -> str | None:
    """Return the web address that a reference photo was published at, or None."""
    return source if source and is_web_address(source) else None


def find_state(request: Request) -> ServiceState:
    """Return the state of the service that a request came to."""
    return cast("ServiceState", request.app.state.service)


State = Annotated[ServiceState, Depends(find_state)]
