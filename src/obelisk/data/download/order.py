"""What is wanted of the dataset, and the files on the server that hold it.

The layout is that of https://github.com/cvdfoundation/google-landmark: tables in ``metadata/``, photos in
``<split>/images_NNN.tar``, the MD5 of each tar in ``md5sum/<split>/md5.images_NNN.txt``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from obelisk.data.download.http import is_address
from obelisk.data.formats.gldv2 import TRAIN, TRAIN_CLEAN
from obelisk.errors import UsageError, near_names

BASE_URL: Final = "https://s3.amazonaws.com/google-landmark"
SplitName = Literal["train", "clean", "index", "test"]
TAR_COUNTS: Final = {"train": 500, "index": 100, "test": 20}
# The tables of each split, with columns that tell them from a page that a server may answer in their place.
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


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file to fetch: its place below the dataset's folder, its address, and what it is checked by.

    That is an MD5 sum at another address for a tar, and the columns of a table.
    """

    path: str
    url: str
    sum_url: str | None = None
    columns: tuple[str, ...] = ()

    @property
    def split(self) -> str:
        """The folder it lies in: a split, or ``metadata``."""
        return self.path.partition("/")[0]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is wanted.

    ``splits`` are train, clean (the photos of train that train_clean.csv lists), index and test. ``tars`` says which
    tars of each split, by number or as a share in (0, 1]; None is all. ``landmarks`` restricts train or clean to the
    photos of that many landmarks, drawn by ``seed`` as ``sample_subset`` draws them; they come one by one from their
    own addresses, or with ``from_tars`` out of the tars. ``extract`` unpacks the photos and drops the tars;
    ``max_side`` (pixels) then shrinks those that are larger.

    Raises UsageError for what contradicts itself.
    """

    directory: Path
    splits: tuple[SplitName, ...]
    base_url: str = BASE_URL
    tars: tuple[int, ...] | float | None = None
    landmarks: int | None = None
    seed: int = 0
    from_tars: bool = False
    extract: bool = False
    max_side: int | None = None
    accept_md5_mismatch: bool = False

    def __post_init__(self) -> None:
        if not is_address(self.base_url):
            raise UsageError(f"`{self.base_url}` is no address", where="--base-url", fix="give http://… or https://…")
        if self.directory.exists() and not self.directory.is_dir():
            raise UsageError("this is a file, not a folder", where=self.directory, fix="name another folder")
        if not self.splits:
            fix = "name one with --split: train (about 500 GB), clean, index (100 GB), test (20 GB)"
            raise UsageError("no split was asked for", where="--split", fix=fix)
        if self.landmarks is not None and not set(self.splits) <= {"train", "clean"}:
            raise UsageError("landmarks are drawn from train or clean", where="--landmarks", fix="leave out the others")
        if self.by_photo and self.tars is not None:
            raise UsageError("single photos come from no tar", where="--tars", fix="add --from-tars")
        if self.from_tars and self.landmarks is None:
            raise UsageError("--from-tars goes with --landmarks", where="--from-tars", fix="name how many landmarks")
        if self.max_side is not None and not self.unpacks:
            raise UsageError("photos inside tars keep their size", where="--max-side", fix="add --extract")

    @property
    def by_photo(self) -> bool:
        """Whether photos come one by one from their own addresses."""
        return self.landmarks is not None and not self.from_tars

    @property
    def unpacks(self) -> bool:
        """Whether photos end as files of their own."""
        return self.extract or self.landmarks is not None

    @property
    def restricts(self) -> bool:
        """Whether only some photos of the training tars are wanted."""
        return self.landmarks is not None or "train" not in self.splits

    @property
    def folders(self) -> tuple[str, ...]:
        """The splits as the server has them: clean is part of train."""
        return tuple(dict.fromkeys("train" if split == "clean" else split for split in self.splits))

    def describe_choice(self, split: str) -> str:
        """Say in a word which photos are kept of the tars of a split: ``all``, or what restricts them."""
        if split != "train" or not self.restricts:
            return "all"
        source = "train" if "train" in self.splits else "clean"
        return source if self.landmarks is None else f"{source}, {self.landmarks} landmarks, seed {self.seed}"

    def list_tables(self) -> list[Part]:
        """Return the tables of the wanted splits."""
        base = self.base_url.rstrip("/")
        return [
            Part(path=f"metadata/{name}", url=f"{base}/metadata/{name}", columns=columns)
            for folder in self.folders
            for name, columns in TABLES[folder].items()
        ]

    @property
    def choosing_tables(self) -> tuple[str, ...]:
        """The tables without which nobody knows what is wanted; empty where that is everything."""
        if not self.unpacks or not self.restricts or "train" not in self.folders:
            return ()
        labels = TRAIN if "train" in self.splits else TRAIN_CLEAN
        return (labels, TRAIN) if self.by_photo else (labels,)  # which has the addresses

    def list_tars(self) -> list[Part]:
        """Return the wanted tars; none when photos come one by one."""
        base = self.base_url.rstrip("/")
        return [
            Part(
                path=f"{folder}/images_{number:03}.tar",
                url=f"{base}/{folder}/images_{number:03}.tar",
                sum_url=f"{base}/md5sum/{folder}/md5.images_{number:03}.txt",
            )
            for folder in (() if self.by_photo else self.folders)
            for number in self.choose_tars(folder)
        ]

    def choose_tars(self, folder: str) -> tuple[int, ...]:
        """Return the numbers of the wanted tars of a split; of a share the first ones, at least one."""
        count = TAR_COUNTS[folder]
        if self.tars is None:
            return tuple(range(count))
        if isinstance(self.tars, float):
            return tuple(range(max(1, round(count * self.tars))))
        if beyond := [number for number in self.tars if number >= count]:
            fix = f"{folder} has the tars 0 to {count - 1}"
            raise UsageError(f"there is no tar {beyond[0]} of {folder}", where="--tars", fix=fix)
        return self.tars


def parse_splits(names: Sequence[str]) -> tuple[SplitName, ...]:
    """Read names of splits.

    Raises UsageError for an unknown one, with the nearest that is known.
    """
    known: tuple[SplitName, ...] = get_args(SplitName)
    for name in names:
        if name not in known:
            fix = near_names(name, known) or f"the splits are {', '.join(known)}"
            raise UsageError(f"there is no split `{name}`", where="--split", fix=fix)
    return tuple(name for name in known if name in names)


def parse_tars(text: str) -> tuple[int, ...] | float:
    """Read which tars are meant: numbers and ranges (``0-9,42``), or a share of all (``10%``).

    Raises UsageError for anything else.
    """
    words = [word.strip() for word in text.split(",")]
    if (share := re.fullmatch(r"(\d+(?:\.\d+)?)%", text.strip())) and 0 < float(share[1]) <= 100:
        return float(share[1]) / 100
    spans = [re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", word) for word in words]
    numbers: set[int] = set()
    for span in spans:
        first, last = (int(span[1]), int(span[2] or span[1])) if span else (1, 0)
        if first > last:
            raise UsageError(f"`{text}` names no tars", where="--tars", fix="write 0-9,42 or a share such as 10%")
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))
