"""Where a gallery may be: in a folder, or in a database."""

from __future__ import annotations

from pathlib import Path

from obelisk.bundled import locate_gallery
from obelisk.gallery.sqlite_truth import SqliteTruth
from obelisk.gallery.truth import Truth


def open_truth(place: Path | str) -> Truth:
    """Return the truth of the gallery at a place: a folder, or the word ``bundled``; nothing is opened yet."""
    return SqliteTruth(locate_gallery(place))
