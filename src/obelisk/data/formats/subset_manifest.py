"""A subset on disk: three small files without pictures, byte-identical on every machine.

``photos.csv`` (image_id, path, landmark_id, split) and ``landmarks.csv`` are the lists; ``manifest.json`` records the
seed, the counts, both distributions and a hash of everything. The files depend neither on the time, nor on the location
of the dataset, nor on the machine.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import polars as pl

from obelisk.data.catalog import LANDMARKS, QUERIES, REFERENCES, Catalog
from obelisk.data.formats.csv import HEADER_LINES, inspect_lines, refuse_foreign, shorten
from obelisk.data.subset import DISTRACTOR, PHOTO_COLUMNS, Subset
from obelisk.errors import DataError
from obelisk.files import LOST_AND_FOUND, growing_beside, is_occupied, move_folder, partial_path, read_limited
from obelisk.photos import photo_exists

FORMAT: Final = "obelisk-subset"
VERSION: Final = 1
MANIFEST: Final = "manifest.json"
PHOTOS: Final = "photos.csv"
LANDMARKS_TABLE: Final = "landmarks.csv"
PHOTOS_VARIABLE: Final = "OBELISK_PHOTOS"
MAX_MANIFEST: Final = 2**20  # bytes
REMEDY: Final = "make it again with `obelisk data subset`"


def write_subset(subset: Subset, out: Path, *, add: Callable[[Path], object] = lambda folder: None) -> Path:
    """Write a subset's manifests to the folder ``out`` and return its path.

    The folder appears complete or not at all, with the files that ``add`` writes beside the manifests. A folder that
    already holds the same subset is left unchanged.

    Raises DataError if ``out`` holds anything else, or can't be created.
    """
    refuse_occupied(out)
    out = out.resolve()
    files = render_subset(subset)
    if is_occupied(out):
        if all((out / name).read_bytes() == data for name, data in files.items()):
            return out
        raise occupied_error(out)
    unfinished = growing_beside(out) / partial_path(out).name
    try:
        unfinished.mkdir(parents=True)
        for name, data in files.items():
            (unfinished / name).write_bytes(data)
        add(unfinished)
        move_folder(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return out


def refuse_occupied(out: Path) -> None:
    """Raise DataError if a subset can't be written to ``out``: it holds something else, or can't be created.

    Call it before the work that leads to a subset.
    """
    if out.exists() and not out.is_dir():
        raise DataError("this is a file, not a folder", where=out, fix="name another folder")
    if is_occupied(out) and {file.name for file in out.iterdir()} - {LOST_AND_FOUND} != {
        PHOTOS,
        LANDMARKS_TABLE,
        MANIFEST,
    }:
        raise occupied_error(out)
    final = out.resolve()
    trial = partial_path(next(folder for folder in (final, *final.parents) if folder.parent.exists()))
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        what = f"no folder can be made here ({error})"
        raise DataError(what, where=out, fix="name a folder that you may write to") from error


def refuse_filled(out: Path) -> None:
    """Raise DataError if ``out`` holds anything at all, or can't be created."""
    refuse_occupied(out)
    if is_occupied(out):
        raise occupied_error(out)


def occupied_error(out: Path) -> DataError:
    """Return the error of a folder that is in use."""
    return DataError("the folder holds something else", where=out, fix="name another folder, or empty this one")


def render_subset(subset: Subset) -> dict[str, bytes]:
    """Map the names of a subset's files to their contents."""
    tables = {
        PHOTOS: render_csv(PHOTO_COLUMNS, subset.photos.select(PHOTO_COLUMNS).iter_rows()),
        LANDMARKS_TABLE: render_csv(tuple(LANDMARKS), subset.landmarks.select(list(LANDMARKS)).iter_rows()),
    }
    fields = {"format": FORMAT, "version": VERSION, **subset.to_fields()}
    fields["content_hash"] = hash_contents(tables, fields)
    return {**tables, MANIFEST: render_json(fields)}


def render_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    r"""Return a CSV table with \n line ends, empty cells for nulls, and six decimals for floats."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([f"{cell:.6f}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    return text.getvalue().encode()


def render_json(fields: Mapping[str, Any]) -> bytes:
    """Return fields as indented JSON, in their order."""
    return (json.dumps(fields, indent=2, ensure_ascii=False) + "\n").encode()


def hash_contents(tables: Mapping[str, bytes | Path], fields: Mapping[str, Any]) -> str:
    """Return the hash (32 hex digits) of the tables and of the manifest's fields without the hash itself."""
    hashed = {name: value for name, value in fields.items() if name != "content_hash"}
    digest = hashlib.blake2b(digest_size=16)
    for name, data in sorted({**tables, MANIFEST: render_json(hashed)}.items()):
        with data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as file:
            # Without lengths, the end of one file could pass for the start of the next.
            digest.update(f"{name}:{file.seek(0, os.SEEK_END)}\n".encode())
            file.seek(0)
            while chunk := file.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()


