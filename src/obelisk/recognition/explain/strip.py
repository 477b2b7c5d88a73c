"""The strip of an answer: the query beside the reference photos that the answer rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from obelisk.embedding import PICTURE_SIDE
from obelisk.markup import is_web_address
from obelisk.photos import GivenPhoto
from obelisk.recognition.explain.lettering import make_legible
from obelisk.recognition.explain.shown_photos import (
    FAINT,
    INK,
    LINE,
    PAPER,
    WORDS,
    draw_lines,
    frame_photo,
    read_if_possible,
    scale_photo,
)
from obelisk.records import Neighbor, Recognition
from obelisk.wording import UNKNOWN, describe_confidence, describe_verdict, format_credit, format_decimal

RIGHT, WRONG = "#0f766e", "#b91c1c"
# The cells of three neighbors take a photo of 224 pixels, the size of many datasets, as it is.
GUTTER, WIDEST_CELL = 16, 224
WIDTH = 4 * WIDEST_CELL + 3 * GUTTER
PANEL = PICTURE_SIDE  # two fill the width
COLUMNS = 5
NAME = 17


@dataclass(frozen=True, kw_only=True)
class StripCell:
    """A photo of the strip and the text under it.

    ``right`` is whether its name is true, None if unknown. If there is no photo, the web address ``link`` is shown.
    """

    photo: Image.Image | Path | bytes | GivenPhoto | None
    name: str
    details: Sequence[str]
    right: bool | None = None
    link: str | None = None


def draw_recognitions(
    answers: Sequence[Recognition], truths: Sequence[str | None], references: Sequence[Sequence[Path | bytes | None]]
) -> Image.Image:
    """Draw the strips of several answers, one below the other.

    ``truths`` are the names of the true landmarks; where one is None, nothing is marked right or wrong.
    ``references`` are the photos of each answer's neighbors, as paths or bytes; None stands for a missing one.
    """
    strips = [draw_strip(*row) for row in zip(answers, truths, references, strict=True)]
    return stack_pictures(strips)


def draw_strip(answer: Recognition, truth: str | None, references: Sequence[Path | bytes | None]) -> Image.Image:
    """Draw one answer: the query, then its nearest neighbors with similarity and distance.

    ``truth`` and ``references`` are as in :func:`draw_recognitions`. A photo that is missing, or can't be read, leaves
    an empty frame.
    """
    missed = truth is not None and answer.landmark != truth
    details = [state_confidence(answer), *([f"it is {truth}"] if missed else [])]
    right = None if truth is None else not missed
    query = StripCell(photo=Path(answer.photo), name=name_answer(answer), details=details, right=right)
    shown = list(zip(answer.neighbours, references, strict=True))[: COLUMNS - 1]
    return draw_cells([query, *(describe_neighbor(neighbor, photo, truth) for neighbor, photo in shown)])


def draw_cells(cells: Sequence[StripCell]) -> Image.Image:
    """Draw cells side by side; the first is the query."""
    lines = max(len(cell.details) for cell in cells)
    strip = Image.new("RGB", (WIDTH, WIDEST_CELL + 2 * 24 + (1 + lines) * 22), PAPER)
    return strip.crop((0, 0, WIDTH, add_cells(strip, (0, 0), cells)))


def add_cells(picture: Image.Image, corner: tuple[int, int], cells: Sequence[StripCell]) -> int:
    """Draw cells side by side into a picture; return where they end."""
    side = min(WIDEST_CELL, (WIDTH - GUTTER * (len(cells) - 1)) // len(cells))
    left, top = corner
    return max(
        draw_cell(picture, (left + column * (side + GUTTER), top), cell, side, bold=not column)
        for column, cell in enumerate(cells)
    )


def describe_neighbor(
    neighbor: Neighbor, photo: Image.Image | Path | bytes | None, truth: str | None = None, page: str | None = None
) -> StripCell:
    """Return the cell of a reference photo; ``page`` stands in where nobody knows where it was published."""
    numbers = f"similarity {format_decimal(neighbor.similarity)}, distance {format_decimal(neighbor.distance)}"
    name = name_landmark(neighbor.landmark, neighbor.landmark_id)
    right = None if truth is None else neighbor.landmark == truth
    link = neighbor.source if neighbor.source and is_web_address(neighbor.source) else page
    credit = make_legible(format_credit(neighbor.author, neighbor.licence))
    return StripCell(photo=photo, name=name, details=[numbers, *filter(None, [credit])], right=right, link=link)


def name_answer(answer: Recognition) -> str:
    """Return the verdict in words, for a picture."""
    first = answer.candidates[0] if answer.candidates else answer
    return describe_verdict(answer, name_landmark(first.landmark, first.landmark_id))


def state_confidence(answer: Recognition) -> str:
    """Return ``confidence 97 %``, or the score if nothing is calibrated."""
    return f"{'confidence ' if answer.is_calibrated else ''}{describe_confidence(answer)}"


def name_landmark(name: str | None, landmark_id: int | None) -> str:
    """Return a landmark's name for a picture; its number if no font can draw most of the name."""
    if name is None:
        return UNKNOWN
    written = make_legible(name)
    return f"landmark {landmark_id}" if 2 * written.count("?") >= len(written) else written


def draw_cell(strip: Image.Image, corner: tuple[int, int], cell: StripCell, side: int, *, bold: bool) -> int:
    """Draw a framed photo with its text and return where it ends; a mark, not color alone, says whether it is right."""
    color = {None: INK, True: RIGHT, False: WRONG}[cell.right]
    edge = LINE if cell.right is None else color
    thickness = 4 if bold and cell.right is not None else 2
    photo = cell.photo if isinstance(cell.photo, Image.Image) else read_if_possible(cell.photo, side)
    fitted = None if photo is None else scale_photo(photo, side)
    frame_photo(strip, corner, fitted, (side, side), edge, thickness, cell.link)
    canvas = ImageDraw.Draw(strip)
    left, bottom = corner[0], corner[1] + side
    indent = 0 if cell.right is None else 24
    if cell.right is not None:
        draw_mark(canvas, (left + 2, bottom + 12), cell.right, color)
    top = draw_lines(canvas, (left + indent, bottom + 10), cell.name, NAME, side - indent, color=color, lines=2)
    for text in cell.details:
        top = draw_lines(canvas, (left, top), text, WORDS - 1, side, color=FAINT)
    return round(top)


def draw_mark(canvas: ImageDraw.ImageDraw, corner: tuple[float, float], right: bool, color: str) -> None:
    """Draw a tick or a cross, 14 pixels high."""
    x, y = corner
    if right:
        canvas.line([(x, y + 8), (x + 5, y + 13), (x + 15, y + 1)], fill=color, width=3, joint="curve")
    else:
        canvas.line([(x + 1, y + 1), (x + 13, y + 13)], fill=color, width=3)
        canvas.line([(x + 13, y + 1), (x + 1, y + 13)], fill=color, width=3)


def stack_pictures(pictures: Sequence[Image.Image], *, margin: int = GUTTER) -> Image.Image:
    """Stack pictures on white, with a margin in pixels around and between them."""
    width = max(picture.width for picture in pictures) + 2 * margin
    whole = Image.new("RGB", (width, margin + sum(picture.height + margin for picture in pictures)), PAPER)
    top = margin
    for picture in pictures:
        whole.paste(picture, (margin, top))
        top += picture.height + margin
    return whole
