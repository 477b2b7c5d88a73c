"""Fetching one part: its bytes, its sum, its photos."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from obelisk.data.download.http import StoppedError, Web
from obelisk.data.download.order import Order, Part
from obelisk.data.download.outlook import unfinished_name
from obelisk.data.download.state import DownloadState
from obelisk.data.download.tars import extract_photos
from obelisk.data.download.transfer import Transfer, Version, sum_file
from obelisk.data.formats.csv import check_header
from obelisk.errors import DataError, DownloadError
from obelisk.photos.tars import list_tarred_photos

MAX_SUM_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class PartFetcher:
    """What it takes to fetch parts: any of its methods may run on several threads, each with another part.

    ``wanted`` are the ids of the photos to be taken out of training tars, None for all. ``received`` hears of
    bytes, ``expect`` of the size of a part, ``remark`` of what is odd.
    """

    order: Order
    state: DownloadState
    web: Web
    received: Callable[[int], None]
    expect: Callable[[str, int | None], None]
    remark: Callable[[str], None]
    wanted: frozenset[str] | None = None

    def is_done(self, part: Part) -> bool:
        """Say whether a part need not be fetched."""
        there = self.place(part).exists()
        if part.sum_url is None:
            return there and describe_flaw(self.place(part), part) is None
        state = self.state.read(part.path)
        if state.progress != "extracted":
            return there and state.progress == "whole" and not self.order.unpacks
        return state.choice in ("all", self.order.describe_choice(part.split))

    def fetch(self, part: Part) -> None:
        """Fetch a part, from wherever the last try ended. Raises DownloadError when that fails."""
        place = self.place(part)
        state = self.state.read(part.path)
        if part.sum_url is None:
            self.fetch_table(part)
            return
        if place.exists() and state.progress != "whole":
            self.take_over(part)
        if not place.exists():
            self.fetch_verified(part, part.sum_url)
            self.settle(part)
        self.look_inside(part)

    def place(self, part: Part) -> Path:
        """Return where a part lies when it is whole."""
        return self.order.directory / part.path

    def unfinished(self, part: Part) -> Path:
        """Return where a part lies until then."""
        return unfinished_name(self.place(part))

    def transfer(self, part: Part, *, checked: bool) -> None:
        """Bring what is missing of a part's bytes."""
        state = self.state.read(part.path)
        known = None
        if state.bytes is not None or state.validator is not None:
            known = Version(bytes=state.bytes, validator=state.validator)

        def remember(version: Version) -> None:
            self.expect(part.path, version.bytes)
            fresh = replace(self.state.read(part.path), progress="fetching", error=None)
            self.state.write(replace(fresh, bytes=version.bytes, validator=version.validator))

        Transfer(
            web=self.web,
            url=part.url,
            path=self.unfinished(part),
            known=known,
            remember=remember,
            received=self.received,
            checked=checked,
        ).run()

    def fetch_table(self, part: Part) -> None:
        """Fetch a table; raises DownloadError when something else comes, which is thrown away."""
        self.transfer(part, checked=False)
        if flaw := describe_flaw(self.unfinished(part), part):
            self.discard(part)
            self.state.forget(part.path)
            raise DownloadError(flaw, where=part.url, fix="see what is at this address, and try again")
        self.settle(part)

    def take_over(self, part: Part) -> None:
        """Treat a tar of unknown state as bytes that are yet to be verified."""
        place = self.place(part)
        state = replace(self.state.read(part.path), progress="fetching", bytes=place.stat().st_size)
        self.state.write(state)
        place.replace(self.unfinished(part))

    def fetch_verified(self, part: Part, sum_url: str) -> None:
        """Fetch a tar and compare its MD5 sum, twice at most.

        Raises DownloadError with both sums when they differ, unless that is accepted.
        """
        listed = self.read_sum(sum_url)
        for last in (False, True):
            self.transfer(part, checked=True)
            found = sum_file(self.unfinished(part))
            known = self.state.read(part.path)
            state = replace(known, md5=found, mismatch=found != listed)
            self.state.write(state)
            if found == listed:
                return
            said = f"its MD5 sum is {found}, the list says {listed or 'nothing'}"
            if self.order.accept_md5_mismatch and (last or known.md5 == found or listed is None):
                self.remark(f"{part.path}: {said}; accepted")
                return
            if not last:
                self.discard(part)
        fix = "try later, or go on with --accept-md5-mismatch"
        raise DownloadError(f"fetched twice, {said}", where=part.url, fix=fix)

    def discard(self, part: Part) -> None:
        """Throw away the bytes of a part."""
        unfinished = self.unfinished(part)
        self.received(-unfinished.stat().st_size)
        unfinished.unlink()

    def read_sum(self, url: str) -> str | None:
        """Return the MD5 sum that the server lists; None where it lists none and that is accepted."""
        try:
            text = self.web.fetch_bytes(url, limit=MAX_SUM_BYTES).decode("ascii", errors="replace")
        except DownloadError:
            if self.order.accept_md5_mismatch:
                return None
            raise
        if (found := re.search(r"\b[0-9a-fA-F]{32}\b", text)) is None:
            raise DownloadError(f"no MD5 sum in {text[:80]!r}", where=url)
        return found[0].lower()

    def settle(self, part: Part) -> None:
        """Give a part that is whole its name."""
        place = self.place(part)
        self.unfinished(part).replace(place)
        sync_names(place.parent)
        self.state.write(replace(self.state.read(part.path), progress="whole", error=None))

    def look_inside(self, part: Part) -> None:
        """Refuse a tar that is unsafe or ends early; take its photos out where that is wanted."""
        place = self.place(part)
        try:
            members = list_tarred_photos(place)
        except DataError as error:
            raise DownloadError(error.what, where=error.where, fix=error.fix) from error
        if not self.order.unpacks:
            return
        for remark in extract_photos(
            place,
            members,
            place.parent,
            wanted=self.wanted if part.split == "train" else None,
            max_side=self.order.max_side,
            pause=self.stop_if_asked,
        ):
            self.remark(remark)
        choice = self.order.describe_choice(part.split)
        state = replace(self.state.read(part.path), progress="extracted", choice=choice, error=None)
        self.state.write(replace(state, max_side=self.order.max_side or 0))
        place.unlink()

    def stop_if_asked(self) -> None:
        """Raise StoppedError when the download is being stopped."""
        if self.web.stopping.is_set():
            raise StoppedError


def describe_flaw(place: Path, part: Part) -> str | None:
    """Say why a file cannot be the table that it should be; None where its columns are right."""
    try:
        check_header(place, part.columns)
    except DataError as error:
        return f"this is not the table {part.path}: {error.what}"
    return None


def sync_names(folder: Path) -> None:
    """Have the system write the list of names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
