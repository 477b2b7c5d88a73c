"""Words on pictures: names of any script, fitted into a width, with the fonts that the machine has."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from itertools import groupby

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Tried in this order, letter by letter, wherever the system keeps its fonts. Pillow's own font, which is always
# there, has no accents and comes last.
FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial.ttf",
    "arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "PingFang.ttc",
    "Arial Unicode.ttf",
    "msyh.ttc",
    "wqy-zenhei.ttc",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansThai-Regular.ttf",
)
NOT_A_LETTER = "\uffff"  # what a font draws for it, it draws for every letter that it lacks
ELLIPSIS = "..."


def write(canvas: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, colour: str) -> None:
    """Write one line of text, ``size`` pixels high, with its upper left corner at ``place``."""
    left, top = place
    for font, part in split_by_font(text, size):
        # Lines up letters of different fonts: they stand on one base line.
        canvas.text((left, top + size), part, font=font, fill=colour, anchor="ls")
        left += font.getlength(part)


def measure(text: str, size: int) -> float:
    """Return how wide a line of text is, pixels."""
    return sum(font.getlength(part) for font, part in split_by_font(text, size))


def fit(text: str, size: int, width: float, *, lines: int = 1) -> list[str]:
    """Break text into at most so many lines of this width; what is too long ends in an ellipsis.

    Lines break at spaces, or inside a word that is longer than a line, as names in scripts without spaces are.
    """
    rest = legible(text)
    broken: list[str] = []
    while rest:
        if measure(rest, size) <= width:
            return [*broken, rest]
        if len(broken) == lines - 1:
            return [*broken, shorten(rest, size, width)]
        head = rest[: longest_prefix(rest, size, width)]
        if " " in head and rest[len(head)] != " ":
            head = head[: head.rindex(" ")]
        broken.append(head.rstrip())
        rest = rest[len(head) :].lstrip()
    return broken


def shorten(text: str, size: int, width: float) -> str:
    """Cut a line of text so that it fits with an ellipsis."""
    return text[: longest_prefix(text, size, width - measure(ELLIPSIS, size))].rstrip() + ELLIPSIS


def longest_prefix(text: str, size: int, width: float) -> int:
    """Return how many letters, at least one, fit into the width."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if measure(text[:middle], size) <= width else (low, middle - 1)
    return low


def legible(text: str) -> str:
    """Return the text in one line, in letters that can be drawn here: é as e, where no font has it, else ``?``."""
    plain = (
        " " if unicodedata.category(letter)[0] in "CZ" else letter for letter in unicodedata.normalize("NFC", text)
    )
    return " ".join("".join(substitute(letter) for letter in plain).split())


@lru_cache(maxsize=4096)
def substitute(letter: str) -> str:
    """Return a letter as it is if a font has it, else the letters it is made of that some font has."""
    if letter == " " or any(has_letter(font, letter) for font in load_fonts(16)):
        return letter
    parts = [part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part)]
    drawn = "".join(part for part in parts if any(has_letter(font, part) for font in load_fonts(16)))
    return drawn or "?"


def split_by_font(text: str, size: int) -> list[tuple[Font, str]]:
    """Return the text in parts, each with the first font that has its letters."""
    fonts = load_fonts(size)
    return [(fonts[place], "".join(part)) for place, part in groupby(text, choose_font)]


@lru_cache(maxsize=4096)
def choose_font(letter: str) -> int:
    """Return the place, in :func:`load_fonts`, of the first font that has a letter; 0 if none has."""
    return next((place for place, font in enumerate(load_fonts(16)) if has_letter(font, letter)), 0)


@lru_cache(maxsize=16)
def load_fonts(size: int) -> tuple[Font, ...]:
    """Return the fonts that this machine has, Pillow's own last."""
    found: list[Font] = []
    for name in FONTS:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return (*found, ImageFont.load_default(size))


def has_letter(font: Font, letter: str) -> bool:
    """Tell whether a font has a drawing of its own for a letter."""
    drawn, missing = font.getmask(letter), font.getmask(NOT_A_LETTER)
    return letter == " " or (drawn.size, bytes(drawn)) != (missing.size, bytes(missing))
