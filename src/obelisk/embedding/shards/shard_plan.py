"""The plan of a dataset's embeddings: which photos, in which parts, by which model. It is the same for any n of shards.

A folder of embeddings holds::

    embeddings.json    the model, the runtime, and where the photos were; written last
    model/             the model's bundle
    manifests/         the ids and paths of photos that are files, 65,536 in each; the ids of those that tars may hold
    parts/             the embeddings, 256 photos in each

A part is one 256th of a manifest, or 256 photos of one tar. Shard i of n embeds every n-th tar and every n-th part of
the manifests, beginning with the i-th; no process ever holds the paths of all photos.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import Field, TypeAdapter

from obelisk.data import check_directory, list_tar, list_units, locate_root
from obelisk.embedding.bundle import LARGEST_JSON, Bundle
from obelisk.embedding.shards.part_file import PART_PHOTOS, PartKey
from obelisk.embedding.strict_json import StrictModel, parse_json
from obelisk.errors import DataError, ModelError, UsageError, quote
from obelisk.files import exclusive_lock, move_folder, partial_path, read_limited, replace_file
from obelisk.photos import photo_exists

PLAN_FILE, MODEL, MANIFESTS, PARTS = "embeddings.json", "model", "manifests", "parts"
TARRED = "tarred.parquet"
LISTED = "photos"  # the unit of all photos that are files
MANIFEST_PHOTOS = 256 * PART_PHOTOS
PLANNING = 3600.0  # seconds that a shard waits for the one that lists the photos
FORMAT_VERSION = 1

Stored = Literal["float32", "float16"]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One of ``count`` shards, numbered from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


WHOLE = Shard(number=1, count=1)


def parse_shard(text: str) -> Shard:
    """Read ``3/16`` as the third of 16 shards; raises UsageError."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    if not found:
        raise UsageError(f"`{text}` is no shard", where="--shard", fix="give its number and how many there are: 3/16")
    shard = Shard(number=int(found[1]), count=int(found[2]))
    if not 1 <= shard.number <= shard.count:
        fix = f"shards are counted from 1: give 1/{shard.count} to {shard.count}/{shard.count}" if shard.count else ""
        raise UsageError(f"there is no shard `{text}`", where="--shard", fix=fix or "give 1/1 for the whole dataset")
    return shard


