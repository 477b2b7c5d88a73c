"""Candidates from pgvector's HNSW index, which the database itself keeps.

Every committed row is in the index, but its graph need not lead to a row that resembles no other. So that a search is
sure to see what was just added, the newest rows are compared one by one.
"""

from __future__ import annotations

import numpy as np

from obelisk.arrays import Embeddings, Integers
from obelisk.errors import GalleryError, quote
from obelisk.gallery.ann.candidates import OWN, PGVECTOR, EngineError
from obelisk.gallery.lookup import count_photos_after, count_reference_photos
from obelisk.gallery.postgres.pool import ConnectionPool
from obelisk.gallery.postgres.postgres_truth import PostgresTruth
from obelisk.records import Progress

INDEX_NAME = "embeddings_hnsw"
MAKE = (
    f"CREATE INDEX CONCURRENTLY {INDEX_NAME} ON embeddings"
    " USING hnsw (vector halfvec_cosine_ops) WITH (m = 16, ef_construction = 128)"
)
IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"
MOST_INDEXED = 4000  # dimensions of a halfvec in an HNSW index
LEAST_LIST = 100  # candidates
LOOKED_AT = 4  # rows for each candidate: with as many as candidates, 1.5 % of queries end in a wrong cluster
LONGEST_LIST = 1000  # the most that hnsw.ef_search allows
NEWEST = 4096  # rows that are compared one by one; at twice as many, only the newest of them are
PROPOSE = (
    "SELECT query.number, found.row FROM unnest(%s::text[]) WITH ORDINALITY AS query (vector, number),"
    " LATERAL (SELECT row FROM embeddings WHERE row <= %s ORDER BY vector <=> query.vector::halfvec LIMIT %s) AS found"
)


class PgvectorCandidates:
    """Candidates from the index of the database; see :class:`~obelisk.gallery.ann.candidates.Candidates`."""

    setting = PGVECTOR
    leaves_out = False

    def __init__(self, pool: ConnectionPool, *, last: int, count: int) -> None:
        self.last = last
        self._pool, self._count = pool, count

    def __len__(self) -> int:
        return self._count

    def still_pays(self, covered: int, newer: int) -> bool:
        """Return whether few rows are compared one by one: the database keeps the index."""
        self._count = covered
        return newer <= 2 * NEWEST

    def candidates(self, queries: Embeddings, k: int, *, gone: Integers, widening: int = 1) -> list[Integers]:
        """Return the nearest rows by the index; more than it can give by comparing all, in the database."""
        count = min(widening * max(LEAST_LIST, 2 * k), len(self))
        if count <= LONGEST_LIST:
            looked_at = min(LONGEST_LIST, LOOKED_AT * max(1, count))
            begin = f"BEGIN READ ONLY; SET LOCAL enable_seqscan = off; SET LOCAL hnsw.ef_search = {looked_at}"
        else:
            begin = "BEGIN READ ONLY; SET LOCAL enable_indexscan = off"
        texts = [f"[{','.join(map(str, query))}]" for query in queries.tolist()]
        with self._pool.transaction(begin) as connection:
            found = connection.execute(PROPOSE, (texts, self.last, count), binary=True).fetchall()
        numbers, rows = np.array(found, dtype=np.int64).reshape(-1, 2).T
        return [rows[numbers == number] for number in range(1, len(queries) + 1)]


def open_pgvector(truth: PostgresTruth) -> PgvectorCandidates:
    """Return the candidates of a gallery; raise :class:`EngineError` if its index is missing."""
    if truth.pool.fetch(IS_VALID, (INDEX_NAME,)) != [(True,)]:
        fix = f"make it: obelisk gallery index {quote(truth.name)} --engine {PGVECTOR}"
        raise EngineError("pgvector's index of the gallery is missing, or only half-made", where=truth.name, fix=fix)
    with truth.reading() as tables:
        found = tables.execute("SELECT row FROM photos ORDER BY row DESC OFFSET ? LIMIT 1", (NEWEST,)).fetchone()
        last = int(found[0]) if found else 0
        count = count_reference_photos(tables) - count_photos_after(tables, last)
        return PgvectorCandidates(truth.pool, last=last, count=count)


def make_pgvector(truth: PostgresTruth, dimensions: int, progress: Progress) -> None:
    """Make the index unless it is there; others may read and write meanwhile."""
    if dimensions > MOST_INDEXED:
        what = f"pgvector indexes up to {MOST_INDEXED} dimensions, the gallery has {dimensions}"
        raise GalleryError(what, where=truth.name, fix=f"use `--engine {OWN}`")
    valid = truth.pool.fetch(IS_VALID, (INDEX_NAME,))
    if valid == [(True,)]:
        return
    progress("indexing in the database", 0, 1)
    if valid:  # what an interrupted command left
        truth.pool.run(f"DROP INDEX {INDEX_NAME}")
    truth.pool.run(MAKE)
    progress("indexing in the database", 1, 1)
