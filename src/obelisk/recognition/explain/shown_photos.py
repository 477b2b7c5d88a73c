"""Photos made ready for a picture: read small, fitted into a box, framed."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from obelisk.errors import PhotoError
from obelisk.gallery import ReferencePhoto
from obelisk.photos import content_hash, read_bytes, read_photo
from obelisk.recognition.explain.lettering import fit, measure, write

PAPER, INK, FAINT, SHADE, LINE = "#ffffff", "#1c1917", "#6f6a65", "#f1efec", "#cfcac4"
THINNEST = 12  # pixels: what a photo of one row or column is drawn at
WORDS = 15


def read_original(photo: ReferencePhoto | None) -> bytes | None:
    """Read the file of a reference photo; return None if it is gone or holds another photo by now."""
    if photo is None or photo.file is None:
        return None
    try:
        data = read_bytes(photo.file)
    except PhotoError:
        return None
    return data if photo.content_hash in ("", content_hash(data)) else None


def load(source: Path | bytes, side: int) -> Image.Image:
    """Return a photo scaled to fill a square of ``side`` pixels in one direction; raises PhotoError.

    The aspect is kept, save that no side becomes thinner than can be seen.
    """
    photo = read_photo(source, min_side=side)
    scale = side / max(photo.size)
    width, height = (min(side, max(THINNEST, round(scale * length))) for length in photo.size)
    return photo.resize((width, height), Image.Resampling.LANCZOS)


def load_if_there(source: Path | bytes | None, side: int) -> Image.Image | None:
    """Return :func:`load` of a photo, None when it is not at hand or cannot be read."""
    if source is None:
        return None
    try:
        return load(source, side)
    except PhotoError:
        return None


def frame(photo: Image.Image | None, size: tuple[int, int], colour: str = LINE, thickness: int = 2) -> Image.Image:
    """Return a photo in the middle of a framed box of this size, or a box that says there is no photo."""
    box = Image.new("RGB", size, SHADE)
    canvas = ImageDraw.Draw(box)
    if photo is None:
        text = "photo not at hand"
        place = (size[0] - measure(text, WORDS)) / 2, size[1] / 2 - WORDS
        write(canvas, place, text, WORDS, FAINT)
    else:
        box.paste(photo, ((size[0] - photo.width) // 2, (size[1] - photo.height) // 2))
    canvas.rectangle((0, 0, size[0] - 1, size[1] - 1), outline=colour, width=thickness)
    return box


def write_lines(
    canvas: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    width: float,
    *,
    colour: str = INK,
    lines: int = 1,
) -> float:
    """Write text, broken into lines of this width, and return where the next line would begin."""
    left, top = place
    for line in fit(text, size, width, lines=lines):
        write(canvas, (left, top), line, size, colour)
        top += round(1.3 * size)
    return top
