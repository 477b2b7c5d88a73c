"""Photos made small enough to travel inside a page."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
from PIL import Image

from obelisk.data import Catalog, read_credits
from obelisk.errors import PhotoError
from obelisk.markup import Markup, element, text
from obelisk.photos import data_uri, read_photo
from obelisk.wording import format_credit

SIDE = 144  # pixels; shown at half of that or a little more, sharp on phones
QUERY_SIDE = 288
QUALITY = 78


class Thumbnails:
    """The photos of a catalog as inline pictures, each read once.

    A photo that cannot be read becomes a box that says so.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._references = locate(catalog, catalog.references)
        self._queries = locate(catalog, catalog.queries)
        self._credits = read_credits(catalog.root, catalog.references["image_id"])
        self._made: dict[tuple[Path, int], str | None] = {}

    def show_reference(self, photo: str, description: str) -> Markup:
        """Return the reference photo of this id, with a description for those who cannot see it."""
        return self._show(self._references.get(photo), description, SIDE)

    def show_query(self, photo: str, description: str) -> Markup:
        """Return the query photo of this id, larger, with a description."""
        return self._show(self._queries.get(photo), description, QUERY_SIDE)

    def credit(self, photo: str) -> str:
        """Return who made a reference photo, and its license; empty where the dataset doesn't say."""
        return format_credit(*self._credits.get(photo, ("", "")))

    def _show(self, path: Path | None, description: str, side: int) -> Markup:
        data = self._encode(path, side) if path else None
        if data is None:
            return element("span", text("photo not readable"), class_="missing", role="img", aria_label=description)
        pixels = str(side)
        return element("img", src=data, alt=description, width=pixels, height=pixels, loading="lazy", decoding="async")

    def _encode(self, path: Path, side: int) -> str | None:
        """Return a data URI, or None for a photo that cannot be read."""
        if (path, side) not in self._made:
            try:
                self._made[path, side] = encode(read_photo(path, min_side=side), side)
            except PhotoError:
                self._made[path, side] = None
        return self._made[path, side]


def locate(catalog: Catalog, photos: pl.DataFrame) -> dict[str, Path]:
    """Return where each photo lies, by its id."""
    return dict(zip(photos["image_id"].to_list(), catalog.locate_photos(photos), strict=True))


def encode(image: Image.Image, side: int) -> str:
    """Return the middle square of an image as a JPEG data URI."""
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    square = image.resize((side, side), Image.Resampling.LANCZOS, box=(left, top, left + short, top + short))
    written = io.BytesIO()
    square.save(written, "JPEG", quality=QUALITY, optimize=True)
    return data_uri(written.getvalue())
