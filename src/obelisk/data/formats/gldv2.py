"""The format of Google Landmarks v2: CSVs beside ``train/a/b/c/abc….jpg`` and ``test/a/b/c/abc….jpg``.

The dataset may be incomplete. The CSVs are in ``metadata/`` or directly in the dataset's folder. The reference photos
are the rows of train.csv, or of train_clean.csv if there is no train.csv. If both exist, train_clean.csv restricts the
references only on request: a dataset should not lose photos because a file was added. The queries are the rows of
recognition_solution_v2.1.csv. Tars that were not unpacked (``train/images_000.tar``) are read in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from obelisk.data.catalog import QUERIES, REFERENCES, Catalog
from obelisk.data.formats.csv import read_table
from obelisk.data.formats.labels import build_landmark_table
from obelisk.data.formats.scan import scan_photos
from obelisk.errors import DataError
from obelisk.photos import TAR_NAME, PhotoFilter, tarred_photo_table

METADATA_FOLDERS = ("metadata", ".")
TRAIN = "train.csv"
TRAIN_CLEAN = "train_clean.csv"
SOLUTION = "recognition_solution_v2.1.csv"
DETAILS = "landmarks.csv"
CATEGORIES = "train_label_to_category.csv"
HIERARCHY = "train_label_to_hierarchical.csv"
IGNORED = "Ignored"
HEX_ID = "^[0-9a-f]{16}$"


@dataclass(frozen=True, kw_only=True)
class Gldv2Tables:
    """The paths of a GLDv2 dataset's CSVs; None for one that does not exist."""

    train: Path | None
    train_clean: Path | None
    solution: Path | None
    details: Path | None
    categories: Path | None
    hierarchy: Path | None


def find_tables(directory: Path) -> Gldv2Tables:
    """Find the CSVs of a GLDv2 dataset."""

    def find(name: str) -> Path | None:
        paths = (directory / folder / name for folder in METADATA_FOLDERS)
        return next((path for path in paths if path.is_file()), None)

    return Gldv2Tables(
        train=find(TRAIN),
        train_clean=find(TRAIN_CLEAN),
        solution=find(SOLUTION),
        details=find(DETAILS),
        categories=find(CATEGORIES),
        hierarchy=find(HIERARCHY),
    )


def looks_like_gldv2(directory: Path) -> bool:
    """Return whether a folder has the format of GLDv2, even if its labels are missing."""
    tables = find_tables(directory)
    labelled = tables.train or tables.train_clean or tables.solution or tables.categories
    if labelled is not None:
        return True
    # Three digits of the id are folders; a folder `train` of landmarks may well have one called 0.
    return next((directory / "train" / "0").glob("[0-9a-f]/[0-9a-f]/"), None) is not None


def read_gldv2(
    directory: Path,
    *,
    clean: bool = False,
    present_only: bool = True,
    photo_filter: PhotoFilter | None = None,
    may_be_empty: bool = False,
) -> Catalog:
    """Read a GLDv2 dataset.

    ``clean`` keeps only the reference photos that train_clean.csv lists. ``present_only`` keeps the photos that are on
    disk, found by one walk through ``train`` and one through ``test``; without it every row is kept and no folder is
    opened. Rows that can't be used are left out, with notes.

    Raises DataError if train.csv and train_clean.csv are both missing, if a column is, or, unless ``may_be_empty``, if
    no reference photo can be used.
    """
    tables = find_tables(directory)
    labels = read_labels(directory, tables, clean=clean)
    sound = select_sound(labels)
    references = sound.select("image_id", "landmark_id", pl.lit("train").alias("split"))
    notes = note_faults(labels, sound, "training")
    queries = pl.DataFrame(schema=QUERIES).drop("path")
    if tables.solution is not None:
        rows = read_solution(tables.solution)
        sound = select_sound(rows)
        queries = sound.filter(pl.col("usage") != IGNORED).select("image_id", "landmark_ids", "usage")
        notes += note_faults(rows, sound, "query")
    if present_only:
        references, absent_references = add_paths(references, list_by_id(directory, "train", photo_filter))
        queries, absent_queries = add_paths(queries, list_by_id(directory, "test", photo_filter))
    else:
        references = references.with_columns(standard_path("train").alias("path"))
        queries = queries.with_columns(standard_path("test").alias("path"))
        absent_references = absent_queries = 0
    if references.is_empty() and not may_be_empty:
        raise no_photo_error(directory, listed=absent_references)
    for absent, what in ((absent_references, "training"), (absent_queries, "query")):
        if absent:
            notes += (f"{absent:,} {what} photos of the CSVs are not on disk and left out",)
    return Catalog(
        root=directory,
        references=references.select(list(REFERENCES)),
        queries=queries.select(list(QUERIES)),
        landmarks=build_landmark_table(
            references["landmark_id"],
            details=tables.details,
            categories=tables.categories,
            hierarchy=tables.hierarchy,
        ),
        notes=notes,
    )


