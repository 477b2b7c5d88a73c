"""The format of Google Landmarks v2: CSVs beside ``train/a/b/c/abc….jpg`` and ``test/a/b/c/abc….jpg``.

The dataset may be incomplete. The CSVs are in ``metadata/`` or directly in the dataset's folder. The reference photos
are the rows of train.csv, or of train_clean.csv if there is no train.csv. If both exist, train_clean.csv restricts the
references only on request: a dataset should not lose photos because a file was added. The queries are the rows of
recognition_solution_v2.1.csv. Tars that were not unpacked (``train/images_000.tar``) are read in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from obelisk.data.catalog import QUERIES, REFERENCES, Catalog
from obelisk.data.formats.csv import SAVE_AS_UTF8, read_table, shorten_cells, to_id
from obelisk.data.formats.gldv2_rows import (
    AT_ONCE,
    PhotoRows,
    join_in_parts,
    read_solution,
    read_train,
    read_train_clean,
    sort_by_id,
)
from obelisk.data.formats.labels import (
    build_landmark_table,
    explain_details,
    explain_lost_letters,
    find_faulty_details,
    find_lost_letters,
    link_category,
)
from obelisk.data.formats.scan import scan_photos
from obelisk.errors import DataError, quote
from obelisk.photos import PHOTO_SUFFIXES, TAR_NAME, PhotoFilter, tarred_photo_table

METADATA_FOLDERS = ("metadata", ".")
TRAIN = "train.csv"
TRAIN_CLEAN = "train_clean.csv"
SOLUTION = "recognition_solution_v2.1.csv"
DETAILS = "landmarks.csv"
CATEGORIES = "train_label_to_category.csv"
HIERARCHY = "train_label_to_hierarchical.csv"
IGNORED = "Ignored"
PHOTO_SUFFIX = rf"(?:{'|'.join(sorted(PHOTO_SUFFIXES))})$".replace(".", r"\.")


@dataclass(frozen=True, kw_only=True)
class Gldv2Tables:
    """The paths of a GLDv2 dataset's CSVs; None for one that does not exist."""

    train: Path | None
    train_clean: Path | None
    solution: Path | None
    details: Path | None
    categories: Path | None
    hierarchy: Path | None

    @property
    def named(self) -> dict[Path, str]:
        """The tables that name landmarks, each with its column of names."""
        tables = ((self.details, "name"), (self.categories, "category"), (self.hierarchy, "category"))
        return {path: column for path, column in tables if path is not None}


def find_table(directory: Path, name: str) -> Path | None:
    """Return the path of a dataset's CSV of this name; None if there is none."""
    paths = (directory / folder / name for folder in METADATA_FOLDERS)
    return next((path for path in paths if path.is_file()), None)


def find_tables(directory: Path) -> Gldv2Tables:
    """Find the CSVs of a GLDv2 dataset."""
    find = partial(find_table, directory)
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Gldv2Rows:
    """The labels and the solution of a GLDv2 dataset, read once; ``solution`` is None if there is none."""

    tables: Gldv2Tables
    labels: PhotoRows
    solution: PhotoRows | None


def read_gldv2(
    directory: Path, *, clean: bool = False, present_only: bool = True, photo_filter: PhotoFilter | None = None
) -> Catalog:
    """Read a GLDv2 dataset.

    ``clean`` keeps only the reference photos that train_clean.csv lists. ``present_only`` keeps the photos that are on
    disk, found by one walk through ``train`` and one through ``test``; without it every row is kept and no folder is
    opened. Rows that can't be used are left out, with notes.

    Raises DataError if train.csv and train_clean.csv are both missing, if a column is, or if no reference photo can be
    used.
    """
    rows = read_gldv2_rows(directory, clean=clean)
    catalog, placed = place_gldv2(directory, rows, present_only=present_only, photo_filter=photo_filter)
    if catalog.references.is_empty():
        raise no_photo_error(directory, rows.labels, placed)
    return catalog


def read_gldv2_rows(directory: Path, *, clean: bool = False) -> Gldv2Rows:
    """Read the rows of a GLDv2 dataset's tables of photos."""
    tables = find_tables(directory)
    labels = read_labels(directory, tables, clean=clean)
    return Gldv2Rows(tables=tables, labels=labels, solution=read_solution(tables.solution) if tables.solution else None)


def place_gldv2(
    directory: Path, rows: Gldv2Rows, *, present_only: bool = True, photo_filter: PhotoFilter | None = None
) -> tuple[Catalog, PlacedPhotos]:
    """Return the catalog of a dataset whose tables were read, and its reference photos as they were placed."""
    tables = rows.tables
    references = rows.labels.distinct
    notes = note_faults(rows.labels, "training")
    queries = pl.DataFrame(schema={"row": pl.UInt32, **QUERIES}).drop("path")
    if rows.solution is not None:
        queries = rows.solution.distinct.filter(pl.col("usage") != IGNORED)
        notes += note_faults(rows.solution, "query")
    if tables.details is not None:
        notes += note_details(tables.details)
    for path, column in tables.named.items():
        notes += note_lost_letters(path, column)
    placed = [
        place_photos(part, directory, folder, photo_filter) if present_only else place_as_listed(part, folder)
        for part, folder in ((references, "train"), (queries, "test"))
    ]
    references, queries = (part.photos for part in placed)
    for part, what in zip(placed, ("training", "query"), strict=True):
        notes += note_absent(part, what)
    catalog = Catalog(
        root=directory,
        references=references.with_columns(pl.lit("train").alias("split")).select(list(REFERENCES)),
        queries=queries.select(list(QUERIES)),
        landmarks=build_landmark_table(
            references["landmark_id"],
            details=tables.details,
            categories=tables.categories,
            hierarchy=tables.hierarchy,
        ),
        notes=notes,
    )
    return catalog, placed[0]


