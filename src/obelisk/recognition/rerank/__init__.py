"""What reorders neighbors or candidates by better evidence than the plain similarity."""

from __future__ import annotations

from obelisk.recognition.rerank.background import BackgroundReranker
from obelisk.recognition.rerank.geometry import GeometricVerifier, KeypointCache, make_inlier_counter
from obelisk.recognition.rerank.prototypes import PrototypeReranker, compute_prototypes
from obelisk.recognition.rerank.query_expansion import (
    EXPANSIONS,
    ExpandedSearch,
    augment_all,
    augment_references,
    expand_queries,
    expand_search,
)
from obelisk.recognition.rerank.reranker import Reranker, Shortlist, find_shortlist

__all__ = [
    "EXPANSIONS",
    "BackgroundReranker",
    "ExpandedSearch",
    "GeometricVerifier",
    "KeypointCache",
    "PrototypeReranker",
    "Reranker",
    "Shortlist",
    "augment_all",
    "augment_references",
    "compute_prototypes",
    "expand_queries",
    "expand_search",
    "find_shortlist",
    "make_inlier_counter",
]
