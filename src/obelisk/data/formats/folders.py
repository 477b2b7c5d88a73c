"""A folder per landmark: the format for your own photos.

The folders may lie in folders of splits: ``train/Space Needle/a.jpg``, ``val/…`` and ``test/…``, of which the photos in
``test`` are the queries.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import polars as pl

from obelisk.data.catalog import LANDMARKS, QUERIES, REFERENCES, Catalog
from obelisk.data.formats.scan import PhotoScan, refuse_unlistable, scan_photos
from obelisk.errors import DataError
from obelisk.photos import PhotoFilter

LAYOUTS: Final = (
    "give a GLDv2 dataset (train.csv in it or in its folder `metadata`, photos in train/a/b/c), "
    "a folder per landmark (DIR/Space Needle/photo.jpg), or such folders in folders of splits "
    "(DIR/train/Space Needle/photo.jpg, DIR/val/…, DIR/test/…)"
)
SPLITS: Final = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# 2023, 2023-05, 20230512, 12.05.2023
DATE: Final = re.compile(
    r"(19|20)\d\d([-_. ]?(0[1-9]|1[0-2])([-_. ]?(0[1-9]|[12]\d|3[01]))?)?"
    r"|(0?[1-9]|[12]\d|3[01])[-_. ](0?[1-9]|1[0-2])[-_. ](19|20)\d\d"
)
SHOWN: Final = 3


def read_folders(
    directory: Path,
    onerror: Callable[[OSError], None] = refuse_unlistable,
    photo_filter: PhotoFilter | None = None,
) -> Catalog:
    """Read a folder per landmark; photos may be at any depth inside it.

    The name of a landmark is that of its folder, verbatim; folders whose names differ in their Unicode form only are
    one landmark. Ids are 1 to C in the order of the names. A photo's id is its path. Folders called train, val and test
    that hold folders of the same names are splits, and the photos in test are the queries. Empty folders and photos
    outside the landmarks' folders are left out, with notes; others tell of names that are hardly those of landmarks.
    ``onerror`` is called for a folder that can't be listed; by default DataError is raised.

    Raises DataError if folders are called like splits and can't be read as such.
    """
    scan = scan_photos(directory, root=directory, onerror=onerror, photo_filter=photo_filter)
    catalog = make_catalog(directory, scan)
    if empty := list_empty_folders(directory, scan):
        note = f"folders without a photo, left out: {', '.join(map(repr, empty))}"
        return replace(catalog, notes=(*catalog.notes, note))
    return catalog


def make_catalog(directory: Path, scan: PhotoScan) -> Catalog:
    """Make the catalog of a folder per landmark that was scanned."""
    splits = find_split_folders(scan.paths, directory)
    photos, loose = label_photos(scan.paths, splits)
    names = name_landmarks(photos["folder"].unique().to_list())
    photos = photos.with_columns(pl.col("folder").replace_strict(names, return_dtype=pl.String).alias("name"))
    trained = set(photos.filter(pl.col("split") == "train")["name"].unique().to_list())
    # A landmark that is in val only would have no photo to be recognized by.
    photos = photos.with_columns(
        pl.when((pl.col("split") == "val") & ~pl.col("name").is_in(list(trained)))
        .then(pl.lit("train"))
        .otherwise("split")
        .alias("split")
    )
    known = sorted(set(photos.filter(pl.col("split") != "test")["name"].unique().to_list()))
    unknown = sorted(set(names.values()) - set(known))
    ids = {name: number for number, name in enumerate([*known, *unknown], start=1)}
    photos = photos.with_columns(
        pl.col("path").alias("image_id"),
        pl.col("name").replace_strict(ids, return_dtype=pl.Int64).alias("landmark_id"),
    ).sort("image_id")
    asked = photos.filter(pl.col("split") == "test")
    landmarks = {"landmark_id": list(range(1, len(known) + 1)), "name": known}
    return Catalog(
        root=directory,
        references=photos.filter(pl.col("split") != "test").select(list(REFERENCES)),
        queries=asked.with_columns(
            pl.concat_list("landmark_id").alias("landmark_ids"), pl.col("split").alias("usage")
        ).select(list(QUERIES)),
        landmarks=complete_landmarks(pl.DataFrame(landmarks, schema_overrides=LANDMARKS)),
        notes=(
            *scan.skipped,
            *remark_on_splits(splits, unknown),
            *remark_on_names(directory, names, photos),
            *remark_on_loose(loose),
        ),
    )


def find_split_folders(paths: pl.Series, directory: Path) -> dict[str, str]:
    """Map the folders of splits, such as ``train`` and ``valid``, to train, val or test; none if these are landmarks.

    A lone folder ``train`` that holds only folders is one. Raises DataError if several folders are called like splits,
    and can't be read so.
    """
    inner = list_inner_folders(paths)
    splits = {top: SPLITS[top.lower()] for top in sorted(inner) if top.lower() in SPLITS}
    others = sorted(inner.keys() - splits.keys())
    nested = {top: {to_nfc(name) for name in inner[top] if name} for top in splits}
    trained = set().union(*(nested[top] for top, split in splits.items() if split == "train"))
    if len(splits) < 2:
        return splits if trained and not others and None not in next(iter(inner.values())) else {}
    strange = [top for top, names in nested.items() if names and not names & trained]
    if others and not any(nested.values()):
        return {}
    if others:
        reason = f"`{others[0]}` lies beside them"
    elif not trained:
        reason = "none of them is a train folder that holds a folder per landmark"
    elif strange:
        reason = f"no folder in `{strange[0]}` has the name of one in train"
    else:
        return splits
    listed = ", ".join(f"`{top}`" for top in splits)
    raise DataError(f"the folders {listed} are called like splits, but {reason}", where=directory, fix=LAYOUTS)


def list_inner_folders(paths: pl.Series) -> dict[str, set[str | None]]:
    """Map each folder at the top to the names of the folders in it; None among them for photos directly in it."""
    parts = paths.str.split("/")
    frame = pl.DataFrame(
        {"top": parts.list.first(), "inner": parts.list.get(1, null_on_oob=True), "depth": parts.list.len()}
    )
    frame = frame.filter(pl.col("depth") > 1).select(
        "top", pl.when(pl.col("depth") > 2).then("inner").otherwise(None).alias("inner")
    )
    inner: dict[str, set[str | None]] = {}
    for top, name in frame.unique().iter_rows():
        inner.setdefault(top, set()).add(name)
    return inner


def label_photos(paths: pl.Series, splits: Mapping[str, str]) -> tuple[pl.DataFrame, pl.Series]:
    """Return the photos in landmarks' folders, a frame (path, folder, split), and the paths of the others."""
    level = 1 if splits else 0
    parts = paths.str.split("/")
    photos = pl.DataFrame(
        {
            "path": paths,
            "folder": parts.list.get(level, null_on_oob=True),
            "split": parts.list.first().replace_strict(splits, default="train", return_dtype=pl.String),
        }
    )
    inside = parts.list.len() > level + 1
    return photos.filter(inside), paths.filter(~inside)


