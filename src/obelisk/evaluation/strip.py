"""A picture of recognitions: each query beside the reference photos that its answer rests on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from obelisk.errors import MissingExtraError, PhotoError
from obelisk.photos import read_photo
from obelisk.records import Recognition

INK, RIGHT, WRONG = "#1c1917", "#0f766e", "#b91c1c"


def draw_recognitions(
    path: Path, answers: Sequence[Recognition], truths: Sequence[str | None], references: Sequence[Sequence[Path]]
) -> Path:
    """Draw one row an answer, as PNG: the query, then its neighbours with similarity and distance.

    ``truths`` are the names of the true landmarks (None: not known, nothing is marked right or wrong);
    ``references`` the photos of each answer's neighbours. A photo that cannot be read leaves its place empty.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("train", needed_for="drawing recognitions") from None
    columns = 1 + max(len(photos) for photos in references)
    figure = Figure(figsize=(2.3 * columns, 2.75 * len(answers)), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(answers), columns, squeeze=False)
    for row, answer, truth, photos in zip(grid, answers, truths, references, strict=True):
        missed = f", it is {truth}" if mark_of(answer.landmark, truth) is False else ""
        title = f"{answer.landmark or 'not a landmark I know'}\nconfidence {answer.confidence:.2f}{missed}"
        draw_photo(row[0], Path(answer.photo), title, mark_of(answer.landmark, truth), bold=True)
        for axes, neighbour, photo in zip(row[1:], answer.neighbours, photos, strict=False):
            title = f"{neighbour.landmark}\ncosine {neighbour.similarity:.2f}, distance {neighbour.distance:.2f}"
            draw_photo(axes, photo, title, mark_of(neighbour.landmark, truth), bold=False)
    figure.savefig(path, metadata={"Software": None})
    return path


def mark_of(named: str | None, truth: str | None) -> bool | None:
    """Tell whether a name is right; None where that is not known."""
    return None if truth is None else named == truth


def draw_photo(axes: object, photo: Path, title: str, right: bool | None, *, bold: bool) -> None:
    """Draw a photo with its title, framed and marked by whether it is right: not by colour alone."""
    mark, colour = {None: ("", INK), True: ("✓ ", RIGHT), False: ("✗ ", WRONG)}[right]
    axes.set_title(mark + title, fontsize=8.5, color=colour, fontweight="bold" if bold else "normal")  # type: ignore[attr-defined]
    axes.set_xticks([])  # type: ignore[attr-defined]
    axes.set_yticks([])  # type: ignore[attr-defined]
    for spine in axes.spines.values():  # type: ignore[attr-defined]
        spine.set(color=colour, linewidth=2.5 if bold else 1.5)
    try:
        axes.imshow(read_photo(photo, min_side=224))  # type: ignore[attr-defined]
    except PhotoError:
        axes.text(0.5, 0.5, "unreadable", ha="center", va="center", transform=axes.transAxes)  # type: ignore[attr-defined]
