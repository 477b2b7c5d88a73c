"""The service, put together."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import obelisk
from obelisk.photos import share_arenas
from obelisk.service import change_routes, landmark_routes, recognition_routes, status_routes
from obelisk.service.guards import Guard
from obelisk.service.problems import ProblemDocument, handle_problems, responses
from obelisk.service.service_state import ServiceState
from obelisk.service.settings import ServiceSettings
from obelisk.service.web_page import serve_page

ARENAS = 2  # of memory; with eight a core, a service grew by a tenth over 100,000 requests
METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS")

DESCRIPTION = """\
Names the landmark in a photo, with a confidence, the candidates and the reference photos it rests on.

Errors are problem documents (RFC 9457). A busy service answers 429 and says in `Retry-After` when to try again.
Photos are not stored.
"""


def create_app(settings: ServiceSettings | None = None) -> FastAPI:
    """Make the service of one process; without ``settings``, with those that the parent process left.

    Raises :class:`~obelisk.errors.ObeliskError` if the gallery can't be used.
    """
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it tells of every damaged form, which is answered
    settings = settings or ServiceSettings.from_environment(os.environ)
    state = ServiceState(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        share_arenas(ARENAS)
        yield
        await run_in_threadpool(state.queue.close)

    app = FastAPI(
        title="Obelisk",
        version=obelisk.__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=responses(HTTPStatus.UNPROCESSABLE_ENTITY),
    )
    app.state.service = state
    app.include_router(recognition_routes.router)
    app.include_router(landmark_routes.router)
    if settings.allow_changes:
        app.include_router(change_routes.router)
    app.include_router(status_routes.router)
    serve_page(app)
    handle_problems(app)
    app.add_middleware(RequestCounter, state=state)
    app.add_middleware(Guard, hosts=settings.hosts, origins=settings.origins)
    describe_problems(app)
    return app


class RequestCounter:
    """ASGI middleware: counts requests by method, route and status. HEAD is answered as GET, without the body."""

    def __init__(self, app: ASGIApp, *, state: ServiceState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(asked.get("route"), "path", "other")
                method = scope["method"] if scope["method"] in METHODS else "other"
                self._state.metrics.requests.labels(method, route, message["status"]).inc()
            await send(message)

        await self._app(asked, receive, send_counted)


def describe_problems(app: FastAPI) -> None:
    """Add the schema of problem documents to the app's OpenAPI."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["ProblemDocument"] = ProblemDocument.model_json_schema()
        return document

    app.openapi = openapi  # type: ignore[method-assign]
