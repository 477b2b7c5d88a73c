"""Where a gallery is built: a folder that appears when it is complete, or the tables of a database."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from obelisk.bundled import is_bundled, locate_gallery
from obelisk.embedding import Bundle
from obelisk.errors import GalleryError, GalleryLockedError, quote
from obelisk.files import exclusive_lock, growing_beside, is_occupied, move_folder
from obelisk.gallery import database, schema
from obelisk.gallery.gallery import Gallery
from obelisk.gallery.places import open_truth
from obelisk.gallery.schema import DATABASE, About
from obelisk.gallery.sqlite_truth import SqliteTruth

if TYPE_CHECKING:  # of the extra `cluster`
    from obelisk.gallery.postgres import PostgresTruth

LOCK = "build.lock"


class BuildSite(Protocol):
    """Where a gallery is built; ``finished`` says whether there was a complete one before."""

    name: str
    finished: bool

    def open(self, bundle: Bundle) -> Gallery:
        """Open the gallery, or what an interrupted build with the same model left of it, or start a new one."""

    def locking(self, gallery: Gallery) -> AbstractContextManager[bool]:
        """Hold the build lock; yield False if another build holds it."""

    def finish(self, gallery: Gallery) -> Gallery:
        """Let a new gallery appear as complete."""

    def discard(self, gallery: Gallery) -> None:
        """Remove a new gallery that is of no use."""


class FolderSite:
    """A folder; a new gallery grows beside it, or inside of a mount point."""

    def __init__(self, path: Path) -> None:
        self.path = resolve_place(path)
        if is_bundled(self.path):
            raise database.refused_change(self.path)
        self.name = str(self.path)
        self.finished = is_occupied(self.path)

    def open(self, bundle: Bundle) -> Gallery:
        """Open the gallery, or what an interrupted build with the same model left of it, or start a new one."""
        growing = growing_beside(self.path) / f"{self.path.name}.partial"
        return Gallery.open(self.path) if self.finished else resume_or_start(growing, bundle)

    @contextmanager
    def locking(self, gallery: Gallery) -> Iterator[bool]:
        """Hold the build lock; yield False if another build holds it."""
        # The lock of a growing gallery lies beside it: a folder with an open file cannot be renamed on Windows.
        lock = self.path / LOCK if self.finished else growing_beside(self.path) / f".{self.path.name}.{LOCK}"
        with exclusive_lock(lock, wait=0) as acquired:
            try:
                yield acquired
            finally:
                if acquired:
                    with contextlib.suppress(OSError):  # Windows keeps a file that is open
                        lock.unlink(missing_ok=True)

    def finish(self, gallery: Gallery) -> Gallery:
        """Mark a gallery as complete and rename it to its path."""
        with gallery.truth.writing() as connection:
            schema.mark_complete(connection)
        move_folder(gallery.path, self.path)
        return Gallery.open(self.path)

    def discard(self, gallery: Gallery) -> None:
        """Remove a new gallery that is of no use."""
        shutil.rmtree(gallery.path)


class DatabaseSite:
    """The tables of a database, which state whether they are complete."""

    def __init__(self, truth: PostgresTruth) -> None:
        self._truth = truth
        self.name = truth.name
        self.finished = truth.exists() and truth.about().complete

    def open(self, bundle: Bundle) -> Gallery:
        """Open the gallery, or what an interrupted build with the same model left of it, or start a new one."""
        if not self._truth.exists():
            self._truth.create(About.of(bundle, complete=False), bundle)
        return Gallery(self._truth, self._truth.about())

    def locking(self, gallery: Gallery) -> AbstractContextManager[bool]:
        """Hold the build lock; yield False if another build holds it."""
        return self._truth.locking_builds()

    def finish(self, gallery: Gallery) -> Gallery:
        """Mark a gallery as complete."""
        with self._truth.writing() as tables:
            schema.mark_complete(tables)
        return Gallery(self._truth, self._truth.about())

    def discard(self, gallery: Gallery) -> None:
        """Remove a new gallery that is of no use."""
        self._truth.discard()


def find_site(place: Path | str) -> BuildSite:
    """Return where a gallery shall be built, or brought up to date."""
    truth = open_truth(place)
    return FolderSite(locate_gallery(place)) if isinstance(truth, SqliteTruth) else DatabaseSite(truth)  # type: ignore[arg-type]


@contextmanager
def refusing_other_builds(site: BuildSite, gallery: Gallery) -> Iterator[None]:
    """Hold the build lock of a gallery; raise :class:`GalleryLockedError` if another build holds it.

    A gallery that nothing may be written to has no lock.
    """
    if not gallery.truth.may_write():
        yield
        return
    with site.locking(gallery) as acquired:
        if not acquired:
            fix = "wait until it is done, or stop it"
            raise GalleryLockedError("another build is working on this gallery", where=site.name, fix=fix)
        yield


def resolve_place(path: Path) -> Path:
    """Return where a gallery is or may be built, links followed; refuse a place that holds something else."""
    place = Path(os.path.realpath(path)) if path.is_symlink() else path
    if place.is_symlink():
        raise GalleryError("the link leads back to itself", where=path, fix="delete it, or name another place")
    if place.is_file():
        inside = (place.parent / DATABASE).is_file()
        fix = f"name its folder, {place.parent}" if inside else "name a new folder"
        raise GalleryError("this is a file, not a gallery's folder", where=path, fix=fix)
    if is_occupied(place) and not (place / DATABASE).is_file():
        fix = f"name a new folder; if these are your photos: `obelisk gallery build NEW --data {quote(str(path))}`"
        raise GalleryError("not a gallery, but a folder of other things", where=path, fix=fix)
    return place


def resume_or_start(growing: Path, bundle: Bundle) -> Gallery:
    """Open the gallery that an interrupted build with the same model left, or start a new one."""
    truth = SqliteTruth(growing)
    if not is_occupied(growing):
        truth.create(About.of(bundle, complete=False), bundle)
    gallery = Gallery(truth, truth.about())
    if gallery.fingerprint != bundle.fingerprint:
        what = f"an unfinished build with model `{gallery.model}` (fingerprint {gallery.fingerprint}) is in the way"
        fix = f"finish it with `--model {growing}`, or delete that folder"
        raise GalleryError(what, where=growing, fix=fix)
    return gallery
