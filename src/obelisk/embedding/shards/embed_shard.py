"""Embed one shard of a dataset. Whatever ends it, the same command goes on, and does at most one part again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import polars as pl

from obelisk.embedding.runtime import Embedded, Embedder
from obelisk.embedding.shards.part_file import PartKey, find_parts, read_part, write_part
from obelisk.embedding.shards.shard_plan import WHOLE, Shard, ShardPlan
from obelisk.errors import ObeliskError, PhotoMissingError
from obelisk.files import exclusive_lock
from obelisk.records import Progress, no_progress

STAGE = "embedding photos"


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """What a shard holds now: its photos, those ``failed`` (path, reason), and what this process ``embedded`` of it.

    ``missing`` names the parts of other shards that are not there yet.
    """

    photos: int
    embedded: int
    failed: tuple[tuple[Path, str], ...]
    missing: tuple[str, ...]


def embed_shard(
    plan: ShardPlan, embedder: Embedder, shard: Shard = WHOLE, progress: Progress = no_progress
) -> ShardReport:
    """Embed those photos of a shard that no finished part has, and report on all of the shard.

    Raises ObeliskError if another process works on the shard, or if the photos' folder is gone.
    """
    lock = plan.folder / f".shard-{shard.number}-of-{shard.count}.lock"
    with exclusive_lock(lock, wait=0) as acquired:
        if not acquired:
            what = f"another process is embedding shard {shard}"
            raise ObeliskError(what, where=plan.folder, fix="wait until it is done, or stop it")
        keys = list(plan.list_keys(shard))
        done = find_parts(plan.parts)
        missing = [key for key in keys if key not in done]
        total = sum(plan.list_photos(key).height for key in missing)
        embedded = 0
        for embedded in embed_parts(plan, missing, embedder):
            progress(STAGE, embedded, total)
        with contextlib.suppress(OSError):  # Windows keeps a file that is open
            lock.unlink(missing_ok=True)
    return report_shard(plan, keys, embedded)


def embed_parts(plan: ShardPlan, keys: Sequence[PartKey], embedder: Embedder) -> Iterator[int]:
    """Embed the photos of some parts in one stream, and write each part once it is whole; yield the photos so far."""
    stream = embedder.embed(plan.root / path for key in keys for path in plan.list_photos(key)["path"].to_list())
    done = 0
    for key in keys:
        photos = plan.list_photos(key)
        embedded: list[Embedded] = []
        for photo in islice(stream, photos.height):
            embedded.append(photo)
            yield done + len(embedded)
        finish_part(plan, key, photos, embedded)
        done += photos.height


def finish_part(plan: ShardPlan, key: PartKey, photos: pl.DataFrame, embedded: Sequence[Embedded]) -> Path:
    """Write a part; raise ObeliskError instead if there are no photos because their folder is gone."""
    if all(isinstance(photo.error, PhotoMissingError) for photo in embedded) and is_bare(plan.root):
        fix = "if a disk is not mounted, mount it, and run the command again"
        raise ObeliskError("the photos are gone with their folder", where=plan.root, fix=fix)
    fields = plan.fields
    return write_part(
        plan.parts,
        key,
        photos,
        embedded,
        dimensions=fields.dimensions,
        stored=fields.stored,
        model=fields.fingerprint,
    )


def is_bare(folder: Path) -> bool:
    """Return whether a folder is missing, unreadable or empty, as a mount point without its disk is."""
    try:
        return not any(folder.iterdir())
    except OSError:
        return True


def report_shard(plan: ShardPlan, keys: Iterable[PartKey], embedded: int) -> ShardReport:
    """Report on finished parts, of which this process embedded so many photos."""
    found = find_parts(plan.parts)
    photos, failed = 0, []
    for key in keys:
        frame = read_part(found[key], plan.fields.dimensions, plan.fields.fingerprint)
        photos += frame.height
        unusable = frame.filter(pl.col("error").is_not_null()).select("path", "error")
        failed += [(plan.root / path, error) for path, error in unusable.iter_rows()]
    return ShardReport(photos=photos, embedded=embedded, failed=tuple(failed), missing=plan.list_missing(found))
