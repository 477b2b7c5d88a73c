"""The plan of a download: what is requested, which files on the server that means, and the space they need.

The layout of the server is that of https://github.com/cvdfoundation/google-landmark: tables in ``metadata/``, photos in
``<split>/images_NNN.tar``, the MD5 of each tar in ``md5sum/<split>/md5.images_NNN.txt``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import polars as pl
from rich.filesize import decimal

from obelisk.data.download.choose import compile_match, limit_photos, match_categories
from obelisk.data.formats.csv import read_table
from obelisk.data.formats.gldv2 import CATEGORIES, TRAIN, TRAIN_CLEAN, find_tables, read_labels, standard_path
from obelisk.data.subset import choose_landmarks
from obelisk.errors import DownloadError, UsageError, near_names
from obelisk.markup import is_web_address

BASE_URL: Final = "https://s3.amazonaws.com/google-landmark"
SplitName = Literal["train", "clean", "index", "test"]
TAR_COUNTS: Final = {"train": 500, "index": 100, "test": 20}
# The tables of each split, with columns that distinguish them from an error page of the server.
TABLES: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "train": {
        "train.csv": ("id", "url", "landmark_id"),
        "train_clean.csv": ("landmark_id", "images"),
        "train_attribution.csv": ("id", "url"),
        "train_label_to_category.csv": ("landmark_id", "category"),
        "train_label_to_hierarchical.csv": ("landmark_id", "category"),
    },
    "index": {"index.csv": ("id",)},
    "test": {
        "test.csv": ("id",),
        "recognition_solution_v2.1.csv": ("id", "landmarks"),
        "retrieval_solution_v2.1.csv": ("id", "images"),
    },
}

# Photos and landmarks of the published dataset (2020), and bytes per photo.
TRAIN_PHOTOS: Final = 4_132_914
CLEAN_PHOTOS: Final = 1_580_470
TRAIN_LANDMARKS: Final = 203_094
CLEAN_LANDMARKS: Final = 81_313
PHOTO_BYTES: Final = 125_000
COMMONS_BYTES: Final = 3_000_000  # at Wikimedia Commons, photos have the size at which they were uploaded
BYTES_PER_PIXEL: Final = 0.3  # of a JPEG of quality 90
ASPECT: Final = 0.75


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file to download: its path below the dataset's folder and its URL.

    ``md5_url`` is the address of a tar's checksum, ``columns`` are those that a table must have. ``url`` is empty for a
    photo without an address.
    """

    kind: Literal["table", "tar", "photo"]
    path: str
    url: str
    md5_url: str = ""
    columns: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The folder of the file: a split, or ``metadata``."""
        return self.path.partition("/")[0]


@dataclass(frozen=True, kw_only=True)
class DownloadRequest:
    """The part of the dataset to download.

    ``splits`` are train, clean (the photos of train that train_clean.csv lists), index and test. ``tars`` selects tars
    of each split, by number or as a share in (0, 1]; None selects all. ``landmarks`` restricts train or clean to the
    photos of that many landmarks, drawn by ``seed`` as ``sample_subset`` draws them; ``match`` to those whose category
    at Wikimedia Commons contains this regular expression; ``per_landmark`` to so many photos of each, those of
    train_clean.csv first. Such photos are fetched one by one from their own addresses, or with ``from_tars`` from the
    tars. ``extract`` extracts the photos and deletes the tars; ``max_side`` (pixels) shrinks larger photos.

    Raises UsageError for contradictions.
    """

    directory: Path
    splits: tuple[SplitName, ...]
    base_url: str = BASE_URL
    tars: tuple[int, ...] | float | None = None
    landmarks: int | None = None
    seed: int = 0
    match: str | None = None
    per_landmark: int | None = None
    from_tars: bool = False
    extract: bool = False
    max_side: int | None = None
    accept_md5_mismatch: bool = False

    def __post_init__(self) -> None:
        if not is_web_address(self.base_url):
            raise UsageError(
                f"`{self.base_url}` is not a web address", where="--base-url", fix="give http://… or https://…"
            )
        if self.directory.exists() and not self.directory.is_dir():
            raise UsageError("this is a file, not a folder", where=self.directory, fix="name another folder")
        if not self.splits:
            fix = "name one with --split: train (about 500 GB), clean, index (100 GB), test (20 GB)"
            raise UsageError("no split was asked for", where="--split", fix=fix)
        if self.landmarks is not None and self.match is not None:
            raise UsageError("landmarks are either drawn or matched", where="--match", fix="leave --landmarks out")
        if self.match is not None:
            compile_match(self.match)
        if self.chooses and not set(self.splits) <= {"train", "clean"}:
            where = "--landmarks" if self.match is None else "--match"
            raise UsageError("landmarks are those of train or clean", where=where, fix="remove the other splits")
        if self.per_landmark is not None and not self.chooses:
            fix = "add --match REGEX or --landmarks N"
            raise UsageError("photos are counted of chosen landmarks", where="--per-landmark", fix=fix)
        if self.by_photo and self.tars is not None:
            raise UsageError("single photos do not come from tars", where="--tars", fix="add --from-tars")
        if self.from_tars and not self.chooses:
            raise UsageError("--from-tars needs --landmarks", where="--from-tars", fix="add --landmarks N")
        if self.max_side is not None and not self.extracts:
            raise UsageError("photos inside tars keep their size", where="--max-side", fix="add --extract")

    @property
    def chooses(self) -> bool:
        """Whether only the photos of some landmarks are wanted."""
        return self.landmarks is not None or self.match is not None

    @property
    def by_photo(self) -> bool:
        """Whether photos are fetched one by one from their own addresses."""
        return self.chooses and not self.from_tars

    @property
    def extracts(self) -> bool:
        """Whether photos end up as single files."""
        return self.extract or self.chooses

    @property
    def selects(self) -> bool:
        """Whether only some of the training photos are wanted."""
        return self.chooses or "train" not in self.splits

    @property
    def folders(self) -> tuple[str, ...]:
        """The splits as the server has them, where clean is part of train."""
        return tuple(dict.fromkeys("train" if split == "clean" else split for split in self.splits))

    @property
    def selecting_tables(self) -> tuple[str, ...]:
        """The tables that decide which photos are wanted; empty if all of them are."""
        if not self.extracts or not self.selects or "train" not in self.folders:
            return ()
        labels = TRAIN if "train" in self.splits else TRAIN_CLEAN
        addresses = (TRAIN,) if self.by_photo else ()
        names = (CATEGORIES,) if self.match is not None else ()
        return (labels, *addresses, *names)

    def describe_selection(self, folder: str) -> str:
        """Name the photos to extract from the tars of a folder: ``all``, or the restriction."""
        if folder != "train" or not self.selects:
            return "all"
        source = "train" if "train" in self.splits else "clean"
        if self.match is not None:
            source = f"{source}, landmarks that match {self.match}"
        elif self.landmarks is not None:
            source = f"{source}, {self.landmarks} landmarks, seed {self.seed}"
        return source if self.per_landmark is None else f"{source}, {self.per_landmark} photos of each"

    def list_tables(self) -> list[RemoteFile]:
        """Return the tables of the requested splits."""
        base = self.base_url.rstrip("/")
        return [
            RemoteFile(kind="table", path=f"metadata/{name}", url=f"{base}/metadata/{name}", columns=columns)
            for folder in self.folders
            for name, columns in TABLES[folder].items()
        ]

    def list_tars(self) -> list[RemoteFile]:
        """Return the requested tars; none if photos are fetched one by one."""
        base = self.base_url.rstrip("/")
        return [
            RemoteFile(
                kind="tar",
                path=f"{folder}/images_{number:03}.tar",
                url=f"{base}/{folder}/images_{number:03}.tar",
                md5_url=f"{base}/md5sum/{folder}/md5.images_{number:03}.txt",
            )
            for folder in (() if self.by_photo else self.folders)
            for number in self.select_tars(folder)
        ]

    def select_tars(self, folder: str) -> tuple[int, ...]:
        """Return the numbers of a folder's requested tars; a share takes the first ones, at least one."""
        count = TAR_COUNTS[folder]
        if self.tars is None:
            return tuple(range(count))
        if isinstance(self.tars, float):
            return tuple(range(max(1, round(count * self.tars))))
        if beyond := [number for number in self.tars if number >= count]:
            fix = f"{folder} has the tars 0 to {count - 1}"
            raise UsageError(f"there is no tar {beyond[0]} of {folder}", where="--tars", fix=fix)
        return self.tars

    def select_photos(self) -> pl.DataFrame:
        """Return the wanted training photos, a frame (image_id, landmark_id) sorted by image id, from the tables.

        Raises DataError if a table is missing or can't be read, UsageError for more landmarks than there are, and if no
        category matches.
        """
        tables = find_tables(self.directory)
        labels = read_labels(self.directory, tables, clean="train" not in self.splits).usable
        photos = labels.select("image_id", "landmark_id")
        if self.match is not None:
            chosen = list(match_categories(tables.categories, self.match))
        elif self.landmarks is not None:
            known = photos["landmark_id"].unique().to_list()
            chosen = choose_landmarks(known, landmarks=self.landmarks, seed=self.seed)
        else:
            return photos
        return limit_photos(photos.filter(pl.col("landmark_id").is_in(chosen)), tables, self.per_landmark)

    def list_photos(self) -> Iterator[RemoteFile]:
        """Yield the wanted photos with their addresses in train.csv."""
        train = find_tables(self.directory).train or self.directory / "metadata" / TRAIN
        table = read_table(train, required=("id", "url"))
        urls = table.select("url", image_id="id").unique("image_id", keep="first")
        rows = self.select_photos().join(urls, on="image_id", how="left", maintain_order="left")
        for path, url in rows.select(standard_path("train").alias("path"), "url").iter_rows():
            yield RemoteFile(kind="photo", path=path, url=url or "")


