"""Which photos of the training set are wanted, from its tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from obelisk.data.download.order import Order
from obelisk.data.formats.csv import read_table
from obelisk.data.formats.gldv2 import find_tables, read_labels, select_sound, standard_path
from obelisk.data.subset import choose_landmarks


@dataclass(frozen=True, kw_only=True)
class WantedPhoto:
    """A photo to be fetched from its own address: None where the table gives none."""

    image_id: str
    path: str
    url: str | None


def choose_photos(order: Order) -> pl.DataFrame:
    """Return the wanted training photos, a frame (image_id, landmark_id), sorted by image id.

    Raises DataError when a table is missing or cannot be read, UsageError for more landmarks than there are.
    """
    tables = find_tables(order.directory)
    labels = select_sound(read_labels(order.directory, tables, clean="train" not in order.splits))
    photos = labels.select("image_id", "landmark_id")
    if order.landmarks is None:
        return photos
    known = photos["landmark_id"].unique().to_list()
    chosen = choose_landmarks(known, landmarks=order.landmarks, seed=order.seed)
    return photos.filter(pl.col("landmark_id").is_in(chosen))


def list_addresses(directory: Path, photos: pl.DataFrame) -> Iterator[WantedPhoto]:
    """Yield the wanted photos with their places and their addresses in train.csv."""
    table = read_table(find_tables(directory).train or directory / "metadata/train.csv", required=("id", "url"))
    told = table.select("url", image_id="id").unique("image_id", keep="first")
    rows = photos.join(told, on="image_id", how="left", maintain_order="left")
    for image_id, path, url in rows.select("image_id", standard_path("train").alias("path"), "url").iter_rows():
        yield WantedPhoto(image_id=image_id, path=path, url=url)
