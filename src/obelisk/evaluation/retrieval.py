"""Retrieval, as the benchmarks ask for it: all photos of a database, ranked by their similarity to a query.

The rows are those of the model's embedder, rounded as a gallery keeps them, and compared by their cosine, as a gallery
searches. With ``query``, each query is averaged with its nearest rows and searched again; with ``references``, each row
of the database is averaged with its nearest (:mod:`obelisk.recognition.rerank.query_expansion`). Verification compares
the geometry of a query with its 100 nearest photos whose files are at hand, and reorders these
(:mod:`obelisk.recognition.rerank.geometry`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl

from obelisk.arrays import Embeddings, Integers, l2_normalize
from obelisk.embedding import Bundle, CachedEmbedder, Embedder
from obelisk.embedding.shards import read_plan
from obelisk.embedding.shards.part_file import find_parts, read_part
from obelisk.errors import MissingExtraError, PhotoError, UsageError
from obelisk.evaluation.part_search import NearestRows, PartedRows, find_nearest_rows
from obelisk.gallery import as_stored, refuse_directionless
from obelisk.photos import GivenPhoto, PhotoLike, map_in_order
from obelisk.recognition.rerank import EXPANSIONS, augment_all, expand_queries
from obelisk.recognition.rerank.geometry import Keypoints, find_keypoints, has_opencv, most_inliers, raise_scores
from obelisk.recognition.rerank.query_expansion import QUERY_NEIGHBORS
from obelisk.records import Progress, no_progress

EMBEDDED_AT_ONCE = 4096  # photos
VERIFIED = 100  # nearest photos of a query that geometry may reorder
KEYPOINTS_KEPT = 4096  # photos, at most 140 KiB each
VERIFYING = "verifying"


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """How a search goes beyond the plain one.

    ``expand`` is ``none``, ``query`` or ``references``; ``verify`` asks for geometry.
    """

    expand: str = "none"
    verify: bool = False

    def __post_init__(self) -> None:
        if self.expand not in EXPANSIONS:
            raise UsageError(f"unknown expansion `{self.expand}`", fix=f"choose one of {', '.join(EXPANSIONS)}")
        if self.verify and not has_opencv():
            raise MissingExtraError("verify", needed_for="geometric verification")


PLAIN = Retrieval()


def embed_files(embedder: CachedEmbedder, paths: Sequence[Path]) -> tuple[Embeddings, dict[int, PhotoError]]:
    """Embed photos as unit-norm rows (N, D); also return what failed, by index: such a row is zero.

    Rows are cached as they are computed, so that an interrupted benchmark goes on where it was.
    """
    rows = np.zeros((len(paths), embedder.bundle.dimensions), np.float32)
    failed: dict[int, PhotoError] = {}
    for start in range(0, len(paths), EMBEDDED_AT_ONCE):
        photos = embedder.embed(paths[start : start + EMBEDDED_AT_ONCE], hashed=False)
        for index, photo in enumerate(refuse_directionless(photos), start=start):
            if photo.error:
                failed[index] = photo.error
            elif photo.embedding is not None:
                rows[index] = photo.embedding
    return l2_normalize(rows, strict=False), failed


def embed_queries(embedder: Embedder, photos: Sequence[PhotoLike | GivenPhoto]) -> Embeddings:
    """Embed queries as unit-norm rows (Q, D); raises PhotoError for one that can't be used."""
    rows = []
    for photo in refuse_directionless(embedder.embed(photos, hashed=False)):
        if photo.error or photo.embedding is None:
            raise photo.error or PhotoError("the photo has no embedding", where=photo.path)
        rows.append(photo.embedding)
    return l2_normalize(np.stack(rows), dimensions=embedder.bundle.dimensions)


def read_distractors(folder: Path, bundle: Bundle) -> PartedRows:
    """Return what ``obelisk embed`` left in a folder, as rows that follow a database; they are read part by part.

    Photos that could not be embedded are left out. Raises ModelError if the embeddings are of another model, DataError
    if parts are missing or damaged.
    """
    plan = read_plan(folder)
    plan.refuse_other_model(bundle)
    parts = find_parts(plan.parts)
    plan.refuse_missing(parts)

    def read_rows(path: Path) -> Embeddings:
        rows = read_part(path, bundle.dimensions, bundle.fingerprint)["embedding"].drop_nulls().to_numpy()
        return as_stored(l2_normalize(rows.reshape(-1, bundle.dimensions)))

    count = pl.scan_parquet([*parts.values()]).select(pl.col("error").is_null().sum()).collect().item()
    return PartedRows(count=count, read=lambda: map(read_rows, parts.values()))


def expand(
    queries: Embeddings, rows: Embeddings, others: PartedRows | None, how: Retrieval, progress: Progress = no_progress
) -> tuple[Embeddings, PartedRows]:
    """Return the queries (Q, D) and the database to search: rows (N, D), followed by ``others``, expanded.

    Rows are rounded as a gallery keeps them.
    """
    rows = as_stored(rows)
    if how.expand == "references":
        if others:
            fix = "expand the query, or leave the distractors out"
            raise UsageError("distractors that are read part by part can't be augmented", fix=fix)
        rows = augment_all(rows)
    database = PartedRows.of_array(rows)
    if others:
        database = database.followed_by(others)
    if how.expand == "query":
        nearest = find_nearest_rows(queries, database, QUERY_NEIGHBORS, progress)
        queries = expand_queries(queries, nearest.rows, nearest.similarities)
    return queries, database


def reorder(
    nearest: NearestRows, queries: Sequence[PhotoLike | GivenPhoto], files: Sequence[Path], progress: Progress
) -> Integers:
    """Return the nearest rows (Q, k), reordered by geometry.

    ``files`` are those of the first rows of the database; a row without a file keeps its similarity.
    """
    keypoints_of: Callable[[int], Keypoints] = lru_cache(maxsize=KEYPOINTS_KEPT)(
        lambda index: find_keypoints(files[index])
    )

    def verify(query: int) -> Integers:
        keypoints = find_keypoints(queries[query])
        indices = nearest.indices[query]
        inliers = [
            most_inliers(keypoints, [keypoints_of(int(index)) if index < len(files) else None]) for index in indices
        ]
        scores = np.clip(nearest.similarities[query].astype(np.float64), 0.0, 1.0)
        raised = raise_scores(scores, np.nan_to_num(np.array(inliers), nan=0.0))
        reordered: Integers = indices[np.argsort(-raised, kind="stable")]
        return reordered

    orders = []
    for done, order in enumerate(map_in_order(verify, range(len(queries))), start=1):
        orders.append(order)
        progress(VERIFYING, done, len(queries))
    return np.array(orders, np.int64).reshape(nearest.indices.shape)
