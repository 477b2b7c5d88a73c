"""The reference photos of a dataset as units of work that many machines can share: tars, and a list of other files.

Listing them opens no photo and no tar: whoever works on a tar finds out what is in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from obelisk.data.formats.detect import check_directory, read_catalog
from obelisk.data.formats.gldv2 import find_tables, key_by_id, list_tars, looks_like_gldv2, read_labels
from obelisk.data.formats.scan import scan_photos
from obelisk.data.formats.subset_manifest import find_root, is_subset
from obelisk.photos import tarred_photo_table

TRAIN_FOLDER = "train"


@dataclass(frozen=True, kw_only=True, eq=False)
class PhotoUnits:
    """The reference photos of a dataset, by where they are.

    ``listed`` is a frame (image_id, path) of those that are files, sorted by id; paths are relative to ``root``.
    ``tars`` are the paths of tars, and ``tarred`` is a frame (image_id) of the photos that may be in one of them.
    """

    root: Path
    listed: pl.DataFrame
    tars: tuple[str, ...] = ()
    tarred: pl.DataFrame


def list_units(directory: Path) -> PhotoUnits:
    """List the reference photos of a dataset in any format that :func:`read_catalog` reads; raises DataError."""
    check_directory(directory)
    tars = [] if is_subset(directory) or not looks_like_gldv2(directory) else list_tars(directory, TRAIN_FOLDER)
    if not tars:
        catalog = read_catalog(directory)
        listed = catalog.references.select("image_id", "path")
        return PhotoUnits(root=catalog.root, listed=listed, tarred=listed.clear().select("image_id"))
    wanted = read_labels(directory, find_tables(directory)).distinct.select("image_id")
    files = key_by_id(scan_photos(directory / TRAIN_FOLDER, root=directory).paths)
    listed = files.join(wanted, on="image_id", how="semi").sort("image_id")
    tarred = wanted.join(listed, on="image_id", how="anti").sort("image_id")
    return PhotoUnits(root=directory, listed=listed, tars=tuple(tars), tarred=tarred)


def list_tar(root: Path, tar: str) -> pl.DataFrame:
    """List the photos in a tar, a frame (image_id, path) sorted by id; raises DataError for an unusable tar."""
    inside = pl.Series("path", tarred_photo_table(root / tar)["path"].astype(str))
    return key_by_id(f"{tar}/" + inside).sort("image_id")


def locate_root(directory: Path, first: str) -> Path:
    """Return the folder that the paths of a dataset's photos are relative to; ``first`` is one of them."""
    return find_root(directory, first) if is_subset(directory) else directory