def no_photo_error(directory: Path, labels: PhotoRows, placed: PlacedPhotos) -> DataError:
    """Return the error of a dataset whose CSVs list no photos, or only photos that are not on disk."""
    if placed.misnamed.height:
        row, fault = placed.misnamed.select("row", describe_misnamed()).row(0)
        what = f"no training photo of the CSVs is on disk under its id; row {row}: {fault}"
        return DataError(what, where=directory, fix=f"see `obelisk data check {quote(str(directory))}`")
    if not placed.absent:
        what = "the CSVs list no training photo that can be used"
        if fault := labels.first_fault():
            what += f"; row {fault[0]}: {fault[1]}"
        return DataError(what, where=directory, fix="correct the rows of the table")
    return DataError(
        f"none of the {placed.absent:,} training photos that the CSVs list is on disk",
        where=directory / "train",
        fix="put images_000.tar … there, or unpack them, so that train/0/0/0/000….jpg exists; "
        "`obelisk data stats --listed` counts the CSVs alone",
    )


def read_labels(directory: Path, tables: Gldv2Tables, *, clean: bool = False) -> PhotoRows:
    """Read the rows of train.csv, or of train_clean.csv if ``clean`` is set or there is no train.csv."""
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


def read_photo_urls(catalog: Catalog) -> dict[str, str]:
    """Map the ids of reference photos to their URLs in train.csv; photos without one are left out."""
    path = find_tables(catalog.root).train
    if path is None:
        return {}
    table = read_table(path, required=("id",), optional=("url",)).select("url", image_id="id")
    urls = table.filter(pl.col("url").str.contains("://", literal=True)).unique("image_id", keep="first")
    photos = catalog.references.select("image_id").join(urls, on="image_id", how="inner")
    return dict(photos.select("image_id", "url").iter_rows())


def read_category_links(catalog: Catalog) -> dict[int, str]:
    """Map the ids of landmarks to the pages of their categories at Wikimedia Commons, where the tables give one."""
    tables = find_tables(catalog.root)
    path = tables.categories or tables.hierarchy
    if path is None:
        return {}
    table = read_table(path, required=("landmark_id",), optional=("category",))
    ids = table.select(to_id(pl.col("landmark_id"))).to_series().to_list()
    links = map(link_category, table["category"].to_list())
    return {number: link for number, link in zip(ids, links, strict=True) if number is not None and link}


def note_faults(rows: PhotoRows, what: str) -> tuple[str, ...]:
    """Return notes on the rows that can't be used, and on those that repeat a photo."""
    notes = []
    if first := rows.first_fault():
        notes.append(
            f"{rows.faulty.height:,} {what} rows without a usable id or landmark left out; "
            f"the first is row {first[0]}: {first[1]}"
        )
    if repeated := rows.repeated.height:
        notes.append(f"{repeated:,} {what} rows that repeat the id of an earlier row left out")
    return tuple(notes)


def note_details(path: Path) -> tuple[str, ...]:
    """Return a note on the cells of landmarks.csv that can't be used."""
    faults = find_faulty_details(path)
    for row, fault in faults.head(1).select("row", explain_details()).iter_rows():
        what = f"{faults.height:,} faults in {path.name}, whose cells are left out"
        return (f"{what}; the first is in row {row}: {fault}",)
    return ()


def note_lost_letters(path: Path, column: str) -> tuple[str, ...]:
    """Return a note on the names of a table that is not UTF-8."""
    lost = find_lost_letters(path, column)
    for row, fault in lost.head(1).select("row", explain_lost_letters()).iter_rows():
        return (f"{lost.height:,} names of {path.name} are damaged; row {row}: {fault}; {SAVE_AS_UTF8}",)
    return ()


def note_absent(placed: PlacedPhotos, what: str) -> tuple[str, ...]:
    """Return notes on photos of the CSVs that were not found, or that the CSVs call otherwise than the disk."""
    notes = []
    if placed.absent:
        notes.append(f"{placed.absent:,} {what} photos of the CSVs are not on disk and left out")
    if count := placed.misnamed.height:
        row, fault = placed.misnamed.select("row", describe_misnamed()).row(0)
        notes.append(f"{count:,} {what} photos of the CSVs left out; the first is in row {row}: {fault}")
    return tuple(notes)


