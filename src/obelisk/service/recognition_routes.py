"""``POST /v1/recognize``: photos in, the JSON of ``obelisk recognize --json`` out."""

from __future__ import annotations

import asyncio
import json
import time
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from obelisk.defaults import TOP
from obelisk.positions import parse_position
from obelisk.service.problems import responses
from obelisk.service.schemas import ANSWERS, describe_form
from obelisk.service.service_state import RecognitionOptions, ServiceAnswer, State

MOST_CANDIDATES = 100

router = APIRouter(prefix="/v1", tags=["recognize"])


class RecognizeQuery(BaseModel):
    """The options of a request for recognition."""

    model_config = ConfigDict(extra="forbid")

    top: int = Field(TOP, ge=1, le=MOST_CANDIDATES, description="candidates to list")
    explain: bool = Field(False, description="also return the regions that match the nearest reference photo")
    threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="confidence below which an answer names no landmark; by default what precision needs",
    )
    precision: float | None = Field(
        None, gt=0, lt=1, description="share of the given answers that should be right; by default the service's"
    )
    near: str | None = Field(
        None,
        description="where the photos were taken: `LATITUDE,LONGITUDE`, `exif` for what each photo says, or `none`; "
        "by default `exif` if the gallery is calibrated",
        examples=["47.62,-122.35"],
        max_length=100,
    )


@router.post(
    "/recognize",
    summary="Name the landmark in each photo",
    responses={
        200: {"description": "One answer per photo, in the order sent", "content": {"application/json": ANSWERS}},
        **responses(
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.FORBIDDEN,
            HTTPStatus.REQUEST_TIMEOUT,
            HTTPStatus.CONFLICT,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.TOO_MANY_REQUESTS,
            HTTPStatus.SERVICE_UNAVAILABLE,
        ),
    },
    openapi_extra=describe_form("image/jpeg", "image/*"),
    response_class=Response,
)
async def recognize_photos(request: Request, state: State, query: Annotated[RecognizeQuery, Query()]) -> Response:
    """Name the landmark in one or many photos.

    Send multipart form data with one part per photo, or the bytes of one photo with an image content type. A photo
    that can't be read is answered by its `error`; the others are answered all the same. Photos are not stored.
    """
    begun = time.monotonic()
    options = RecognitionOptions(
        top=query.top,
        threshold=query.threshold,
        precision=query.precision or state.settings.precision,
        near=query.near if query.near in (None, "exif", "none") else parse_position(query.near, option="near"),
        explain=query.explain,
    )
    async with state.bodies.read(request) as form:
        photos = form.require_photos()
        form.refuse_fields(fix="options belong into the query of the address")
        state.metrics.seconds.labels("read").observe(time.monotonic() - begun)
        answers = await asyncio.wrap_future(state.queue.submit(photos, options))
    state.metrics.seconds.labels("request").observe(time.monotonic() - begun)
    return Response(write_answers(answers), media_type="application/json")


def write_answers(answers: list[ServiceAnswer]) -> str:
    """Return the answers as JSON; each is what the command line prints, with ``regions`` if they were asked for."""
    lines = []
    for answer in answers:
        line = answer.recognition.to_json()
        if answer.regions is not None:
            line = f'{line[:-1]}, "regions": {json.dumps(answer.regions.model_dump())}}}'
        lines.append(line)
    return f'{{"answers": [{", ".join(lines)}]}}'
