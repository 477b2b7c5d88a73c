"""HTTP for downloads: retries with backoff, a request rate, and large files resumed by ETag and Range."""

from __future__ import annotations

import functools
import http.client
import os
import random
import re
import ssl
import string
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Final, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote

from obelisk.data.download.state import DownloadState, FileState
from obelisk.errors import DownloadError
from obelisk.files import naming_full_disk, without_links
from obelisk.markup import is_web_address
from obelisk.records import Progress

T = TypeVar("T")

HOME: Final = "https://github.com/obelisk-landmarks/obelisk"
TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
LENGTH: Final = "[0-9]{1,18}"  # a length in bytes that fits an SQLite integer


@functools.cache
def user_agent() -> str:
    """Return the User-Agent header; it holds the installed version, which takes a while to look up."""
    return f"obelisk/{version('obelisk-landmarks')} ({HOME}) python-urllib"


class TransientError(Exception):
    """A failure worth another try; ``retry_after`` is the wait in seconds that the server asked for."""

    def __init__(self, reason: str, *, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class FileChangedError(TransientError):
    """The server no longer has the file that we began to fetch: it has changed."""


class RefusedError(DownloadError):
    """The server does not have the file, or does not give it."""


class StoppedError(Exception):
    """The download was stopped from outside."""


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often to retry, and how long to wait; all times are in seconds.

    ``retries`` bounds the failures in a row without a new byte. A server that asks for a longer wait than
    ``longest_retry_after`` is given up at once. ``timeout`` is the silence that counts as a failure.
    """

    retries: int = 6
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_retry_after: float = 3600.0
    timeout: float = 60.0

    def draw_wait(self, failures: int) -> float:
        """Return the wait after the n-th failure: w · 2ⁿ⁻¹, of which a random half keeps clients apart (jitter)."""
        longest = min(self.longest_wait, self.first_wait * 2.0 ** (failures - 1))
        return longest * random.uniform(0.5, 1.0)


class HttpClient:
    """An HTTP client that threads may share.

    ``rate`` limits the requests per second, evenly spaced; None does not. Setting ``stopping`` ends every wait and
    every transfer with StoppedError.
    """

    def __init__(
        self,
        *,
        policy: RetryPolicy | None = None,
        rate: float | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        self.policy = policy or RetryPolicy()
        self.stopping = stopping or threading.Event()
        self._interval = 1.0 / rate if rate else 0.0
        self._next_start = 0.0
        self._lock = threading.Lock()
        self._opener = urllib.request.build_opener()

    def open(
        self, url: str, headers: Mapping[str, str] | None = None, *, method: str = "GET"
    ) -> http.client.HTTPResponse:
        """Send one request and return the response, unread.

        Raises TransientError for a failure worth another try, FileChangedError if the server lacks the range asked for,
        and DownloadError for any other failure.
        """
        if not is_web_address(url):
            raise DownloadError("this is not a web address", where=url)
        self._await_turn()
        try:
            address = quote(url, safe=string.punctuation)
            request = urllib.request.Request(
                address, headers={"User-Agent": user_agent(), **(headers or {})}, method=method
            )
            response: http.client.HTTPResponse = self._opener.open(request, timeout=self.policy.timeout)
        except HTTPError as error:
            with error:
                raise self._explain_status(error, url) from None
        except URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise DownloadError(f"the certificate cannot be trusted: {error.reason}", where=url) from error
            raise TransientError(str(error.reason)) from error
        except (http.client.InvalidURL, ValueError, OverflowError) as error:  # of this URL, or of a redirect
            raise DownloadError(f"this is not a valid address: {error}", where=url) from error
        except (OSError, http.client.HTTPException) as error:
            raise TransientError(explain_failure(error)) from error
        return response

    def _explain_status(self, error: HTTPError, url: str) -> Exception:
        """Return the error of a status other than success, and hold further requests if the server asks for it."""
        what = " ".join(f"the server says {error.code} {error.reason}".split())
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return FileChangedError(what)
        if error.code not in TRANSIENT:
            return RefusedError(what, where=url)
        retry_after = read_retry_after(error.headers.get("Retry-After"))
        if retry_after > self.policy.longest_retry_after:
            what = f"{what}, and to come back in {retry_after:.0f} s"
            return DownloadError(what, where=url, fix="try again then")
        if self._interval:
            with self._lock:
                self._next_start = max(self._next_start, time.monotonic() + retry_after)
        return TransientError(what, retry_after=retry_after)

    def _await_turn(self) -> None:
        """Wait until the rate allows the next request."""
        with self._lock:
            start = max(self._next_start, time.monotonic())
            self._next_start = start + self._interval
        self._sleep(start - time.monotonic())

    def _sleep(self, seconds: float) -> None:
        """Wait; raises StoppedError as soon as the download is stopped."""
        if self.stopping.wait(max(0.0, seconds)):
            raise StoppedError

    def retry(self, attempt: Callable[[], T], *, url: str, reached: Callable[[], int] = lambda: 0) -> T:
        """Return the result of ``attempt``, trying again after transient failures.

        An attempt that gets further than all earlier ones, as measured by ``reached``, resets the count of failures.
        Raises DownloadError after too many failures, or after a permanent one.
        """
        failures, furthest = 0, reached()
        while True:
            try:
                return attempt()
            except TransientError as error:
                now = reached()
                failures = 0 if now > furthest else failures + 1
                furthest = max(furthest, now)
                if failures > self.policy.retries:
                    what = f"{error} (tried {failures} times)"
                    raise DownloadError(what, where=url, fix="run the same command again to resume") from error
                self._sleep(max(error.retry_after, self.policy.draw_wait(max(1, failures))))

    def fetch_bytes(self, url: str, *, limit: int) -> bytes:
        """Fetch a small file, with retries; raises DownloadError if it has more than ``limit`` bytes."""

        def attempt() -> bytes:
            with self.open(url) as response:
                data = bytearray()
                while chunk := self.read_chunk(response):
                    data += chunk
                    if len(data) > limit:
                        raise DownloadError(f"more than {limit:,} bytes", where=url)
                refuse_short(len(data), read_length(response))
                return bytes(data)

        return self.retry(attempt, url=url)

    def read_chunk(self, response: http.client.HTTPResponse) -> bytes:
        """Return the next bytes of a response as soon as there are any; empty at its end."""
        if self.stopping.is_set():
            raise StoppedError
        try:
            return response.read1(2**18)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise TransientError(explain_failure(error)) from error

    def ask_size(self, url: str) -> int | None:
        """Ask once for the size of a file in bytes; None if the server doesn't say. Raises TransientError."""
        try:
            with self.open(url, method="HEAD") as response:
                return read_length(response)
        except DownloadError:
            return None


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """The transfer of one large file in as many requests as it takes, without ever joining two versions of it.

    ``partial`` grows as bytes arrive; after any interruption, kill -9 included, the next transfer resumes at its end.
    ``state`` keeps the version that these bytes belong to; it is saved before the first of them is written. Without an
    ETag or a date, only a file that is ``verified`` by a checksum afterwards is resumed. ``progress`` is called as
    progress(path, bytes there, bytes in all).
    """

    client: HttpClient
    state: DownloadState
    path: str
    url: str
    partial: Path
    progress: Progress
    verified: bool

    def run(self) -> None:
        """Fetch the missing bytes; raises DownloadError if that fails for good."""
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        self.client.retry(self.attempt, url=self.url, reached=self.count_bytes)

    def count_bytes(self) -> int:
        """Return the number of bytes there."""
        return self.partial.stat().st_size if self.partial.exists() else 0

    def attempt(self) -> None:
        """Send one request for the rest."""
        known = self.state.read(self.path)
        if known.validator is None and not (self.verified and known.bytes is not None):
            self.discard()
        there = self.count_bytes()
        if known.bytes == there and (there or self.partial.exists()):
            return
        headers = {"Range": f"bytes={there}-"} if there else {}
        if there and known.validator:
            headers["If-Range"] = known.validator
        try:
            with self.client.open(self.url, headers) as response:
                if response.status == HTTPStatus.PARTIAL_CONTENT:
                    refuse_other_version(response, known, there)
                else:
                    self.discard()
                    known = replace(self.state.read(self.path), progress="fetching", error=None)
                    known = replace(known, bytes=read_length(response), validator=read_validator(response))
                    self.state.write(known)
                self.append(response, known.bytes)
        except FileChangedError:
            self.discard()
            raise

    def discard(self) -> None:
        """Delete the bytes there."""
        self.partial.unlink(missing_ok=True)
        self.progress(self.path, 0, self.state.read(self.path).bytes or 0)

    def append(self, response: http.client.HTTPResponse, total: int | None) -> None:
        """Append the bytes as they arrive, and sync them to disk at the end."""
        there = self.count_bytes()
        with naming_full_disk(self.partial), open(self.partial, "ab", opener=without_links) as file:
            while chunk := self.client.read_chunk(response):
                file.write(chunk)
                file.flush()
                there += len(chunk)
                self.progress(self.path, there, total or there)
            os.fsync(file.fileno())
        refuse_short(there, total)


def refuse_other_version(response: http.client.HTTPResponse, known: FileState, there: int) -> None:
    """Raise FileChangedError if the bytes of a response don't continue the file that is there."""
    found = re.fullmatch(f"bytes ({LENGTH})-({LENGTH})/({LENGTH})", response.headers.get("Content-Range", "").strip())
    validator = read_validator(response)
    continues = found is not None and (int(found[1]), int(found[3])) == (there, known.bytes)
    if not continues or (validator is not None and validator != known.validator):
        raise FileChangedError("the file on the server has changed")


def refuse_short(there: int, expected: int | None) -> None:
    """Raise TransientError if bytes are missing at the end of a response."""
    if expected is not None and there != expected:
        raise TransientError(f"the connection ended after {there:,} of {expected:,} bytes")


def explain_failure(error: Exception) -> str:
    """Return the reason why a connection failed."""
    if isinstance(error, TimeoutError):
        return "the server did not answer in time"
    return str(error) or type(error).__name__


def read_validator(response: http.client.HTTPResponse) -> str | None:
    """Return what identifies the version of a file: a strong ETag, else the date of its last change."""
    etag: str | None = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    changed: str | None = response.headers.get("Last-Modified")
    return changed


def read_length(response: http.client.HTTPResponse) -> int | None:
    """Return the Content-Length, or None if there is no valid one."""
    text = response.headers.get("Content-Length", "")
    return int(text) if re.fullmatch(LENGTH, text) else None


def read_retry_after(text: str | None) -> float:
    """Return the seconds that a Retry-After header asks for, as a number or a date; 0 if it can't be read."""
    if not text:
        return 0.0
    if text.isascii() and text.strip().isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