def no_photo_error(directory: Path, *, listed: int) -> DataError:
    """Return the error of a dataset whose CSVs list no photos, or only photos that are not on disk."""
    if not listed:
        return DataError("the CSVs list no training photo that can be used", where=directory)
    return DataError(
        f"none of the {listed:,} training photos that the CSVs list is on disk",
        where=directory / "train",
        fix="put images_000.tar … there, or unpack them, so that train/0/0/0/000….jpg exists; "
        "`obelisk data stats --listed` counts the CSVs alone",
    )


def read_labels(directory: Path, tables: Gldv2Tables, *, clean: bool = False) -> pl.DataFrame:
    """Read the labels: a frame (row, image_id, landmark_id, landmark), with null ids in malformed rows.

    ``landmark`` is the raw cell. The rows are those of train.csv, or of train_clean.csv if ``clean`` is set or there is
    no train.csv.
    """
    if clean and tables.train_clean is None:
        raise DataError(
            f"`{TRAIN_CLEAN}` is missing", where=directory, fix="put it beside train.csv, or use all of train.csv"
        )
    if tables.train is not None and not clean:
        return read_train(tables.train)
    if tables.train_clean is None:
        fix = "put train.csv (columns id, landmark_id) there or into its folder `metadata`"
        raise DataError(f"`{TRAIN}` is missing", where=directory, fix=fix)
    return read_train_clean(tables.train_clean)


def read_train(path: Path) -> pl.DataFrame:
    """Read train.csv: a frame (row, image_id, landmark_id, landmark)."""
    table = read_table(path, required=("id", "landmark_id"))
    return table.select(
        "row",
        pl.col("id").alias("image_id"),
        pl.col("landmark_id").cast(pl.Int64, strict=False),
        pl.col("landmark_id").alias("landmark"),
    )


def read_photo_urls(catalog: Catalog) -> dict[str, str]:
    """Map the ids of reference photos to their URLs in train.csv; photos without one are left out."""
    path = find_tables(catalog.root).train
    if path is None:
        return {}
    table = read_table(path, required=("id",), optional=("url",)).select("url", image_id="id")
    urls = table.filter(pl.col("url").str.contains("://", literal=True)).unique("image_id", keep="first")
    photos = catalog.references.select("image_id").join(urls, on="image_id", how="inner")
    return dict(photos.select("image_id", "url").iter_rows())


def read_train_clean(path: Path) -> pl.DataFrame:
    """Read train_clean.csv, which has a row per landmark, into a row per photo."""
    table = read_table(path, required=("landmark_id", "images"))
    return (
        table.select(
            "row",
            pl.col("images").str.extract_all(r"\S+").alias("image_id"),
            pl.col("landmark_id").cast(pl.Int64, strict=False),
            pl.col("landmark_id").alias("landmark"),
        )
        .explode("image_id")
        .select("row", "image_id", "landmark_id", "landmark")
    )


