"""Sheets of suspects: each photo beside the nearest photos of its own landmark and of the one its neighbours name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from obelisk.cleaning.drop import Cleaning
from obelisk.recognition.explain.strip import GAP, Cell, draw_cells, name_landmark, stack

FOLDER = "pictures"
STRIPS = 8  # a sheet
OF_EACH = 2  # photos of either landmark beside the suspect


def draw_suspects(cleaning: Cleaning, folder: Path, *, most: int) -> list[Path]:
    """Draw the worst suspects into ``folder``/pictures, eight a sheet, and return the sheets.

    From left to right: the suspect, two photos of its own landmark, two of the other, the nearest of other folds
    first. A photo that cannot be read leaves its place empty.
    """
    worst = cleaning.suspects.head(most)
    sheets = []
    for number, start in enumerate(range(0, worst.height, STRIPS), start=1):
        strips = [draw_cells(describe(cleaning, row)) for row in worst[start : start + STRIPS].iter_rows(named=True)]
        (folder / FOLDER).mkdir(exist_ok=True)
        sheets.append(folder / FOLDER / f"{number:03}.png")
        stack(strips, margin=GAP).save(sheets[-1], "PNG")
    return sheets


def describe(cleaning: Cleaning, suspect: dict[str, Any]) -> list[Cell]:
    """Return the cells of one suspect."""
    own = name_landmark(suspect["landmark"], suspect["landmark_id"])
    named = name_landmark(suspect["named"], suspect["named_id"])
    label = "dropped" if suspect["dropped"] == "yes" else "stays"
    words = [f"label: {own}", f"{label}, margin {suspect['margin']:.2f}"]
    first = Cell(photo=cleaning.catalog.root / suspect["path"], name=suspect["image_id"], details=words)
    return [
        first,
        *nearest_cells(cleaning, suspect, suspect["landmark_id"], f"label: {own}"),
        *nearest_cells(cleaning, suspect, suspect["named_id"], f"named: {named}"),
    ]


def nearest_cells(cleaning: Cleaning, suspect: dict[str, Any], landmark: int, name: str) -> list[Cell]:
    """Return the cells of a landmark's photos nearest to a suspect, of other folds."""
    place = cleaning.photos["image_id"].search_sorted(suspect["image_id"])
    others = (pl.col("landmark_id") == landmark) & (pl.col("fold") != cleaning.photos["fold"][place])
    rows = cleaning.photos.select(others.arg_true()).to_series().to_numpy()
    alike = cleaning.embeddings[rows].astype(np.float64) @ cleaning.embeddings[place].astype(np.float64)
    best = np.argsort(-alike, kind="stable")[:OF_EACH]
    paths = [cleaning.catalog.root / cleaning.photos["path"][row] for row in rows[best].tolist()]
    cells = [
        Cell(photo=path, name=name, details=[f"similarity {similarity:.2f}"])
        for path, similarity in zip(paths, alike[best].tolist(), strict=True)
    ]
    # A column always holds the same kind of photo.
    return cells + [Cell(photo=None, name="no other photo", details=[])] * (OF_EACH - len(cells))
