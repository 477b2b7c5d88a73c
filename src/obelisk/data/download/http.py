"""Asking a server, patiently: again after a failure that may pass, later each time, and not faster than allowed."""

from __future__ import annotations

import http.client
import random
import re
import ssl
import string
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from importlib.metadata import version
from typing import Final, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit

from obelisk.errors import DownloadError

Made = TypeVar("Made")

HOME: Final = "https://github.com/obelisk-landmarks/obelisk"
USER_AGENT: Final = f"obelisk/{version('obelisk-landmarks')} ({HOME}) python-urllib"
PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
LENGTH: Final = "[0-9]{1,18}"  # of a file in bytes, as an SQLite integer holds it


class PassingError(Exception):
    """A failure that may pass; ``retry_after`` is how many seconds the server asked to wait."""

    def __init__(self, reason: str, *, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class RangeError(PassingError):
    """The server has not the bytes that were asked for: the file has changed."""


class StoppedError(Exception):
    """The download was stopped from outside."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to go on.

    After the n-th failure in a row without a new byte, w·2ⁿ⁻¹ seconds pass, half of them certain and half drawn at
    random so that many clients do not return at once; never less than the server asked for.
    """

    retries: int = 6
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_asked: float = 3600.0
    timeout: float = 60.0

    def draw_wait(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row."""
        whole = min(self.longest_wait, self.first_wait * 2.0 ** (failures - 1))
        return whole * random.uniform(0.5, 1.0)


class Web:
    """The way to a server; threads may share it.

    ``rate`` is how many requests may begin a second, evenly spread; None leaves them free. Setting ``stopping``
    ends every wait and every transfer with StoppedError.
    """

    def __init__(
        self,
        *,
        patience: Patience | None = None,
        rate: float | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        self.patience = patience or Patience()
        self.stopping = stopping or threading.Event()
        self._rest = 1.0 / rate if rate else 0.0
        self._free = 0.0
        self._lock = threading.Lock()
        self._opener = urllib.request.build_opener()

    def open(
        self, url: str, headers: Mapping[str, str] | None = None, *, method: str = "GET"
    ) -> http.client.HTTPResponse:
        """Ask once, and return the answer, unread.

        Raises PassingError for a failure that may pass, RangeError when the server has not the range asked for, and
        DownloadError for any other.
        """
        if not is_address(url):
            raise DownloadError("this is no address of the web", where=url)
        self.take_turn()
        try:
            address = quote(url, safe=string.punctuation)
            request = urllib.request.Request(
                address, headers={"User-Agent": USER_AGENT, **(headers or {})}, method=method
            )
            response: http.client.HTTPResponse = self._opener.open(request, timeout=self.patience.timeout)
        except HTTPError as error:
            with error:
                raise self.judge(error, url) from None
        except URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise DownloadError(f"the certificate cannot be trusted: {error.reason}", where=url) from error
            raise PassingError(str(error.reason)) from error
        except (http.client.InvalidURL, ValueError, OverflowError) as error:  # this one, or one it redirects to
            raise DownloadError(f"this is no address: {error}", where=url) from error
        except (OSError, http.client.HTTPException) as error:
            raise PassingError(describe(error)) from error
        return response

    def judge(self, error: HTTPError, url: str) -> Exception:
        """Return what an answer other than success means."""
        said = " ".join(f"the server says {error.code} {error.reason}".split())
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return RangeError(said)
        if error.code not in PASSING:
            return DownloadError(said, where=url)
        asked = read_retry_after(error.headers.get("Retry-After"))
        if asked > self.patience.longest_asked:
            return DownloadError(f"{said}, and to come back in {asked:.0f} s", where=url, fix="try again then")
        self.hold(asked)
        return PassingError(said, retry_after=asked)

    def take_turn(self) -> None:
        """Wait until the next request may begin."""
        with self._lock:
            begin = max(self._free, time.monotonic())
            self._free = begin + self._rest
        self.sleep(begin - time.monotonic())

    def hold(self, seconds: float) -> None:
        """Let no request begin for so long, where they are rated."""
        if self._rest:
            with self._lock:
                self._free = max(self._free, time.monotonic() + seconds)

    def sleep(self, seconds: float) -> None:
        """Wait; raises StoppedError at once when the download is stopped."""
        if self.stopping.wait(max(0.0, seconds)):
            raise StoppedError

    def insist(self, attempt: Callable[[], Made], *, url: str, progress: Callable[[], int] = lambda: 0) -> Made:
        """Return what ``attempt`` makes, trying again after failures that may pass.

        An attempt that gets further than any before, as ``progress`` tells, starts the count of failures anew.
        Raises DownloadError when there are too many, or one will not pass.
        """
        failures, furthest = 0, progress()
        while True:
            try:
                return attempt()
            except PassingError as error:
                reached = progress()
                failures = 0 if reached > furthest else failures + 1
                furthest = max(furthest, reached)
                if failures > self.patience.retries:
                    tries = f"{error} (tried {failures} times)"
                    raise DownloadError(tries, where=url, fix="run the same command again to go on") from error
                self.sleep(max(error.retry_after, self.patience.draw_wait(max(1, failures))))

    def fetch_bytes(self, url: str, *, limit: int) -> bytes:
        """Return a small file whole, trying again as needed; more than ``limit`` bytes are an error."""

        def attempt() -> bytes:
            with self.open(url) as response:
                parts: list[bytes] = []
                while chunk := self.read_chunk(response):
                    parts.append(chunk)
                    if sum(map(len, parts)) > limit:
                        raise DownloadError(f"more than {limit:,} bytes", where=url)
                data = b"".join(parts)
                expected = read_length(response)
                if expected is not None and len(data) != expected:
                    raise PassingError(f"the connection ended after {len(data):,} of {expected:,} bytes")
                return data

        return self.insist(attempt, url=url)

    def read_chunk(self, response: http.client.HTTPResponse) -> bytes:
        """Return the next bytes of an answer as soon as there are any; none at its end."""
        if self.stopping.is_set():
            raise StoppedError
        try:
            return response.read1(2**18)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise PassingError(describe(error)) from error

    def ask_size(self, url: str) -> tuple[bool, int | None]:
        """Ask once how many bytes a file has: whether the server answered at all, and what it told."""
        try:
            with self.open(url, method="HEAD") as response:
                return True, read_length(response)
        except DownloadError:
            return True, None
        except PassingError:
            return False, None


def is_address(text: str) -> bool:
    """Say whether a text may be an address of the web."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def describe(error: Exception) -> str:
    """Say what went wrong with a connection."""
    if isinstance(error, TimeoutError):
        return "the server did not answer in time"
    return str(error) or type(error).__name__


def read_length(response: http.client.HTTPResponse) -> int | None:
    """Return the Content-Length, None if there is no sound one."""
    text = response.headers.get("Content-Length", "")
    return int(text) if re.fullmatch(LENGTH, text) else None


def read_retry_after(text: str | None) -> float:
    """Return the seconds that a Retry-After header asks for, as a number or as a date; 0 where it says nothing."""
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
