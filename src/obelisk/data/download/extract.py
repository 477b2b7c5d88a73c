"""From remote files to files on the disk: tables are checked, tars verified and extracted, photos decoded."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from obelisk.data.download.commons import smaller_version
from obelisk.data.download.http import HttpClient, RefusedError, StoppedError, Transfer
from obelisk.data.download.plan import DownloadRequest, RemoteFile, unfinished_path
from obelisk.data.download.state import DownloadState, FileState
from obelisk.data.formats.csv import check_header
from obelisk.errors import DataError, DownloadError, PhotoError
from obelisk.files import naming_full_disk, sync_to_disk
from obelisk.photos import MAX_BYTES, TarredPhoto, list_tarred_photos, read_photo, shrink_photo
from obelisk.records import Progress

MAX_MD5_BYTES = 4096
CHECKED_SIDE = 64
SINGLE_PHOTOS = "train/single photos"  # stands in the state for all photos from their own addresses


@dataclass(kw_only=True)
class FileFetcher:
    """Fetches single files; threads may share it, each with another file.

    ``photo_client`` is for single photos, whose servers get fewer requests. ``wanted`` holds the ids of the photos to
    extract from training tars; None means all.
    """

    request: DownloadRequest
    state: DownloadState
    client: HttpClient
    photo_client: HttpClient
    wanted: Container[str] | None = None

    def is_done(self, file: RemoteFile) -> bool:
        """Return whether a file need not be fetched."""
        there = self.path_of(file).exists()
        if file.kind == "photo":
            return there
        if file.kind == "table":
            return there and find_flaw(self.path_of(file), file) is None
        state = self.state.read(file.path)
        if state.progress != "extracted":
            return there and state.progress == "whole" and not self.request.extracts
        return state.choice in ("all", self.request.describe_selection(file.folder))

    def path_of(self, file: RemoteFile) -> Path:
        """Return the path of a complete file."""
        return self.request.directory / file.path

    def fetch(self, file: RemoteFile, progress: Progress) -> Iterator[str]:
        """Fetch a file, resuming an earlier attempt, and yield remarks on it; raises DownloadError if that fails.

        ``progress`` is called as progress(path, bytes there, bytes in all) for tables and tars.
        """
        if file.kind == "table":
            self.fetch_table(file, progress)
        elif file.kind == "photo":
            self.fetch_photo(file)
        else:
            yield from self.fetch_tar(file, progress)
            yield from self.open_tar(file)

    def transfer(self, file: RemoteFile, progress: Progress) -> Path:
        """Fetch the missing bytes of a file; return where they are until the file is complete."""
        partial = unfinished_path(self.path_of(file))
        Transfer(
            client=self.client,
            state=self.state,
            path=file.path,
            url=file.url,
            partial=partial,
            progress=progress,
            verified=file.kind == "tar",
        ).run()
        return partial

    def fetch_table(self, file: RemoteFile, progress: Progress) -> None:
        """Fetch a table; if the server sends anything else, delete it and raise DownloadError."""
        partial = self.transfer(file, progress)
        if flaw := find_flaw(partial, file):
            partial.unlink()
            self.state.forget(file.path)
            raise DownloadError(flaw, where=file.url, fix="see what is at this address, and try again")
        self.complete(file)

    def fetch_tar(self, file: RemoteFile, progress: Progress) -> Iterator[str]:
        """Fetch a tar unless it is already there, and verify it; yield remarks."""
        path = self.path_of(file)
        if path.exists() and self.state.read(file.path).progress != "whole":
            # A tar from elsewhere: its bytes are there, but yet to be verified.
            self.state.write(replace(self.state.read(file.path), progress="fetching", bytes=path.stat().st_size))
            path.replace(unfinished_path(path))
        if not path.exists():
            yield from self.fetch_verified(file, progress)
            self.complete(file)

    def fetch_verified(self, file: RemoteFile, progress: Progress) -> Iterator[str]:
        """Fetch a tar and compare its MD5, twice at most; yield a remark on an accepted mismatch.

        Raises DownloadError with both checksums if they differ and that is not accepted.
        """
        listed = self.read_md5(file.md5_url)
        what = ""
        for last in (False, True):
            partial = self.transfer(file, progress)
            with partial.open("rb") as whole:
                found = hashlib.file_digest(whole, "md5").hexdigest()
            known = self.state.read(file.path)
            self.state.write(replace(known, md5=found, mismatch=found != listed))
            if found == listed:
                return
            what = f"its MD5 sum is {found}, the list says {listed or 'nothing'}"
            if self.request.accept_md5_mismatch and (last or known.md5 == found or listed is None):
                yield f"{file.path}: {what}; accepted"
                return
            if not last:
                partial.unlink()
        fix = "try later, or accept it with --accept-md5-mismatch"
        raise DownloadError(f"fetched twice, {what}", where=file.url, fix=fix)

    def read_md5(self, url: str) -> str | None:
        """Return the MD5 that the server lists; None if it lists none and that is accepted."""
        try:
            text = self.client.fetch_bytes(url, limit=MAX_MD5_BYTES).decode("ascii", errors="replace")
        except DownloadError:
            if self.request.accept_md5_mismatch:
                return None
            raise
        if (found := re.search(r"\b[0-9a-fA-F]{32}\b", text)) is None:
            raise DownloadError(f"no MD5 sum in {text[:80]!r}", where=url)
        return found[0].lower()

    def complete(self, file: RemoteFile) -> None:
        """Give a complete file its name."""
        path = self.path_of(file)
        unfinished_path(path).replace(path)
        sync_to_disk(path.parent)
        self.state.write(replace(self.state.read(file.path), progress="whole", error=None))

    def open_tar(self, file: RemoteFile) -> Iterator[str]:
        """Refuse a tar that is unsafe or truncated, and extract its photos if requested; yield remarks."""
        path = self.path_of(file)
        try:
            members = list_tarred_photos(path)
        except DataError as error:
            raise DownloadError(error.what, where=error.where, fix=error.fix) from error
        if not self.request.extracts:
            return
        if self.wanted is not None and file.folder == "train":
            members = [member for member in members if member.image_id in self.wanted]
        yield from self.extract_photos(path, members)
        extracted = replace(self.state.read(file.path), progress="extracted", error=None)
        choice, max_side = self.request.describe_selection(file.folder), self.request.max_side or 0
        self.state.write(replace(extracted, choice=choice, max_side=max_side))
        path.unlink()

    def extract_photos(self, tar: Path, members: Sequence[TarredPhoto]) -> Iterator[str]:
        """Write photos of a tar beside it; yield a remark on each that can't be shrunk and is kept as it is."""
        with tar.open("rb") as opened:
            for member in members:
                if self.client.stopping.is_set():
                    raise StoppedError
                opened.seek(member.offset)
                data, flaw = fit_photo(opened.read(member.bytes), self.request.max_side)
                if flaw:
                    yield f"{tar.parent.name}/{member.path}: {flaw}; kept as it is"
                write_photo(data, tar.parent / member.path)
        if os.name != "nt":  # one sync of everything costs less than one for each of 8,000 photos
            os.sync()

    def fetch_photo(self, file: RemoteFile) -> None:
        """Fetch a single photo; raises DownloadError for anything that isn't a photo."""
        if not file.url:
            raise DownloadError("train.csv gives no address for it", where=Path(file.path).stem)
        data = self.fetch_photo_bytes(file.url)
        try:
            read_photo(data, min_side=CHECKED_SIDE)
        except PhotoError as error:
            raise DownloadError(error.what, where=file.url) from error
        self.save_photo_size()
        write_photo(fit_photo(data, self.request.max_side)[0], self.path_of(file), sync=True)

    def fetch_photo_bytes(self, url: str) -> bytes:
        """Fetch a photo: a version that is large enough, where there is one, else the original."""
        if smaller := smaller_version(url, self.request.max_side):
            with contextlib.suppress(RefusedError):  # the original is narrower than that
                return self.photo_client.fetch_bytes(smaller, limit=MAX_BYTES)
        return self.photo_client.fetch_bytes(url, limit=MAX_BYTES)

    def save_photo_size(self) -> None:
        """Save the size of single photos in the state before the first of them is fetched."""
        saved = FileState(path=SINGLE_PHOTOS, progress="extracted", max_side=self.request.max_side or 0)
        if self.state.read(SINGLE_PHOTOS) != saved:
            self.state.write(saved)


def find_flaw(path: Path, file: RemoteFile) -> str | None:
    """Return why a file isn't the expected table; None if it has the right columns."""
    try:
        check_header(path, file.columns)
    except DataError as error:
        return f"this is not the table {file.path}: {error.what}"
    return None


def fit_photo(data: bytes, max_side: int | None) -> tuple[bytes, str | None]:
    """Return a photo shrunk to ``max_side``, and the reason if it can't be shrunk."""
    if max_side is None:
        return data, None
    try:
        return shrink_photo(data, max_side), None
    except PhotoError as error:
        return data, error.what


def write_photo(data: bytes, path: Path, *, sync: bool = False) -> None:
    """Write a photo atomically; with ``sync``, return once it is on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        with naming_full_disk(path), partial.open("xb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
