"""Fetching one large file in as many pieces as it takes, and never gluing two versions of it together."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from obelisk.data.download.http import LENGTH, PassingError, RangeError, Web, read_length
from obelisk.files import naming_full_disk


@dataclass(frozen=True, kw_only=True)
class Version:
    """Which version of a file the server has: its bytes, and a strong ETag or the date of its last change."""

    bytes: int | None = None
    validator: str | None = None


@dataclass(kw_only=True)
class Transfer:
    """One file on its way.

    ``path`` grows as bytes arrive; after an end of any kind, a kill included, the next transfer goes on where it
    ends. ``known`` is the version that its bytes are of, which ``remember`` is told before the first of them is
    written. Without a validator only a file that is ``checked`` by a sum afterwards is resumed. ``received`` hears
    how many bytes came, less than 0 when they are thrown away.
    """

    web: Web
    url: str
    path: Path
    known: Version | None
    remember: Callable[[Version], None]
    received: Callable[[int], None]
    checked: bool = False

    def run(self) -> None:
        """Fetch what is missing. Raises DownloadError when that fails for good."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.web.insist(self.attempt, url=self.url, progress=self.count_bytes)

    def count_bytes(self) -> int:
        """Return how many bytes are there."""
        return self.path.stat().st_size if self.path.exists() else 0

    def attempt(self) -> None:
        """Ask for the rest, once."""
        if self.known is None or (self.known.validator is None and not self.checked):
            self.discard()
        there = self.count_bytes()
        if self.known is not None and there == self.known.bytes:
            return
        try:
            with self.web.open(self.url, self.ask_from(there)) as response:
                if response.status == HTTPStatus.PARTIAL_CONTENT:
                    self.refuse_other(response, there)
                else:
                    self.start_anew(response)
                self.write(response)
        except RangeError:
            self.discard()
            raise

    def ask_from(self, there: int) -> dict[str, str]:
        """Return the headers that ask for the bytes from a place on, if the file is still the same."""
        if not there:
            return {}
        condition = {"If-Range": self.known.validator} if self.known and self.known.validator else {}
        return {"Range": f"bytes={there}-", **condition}

    def refuse_other(self, response: http.client.HTTPResponse, there: int) -> None:
        """Raise RangeError when the bytes that come do not continue the file that is there."""
        told = re.fullmatch(
            f"bytes ({LENGTH})-({LENGTH})/({LENGTH})", response.headers.get("Content-Range", "").strip()
        )
        known, validator = self.known or Version(), read_validator(response)
        if told is None or (int(told[1]), int(told[3])) != (there, known.bytes):
            raise RangeError("the file on the server has changed")
        if validator is not None and validator != known.validator:
            raise RangeError("the file on the server has changed")

    def start_anew(self, response: http.client.HTTPResponse) -> None:
        """Begin an empty file, of the version that comes."""
        self.discard()
        self.known = Version(bytes=read_length(response), validator=read_validator(response))
        self.remember(self.known)

    def discard(self) -> None:
        """Throw away what is there."""
        self.received(-self.count_bytes())
        self.path.unlink(missing_ok=True)

    def write(self, response: http.client.HTTPResponse) -> None:
        """Append the bytes as they come, and have them on the disk at the end."""
        with naming_full_disk(self.path), self.path.open("ab") as file:
            while chunk := self.web.read_chunk(response):
                file.write(chunk)
                file.flush()
                self.received(len(chunk))
            os.fsync(file.fileno())
        there, expected = self.count_bytes(), self.known.bytes if self.known else None
        if expected is not None and there != expected:
            raise PassingError(f"the connection ended after {there:,} of {expected:,} bytes")


def read_validator(response: http.client.HTTPResponse) -> str | None:
    """Return what tells one version of a file from another: a strong ETag, else the date of its last change."""
    etag: str | None = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    changed: str | None = response.headers.get("Last-Modified")
    return changed


def sum_file(path: Path) -> str:
    """Return the MD5 sum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
