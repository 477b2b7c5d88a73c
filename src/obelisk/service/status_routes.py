"""``/healthz``, ``/readyz`` and ``/metrics``: for the programs that run a service."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from obelisk.service.problems import responses
from obelisk.service.service_state import State

router = APIRouter(tags=["status"])


class Health(BaseModel):
    """A sign of life."""

    status: Literal["ok"] = "ok"


@router.get("/healthz", summary="Whether the process lives")
async def is_alive() -> Health:
    """Answer at once."""
    return Health()


@router.get("/readyz", summary="Whether photos can be answered", responses=responses(HTTPStatus.SERVICE_UNAVAILABLE))
def is_ready(state: State) -> Health:
    """Look at the gallery; answered by 503 if it can't be used."""
    state.recognizer.current()
    return Health()


@router.get(
    "/metrics",
    summary="Counters in Prometheus' text format",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def show_counters(state: State) -> Response:
    """Return the counters of all workers."""
    text, kind = state.metrics.render()
    return Response(text, headers={"Content-Type": kind})
