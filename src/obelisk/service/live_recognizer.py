"""The recognizer of a service: it follows what others do to its galleries."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from obelisk.bundled import BUNDLED
from obelisk.errors import GalleryError, UsageError
from obelisk.gallery import Gallery, JoinedGallery, References
from obelisk.recognition import Recognizer


class LiveRecognizer:
    """Opens galleries, and opens them again when one was changed or replaced; threads may share it.

    Clients know a gallery by the name of its folder. Raises :class:`~obelisk.errors.ObeliskError` if one can't be used,
    and :class:`~obelisk.errors.UsageError` if two have the same name.
    """

    def __init__(self, named: Sequence[str]) -> None:
        self._named = tuple(named)
        self._lock = threading.Lock()
        self._recognizer = Recognizer.open(self._named)
        self._seen = self._recognizer.gallery.references()
        if len(self.galleries()) < len(list_galleries(self._recognizer)):
            names = ", ".join(self._named)
            raise UsageError(f"two galleries have one name: {names}", fix="rename the folder of one")

    def current(self) -> tuple[Recognizer, References]:
        """Return a recognizer of what the galleries hold now, and what that is.

        The calibration of a gallery changes with its photos, so a change makes a new recognizer, with the same model.
        """
        with self._lock:
            try:
                references = self._recognizer.gallery.references()
            except GalleryError:  # another gallery may have taken its place
                self._recognizer = Recognizer.open(self._named)
                references = self._recognizer.gallery.references()
            else:
                if references is not self._seen:
                    gallery, embedder = self._recognizer.gallery, self._recognizer.embedder
                    self._recognizer = Recognizer.open(gallery, embedder=embedder)
            self._seen = references
            return self._recognizer, references

    def galleries(self) -> Mapping[str, Gallery]:
        """Return the galleries by the names that clients know."""
        recognizer, _ = self.current()
        return {public_name(gallery.name): gallery for gallery in list_galleries(recognizer)}


def list_galleries(recognizer: Recognizer) -> Sequence[Gallery]:
    """Return the galleries of a recognizer."""
    gallery = recognizer.gallery
    return gallery.galleries if isinstance(gallery, JoinedGallery) else [gallery]


@cache
def public_name(gallery: str) -> str:
    """Return how clients know a gallery: ``bundled``, or the name of its folder; asked for each candidate."""
    return gallery if gallery == BUNDLED else Path(gallery).resolve().name