@dataclass(frozen=True, kw_only=True)
class PlacedPhotos:
    """The photos of a table with their paths; how many are not on disk; and those that the table misnames.

    ``misnamed`` is a frame (row, image_id, path): the ids are those of files but for capitals, a suffix or a folder.
    """

    photos: pl.DataFrame
    absent: int
    misnamed: pl.DataFrame


def place_photos(
    rows: pl.DataFrame, directory: Path, folder: str, photo_filter: PhotoFilter | None = None
) -> PlacedPhotos:
    """Find the photos of a table, a frame (row, image_id, …), on disk; they come sorted by id."""
    present = list_by_id(directory, folder, photo_filter)
    photos = join_in_parts(rows, present, "inner")
    misnamed = find_misnamed(rows, present)
    return PlacedPhotos(
        photos=sort_by_id(photos), absent=rows.height - photos.height - misnamed.height, misnamed=misnamed
    )


def place_as_listed(rows: pl.DataFrame, folder: str) -> PlacedPhotos:
    """Give all photos of a table GLDv2's own paths, sorted by id."""
    photos = sort_by_id(rows)
    path = standard_path(folder).alias("path")
    parts = (part.select(path) for part in photos.iter_slices(AT_ONCE))  # millions of paths take less memory in parts
    photos = photos.hstack(pl.concat([photos.clear().select(path), *parts]))
    return PlacedPhotos(photos=photos, absent=0, misnamed=photos.clear().select("row", "image_id", "path"))


def find_misnamed(rows: pl.DataFrame, present: pl.DataFrame) -> pl.DataFrame:
    """Return the rows whose photo is on disk under a like name, a frame (row, image_id, path)."""
    if present.is_empty():
        return rows.clear().select("row", "image_id", path=pl.lit("", dtype=pl.String))
    lower = present.select("path", name=pl.col("image_id").str.to_lowercase())
    usual = (lower["name"] == present["image_id"]).all()
    lower = lower.unique("name", keep="first")
    plain = ~pl.col("image_id").str.contains_any(["/", "\\", "."])
    name = pl.col("image_id").str.extract(r"([^/\\]*)$").str.to_lowercase()

    def find(part: pl.DataFrame) -> pl.DataFrame:
        if usual:
            part = part.filter(~(plain & (pl.col("image_id").str.to_lowercase() == pl.col("image_id"))))
        absent = part.join(present, on="image_id", how="anti", maintain_order="left").select("row", "image_id")
        absent = absent.with_columns(name.str.replace(PHOTO_SUFFIX, "").alias("name"))
        return absent.join(lower, on="name", how="inner", maintain_order="left").select("row", "image_id", "path")

    return pl.concat(find(part) for part in (rows.clear(), *rows.iter_slices(max(AT_ONCE, present.height))))


def describe_misnamed() -> pl.Expr:
    """Return how the ids of misnamed photos must be written."""
    stem = pl.col("path").str.extract(r"([^/]+)\.[^./]+$")
    return pl.format("the id `{}` must be `{}`, as the file is {}", shorten_cells(pl.col("image_id")), stem, "path")


def standard_path(folder: str) -> pl.Expr:
    """Return GLDv2's path of a photo: the first three digits of its id are folders."""
    first, second, third = (pl.col("image_id").str.slice(digit, 1) for digit in range(3))
    return pl.format("{}/{}/{}/{}/{}.jpg", pl.lit(folder), first, second, third, pl.col("image_id"))


def list_by_id(directory: Path, folder: str, photo_filter: PhotoFilter | None = None) -> pl.DataFrame:
    """List the photos of a folder and of its tars: a frame (image_id, path).

    The id is the file name without its suffix. If a photo is both a file and in a tar, the file is listed.
    """
    paths = scan_photos(directory / folder, root=directory, photo_filter=photo_filter).paths
    for tar in list_tars(directory, folder, photo_filter):
        inside = pl.Series("path", tarred_photo_table(directory / tar)["path"].astype(str))
        paths.append(exclude_tarred(f"{tar}/" + inside, photo_filter))
    return key_by_id(paths)


def list_tars(directory: Path, folder: str, photo_filter: PhotoFilter | None = None) -> list[str]:
    """List the tars of a folder, as sorted paths relative to the dataset's; none of them is opened."""
    return [
        f"{folder}/{tar.name}"
        for tar in sorted((directory / folder).glob("*.tar"))
        if TAR_NAME.fullmatch(tar.name)
        and not tar.is_dir()
        and not (photo_filter and photo_filter.excludes(f"{folder}/{tar.name}"))
    ]


def key_by_id(paths: pl.Series) -> pl.DataFrame:
    """Return a frame (image_id, path) of GLDv2's photos; of two files for one id, the first."""
    stem = pl.col("path").str.extract(r"([^/]+)\.[^./]+$").alias("image_id")
    return pl.DataFrame({"path": paths}).select(stem, "path").unique("image_id", keep="first", maintain_order=True)


def exclude_tarred(paths: pl.Series, photo_filter: PhotoFilter | None) -> pl.Series:
    """Return the paths of photos in a tar that no glob excludes."""
    if not (photo_filter and photo_filter.exclude):
        return paths
    return paths.filter(pl.Series([not photo_filter.excludes(path) for path in paths.to_list()], dtype=pl.Boolean))