def parse_splits(names: Sequence[str]) -> tuple[SplitName, ...]:
    """Parse the names of splits; raises UsageError for an unknown one, with the nearest that is known."""
    known: tuple[SplitName, ...] = get_args(SplitName)
    for name in names:
        if name not in known:
            fix = near_names(name, known) or f"the splits are {', '.join(known)}"
            raise UsageError(f"there is no split `{name}`", where="--split", fix=fix)
    return tuple(name for name in known if name in names)


def parse_tars(text: str) -> tuple[int, ...] | float:
    """Parse a selection of tars: numbers and ranges (``0-9,42``), or a share (``10%``). Raises UsageError."""
    words = [word.strip() for word in text.split(",")]
    if (share := re.fullmatch(r"(\d+(?:\.\d+)?)%", text.strip())) and 0 < float(share[1]) <= 100:
        return float(share[1]) / 100
    numbers: set[int] = set()
    for span in (re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", word) for word in words):
        first, last = (int(span[1]), int(span[2] or span[1])) if span else (1, 0)
        if first > last:
            raise UsageError(f"`{text}` names no tars", where="--tars", fix="write 0-9,42 or a share such as 10%")
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))


@dataclass(frozen=True, kw_only=True)
class DownloadPlan:
    """The tables and tars that are missing, and the disk space for everything.

    ``there`` counts the files that need not be fetched. ``sizes`` are the bytes of missing files, if known, ``present``
    those already here. ``needed`` estimates the peak of disk space, in bytes. ``photos`` counts the missing single
    photos; None until the tables are here, and if photos come in tars.
    """

    missing: tuple[RemoteFile, ...]
    there: int
    sizes: Mapping[str, int]
    present: Mapping[str, int]
    needed: int
    free: int
    photos: int | None = None

    @property
    def to_fetch(self) -> int:
        """The bytes to fetch, of the files whose size is known."""
        return sum(size - self.present.get(path, 0) for path, size in self.sizes.items())

    def missing_of(self, kind: Literal["table", "tar"]) -> list[RemoteFile]:
        """Return the missing tables, or the missing tars."""
        return [file for file in self.missing if file.kind == kind]

    def count_bytes(self, files: Sequence[RemoteFile]) -> dict[str, tuple[int, int]]:
        """Map the paths of missing files to the bytes there and the bytes in all; 0 if the size is not known."""
        return {file.path: (self.present[file.path], self.sizes.get(file.path, 0)) for file in files}


