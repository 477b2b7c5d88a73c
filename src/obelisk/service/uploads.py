"""Photos of a request: multipart or raw bytes, kept in memory, within limits on bytes, photos and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

from python_multipart.exceptions import MultipartParseError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from obelisk.service.problems import ProblemError
from obelisk.service.settings import LARGEST_DOCUMENT, MOST_BYTES, MOST_BYTES_AT_ONCE, MOST_PHOTOS, READING_SECONDS

LONGEST_NAME = 255
SHOWN = 40  # characters of a field's name in a problem
LONGEST_FIELD = 10_000  # bytes of a field that is no photo
MOST_FIELDS = 16


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A photo as it was sent: its name and its bytes."""

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a request carries: photos, and fields by name."""

    photos: Sequence[Upload]
    fields: dict[str, str]

    def require_photos(self) -> Sequence[Upload]:
        """Return the photos; raise ProblemError if there is none."""
        if not self.photos:
            fix = "send at least one part with a file"
            raise ProblemError(HTTPStatus.BAD_REQUEST, "the request has no photo", fix=fix)
        return self.photos

    def refuse_fields(self, *, fix: str) -> None:
        """Raise ProblemError for a field that is no photo."""
        if self.fields:
            what = f"`{next(iter(self.fields))[:SHOWN]}` is no photo"
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, what, fix=fix)


class InMemoryParser(MultiPartParser):
    """Keeps every part in memory: photos never touch the disk."""

    spool_max_size = MOST_BYTES + 1


class BodyBudget:
    """Counts the bytes of all bodies in memory, and refuses what would exceed MOST_BYTES_AT_ONCE."""

    def __init__(self) -> None:
        self._held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[Form]:
        """Read a request's photos; their bytes count until the block is left.

        Raises ProblemError for a body of another type, or that is too large, too slow or damaged.
        """
        async with self._stream(request, MOST_BYTES) as stream:
            async with reading_limits():
                form = await parse_body(request, stream)
            yield form

    async def read_document(self, request: Request) -> bytes:
        """Read a request's JSON; raise ProblemError for a body of another type, or that is too large or too slow."""
        async with self._stream(request, LARGEST_DOCUMENT) as stream, reading_limits():
            if body_type(request) != "application/json":
                raise wrong_type(request, fix="send application/json")
            return b"".join([part async for part in stream])

    @asynccontextmanager
    async def _stream(self, request: Request, most: int) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        """Count the bytes of a body, of at most ``most`` bytes, until the block is left."""
        taken = 0

        async def stream() -> AsyncGenerator[bytes, None]:
            nonlocal taken
            async for part in request.stream():
                taken += len(part)
                self._held += len(part)
                if taken > most:
                    raise too_large(most)
                if self._held > MOST_BYTES_AT_ONCE:
                    raise ProblemError(
                        HTTPStatus.TOO_MANY_REQUESTS,
                        "other requests fill the memory for photos",
                        fix="try again",
                        headers={"Retry-After": "1"},
                    )
                yield part

        if int(request.headers.get("content-length") or 0) > most:
            raise too_large(most)
        try:
            yield stream()
        finally:
            self._held -= taken


@asynccontextmanager
async def reading_limits() -> AsyncIterator[None]:
    """Raise ProblemError if a body does not arrive in time, or not at all."""
    try:
        async with asyncio.timeout(READING_SECONDS):
            yield
    except TimeoutError as error:
        what = f"the request did not arrive within {READING_SECONDS:.0f} seconds"
        fix = "send less at once"
        raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, what, fix=fix, headers={"Connection": "close"}) from error
    except ClientDisconnect as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the request ended early") from error


def too_large(most: int) -> ProblemError:
    """Return the problem of a body above a limit of bytes."""
    what, fix = f"a request may have {most // 10**3:,} kB", "send less at once"
    if most == MOST_BYTES:
        what, fix = f"a request may have {most // 10**6} MB", "send fewer photos at once, or scale them down"
    return ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, what, fix=fix, headers={"Connection": "close"})


def body_type(request: Request) -> str:
    """Return the content type of a body, without its parameters; raise ProblemError if it is compressed."""
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        what = f"the content encoding is `{encoding[:SHOWN]}`"
        headers = {"Accept-Encoding": "identity"}
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, what, fix="send the bytes as they are", headers=headers)
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def wrong_type(request: Request, *, fix: str) -> ProblemError:
    """Return the problem of a body of a type that is not read here."""
    kind = body_type(request)[:LONGEST_NAME]
    what = f"the content type is `{kind}`" if kind else "the content type is missing"
    return ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, what, fix=fix)


async def parse_body(request: Request, stream: AsyncGenerator[bytes, None]) -> Form:
    """Parse a body of multipart form data, or the bytes of one photo."""
    kind = body_type(request)
    if kind == "multipart/form-data":
        return await parse_multipart(request, stream)
    if kind.startswith("image/"):
        data = b"".join([part async for part in stream])
        if not data:
            raise ProblemError(HTTPStatus.BAD_REQUEST, "the request has no photo", fix="send its bytes as the body")
        return Form(photos=[Upload(name="photo", data=data)], fields={})
    raise wrong_type(request, fix="send multipart/form-data, or the bytes of one photo as image/jpeg, image/png, …")


async def parse_multipart(request: Request, stream: AsyncGenerator[bytes, None]) -> Form:
    """Parse multipart form data; every part with a file name is a photo."""
    parser = InMemoryParser(
        request.headers, stream, max_files=MOST_PHOTOS, max_fields=MOST_FIELDS, max_part_size=LONGEST_FIELD
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            what, fix = f"a request may have {MOST_PHOTOS} photos", "send the rest in another request"
            raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, what, fix=fix) from error
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"the form is damaged: {error.message}") from error
    except (MultipartParseError, ValueError) as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the form is damaged") from error
    photos, fields = [], {}
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                photos.append(Upload(name=(value.filename or "photo")[:LONGEST_NAME], data=await value.read()))
            else:
                fields[name] = value
    finally:
        await form.close()
    return Form(photos=photos, fields=fields)
