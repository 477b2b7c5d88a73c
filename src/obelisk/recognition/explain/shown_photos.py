"""Photos and captions in a picture: photos read small, fitted into a box and framed; text in lines."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from obelisk.errors import PhotoError
from obelisk.photos import GivenPhoto, read_query
from obelisk.recognition.explain.lettering import draw_line, text_width, wrap_text

PAPER, INK, FAINT, SHADE, LINE = "#ffffff", "#1c1917", "#6f6a65", "#f1efec", "#cfcac4"
THINNEST = 12  # pixels: a photo of a single row or column is drawn this wide
WORDS = 15  # pixels: height of the letters of captions


def load_photo(source: Path | bytes | GivenPhoto, side: int) -> Image.Image:
    """Read a photo and scale its longer side to ``side`` pixels; raises PhotoError.

    The aspect ratio is kept, except that no side becomes too thin to see.
    """
    photo, _ = read_query(source, min_side=side)
    scale = side / max(photo.size)
    width, height = (min(side, max(THINNEST, round(scale * length))) for length in photo.size)
    return photo.resize((width, height), Image.Resampling.LANCZOS)


def load_if_readable(source: Path | bytes | GivenPhoto | None, side: int) -> Image.Image | None:
    """Return :func:`load_photo` of a photo, or None if there is no photo or it can't be read."""
    if source is None:
        return None
    try:
        return load_photo(source, side)
    except PhotoError:
        return None


def frame_photo(photo: Image.Image | None, size: tuple[int, int], color: str = LINE, thickness: int = 2) -> Image.Image:
    """Return a framed box of this size with the photo in its middle, or with a note that there is none."""
    box = Image.new("RGB", size, SHADE)
    canvas = ImageDraw.Draw(box)
    if photo is None:
        text = "photo not available"
        corner = (size[0] - text_width(text, WORDS)) / 2, size[1] / 2 - WORDS
        draw_line(canvas, corner, text, WORDS, FAINT)
    else:
        box.paste(photo, ((size[0] - photo.width) // 2, (size[1] - photo.height) // 2))
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
