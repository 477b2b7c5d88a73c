"""The format of Google Landmarks v2: CSVs beside ``train/a/b/c/abc….jpg`` and ``test/a/b/c/abc….jpg``.

The dataset may be incomplete. The CSVs are in ``metadata/`` or directly in the dataset's folder. The reference photos
are the rows of train.csv, or of train_clean.csv if there is no train.csv. If both exist, train_clean.csv restricts the
references only on request: a dataset should not lose photos because a file was added. The queries are the rows of
recognition_solution_v2.1.csv. Tars that were not unpacked (``train/images_000.tar``) are read in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import polars as pl

from obelisk.data.catalog import QUERIES, REFERENCES, Catalog
from obelisk.data.formats.csv import describe_run_together, describe_wrong_id, is_id, read_table, shorten, to_id
from obelisk.data.formats.labels import build_landmark_table, find_faulty_details, link_category
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
HEX_ID = "^[0-9a-f]{16}$"
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
    references = sound.select("row", "image_id", "landmark_id", pl.lit("train").alias("split"))
    notes = note_faults(labels, sound, "training")
    queries = pl.DataFrame(schema={"row": pl.UInt32, **QUERIES}).drop("path")
    if tables.solution is not None:
        rows = read_solution(tables.solution)
        sound = select_sound(rows)
        queries = sound.filter(pl.col("usage") != IGNORED).select("row", "image_id", "landmark_ids", "usage")
        notes += note_faults(rows, sound, "query")
    if tables.details is not None:
        notes += note_details(tables.details)
    placed = [
        place_photos(rows, directory, folder, photo_filter) if present_only else place_as_listed(rows, folder)
        for rows, folder in ((references, "train"), (queries, "test"))
    ]
    references, queries = (part.photos for part in placed)
    if references.is_empty() and not may_be_empty:
        raise no_photo_error(directory, labels, placed[0])
    for part, what in zip(placed, ("training", "query"), strict=True):
        notes += note_absent(part, what)
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


def no_photo_error(directory: Path, labels: pl.DataFrame, placed: PlacedPhotos) -> DataError:
    """Return the error of a dataset whose CSVs list no photos, or only photos that are not on disk."""
    if placed.misnamed.height:
        row, image_id, path = placed.misnamed.row(0)
        what = f"no training photo of the CSVs is on disk under its id; row {row}: {describe_misnamed(image_id, path)}"
        return DataError(what, where=directory, fix=f"see `obelisk data check {quote(str(directory))}`")
    if not placed.absent:
        what = "the CSVs list no training photo that can be used"
        if fault := next(explain_malformed(labels), None):
            what += f"; row {fault[0]}: {fault[1]}"
        return DataError(what, where=directory, fix="correct the rows of the table")
    return DataError(
        f"none of the {placed.absent:,} training photos that the CSVs list is on disk",
        where=directory / "train",
        fix="put images_000.tar … there, or unpack them, so that train/0/0/0/000….jpg exists; "
        "`obelisk data stats --listed` counts the CSVs alone",
    )


def read_labels(directory: Path, tables: Gldv2Tables, *, clean: bool = False) -> pl.DataFrame:
    """Read the labels: a frame (row, image_id, landmark_id, landmark, lines), with null ids in malformed rows.

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
    """Read train.csv: a frame (row, image_id, landmark_id, landmark, lines)."""
    table = read_table(path, required=("id", "landmark_id"))
    return table.select(
        "row",
        pl.col("id").alias("image_id"),
        to_id(pl.col("landmark_id")).alias("landmark_id"),
        pl.col("landmark_id").alias("landmark"),
        "lines",
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


def read_train_clean(path: Path) -> pl.DataFrame:
    """Read train_clean.csv, which has a row per landmark, into a row per photo."""
    table = read_table(path, required=("landmark_id", "images"))
    return (
        table.select(
            "row",
            pl.col("images").str.extract_all(r"\S+").alias("image_id"),
            to_id(pl.col("landmark_id")).alias("landmark_id"),
            pl.col("landmark_id").alias("landmark"),
            "lines",
        )
        .explode("image_id")
        .select("row", "image_id", "landmark_id", "landmark", "lines")
    )


def read_solution(path: Path) -> pl.DataFrame:
    """Read recognition_solution_v2.1.csv: a frame (row, image_id, landmark_ids, usage, landmarks, lines).

    ``landmarks`` is the raw cell; if it holds anything but ids, a null is among its landmark_ids.
    """
    table = read_table(path, required=("id", "landmarks", "Usage"))
    return table.select(
        "row",
        pl.col("id").alias("image_id"),
        pl.col("landmarks").fill_null("").str.extract_all(r"\S+").list.eval(to_id(pl.element())).alias("landmark_ids"),
        pl.col("Usage").fill_null("").alias("usage"),
        "landmarks",
        "lines",
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
    """Return which rows of the labels or the solution can't be used.

    They lack a photo id, have a landmark id that isn't one, or are several rows that a stray quote runs together.
    """
    if "landmark_ids" in rows.columns:
        landmark = pl.col("landmark_ids").list.eval(pl.element().is_null()).list.any()
    else:
        landmark = pl.col("landmark_id").is_null()
    faulty = pl.col("image_id").is_null() | landmark | pl.col("lines").is_not_null()
    return rows.select(faulty.alias("malformed")).to_series()


def explain_malformed(rows: pl.DataFrame) -> Iterator[tuple[int, str]]:
    """Yield the rows that can't be used, each with what is wrong."""
    truth = "landmarks" if "landmarks" in rows.columns else "landmark"
    faulty = rows.filter(find_malformed(rows)).select("row", "image_id", truth, "lines")
    for row, image_id, cell, lines in faulty.iter_rows():
        if lines:
            yield row, describe_run_together(lines)
        elif image_id is None:
            yield row, "the photo has no id"
        elif cell is None:
            yield row, f"photo {shorten(image_id)}: it has no landmark"
        else:
            # A cell of the solution is a list of ids.
            words = cell.split() if truth == "landmarks" else [cell]
            wrong = next((word for word in words if not is_id(word)), cell)
            yield row, f"photo {shorten(image_id)}: {describe_wrong_id(wrong)}"


def note_faults(rows: pl.DataFrame, sound: pl.DataFrame, what: str) -> tuple[str, ...]:
    """Return notes on how many rows are not among the sound ones."""
    malformed = int(find_malformed(rows).sum())
    repeated = rows.height - malformed - sound.height
    notes = []
    if malformed:
        row, fault = next(explain_malformed(rows))
        notes.append(
            f"{malformed:,} {what} rows without a usable id or landmark left out; the first is row {row}: {fault}"
        )
    if repeated:
        notes.append(f"{repeated:,} {what} rows that repeat the id of an earlier row left out")
    return tuple(notes)


def note_details(path: Path) -> tuple[str, ...]:
    """Return a note on the cells of landmarks.csv that can't be used."""
    if not (faults := find_faulty_details(path)):
        return ()
    (row, fault), count = faults[0], len(faults)
    return (f"{count:,} faults in {path.name}, whose cells are left out; the first is in row {row}: {fault}",)


def note_absent(placed: PlacedPhotos, what: str) -> tuple[str, ...]:
    """Return notes on photos of the CSVs that were not found, or that the CSVs call otherwise than the disk."""
    notes = []
    if placed.absent:
        notes.append(f"{placed.absent:,} {what} photos of the CSVs are not on disk and left out")
    if count := placed.misnamed.height:
        row, image_id, path = placed.misnamed.row(0)
        fault = describe_misnamed(image_id, path)
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
    """Find the photos of a table, a frame (row, image_id, …), on disk."""
    present = list_by_id(directory, folder, photo_filter)
    photos = rows.join(present, on="image_id", how="inner", maintain_order="left")
    misnamed = find_misnamed(rows, present)
    return PlacedPhotos(photos=photos, absent=rows.height - photos.height - misnamed.height, misnamed=misnamed)


def place_as_listed(rows: pl.DataFrame, folder: str) -> PlacedPhotos:
    """Give all photos of a table GLDv2's own paths."""
    photos = rows.with_columns(standard_path(folder).alias("path"))
    return PlacedPhotos(photos=photos, absent=0, misnamed=photos.clear().select("row", "image_id", "path"))


def find_misnamed(rows: pl.DataFrame, present: pl.DataFrame) -> pl.DataFrame:
    """Return the rows whose photo is on disk under a like name, a frame (row, image_id, path)."""
    absent = rows.join(present, on="image_id", how="anti", maintain_order="left").select("row", "image_id")
    name = pl.col("image_id").str.extract(r"([^/\\]*)$").str.to_lowercase()
    absent = absent.with_columns(name.str.replace(PHOTO_SUFFIX, "").alias("name"))
    lower = present.select("path", pl.col("image_id").str.to_lowercase().alias("name"))
    if (lower["name"] == present["image_id"]).all():
        absent = absent.filter(pl.col("name") != pl.col("image_id"))
    found = absent.join(lower.unique("name", keep="first"), on="name", how="inner", maintain_order="left")
    return found.select("row", "image_id", "path")


def describe_misnamed(image_id: str, path: str) -> str:
    """Return how the id of a photo must be written."""
    return f"the id `{shorten(image_id)}` must be `{PurePosixPath(path).stem}`, as the file is {path}"


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
        if (
            TAR_NAME.fullmatch(tar.name)
            and not tar.is_dir()
            and not (photo_filter and photo_filter.excludes(f"{folder}/{tar.name}"))
        ):
            inside = pl.Series("path", tarred_photo_table(tar)["path"].astype(str))
            paths.append(exclude_tarred(f"{folder}/{tar.name}/" + inside, photo_filter))
    stem = pl.col("path").str.extract(r"([^/]+)\.[^./]+$").alias("image_id")
    return pl.DataFrame({"path": paths}).select(stem, "path").unique("image_id", keep="first", maintain_order=True)


def exclude_tarred(paths: pl.Series, photo_filter: PhotoFilter | None) -> pl.Series:
    """Return the paths of photos in a tar that no glob excludes."""
    if not (photo_filter and photo_filter.exclude):
        return paths
    return paths.filter(pl.Series([not photo_filter.excludes(path) for path in paths.to_list()], dtype=pl.Boolean))
