"""Photos and captions in a picture: photos read small, fitted into a box and framed; text in lines."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw

from obelisk.errors import PhotoError
from obelisk.photos import GivenPhoto, read_query
from obelisk.recognition.explain.lettering import draw_line, text_width, wrap_text
from obelisk.wording import shorten_link

PAPER, INK, FAINT, SHADE, LINE = "#ffffff", "#1c1917", "#6f6a65", "#f1efec", "#cfcac4"
THINNEST = 12  # pixels: a photo of a single row or column is drawn this wide
WORDS = 15  # pixels: height of the letters of captions
LINK_LINES = 8  # of the address of a photo that is not at hand


def scale_photo(photo: Image.Image, side: int) -> Image.Image:
    """Scale the longer side of a photo to ``side`` pixels.

    The aspect ratio is kept, except that no side becomes too thin to see.
    """
    scale = side / max(photo.size)
    if scale == 1 and min(photo.size) >= THINNEST:
        return photo
    width, height = (min(side, max(THINNEST, round(scale * length))) for length in photo.size)
    return photo.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)


def read_if_possible(source: Path | bytes | GivenPhoto | None, min_side: int) -> Image.Image | None:
    """Return :func:`~obelisk.photos.read_query` of a photo, or None if there is no photo or it can't be read."""
    if source is None:
        return None
    try:
        return read_query(source, min_side=min_side)[0]
    except PhotoError:
        return None


def frame_photo(
    picture: Image.Image,
    corner: tuple[int, int],
    photo: Image.Image | None,
    size: tuple[int, int],
    color: str = LINE,
    thickness: int = 2,
    link: str | None = None,
) -> None:
    """Draw a framed box of this size with the photo in its middle; without one, a note and the link to it.

    It is drawn in its place at once: copying large pictures from one canvas to the next costs as much as drawing them.
    """
    left, top = corner
    if photo is None:
        picture.paste(frame_link(size, color, thickness, link), corner)
        return
    frame = (left, top, left + size[0] - 1, top + size[1] - 1)
    canvas = ImageDraw.Draw(picture)
    if photo.size != size:
        canvas.rectangle(frame, fill=SHADE)
    picture.paste(photo, (left + (size[0] - photo.width) // 2, top + (size[1] - photo.height) // 2))
    canvas.rectangle(frame, outline=color, width=thickness)


@lru_cache(maxsize=64)
def frame_link(size: tuple[int, int], color: str, thickness: int, link: str | None) -> Image.Image:
    """Return a framed box that says that a photo is missing, and where it is; many answers share it."""
    box = Image.new("RGB", size, SHADE)
    canvas = ImageDraw.Draw(box)
    lines = wrap_text(shorten_link(link), WORDS, size[0] - 4 * THINNEST, lines=LINK_LINES) if link else []
    top = size[1] / 2 - (1 + len(lines)) * 0.65 * WORDS
    for number, text in enumerate(["photo not at hand; see" if link else "photo not available", *lines]):
        left = (size[0] - text_width(text, WORDS)) / 2
        draw_line(canvas, (left, top + 1.3 * WORDS * number), text, WORDS, INK if number else FAINT)
    canvas.rectangle((0, 0, size[0] - 1, size[1] - 1), outline=color, width=thickness)
    return box


def draw_lines(
    canvas: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    size: int,
    width: float,
    *,
    color: str = INK,
    lines: int = 1,
) -> float:
    """Draw text, wrapped to this width, and return the top of the line that would follow."""
    left, top = corner
    for line in wrap_text(text, size, width, lines=lines):
        draw_line(canvas, (left, top), line, size, color)
        top += round(1.3 * size)
    return top
