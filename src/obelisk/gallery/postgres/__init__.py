"""Galleries in PostgreSQL, with pgvector's ``halfvec`` for the embeddings: the extra ``cluster``."""

from __future__ import annotations

from obelisk.gallery.postgres.pgvector_candidates import make_pgvector, open_pgvector
from obelisk.gallery.postgres.postgres_truth import PostgresTruth

__all__ = ["PostgresTruth", "make_pgvector", "open_pgvector"]
