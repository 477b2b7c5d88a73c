"""Contact sheets of suspects, each beside the nearest photos of its own landmark and of its rival."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from obelisk.cleaning.drop import Cleaning
from obelisk.recognition.explain import StripCell, draw_cells, name_landmark, stack_pictures
from obelisk.wording import format_decimal

FOLDER = "pictures"
STRIPS_PER_SHEET = 8
PHOTOS_PER_LANDMARK = 2


def draw_issue_sheets(cleaning: Cleaning, folder: Path, *, most: int) -> list[Path]:
    """Draw the worst ``most`` suspects, eight per sheet, into ``folder``/pictures; return the sheets.

    From left to right: the suspect, then two photos of its own landmark and two of its rival, the most similar ones of
    other folds. The cell of an unreadable photo stays empty.
    """
    worst = cleaning.suspects.head(most)
    sheets = []
    for number, start in enumerate(range(0, worst.height, STRIPS_PER_SHEET), start=1):
        page = worst[start : start + STRIPS_PER_SHEET]
        strips = [draw_cells(cells_of_suspect(cleaning, row)) for row in page.iter_rows(named=True)]
        (folder / FOLDER).mkdir(exist_ok=True)
        sheets.append(folder / FOLDER / f"{number:03}.png")
        stack_pictures(strips).save(sheets[-1], "PNG")
    return sheets


def cells_of_suspect(cleaning: Cleaning, suspect: dict[str, Any]) -> list[StripCell]:
    """Return the cells of one strip."""
    own = name_landmark(suspect["landmark"], suspect["landmark_id"])
    rival = name_landmark(suspect["named"], suspect["named_id"])
    decision = "dropped" if suspect["dropped"] == "yes" else "stays"
    details = [f"label: {own}", f"{decision}, margin {suspect['margin']:.2f}"]
    first = StripCell(photo=cleaning.catalog.root / suspect["path"], name=suspect["image_id"], details=details)
    return [
        first,
        *nearest_cells(cleaning, suspect, suspect["landmark_id"], f"label: {own}"),
        *nearest_cells(cleaning, suspect, suspect["named_id"], f"named: {rival}"),
    ]


def nearest_cells(cleaning: Cleaning, suspect: dict[str, Any], landmark: int, name: str) -> list[StripCell]:
    """Return the cells of a landmark's photos in other folds that are nearest to a suspect."""
    suspect_row = cleaning.photos["image_id"].search_sorted(suspect["image_id"])
    others = (pl.col("landmark_id") == landmark) & (pl.col("fold") != cleaning.photos["fold"][suspect_row])
    rows = cleaning.photos.select(others.arg_true()).to_series().to_numpy()
    similarities = cleaning.embeddings[rows].astype(np.float64) @ cleaning.embeddings[suspect_row].astype(np.float64)
    best = np.argsort(-similarities, kind="stable")[:PHOTOS_PER_LANDMARK]
    paths = [cleaning.catalog.root / cleaning.photos["path"][row] for row in rows[best].tolist()]
    cells = [
        StripCell(photo=path, name=name, details=[f"similarity {format_decimal(similarity)}"])
        for path, similarity in zip(paths, similarities[best].tolist(), strict=True)
    ]
    # Empty cells keep the columns of a sheet aligned.
    return cells + [StripCell(photo=None, name="no other photo", details=[])] * (PHOTOS_PER_LANDMARK - len(cells))
