"""Photos that shards have embedded, for whoever builds a gallery of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from obelisk.embedding.bundle import Bundle
from obelisk.embedding.runtime import Embedded, Embedder
from obelisk.embedding.shards.part_file import AGAIN, PART_PHOTOS, find_parts, read_part, refuse_other_part
from obelisk.embedding.shards.shard_plan import ShardPlan
from obelisk.errors import DataError, PhotoError
from obelisk.photos import GivenPhoto, PhotosLike, hash_photo, map_in_order, take_photos

PARTS_AT_ONCE = 32  # in memory; a gallery is built in the order of the parts
HASH = np.dtype("S32")


class EmbeddedPhotos(Embedder):
    """An embedder that looks a photo's embedding up in the parts of a plan, by its content hash, where it can.

    Photos that the parts lack, or that could not be used then, are embedded now. ``taken`` counts the others.

    Raises ModelError if the parts are of another model, DataError if parts are missing or damaged.
    """

    def __init__(self, plan: ShardPlan, bundle: Bundle) -> None:
        plan.refuse_other_model(bundle)
        parts = find_parts(plan.parts)
        plan.refuse_missing(parts)
        super().__init__(bundle)
        self.taken = 0
        self._paths = list(parts.values())
        self._read = lru_cache(maxsize=PARTS_AT_ONCE)(
            partial(read_part, dimensions=bundle.dimensions, model=bundle.fingerprint)
        )
        hashes = list(map_in_order(partial(read_hashes, fingerprint=bundle.fingerprint), self._paths))
        joined = np.concatenate([np.empty(0, HASH), *hashes])
        part = np.repeat(np.arange(len(hashes)), [len(rows) for rows in hashes])
        row = np.concatenate([np.empty(0, np.int64), *(np.arange(len(rows)) for rows in hashes)])
        order = np.argsort(joined, kind="stable")
        self._hashes, self._part, self._row = joined[order], part[order], row[order]

    def embed(
        self, sources: PhotosLike, *, hashed: bool = True, cut_off: bool = False, located: bool = False
    ) -> Iterator[Embedded]:
        """Yield one :class:`Embedded` per photo, in input order."""
        embed = partial(self.embed_one, hashed=hashed, cut_off=cut_off, located=located)
        for embedded, taken in map_in_order(lambda photo: self._take(photo, embed), take_photos(sources)):
            self.taken += taken
            yield embedded

    def _take(self, photo: GivenPhoto, embed: Callable[[GivenPhoto], Embedded]) -> tuple[Embedded, bool]:
        """Return a photo's embedding, and whether the parts had it."""
        try:
            digest = hash_photo(photo.source) if isinstance(photo.source, Path) else ""
        except PhotoError:
            digest = ""
        index = int(np.searchsorted(self._hashes, np.bytes_(digest)))
        if not digest or index == len(self._hashes) or self._hashes[index] != digest.encode():
            return embed(photo), False
        rows = self._read(self._paths[self._part[index]])["embedding"]
        row = rows[int(self._row[index])].to_numpy().astype(np.float32)
        return Embedded(path=photo.path, content_hash=digest, embedding=row), True


def read_hashes(path: Path, fingerprint: str) -> NDArray[np.bytes_]:
    """Return the content hashes (N,) of a part's photos, empty for one without an embedding.

    Raises DataError for a file that can't be read, and ModelError for a part of another model.
    """
    try:
        frame = pl.read_parquet(path, columns=["content_hash", "error", "model"], n_rows=PART_PHOTOS, glob=False)
        hashes = frame.select(pl.when(pl.col("error").is_null()).then("content_hash").otherwise(pl.lit("")))
        found: NDArray[np.bytes_] = hashes.to_series().to_numpy().astype(HASH)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise DataError(f"the part cannot be read: {error}".partition("\n")[0], where=path, fix=AGAIN) from error
    refuse_other_part(frame, fingerprint, path)
    return found
