"""Who made the photos of a dataset, and under which license: what its tables say."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from obelisk.data.formats.csv import scan_table

TABLES = ("attribution.csv", "metadata/train_attribution.csv", "train_attribution.csv")
"""Where such a table lies in a dataset's folder: one of ours first, which is short."""
LONGEST_CREDIT = 200  # letters of an author or a license


def read_credits(directory: Path, photos: pl.Series) -> dict[str, tuple[str, str]]:
    """Map ids of photos to author and license, where a table in the dataset's folder says one of them.

    The table is read in parts: that of Google Landmarks v2 has four million rows.
    """
    found = next((directory / name for name in TABLES if (directory / name).is_file()), None)
    credited: dict[str, tuple[str, str]] = {}
    if found is None:
        return credited
    wanted = pl.DataFrame({"id": photos.cast(pl.String)}).unique()
    names = [pl.coalesce("id", "image_id").alias("id"), pl.col("author"), pl.coalesce("license", "licence")]
    shortened = pl.col("author", "license").fill_null("").str.slice(0, LONGEST_CREDIT)
    for part in scan_table(found, required=(), optional=("id", "image_id", "author", "license", "licence")):
        named = part.select(names).join(wanted, on="id", how="semi").with_columns(shortened)
        for photo, author, license_ in named.iter_rows():
            if author or license_:
                credited.setdefault(photo, (author, license_))
    return credited