class PlanFields(StrictModel):
    """The content of ``embeddings.json``."""

    format: int = Field(default=FORMAT_VERSION, ge=1, le=FORMAT_VERSION, strict=True)
    model: str = Field(max_length=1000)
    fingerprint: str
    dimensions: int = Field(ge=1, le=2**16)
    runtime: str = Field(max_length=1000)
    stored: Stored = "float32"
    data: str
    photos: int = Field(ge=0)
    tars: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """What is to be embedded into a folder, and the folder that the photos' paths are relative to."""

    folder: Path
    root: Path
    fields: PlanFields

    @property
    def parts(self) -> Path:
        """The folder of the parts."""
        return self.folder / PARTS

    def list_keys(self, shard: Shard = WHOLE) -> Iterator[PartKey]:
        """Yield the parts of a shard; its tars are looked through for that. Raises DataError for an unusable tar."""
        for tar in self.fields.tars[shard.number - 1 :: shard.count]:
            count = max(1, parts_in(read_tar(self.folder, self.root, tar).height))
            yield from (PartKey(unit=Path(tar).name, number=number, count=count) for number in range(count))
        count = parts_in(self.fields.photos)
        for number in range(shard.number - 1, count, shard.count):
            yield PartKey(unit=LISTED, number=number, count=count)

    def list_photos(self, key: PartKey) -> pl.DataFrame:
        """Return the photos of a part, a frame (image_id, path)."""
        first = key.number * PART_PHOTOS
        if key.unit == LISTED:
            manifest = read_listed(self.folder / MANIFESTS / listed_name(first // MANIFEST_PHOTOS))
            return manifest.slice(first % MANIFEST_PHOTOS, PART_PHOTOS)
        tar = next(tar for tar in self.fields.tars if Path(tar).name == key.unit)
        return read_tar(self.folder, self.root, tar).slice(first, PART_PHOTOS)

    def list_missing(self, found: Collection[PartKey]) -> tuple[str, ...]:
        """Name the parts that are not among those found; a tar of which there is none counts as one.

        Raises DataError if parts of one tar were made of different contents.
        """
        counts = {LISTED: {parts_in(self.fields.photos)}} if self.fields.photos else {}
        counts |= {Path(tar).name: set() for tar in self.fields.tars}
        for key in found:
            counts.setdefault(key.unit, set()).add(key.count)
        missing = []
        for unit, sizes in counts.items():
            if len(sizes) > 1:
                what = f"the parts of `{unit}` were made of different contents"
                raise DataError(what, where=self.parts, fix="embed into a new --out")
            if not sizes:
                missing.append(unit)
            for count in sizes:
                keys = (PartKey(unit=unit, number=number, count=count) for number in range(count))
                missing += [str(key) for key in keys if key not in found]
        return tuple(missing)

    def refuse_missing(self, found: Collection[PartKey]) -> None:
        """Raise DataError unless all parts are among those found."""
        if missing := self.list_missing(found):
            more = f", and so are {len(missing) - 1} more" if len(missing) > 1 else ""
            what = f"the embeddings are incomplete: the part {missing[0]} is missing{more}"
            fix = f"finish them: `obelisk embed {quote(self.fields.data)} --out {quote(str(self.folder))}`"
            raise DataError(what, where=self.folder, fix=fix)

    def refuse_other_model(self, bundle: Bundle) -> None:
        """Raise ModelError unless the embeddings are of this model."""
        if self.fields.fingerprint != bundle.fingerprint:
            what = (
                f"the embeddings are of model `{self.fields.model}` (fingerprint {self.fields.fingerprint}), "
                f"not of `{bundle.name}` ({bundle.fingerprint})"
            )
            raise ModelError(what, where=self.folder, fix=f"give --model {quote(str(self.folder))}, or another folder")

    def refuse_other_runtime(self, runtime: str) -> None:
        """Raise UsageError unless the embeddings are computed by this runtime: others would differ by rounding."""
        if self.fields.runtime != runtime:
            what = f"the embeddings are computed by {self.fields.runtime}, this machine would use {runtime}"
            name = self.fields.runtime.partition("-")[0]
            fix = f"set OBELISK_RUNTIME={name}, with that version, on all machines; or name a new --out"
            raise UsageError(what, where=self.folder, fix=fix)


def open_plan(folder: Path, data: Path, bundle: Bundle, *, runtime: str, stored: Stored | None = None) -> ShardPlan:
    """Open the plan in a folder; the first process to come makes it, and the others wait for it.

    ``runtime`` is what computes, as :attr:`Embedder.computes_with` names it. ``stored`` is how embeddings are stored;
    the default is as the plan says, or float32.

    Raises DataError for a folder that holds something else, or for another dataset than the plan's; ModelError for
    another model; UsageError for another runtime, whose embeddings would differ, or another way of storing them.
    """
    if not (folder / PLAN_FILE).is_file():
        refuse_foreign_folder(folder)
        with exclusive_lock(folder / ".plan.lock", wait=PLANNING):
            if not (folder / PLAN_FILE).is_file():
                write_plan(folder, data, bundle, runtime, stored or "float32")
    plan = read_plan(folder, data)
    plan.refuse_other_model(bundle)
    plan.refuse_other_runtime(runtime)
    if stored not in (None, plan.fields.stored):
        raise UsageError(f"the embeddings are stored as {plan.fields.stored}", where=folder, fix="name a new --out")
    return plan


def write_plan(folder: Path, data: Path, bundle: Bundle, runtime: str, stored: Stored) -> None:
    """List the photos of a dataset, and write the plan; what a killed process wrote of it is written again."""
    units = list_units(data)
    model = folder / MODEL
    if not model.exists():
        made = partial_path(model)
        bundle.save_to(made)
        move_folder(made, model)
    for number, part in enumerate(units.listed.iter_slices(MANIFEST_PHOTOS)):
        write_listed(folder / MANIFESTS / listed_name(number), part)
    if units.tars:
        write_listed(folder / MANIFESTS / TARRED, units.tarred)
    (folder / PARTS).mkdir(exist_ok=True)
    fields = PlanFields(
        model=bundle.name,
        fingerprint=bundle.fingerprint,
        dimensions=bundle.dimensions,
        runtime=runtime,
        stored=stored,
        data=os.path.realpath(data),
        photos=units.listed.height,
        tars=units.tars,
    )
    text = fields.model_dump_json(indent=2) + "\n"
    replace_file(folder / PLAN_FILE, lambda partial: partial.write_text(text, encoding="utf-8", newline="\n"))


def read_plan(folder: Path, data: Path | None = None) -> ShardPlan:
    """Read the plan in a folder; ``data`` is where the photos are now, for whoever needs them.

    Raises DataError if the folder has no plan, or if the photos aren't those of the plan.
    """
    path = folder / PLAN_FILE
    fix = "name the folder that `obelisk embed DATA --out DIR` wrote to"
    if not path.is_file():
        raise DataError("no embeddings here", where=folder, fix=fix)
    try:
        content = read_limited(path, LARGEST_JSON)
    except OSError as error:
        raise DataError(f"the plan cannot be read: {error.strerror}", where=path, fix=fix) from error
    fields = parse_json(content, TypeAdapter(PlanFields), where=path, what="plan of embeddings", fix=fix)
    if data is None:
        return ShardPlan(folder=folder, root=Path(fields.data), fields=fields)
    check_directory(data)
    first = find_first_photo(folder, fields)
    root = locate_root(data, first)
    if os.path.realpath(data) != fields.data and not photo_exists(root / first):
        what = f"these are not the photos that {folder} was planned for: there is no {first}"
        raise DataError(what, where=data, fix=f"give {quote(fields.data)}, where they were, or a new --out")
    return ShardPlan(folder=folder, root=root, fields=fields)


def find_first_photo(folder: Path, fields: PlanFields) -> str:
    """Return the path of the first photo of a plan, or of its first tar."""
    if not fields.photos:
        return fields.tars[0]
    first: str = read_listed(folder / MANIFESTS / listed_name(0))["path"][0]
    return first


def refuse_foreign_folder(folder: Path) -> None:
    """Raise DataError for a folder that holds anything but embeddings, begun or not."""
    if folder.exists() and not folder.is_dir():
        raise DataError("this is a file, not a folder", where=folder, fix="name another --out")
    if folder.is_dir() and any(
        path.name not in (MODEL, MANIFESTS, PARTS) and not path.name.startswith(".") for path in folder.iterdir()
    ):
        raise DataError("the folder holds something other than embeddings", where=folder, fix="name a new --out")


def parts_in(photos: int) -> int:
    """Return how many parts so many photos of a unit make."""
    return -(-photos // PART_PHOTOS)


def listed_name(number: int) -> str:
    """Return the file name of a manifest of photos."""
    return f"{number:06d}.parquet"


def write_listed(path: Path, photos: pl.DataFrame) -> None:
    """Write a manifest, whole or not at all."""
    replace_file(path, photos.write_parquet)


@lru_cache(maxsize=4)
def read_listed(path: Path) -> pl.DataFrame:
    """Read a manifest of photos, a frame (image_id, path); raises DataError."""
    try:
        return pl.read_parquet(path, columns=["image_id", "path"], glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise damaged_manifest(path, error) from error


@lru_cache(maxsize=4)
def read_tar(folder: Path, root: Path, tar: str) -> pl.DataFrame:
    """Return the reference photos in a tar, a frame (image_id, path) sorted by id; raises DataError."""
    path = folder / MANIFESTS / TARRED
    inside = list_tar(root, tar)
    try:
        wanted = pl.scan_parquet(path, glob=False)
        return inside.lazy().join(wanted, on="image_id", how="semi").collect().sort("image_id")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise damaged_manifest(path, error) from error


def damaged_manifest(path: Path, error: Exception) -> DataError:
    """Return the error of a manifest that can't be read."""
    reason = str(error).partition("\n")[0]
    return DataError(f"the manifest cannot be read: {reason}", where=path, fix="embed into a new --out")