def make_plan(
    request: DownloadRequest,
    missing: Sequence[RemoteFile],
    sizes: Mapping[str, int],
    *,
    there: int,
    jobs: int,
    photos: int | None,
) -> DownloadPlan:
    """Estimate the space for the missing files; during extraction, ``jobs`` tars are on the disk at a time."""
    present = {file.path: count_present(request.directory, file) for file in missing}
    tars = [(sizes.get(file.path, 0), file.folder) for file in missing if file.kind == "tar"]
    if request.extracts:
        room = sum(size * estimate_kept_share(request, folder) for size, folder in tars)
        room += sum(sorted(size for size, _ in tars)[-jobs:])
    else:
        room = sum(size for size, _ in tars)
    room += sum(sizes.get(file.path, 0) for file in missing if file.kind == "table")
    return DownloadPlan(
        missing=tuple(missing),
        there=there,
        sizes={file.path: sizes[file.path] for file in missing if file.path in sizes},
        present=present,
        needed=max(0, round(room) - sum(present.values())) + estimate_photos(request, photos or 0),
        free=measure_free(request.directory),
        photos=photos,
    )


def count_present(directory: Path, file: RemoteFile) -> int:
    """Return the bytes of a missing file that are on the disk; 0 for a table in place, which is invalid."""
    path = directory / file.path
    paths = (path, unfinished_path(path)) if file.kind == "tar" else (unfinished_path(path),)
    return next((found.stat().st_size for found in paths if found.exists()), 0)