def is_subset(directory: Path) -> bool:
    """Return whether a folder holds a subset's manifests, valid or not."""
    manifest = directory / MANIFEST
    if not manifest.is_file():
        return False
    with manifest.open("rb") as file:
        start = file.read(MAX_MANIFEST)
    return (directory / PHOTOS).is_file() or FORMAT.encode() in start


def read_subset(directory: Path, *, present_only: bool = True) -> Catalog:
    """Read a subset: train and val photos are references, test photos and distractors are queries.

    Paths start from the folder itself or the nearest folder above it in which the first listed photo exists, else from
    the folder that the environment variable OBELISK_PHOTOS names. With ``present_only`` missing photos are left out,
    with a note.

    Raises DataError if the manifest was changed or has a newer format, if its tables can't be used, or if the photos
    are not found.
    """
    verify_subset(directory)
    photos = read_manifest_table(directory / PHOTOS, REFERENCES)
    refuse_strange_paths(photos, directory / PHOTOS)
    root = find_root(directory, photos["path"][0])
    present = photos
    if present_only:
        present = photos.filter(pl.Series([photo_exists(root / path) for path in photos["path"]]))
    absent = photos.height - present.height
    known = present.filter(pl.col("split").is_in(["train", "val"]))
    asked = present.filter(pl.col("split").is_in(["test", DISTRACTOR]))
    truth = pl.concat_list("landmark_id").list.drop_nulls().alias("landmark_ids")
    return Catalog(
        root=root,
        references=known.select(list(REFERENCES)),
        queries=asked.with_columns(truth, pl.col("split").alias("usage")).select(list(QUERIES)),
        landmarks=read_manifest_table(directory / LANDMARKS_TABLE, LANDMARKS),
        notes=(f"{absent} photos of the subset are not on disk and left out",) if absent else (),
    )


def verify_subset(directory: Path) -> None:
    """Raise DataError if a manifest has a newer format, or other contents than those it was written with."""
    path = directory / MANIFEST
    tables = {name: directory / name for name in (PHOTOS, LANDMARKS_TABLE)}
    try:
        fields = json.loads(read_limited(path, MAX_MANIFEST))
        for table in tables.values():
            refuse_foreign(table)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"the subset cannot be read: {reason}", where=path, fix=REMEDY) from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise DataError("this is not the manifest of a subset", where=path, fix=REMEDY)
    if fields.get("version") != VERSION:
        fix = "use a newer Obelisk, or " + REMEDY
        raise DataError(f"the format has version {fields.get('version')}, this is {VERSION}", where=path, fix=fix)
    written, found = fields.get("content_hash"), hash_contents(tables, fields)
    if written != found:
        raise DataError(f"the subset was changed: its hash is {found}, not {written}", where=path, fix=REMEDY)


def find_root(directory: Path, first: str) -> Path:
    """Return the folder that the paths of a subset are relative to."""
    here = directory.absolute()
    folders = [directory, *here.parents]
    if named := os.environ.get(PHOTOS_VARIABLE):
        folders.append(Path(named))
    for folder in folders:
        if photo_exists(folder / first):
            return folder
    tried = f"the subset's folder, any folder above it, or {PHOTOS_VARIABLE} ({named or 'not set'})"
    fix = f"set {PHOTOS_VARIABLE} to the folder of the dataset that the subset was taken from"
    raise DataError(f"the photos are not in {tried}: there is no {first}", where=directory, fix=fix)


def read_manifest_table(path: Path, types: pl.Schema) -> pl.DataFrame:
    """Read a table of a subset, which has these columns; raises DataError if it can't be that of a subset."""
    try:
        inspect_lines(path)
        return pl.read_csv(path, columns=list(types), infer_schema=False).select(list(types)).cast(types)
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"the subset cannot be read: {reason}", where=path, fix=REMEDY) from error


def refuse_strange_paths(photos: pl.DataFrame, table: Path) -> None:
    """Raise DataError for a table without photos, or with a path that leads out of the dataset's folder."""
    if photos.is_empty():
        raise DataError("the subset lists no photo", where=table, fix=REMEDY)
    for row, path in enumerate(photos["path"].to_list(), start=1 + HEADER_LINES):
        parts = PurePosixPath(path or "").parts
        if not parts or ".." in parts or parts[0] == "/" or "\0" in path:
            raise DataError(
                f"`{shorten(path or '')}` is no path below a folder", where=f"{table}, row {row}", fix=REMEDY
            )
