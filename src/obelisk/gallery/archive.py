"""One file that holds the files of a folder, each with its hash: what a gallery is handed on in.

It is a tar whose first entries are ``manifest.json``, with the names, sizes and hashes of the others, and
``manifest.sha256``, the manifest's own hash. Every other byte follows from these: headers carry no time and no owner,
and the same files give the same bytes. So a reader parses no header. It knows what each must be, and refuses the rest.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import Field, TypeAdapter, model_validator

from obelisk.embedding import parse_json
from obelisk.embedding.strict_json import StrictModel
from obelisk.errors import GalleryError, ModelError
from obelisk.files import replace_file
from obelisk.records import Progress

ARCHIVE_FORMAT = 1
MANIFEST, MANIFEST_HASH = "manifest.json", "manifest.sha256"
FILES = re.compile(
    r"gallery\.sqlite|calibration\.json|model/[A-Za-z0-9_-][A-Za-z0-9._-]{0,93}|photos/[0-9]{1,19}\.[a-z]{1,9}"
)
LARGEST_MANIFEST = 2**26  # bytes; 100,000 photos take 13 MB
LARGEST_FILE = 2**42
MOST_FILES = 500_000
BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
CHUNK = 2**20


class ArchivedFile(StrictModel):
    """One file of an archive."""

    name: str = Field(description="its path in the gallery's folder")
    bytes: Annotated[int, Field(ge=0, le=LARGEST_FILE)]
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class ArchiveManifest(StrictModel):
    """The content of ``manifest.json``."""

    format: int = Field(default=ARCHIVE_FORMAT, ge=1, le=ARCHIVE_FORMAT, strict=True)
    landmarks: int = Field(ge=0)
    photos: int = Field(ge=0)
    model: str = Field(max_length=1000, description="name of the model")
    licence: str = Field(max_length=10_000, description="licence of the model's weights")
    data: str = Field(max_length=10_000, description="what the model was trained on")
    note: str = Field(default="", max_length=10_000, description="what its owner says: title, author, licence")
    files: tuple[ArchivedFile, ...] = Field(max_length=MOST_FILES)

    @model_validator(mode="after")
    def check_names(self) -> ArchiveManifest:
        """Refuse names that a gallery does not have, and two that some systems take for one."""
        names = [file.name for file in self.files]
        strange = [name for name in names if not FILES.fullmatch(name)]
        if strange or len({name.casefold() for name in names}) < len(names):
            raise ValueError(f"the file name `{strange[0][:100]}`" if strange else "a file name twice")
        return self


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file to archive: its name there, and a function that opens it; what it reads must not change meanwhile."""

    name: str
    open: Callable[[], BinaryIO]

    def describe(self) -> ArchivedFile:
        """Read the file through for its size and hash."""
        digest, count = hashlib.sha256(), 0
        with self.open() as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                count += len(chunk)
        return ArchivedFile(name=self.name, bytes=count, sha256=digest.hexdigest())


def write_archive(path: Path, manifest: ArchiveManifest, sources: Sequence[Source], progress: Progress) -> None:
    """Write the files that a manifest lists, whole or not at all; raises GalleryError if one changes meanwhile."""

    def write(partial: Path) -> None:
        with partial.open("wb") as archive:
            for name, content in opening_files(manifest):
                write_entry(archive, name, len(content), io.BytesIO(content))
            for number, (listed, source) in enumerate(zip(manifest.files, sources, strict=True), start=1):
                with source.open() as file:
                    if write_entry(archive, listed.name, listed.bytes, file) != listed.sha256:
                        what = f"`{listed.name}` was changed while it was exported"
                        raise GalleryError(what, where=path, fix="try again")
                progress("exporting files", number, len(sources))
            archive.write(END)

    replace_file(path, write)


def opening_files(manifest: ArchiveManifest) -> list[tuple[str, bytes]]:
    """Return the first two entries of an archive: name and content."""
    content = (manifest.model_dump_json(indent=1) + "\n").encode()
    return [(MANIFEST, content), (MANIFEST_HASH, hashlib.sha256(content).hexdigest().encode())]


