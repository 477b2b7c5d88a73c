"""Errors as problem documents (RFC 9457): ``{"type", "title", "status", "detail", "fix"}``.

No text names a path of the server.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from obelisk.errors import GalleryLockedError, ObeliskError, UsageError

logger = logging.getLogger("obelisk.service")
SEE_LOG = "see the log of the service"
MEDIA_TYPE = "application/problem+json"
Document = TypeVar("Document", bound=BaseModel)


class ProblemDocument(BaseModel):
    """Why a request was refused."""

    type: str = Field(default="about:blank", description="always about:blank: the status says what kind it is")
    title: str = Field(description="the name of the status", examples=["Content Too Large"])
    status: int = Field(description="the HTTP status", examples=[413])
    detail: str = Field(description="what is wrong", examples=["a request may have 64 MB"])
    fix: str = Field(description="what to do about it; may be empty", examples=["send fewer photos at once"])


class ProblemError(Exception):
    """A request that is refused with a status, a reason and advice."""

    def __init__(
        self, status: HTTPStatus, detail: str, *, fix: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.fix = fix
        self.headers = headers

    def response(self) -> Response:
        """Return the problem document."""
        body = ProblemDocument(title=self.status.phrase, status=self.status, detail=self.detail, fix=self.fix)
        return JSONResponse(body.model_dump(), self.status, headers=self.headers, media_type=MEDIA_TYPE)


def responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of the problems that a route may answer with."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    return {int(status): {"description": status.phrase, "content": content} for status in statuses}


def refuse_value(error: RequestValidationError | ValidationError) -> ProblemError:
    """Return the problem of the first wrong value of a query, a form or a body."""
    first = error.errors()[0]
    place = " ".join(str(part) for part in first["loc"] if part not in ("query", "body"))
    what = f"{place}: {first['msg']}" if place else first["msg"]
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, what, fix="see the API documentation")


def parse_document(model: type[Document], data: bytes) -> Document:
    """Parse a JSON body; raise ProblemError if it is damaged or has a wrong value."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise refuse_value(error) from error


def explain_problem(error: Exception) -> ProblemError:
    """Return the problem that an exception is answered with."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, RequestValidationError):
        return refuse_value(error)
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        return ProblemError(status, str(error.detail), headers=dict(error.headers or {}))
    if isinstance(error, GalleryLockedError):
        busy = "other processes keep the gallery locked"
        return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, busy, fix="try again", headers={"Retry-After": "1"})
    if type(error) is UsageError:
        return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, error.what, fix=error.fix)
    if isinstance(error, ObeliskError):
        logger.error("%s", error)
        hidden = any(mark in error.what for mark in "/\\")  # a path of this machine
        what = "the gallery can't be used" if hidden else error.what
        return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, what, fix=SEE_LOG)
    return ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "something unexpected went wrong", fix=SEE_LOG)


def handle_problems(app: FastAPI) -> None:
    """Answer every error of an app by a problem document."""

    def answer(_: Request, error: Exception) -> Response:
        return explain_problem(error).response()

    for kind in (ProblemError, RequestValidationError, HTTPException, ObeliskError, Exception):
        app.add_exception_handler(kind, answer)
