"""Parts of a dataset's embeddings: Parquet files of up to 256 photos, whole and of known content.

The name of a part tells its place and the hash of its bytes, such as ``photos-000003-of-000022-9f86….parquet``. Its
columns are ``image_id``, ``path``, ``content_hash``, ``embedding`` (D numbers, null for a photo that could not be
used), ``error`` (why not) and ``model`` (its fingerprint), so that anything that reads Parquet can take it from there.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from obelisk.arrays import l2_normalize
from obelisk.embedding.runtime import Embedded
from obelisk.errors import DataError, ModelError
from obelisk.files import PARTIAL, read_limited, replace_file
from obelisk.markup import escape_surrogates
from obelisk.photos import content_hash

PART_PHOTOS = 256  # the most that a kill costs
LARGEST_PART = 2**26  # bytes; 256 rows of 65,536 numbers
PART_NAME = re.compile(r"(photos|images_\d{1,6}\.tar)-(\d{6})-of-(\d{6})-([0-9a-f]{32})\.parquet", re.ASCII)
AGAIN = "delete this file, and run `obelisk embed` once more"


@dataclass(frozen=True, kw_only=True, order=True)
class PartKey:
    """The place of a part: number ``number``, from 0, of ``count`` parts of a tar or of all listed photos."""

    unit: str
    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.unit}-{self.number:06d}-of-{self.count:06d}"


def find_parts(folder: Path) -> dict[PartKey, Path]:
    """Find the finished parts in a folder."""
    found: dict[PartKey, Path] = {}
    with os.scandir(folder) as entries:
        for name in sorted(entry.name for entry in entries):
            if match := PART_NAME.fullmatch(name):
                found.setdefault(PartKey(unit=match[1], number=int(match[2]), count=int(match[3])), folder / name)
    return found


def write_part(
    folder: Path,
    key: PartKey,
    photos: pl.DataFrame,
    embedded: Sequence[Embedded],
    *,
    dimensions: int,
    stored: str,
    model: str,
) -> Path:
    """Write a part, whole or not at all; ``photos`` is the frame (image_id, path) of what was embedded.

    float32 rows are as the model gives them; float16 rows have unit length, as in a gallery.
    """
    frame = photos.with_columns(
        content_hash=pl.Series([one.content_hash for one in embedded], dtype=pl.String),
        embedding=embedding_column([one.embedding for one in embedded], dimensions, stored),
        error=pl.Series(
            [escape_surrogates(one.error.what) if one.error else None for one in embedded], dtype=pl.String
        ),
        model=pl.lit(model),
    )
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    data = buffer.getvalue()
    for partial in folder.glob(f".{key}-*"):  # of a process that was killed
        if PARTIAL.fullmatch(partial.name):
            partial.unlink(missing_ok=True)
    return replace_file(folder / f"{key}-{content_hash(data)}.parquet", lambda partial: partial.write_bytes(data))


def embedding_column(rows: Sequence[NDArray[np.float32] | None], dimensions: int, stored: str) -> pl.Series:
    """Return embeddings (D,) as a column, null where there is none."""
    usable = np.array([row is not None for row in rows], dtype=np.bool_)
    matrix = np.array([np.zeros(dimensions) if row is None else row for row in rows], np.float32)
    matrix = matrix.reshape(len(rows), dimensions)
    if stored == "float16":
        matrix = l2_normalize(matrix, strict=False)
    column = pl.Series("embedding", matrix, dtype=pl.Array(pl.Float32, dimensions))
    masked = pl.DataFrame([column]).select(pl.when(pl.Series(usable)).then("embedding").otherwise(None))
    return masked.to_series().cast(pl.Array(pl.Float16 if stored == "float16" else pl.Float32, dimensions))


def read_part(path: Path, dimensions: int, model: str) -> pl.DataFrame:
    """Read a part, its embeddings as float32 or float16.

    Raises DataError for one that is damaged, or no part, and ModelError for one of another model.
    """
    try:
        data = read_limited(path, LARGEST_PART)
        if not path.stem.endswith(content_hash(data)):
            raise DataError("the part is damaged: its bytes are not those that were written", where=path, fix=AGAIN)
        frame = pl.read_parquet(io.BytesIO(data), n_rows=PART_PHOTOS + 1)
        types = {frame.schema[name] for name in ("image_id", "path", "content_hash", "error", "model")}
        row = frame.schema["embedding"]
    except (OSError, KeyError, pl.exceptions.PolarsError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise DataError(f"the part cannot be read: {reason}", where=path, fix=AGAIN) from error
    rows = [pl.Array(kind, dimensions) for kind in (pl.Float32, pl.Float16)]
    if types != {pl.String()} or row not in rows or frame.height > PART_PHOTOS:
        raise DataError("the file is no part of these embeddings", where=path, fix=AGAIN)
    refuse_other_part(frame, model, path)
    return frame


def refuse_other_part(frame: pl.DataFrame, model: str, path: Path) -> None:
    """Raise ModelError unless all rows of a part are of one model."""
    if others := set(frame["model"].unique()) - {model}:
        what = f"a part of another model (fingerprint {others.pop()})"
        raise ModelError(what, where=path, fix="move it out of this folder, and run `obelisk embed` once more")
