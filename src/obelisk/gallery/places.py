"""Where a gallery may be: in a folder, or in a database."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from obelisk.bundled import locate_gallery
from obelisk.errors import MissingExtraError
from obelisk.gallery.address import is_address, parse_address
from obelisk.gallery.sqlite_truth import SqliteTruth
from obelisk.gallery.truth import Truth


def open_truth(place: Path | str) -> Truth:
    """Return the truth of the gallery at a place; nothing is opened yet.

    A place is a folder, the word ``bundled``, or the address of a database. Raises :class:`MissingExtraError` if what a
    database needs is not installed.
    """
    if not is_address(place):
        return SqliteTruth(locate_gallery(place))
    address = parse_address(str(place))
    if importlib.util.find_spec("psycopg") is None:
        raise MissingExtraError("cluster", needed_for="a gallery in PostgreSQL")
    from obelisk.gallery.postgres import PostgresTruth

    return PostgresTruth(address)
