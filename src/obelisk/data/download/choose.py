"""Choose landmarks by the names of their categories at Wikimedia Commons, and some photos of each."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from obelisk.data.formats.gldv2 import CATEGORIES, Gldv2Tables
from obelisk.data.formats.gldv2_rows import read_train_clean
from obelisk.data.formats.labels import read_categories
from obelisk.errors import DataError, UsageError


def compile_match(pattern: str) -> re.Pattern[str]:
    """Compile the pattern of ``--match``; capitals make no difference. Raises UsageError."""
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        fix = "write a part of a name; a backslash before ( ) [ ] . * + ? takes them as they are"
        raise UsageError(f"`{pattern}` is not a regular expression: {error}", where="--match", fix=fix) from error


def match_categories(table: Path | None, pattern: str) -> dict[int, str]:
    """Return the landmarks whose category contains the pattern, id → name, in the order of the names.

    ``table`` is train_label_to_category.csv. Raises DataError without one, UsageError if no category matches.
    """
    if table is None:
        raise DataError(f"`{CATEGORIES}` is missing", fix="run the command without --dry-run: it fetches the table")
    compiled = compile_match(pattern)
    names = read_categories(table).drop_nulls().sort("name", "landmark_id")
    found = {
        landmark: name for landmark, name in names.select("landmark_id", "name").iter_rows() if compiled.search(name)
    }
    if not found:
        what = f"no category of Wikimedia Commons contains `{pattern}`"
        raise UsageError(what, where="--match", fix="try a part of a name, or `one|another`")
    return found


def limit_photos(photos: pl.DataFrame, tables: Gldv2Tables, most: int | None) -> pl.DataFrame:
    """Keep at most so many photos (image_id, landmark_id) of each landmark, those of train_clean.csv first."""
    if most is None:
        return photos
    clean = read_train_clean(tables.train_clean).distinct["image_id"] if tables.train_clean else pl.Series([""])
    ranked = photos.sort(~pl.col("image_id").is_in(clean.implode()), "image_id")
    return ranked.group_by("landmark_id", maintain_order=True).head(most).select(photos.columns).sort("image_id")
