"""Who made the photos of a dataset, and under which license: what its tables say."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from obelisk.data.formats.csv import read_table

TABLES = ("attribution.csv", "metadata/train_attribution.csv", "train_attribution.csv")
"""Where such a table lies in a dataset's folder: one of ours first, which is short."""
LONGEST_AUTHOR = 60  # letters


class Attribution:
    """Names the author and license of the photos of a dataset's folder, as far as it has a table of them."""

    def __init__(self, directory: Path) -> None:
        found = next((directory / name for name in TABLES if (directory / name).is_file()), None)
        self._table = pl.DataFrame(schema={"id": pl.String, "author": pl.String, "license": pl.String})
        if found:
            names = ("author", "license")
            table = read_table(found, required=(), optional=("id", "image_id", *names))
            self._table = table.select(pl.coalesce("id", "image_id").alias("id"), *names)

    def of(self, photo: str) -> str:
        """Return author and license of a photo in one line; empty where neither is known."""
        found = self._table.filter(pl.col("id") == photo).head(1).select("author", "license").rows()
        author, license_ = found[0] if found else ("", "")
        return ", ".join(filter(None, [(author or "").strip()[:LONGEST_AUTHOR], (license_ or "").strip()]))