def unfinished_path(path: Path) -> Path:
    """Return where a file grows until it is complete."""
    return path.with_name(f"{path.name}.partial")


def estimate_kept_share(request: DownloadRequest, folder: str) -> float:
    """Return the approximate share of a tar's bytes that is kept as photos."""
    kept = 1.0
    if folder == "train" and request.selects:
        clean = "train" not in request.splits
        photos, landmarks = (CLEAN_PHOTOS, CLEAN_LANDMARKS) if clean else (TRAIN_PHOTOS, TRAIN_LANDMARKS)
        kept = photos / TRAIN_PHOTOS * min(1.0, (request.landmarks or landmarks) / landmarks)
    return kept * estimate_photo(request.max_side, full=PHOTO_BYTES) / PHOTO_BYTES


def estimate_photos(request: DownloadRequest, count: int) -> int:
    """Return the approximate bytes of ``count`` single photos."""
    return round(count * estimate_photo(request.max_side, full=COMMONS_BYTES))


def estimate_photo(max_side: int | None, *, full: int) -> float:
    """Return the approximate bytes of a photo that has ``full`` bytes before it is shrunk."""
    return full if max_side is None else min(full, BYTES_PER_PIXEL * ASPECT * max_side**2)


def measure_free(directory: Path) -> int:
    """Return the free bytes on the disk of a folder that need not exist yet."""
    existing = next(folder for folder in (directory, *directory.absolute().parents) if folder.is_dir())
    return shutil.disk_usage(existing).free


def refuse_too_little_room(needed: int, directory: Path) -> None:
    """Raise DownloadError unless that many bytes are free."""
    free = measure_free(directory)
    if needed > free:
        what = f"about {decimal(needed, precision=2)} are needed, {decimal(free, precision=2)} are free"
        fix = "free some space, take fewer with --tars, or shrink photos with --extract --max-side 512"
        raise DownloadError(what, where=directory, fix=fix)
