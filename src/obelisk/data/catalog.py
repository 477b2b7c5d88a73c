"""The catalog of a dataset: where each photo is, and which landmark it shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import polars as pl

Split = Literal["train", "val"]

REFERENCES: Final = pl.Schema(
    {"image_id": pl.String(), "path": pl.String(), "landmark_id": pl.Int64(), "split": pl.String()}
)
QUERIES: Final = pl.Schema(
    {"image_id": pl.String(), "path": pl.String(), "landmark_ids": pl.List(pl.Int64()), "usage": pl.String()}
)
LANDMARKS: Final = pl.Schema(
    {
        "landmark_id": pl.Int64(),
        "name": pl.String(),
        "supercategory": pl.String(),
        "area_level": pl.Int64(),
        "latitude": pl.Float64(),
        "longitude": pl.Float64(),
    }
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Catalog:
    """The reference photos, query photos and landmarks of one dataset.

    ``references`` and ``queries`` are sorted by image id, ``landmarks`` by landmark id; their columns are
    :data:`REFERENCES`, :data:`QUERIES` and :data:`LANDMARKS`. Paths are relative to ``root``, with forward slashes.
    A query without a landmark (a distractor) has an empty list. Supercategory, area level (1: parks, bays, districts,
    where "the same place" is ill-posed; 0: point-like), latitude and longitude (degrees) are null if unknown.
    ``notes`` report what was left out: rows that can't be used, photos that are not on disk.
    """

    root: Path
    references: pl.DataFrame
    queries: pl.DataFrame
    landmarks: pl.DataFrame
    notes: tuple[str, ...] = ()

    def landmark_names(self) -> dict[int, str]:
        """Map landmark ids to names."""
        return dict(zip(self.landmarks["landmark_id"].to_list(), self.landmarks["name"].to_list(), strict=True))

    def select_references(self, split: Split) -> pl.DataFrame:
        """Return the reference photos of one split."""
        return self.references.filter(pl.col("split") == split)

    def select_known_queries(self) -> pl.DataFrame:
        """Return the queries that have a landmark."""
        return self.queries.filter(pl.col("landmark_ids").list.len() > 0)

    def select_distractors(self) -> pl.DataFrame:
        """Return the queries that have no landmark."""
        return self.queries.filter(pl.col("landmark_ids").list.len() == 0)

    def locate_photos(self, photos: pl.DataFrame) -> list[Path]:
        """Return the files of the photos in a frame with a column ``path``, in its order."""
        return [self.root / path for path in photos["path"].to_list()]
