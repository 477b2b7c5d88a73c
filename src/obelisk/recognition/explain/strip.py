"""The strip of an answer: the query beside the reference photos that it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from obelisk.recognition.explain.lettering import legible
from obelisk.recognition.explain.shown_photos import FAINT, INK, LINE, PAPER, WORDS, frame, load_if_there, write_lines
from obelisk.records import Neighbor, Recognition

RIGHT, WRONG = "#0f766e", "#b91c1c"
UNKNOWN = "not a landmark I know"
WIDTH, GAP = 1136, 16
WIDEST_CELL = 272
COLUMNS = 5
NAME = 17


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A photo of the strip and the words under it. ``right`` says whether what it names is true, None: not known."""

    photo: Path | bytes | None
    name: str
    details: Sequence[str]
    right: bool | None = None


def draw_recognitions(
    answers: Sequence[Recognition], truths: Sequence[str | None], references: Sequence[Sequence[Path | bytes | None]]
) -> Image.Image:
    """Draw the strips of several answers, one below the other.

    ``truths`` are the names of the true landmarks (None: not known, nothing is marked right or wrong);
    ``references`` the photos of each answer's neighbours (None: not at hand).
    """
    strips = [draw_strip(*row) for row in zip(answers, truths, references, strict=True)]
    return stack(strips, margin=GAP)


def draw_strip(answer: Recognition, truth: str | None, references: Sequence[Path | bytes | None]) -> Image.Image:
    """Draw one answer: the query, then the nearest of its neighbours, with similarity and distance.

    A photo that is not at hand, or cannot be read, leaves its place empty.
    """
    named = name_landmark(answer.landmark, answer.landmark_id)
    missed = truth is not None and answer.landmark != truth
    details = [f"confidence {answer.confidence:.2f}", *([f"it is {truth}"] if missed else [])]
    query = Cell(photo=Path(answer.photo), name=named, details=details, right=None if truth is None else not missed)
    shown = list(zip(answer.neighbours, references, strict=True))[: COLUMNS - 1]
    return draw_cells([query, *(describe_neighbour(neighbour, photo, truth) for neighbour, photo in shown)])


def draw_cells(cells: Sequence[Cell]) -> Image.Image:
    """Draw photos side by side with their words; the first is the query."""
    side = min(WIDEST_CELL, (WIDTH - GAP * (len(cells) - 1)) // len(cells))
    drawn = [draw_cell(cell, side, bold=cell is cells[0]) for cell in cells]
    strip = Image.new("RGB", (WIDTH, max(cell.height for cell in drawn)), PAPER)
    for column, cell in enumerate(drawn):
        strip.paste(cell, (column * (side + GAP), 0))
    return strip


def describe_neighbour(neighbour: Neighbor, photo: Path | bytes | None, truth: str | None = None) -> Cell:
    """Return the cell of a reference photo."""
    numbers = f"similarity {neighbour.similarity:.2f}, distance {neighbour.distance:.2f}"
    name = name_landmark(neighbour.landmark, neighbour.landmark_id)
    return Cell(photo=photo, name=name, details=[numbers], right=None if truth is None else neighbour.landmark == truth)


def name_landmark(name: str | None, landmark_id: int | None) -> str:
    """Return what a picture calls a landmark: its number where no font can write its name."""
    if name is None:
        return UNKNOWN
    written = legible(name)
    return f"landmark {landmark_id}" if 2 * written.count("?") >= len(written) else written


def draw_cell(cell: Cell, side: int, *, bold: bool) -> Image.Image:
    """Draw a photo with its words, framed and marked by whether it is right: not by colour alone."""
    colour = {None: INK, True: RIGHT, False: WRONG}[cell.right]
    edge = LINE if cell.right is None else colour
    drawn = Image.new("RGB", (side, side + 2 * 24 + (1 + len(cell.details)) * 22), PAPER)
    drawn.paste(frame(load_if_there(cell.photo, side), (side, side), edge, 4 if bold and cell.right is not None else 2))
    canvas = ImageDraw.Draw(drawn)
    indent = 0 if cell.right is None else 24
    if cell.right is not None:
        draw_mark(canvas, (2, side + 12), cell.right, colour)
    top = write_lines(canvas, (indent, side + 10), cell.name, NAME, side - indent, colour=colour, lines=2)
    for text in cell.details:
        top = write_lines(canvas, (0, top), text, WORDS - 1, side, colour=FAINT)
    return drawn.crop((0, 0, side, round(top)))


def draw_mark(canvas: ImageDraw.ImageDraw, place: tuple[float, float], right: bool, colour: str) -> None:
    """Draw a tick or a cross, 14 pixels high."""
    x, y = place
    if right:
        canvas.line([(x, y + 8), (x + 5, y + 13), (x + 15, y + 1)], fill=colour, width=3, joint="curve")
    else:
        canvas.line([(x + 1, y + 1), (x + 13, y + 13)], fill=colour, width=3)
        canvas.line([(x + 13, y + 1), (x + 1, y + 13)], fill=colour, width=3)


def stack(pictures: Sequence[Image.Image], *, margin: int) -> Image.Image:
    """Put pictures below each other on white, with a margin around and between them."""
    width = max(picture.width for picture in pictures) + 2 * margin
    whole = Image.new("RGB", (width, margin + sum(picture.height + margin for picture in pictures)), PAPER)
    top = margin
    for picture in pictures:
        whole.paste(picture, (margin, top))
        top += picture.height + margin
    return whole
