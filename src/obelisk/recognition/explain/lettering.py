"""Text on pictures: names in any script, wrapped to a width, in the fonts that the machine has."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import cast

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont

# Tried in this order, letter by letter, wherever the system keeps its fonts. Pillow's own font is always there, but
# has no accents, and comes last.
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
    "malgun.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansBengali-Regular.ttf",
    "NotoSansTamil-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "Nirmala.ttf",
)
NOT_A_LETTER = "\uffff"  # a font draws it as it draws every letter that it lacks
ELLIPSIS = "..."
RIGHT_TO_LEFT = ("R", "AL", "AN")


def draw_line(canvas: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, size: int, color: str) -> None:
    """Draw one line of text, ``size`` pixels high, with its upper left corner at ``corner``."""
    left, top = corner
    drawn = draw_words(text, size)
    if drawn:
        # Anchored at the base line, letters of different fonts line up.
        canvas.bitmap((round(left) + drawn.left, round(top) + size + drawn.top), drawn.mask, fill=color)


@lru_cache(maxsize=1024)
def draw_words(text: str, size: int) -> DrawnWords | None:
    """Draw a line of text, white on black, word by word; None if it has no visible letter."""
    drawn: list[DrawnWords] = []
    start = 0.0
    for word in split_into_words(text):
        if found := draw_word(word, size):
            drawn.append(replace(found, left=round(start) + found.left))
        start += text_width(word, size)
    return join_parts(drawn)


@lru_cache(maxsize=4096)
def split_into_words(text: str) -> tuple[str, ...]:
    """Split text into words, which many captions share, and the spaces between them.

    Text that runs from right to left stays whole, because its words change places.
    """
    if not text.isascii() and any(unicodedata.bidirectional(letter) in RIGHT_TO_LEFT for letter in text):
        return (text,)
    return tuple(word for word in re.split("( +)", text) if word)


@dataclass(frozen=True, kw_only=True)
class DrawnWords:
    """The letters of one or more words, and where their upper left corner is, seen from the start of the base line."""

    mask: Image.Image
    left: int
    top: int

    @property
    def ends(self) -> tuple[int, int]:
        """Where it ends, to the right and below."""
        return self.left + self.mask.width, self.top + self.mask.height


@lru_cache(maxsize=4096)
def draw_word(word: str, size: int) -> DrawnWords | None:
    """Draw a word, white on black; None if it has no visible letter."""
    drawn: list[DrawnWords] = []
    start = 0.0
    for font, part in split_by_font(word, size):
        # Not `ImageDraw.text`, which takes twice as long.
        letters, (left, top) = font.getmask2(part, "L", anchor="ls")
        if min(letters.size):
            mask = Image.frombytes("L", letters.size, bytes(letters))
            drawn.append(DrawnWords(mask=mask, left=round(start) + left, top=top))
        start += font.getlength(part)
    return join_parts(drawn)


def join_parts(parts: Sequence[DrawnWords]) -> DrawnWords | None:
    """Join what was drawn beside each other, such as the parts of a word that different fonts drew."""
    if len(parts) < 2:
        return next(iter(parts), None)
    left, top = min(part.left for part in parts), min(part.top for part in parts)
    right, bottom = (max(end) for end in zip(*(part.ends for part in parts), strict=True))
    mask = Image.new("L", (right - left, bottom - top))
    for part in parts:
        mask.paste(255, (part.left - left, part.top - top), part.mask)
    return DrawnWords(mask=mask, left=left, top=top)


@lru_cache(maxsize=4096)
def text_width(text: str, size: int) -> float:
    """Return the width of a line of text in pixels."""
    words = split_into_words(text)
    if len(words) > 1:
        return sum(text_width(word, size) for word in words)
    return sum(font.getlength(part) for font, part in split_by_font(text, size))


def wrap_text(text: str, size: int, width: float, *, lines: int = 1) -> list[str]:
    """Wrap text into at most ``lines`` lines of this width; text that is too long ends in an ellipsis.

    Lines break at spaces. A word longer than a line breaks anywhere, as names in scripts without spaces must.
    """
    return list(break_lines(text, size, width, lines))


@lru_cache(maxsize=1024)
def break_lines(text: str, size: int, width: float, lines: int) -> tuple[str, ...]:
    """Return the lines of :func:`wrap_text`."""
    rest = make_legible(text)
    broken: list[str] = []
    while rest:
        if text_width(rest, size) <= width:
            return (*broken, rest)
        if len(broken) == lines - 1:
            return (*broken, ellipsize(rest, size, width))
        head = rest[: longest_prefix(rest, size, width)]
        if " " in head and rest[len(head)] != " ":
            head = head[: head.rindex(" ")]
        broken.append(head.rstrip())
        rest = rest[len(head) :].lstrip()
    return tuple(broken)


def ellipsize(text: str, size: int, width: float) -> str:
    """Cut a line of text so that it fits the width with an ellipsis."""
    return text[: longest_prefix(text, size, width - text_width(ELLIPSIS, size))].rstrip() + ELLIPSIS


def longest_prefix(text: str, size: int, width: float) -> int:
    """Return how many letters fit into the width; at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text_width(text[:middle], size) <= width else (low, middle - 1)
    return low


@lru_cache(maxsize=4096)
def make_legible(text: str) -> str:
    """Return the text on one line, in letters that can be drawn: others lose their accents or become ``?``."""
    plain = (
        " " if unicodedata.category(letter)[0] in "CZ" else letter for letter in unicodedata.normalize("NFC", text)
    )
    return " ".join("".join(substitute_letter(letter) for letter in plain).split())


@lru_cache(maxsize=4096)
def substitute_letter(letter: str) -> str:
    """Return a letter if a font has it, else those of its parts that a font has, else ``?``."""
    if letter == " " or any(has_letter(font, letter) for font in load_fonts(16)):
        return letter
    parts = [part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part)]
    drawn = "".join(part for part in parts if any(has_letter(font, part) for font in load_fonts(16)))
    return drawn or "?"


def split_by_font(text: str, size: int) -> list[tuple[Font, str]]:
    """Split text into parts, each with the first font that has its letters."""
    fonts = load_fonts(size)
    return [(fonts[index], "".join(part)) for index, part in groupby(text, choose_font)]


@lru_cache(maxsize=4096)
def choose_font(letter: str) -> int:
    """Return the index in :func:`load_fonts` of the first font that has a letter; 0 if none has."""
    return next((index for index, font in enumerate(load_fonts(16)) if has_letter(font, letter)), 0)


@lru_cache(maxsize=16)
def load_fonts(size: int) -> tuple[Font, ...]:
    """Load the fonts that this machine has; Pillow's own comes last."""
    found: list[Font] = []
    for name in FONTS:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return (*found, cast("Font", ImageFont.load_default(size)))


def has_letter(font: Font, letter: str) -> bool:
    """Return whether a font has a glyph of its own for a letter."""
    drawn, missing = font.getmask(letter), font.getmask(NOT_A_LETTER)
    return letter == " " or (drawn.size, bytes(drawn)) != (missing.size, bytes(missing))