def write_entry(archive: BinaryIO, name: str, size: int, file: BinaryIO) -> str:
    """Append a file to an archive; return the hash of its content, "" if it has another size."""
    digest, left = hashlib.sha256(), size
    archive.write(entry_header(name, size))
    while chunk := file.read(min(CHUNK, left)):
        archive.write(chunk)
        digest.update(chunk)
        left -= len(chunk)
    archive.write(bytes(-size % BLOCK))
    return "" if left or file.read(1) else digest.hexdigest()


def entry_header(name: str, size: int) -> bytes:
    """Return the one header that a file of this name and size has."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.GNU_FORMAT)


def is_archive(path: Path) -> bool:
    """Return whether a file begins as an archive does."""
    with path.open("rb") as file:
        return file.read(len(MANIFEST) + 1) == MANIFEST.encode() + b"\0"


@contextmanager
def open_archive(path: Path) -> Iterator[tuple[ArchiveManifest, BinaryIO]]:
    """Open an archive for :func:`extract_files`; raises GalleryError if it is none, or cut short, or too new."""
    if not path.is_file():
        what = "this is a folder, not an exported gallery" if path.is_dir() else "no such file"
        raise GalleryError(what, where=path, fix="name a file that `obelisk gallery export` wrote")
    with path.open("rb") as file:
        content = read_opening(file, path, MANIFEST, LARGEST_MANIFEST)
        digest = read_opening(file, path, MANIFEST_HASH, 64)
        if hashlib.sha256(content).hexdigest().encode() != digest:
            raise damaged_archive(path, "its manifest is not the one that was written")
        try:
            manifest = parse_json(content, TypeAdapter(ArchiveManifest), where=path, what="manifest", fix="")
        except ModelError as error:
            fix = "upgrade obelisk, or export it again"
            raise GalleryError(error.what, where=path, fix=fix) from None
        whole = file.tell() + sum(BLOCK + one.bytes + -one.bytes % BLOCK for one in manifest.files) + len(END)
        if path.stat().st_size != whole:
            raise damaged_archive(path, f"it has {path.stat().st_size:,} of {whole:,} bytes")
        yield manifest, file


def read_opening(file: BinaryIO, path: Path, name: str, largest: int) -> bytes:
    """Read one of the first two entries, whose size its header says."""
    header = file.read(BLOCK)
    stated = re.fullmatch(rb"([0-7]{11})\0", header[124:136])
    size = int(stated[1], 8) if stated else 0
    if not stated or size > largest or header != entry_header(name, size):
        fix = "name a file that `obelisk gallery export` wrote"
        raise GalleryError("this is not an exported gallery", where=path, fix=fix)
    content = file.read(size)
    read_padding(file, path, size)
    return content


def read_padding(file: BinaryIO, path: Path, size: int) -> None:
    """Read the zeros that fill the last block of an entry."""
    if file.read(-size % BLOCK).strip(b"\0"):
        raise damaged_archive(path, "there is something between its files")


def extract_files(archive: BinaryIO, manifest: ArchiveManifest, path: Path, folder: Path, progress: Progress) -> None:
    """Write the files of an archive into a new folder.

    Raises GalleryError at the first byte that is not as the manifest says, OSError if there is no room for all.
    """
    if sum(one.bytes for one in manifest.files) > shutil.disk_usage(folder.parent).free:
        raise GalleryError("there is no room for the gallery", where=folder.parent, fix="free some space there")
    for number, listed in enumerate(manifest.files, start=1):
        target = folder / listed.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if archive.read(BLOCK) != entry_header(listed.name, listed.bytes):
            raise damaged_archive(path, f"the header of `{listed.name}` is not the one that was written")
        digest, left = hashlib.sha256(), listed.bytes
        with target.open("xb") as file:
            while chunk := archive.read(min(CHUNK, left)):
                file.write(chunk)
                digest.update(chunk)
                left -= len(chunk)
        read_padding(archive, path, listed.bytes)
        if left or digest.hexdigest() != listed.sha256:
            raise damaged_archive(path, f"`{listed.name}` is not the one that was written")
        progress("importing files", number, len(manifest.files))
    if archive.read() != END:
        raise damaged_archive(path, "something else follows the last file")


def damaged_archive(path: Path, what: str) -> GalleryError:
    """Return the error for an archive that is not as it was written."""
    return GalleryError(f"the file is damaged or was changed: {what}", where=path, fix="copy or download it again")