def read_solution(path: Path) -> pl.DataFrame:
    """Read recognition_solution_v2.1.csv: a frame (row, image_id, landmark_ids, usage, landmarks).

    ``landmarks`` is the raw cell; if it holds anything but ids, a null is among its landmark_ids.
    """
    table = read_table(path, required=("id", "landmarks", "Usage"))
    return table.select(
        "row",
        pl.col("id").alias("image_id"),
        pl.col("landmarks")
        .fill_null("")
        .str.extract_all(r"\S+")
        .list.eval(pl.element().cast(pl.Int64, strict=False))
        .alias("landmark_ids"),
        pl.col("Usage").fill_null("").alias("usage"),
        "landmarks",
    )


def select_sound(rows: pl.DataFrame) -> pl.DataFrame:
    """Keep the well-formed rows, the first one of each image id, sorted by image id."""
    ordered = sort_by_id(rows.filter(~find_malformed(rows)))
    return ordered.filter(pl.col("image_id").ne_missing(pl.col("image_id").shift()))


def sort_by_id(rows: pl.DataFrame) -> pl.DataFrame:
    """Sort rows by image id, stably."""
    key = pl.col("image_id")
    if rows["image_id"].str.contains(HEX_ID).all():
        # GLDv2's ids are 64-bit hex numbers: as integers they have the same order, and sort far faster.
        key = key.str.decode("hex").bin.reinterpret(dtype=pl.UInt64, endianness="big")
    return rows.sort(key, maintain_order=True)


def find_malformed(rows: pl.DataFrame) -> pl.Series:
    """Return which rows of the labels or the solution lack a photo id, or have a landmark id that isn't a number."""
    if "landmark_ids" in rows.columns:
        landmark = pl.col("landmark_ids").list.eval(pl.element().is_null()).list.any()
    else:
        landmark = pl.col("landmark_id").is_null()
    return rows.select((pl.col("image_id").is_null() | landmark).alias("malformed")).to_series()


def note_faults(rows: pl.DataFrame, sound: pl.DataFrame, what: str) -> tuple[str, ...]:
    """Return notes on how many rows are not among the sound ones."""
    malformed = int(find_malformed(rows).sum())
    repeated = rows.height - malformed - sound.height
    notes = []
    if malformed:
        notes.append(f"{malformed:,} {what} rows without a usable id or landmark left out")
    if repeated:
        notes.append(f"{repeated:,} {what} rows that repeat the id of an earlier row left out")
    return tuple(notes)


def add_paths(photos: pl.DataFrame, present: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Add the paths of the photos that are on disk; drop the others, and count them."""
    placed = photos.join(present, on="image_id", how="inner", maintain_order="left")
    return placed, photos.height - placed.height


def standard_path(folder: str) -> pl.Expr:
    """Return GLDv2's path of a photo: the first three digits of its id are folders."""
    first, second, third = (pl.col("image_id").str.slice(digit, 1) for digit in range(3))
    return pl.format("{}/{}/{}/{}/{}.jpg", pl.lit(folder), first, second, third, pl.col("image_id"))


def list_by_id(directory: Path, folder: str, photo_filter: PhotoFilter | None = None) -> pl.DataFrame:
    """List the photos of a folder and of its tars: a frame (image_id, path).

    The id is the file name without its suffix. If a photo is both a file and in a tar, the file is listed.
    """
    paths = scan_photos(directory / folder, root=directory, photo_filter=photo_filter).paths
    for tar in sorted((directory / folder).glob("*.tar")):
        if TAR_NAME.fullmatch(tar.name) and not (photo_filter and photo_filter.excludes(f"{folder}/{tar.name}")):
            inside = pl.Series("path", tarred_photo_table(tar)["path"].astype(str))
            paths.append(exclude_tarred(f"{folder}/{tar.name}/" + inside, photo_filter))
    stem = pl.col("path").str.extract(r"([^/]+)\.[^./]+$").alias("image_id")
    return pl.DataFrame({"path": paths}).select(stem, "path").unique("image_id", keep="first", maintain_order=True)


def exclude_tarred(paths: pl.Series, photo_filter: PhotoFilter | None) -> pl.Series:
    """Return the paths of photos in a tar that no glob excludes."""
    if not (photo_filter and photo_filter.exclude):
        return paths
    return paths.filter(pl.Series([not photo_filter.excludes(path) for path in paths.to_list()], dtype=pl.Boolean))