def name_landmarks(folders: Iterable[str]) -> dict[str, str]:
    """Map folder names to landmark names: verbatim, save that one form stands for all Unicode forms of a name."""
    chosen: dict[str, str] = {}
    for folder in sorted(folders):
        key = to_nfc(folder)
        if folder == key or key not in chosen:
            chosen[key] = folder
    return {folder: chosen[to_nfc(folder)] for folder in folders}


def to_nfc(name: str) -> str:
    """Return a name in Unicode's composed form, in which names are compared."""
    return unicodedata.normalize("NFC", name)


def remark_on_splits(splits: Mapping[str, str], unknown: Sequence[str]) -> Iterator[str]:
    """Yield what was made of folders of splits."""
    if splits:
        folders = ", ".join(f"{top} as {split}" if split != top else top for top, split in splits.items())
        asked = "; the photos in test are the queries" if "test" in splits.values() else ""
        yield f"folders read as splits: {folders}{asked}"
    if unknown:
        yield f"landmarks of queries that have no reference photo: {show_names(unknown)}"


def remark_on_names(directory: Path, names: Mapping[str, str], photos: pl.DataFrame) -> Iterator[str]:
    """Yield what is strange about the names of landmarks: they may not be what the folders are sorted by."""
    if variants := [folder for folder, name in names.items() if folder != name]:
        yield f"folders of one name in different Unicode forms are one landmark: {show_names(variants)}"
    landmarks = sorted(set(names.values()))
    if len(landmarks) == 1:
        yield remark_on_single(directory, landmarks[0], photos["path"])
        return
    for what, found in (
        ("dates", [name for name in landmarks if DATE.fullmatch(name)]),
        ("numbers", [name for name in landmarks if name.isdecimal()]),
    ):
        if 2 * len(found) > len(landmarks):
            shown = f"the landmarks are called by {what} ({show_names(found)})"
            yield f"{shown}: answers will be {what}; name each folder after what it shows"
            return


def remark_on_single(directory: Path, name: str, paths: pl.Series) -> str:
    """Return what is strange about a dataset of one landmark."""
    inner = list_inner_folders(paths).get(name, {None})
    if None in inner:
        return f"there is one landmark only, {name!r}: give each landmark a folder of its own"
    listed = show_names(sorted(filter(None, inner)))
    what = f"the only landmark, {name!r}, holds only folders ({listed})"
    return f"{what}: if these are the landmarks, give {directory / name}"


def show_names(names: Sequence[str]) -> str:
    """Return the first of several names."""
    return ", ".join(map(repr, names[:SHOWN])) + (" …" if len(names) > SHOWN else "")


def remark_on_loose(loose: pl.Series) -> Iterator[str]:
    """Yield how many photos belong to no landmark."""
    if len(loose):
        yield f"photos in no landmark's folder, left out: {len(loose)}, the first is {loose[0]}"


def complete_landmarks(landmarks: pl.DataFrame) -> pl.DataFrame:
    """Return the landmarks with every column of a catalog, null if unknown."""
    absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in LANDMARKS.items() if name not in landmarks.columns]
    return landmarks.with_columns(absent).select(list(LANDMARKS)).sort("landmark_id")


def list_empty_folders(directory: Path, scan: PhotoScan) -> list[str]:
    """Return the folders that hold no photo at any depth: at the top, or where landmarks lie in folders of splits.

    A landmark may lack photos in some splits.
    """
    splits = find_split_folders(scan.paths, directory)
    parts = scan.paths.str.split("/").list
    used = set(parts.first().to_list())
    shown = {to_nfc(name) for name in parts.get(1, null_on_oob=True).drop_nulls().to_list()}
    empty = {top for folder in scan.folders if (top := folder.partition("/")[0]) not in used}
    for folder in scan.folders:
        top, _, name = folder.partition("/")
        if name and top in splits and to_nfc(name) not in shown:
            empty.add(folder)
    return sorted(empty)
