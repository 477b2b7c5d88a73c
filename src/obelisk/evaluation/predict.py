"""The first stage of an evaluation: embeddings or probabilities of the queries become predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Embeddings
from obelisk.data import Catalog
from obelisk.evaluation.predictions import Predictions, collect_predictions
from obelisk.gallery import nearest_rows
from obelisk.recognition import recognize_embeddings

TOP = 5
RETRIEVED = 100


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """The photos of a catalog as one run sees them.

    ``references`` (N, D) and ``queries`` (Q, D) are unit rows in the catalog's order; ``failed_references`` and
    ``failed_queries`` are the places of photos that could not be read.
    """

    references: Embeddings
    queries: Embeddings
    failed_references: Collection[int] = ()
    failed_queries: Collection[int] = ()


def predict_by_neighbours(
    embedded: Embedded, catalog: Catalog, *, k: int = 3, vote: str = "weighted", made_by: str = ""
) -> Predictions:
    """Let the k nearest reference photos vote for each query's landmark; keep the 100 nearest, for retrieval."""
    kept = readable(len(embedded.references), embedded.failed_references)
    asked = readable(len(embedded.queries), embedded.failed_queries)
    references = catalog.references[kept]
    rows, queries = embedded.references[kept], embedded.queries[asked]
    ranking = recognize_embeddings(queries, rows, references["landmark_id"].to_numpy(), k=k, top=TOP, vote=vote)
    nearest, similarities = nearest_rows(queries, rows, min(RETRIEVED, len(rows)))
    names = references["image_id"].to_numpy()
    answers = dict(zip(asked.tolist(), range(len(asked)), strict=True))
    places = range(len(embedded.queries))
    return collect_predictions(
        query_ids=catalog.queries["image_id"].to_list(),
        truths=catalog.queries["landmark_ids"].to_list(),
        candidates=[ranking.candidates[answers[q]].tolist() if q in answers else [] for q in places],
        scores=[ranking.scores[answers[q]].tolist() if q in answers else [] for q in places],
        confidence=[float(ranking.confidence[answers[q]]) if q in answers else 0.0 for q in places],
        neighbours=[names[nearest[answers[q]]].tolist() if q in answers else [] for q in places],
        similarities=[similarities[answers[q]].tolist() if q in answers else [] for q in places],
        made_by=made_by,
    )


def predict_by_probabilities(
    probabilities: Embeddings, landmarks: NDArray[np.int64], by_neighbours: Predictions, catalog: Catalog
) -> Predictions:
    """Rank the landmarks of each query by a classifier's probabilities (Q, C) over ``landmarks`` (C,).

    ``by_neighbours`` are the predictions of the same embeddings' neighbours: what they show stays, for people
    to look at, and queries that failed there have failed here.
    """
    order = {image_id: place for place, image_id in enumerate(catalog.queries["image_id"])}
    rows = probabilities[[order[query] for query in by_neighbours.query_ids.tolist()]].astype(np.float64)
    best = np.argsort(-rows, axis=1, kind="stable")[:, :TOP]
    scores = np.take_along_axis(rows, best, axis=1)
    failed = by_neighbours.neighbours[:, 0] == ""
    return dataclasses.replace(
        by_neighbours,
        candidates=np.where(failed[:, None], -1, landmarks[best]),
        scores=np.where(failed[:, None], 0.0, scores),
        confidence=np.where(failed, 0.0, scores[:, 0]),
    )


def readable(photos: int, failed: Collection[int]) -> NDArray[np.int64]:
    """Return the places of the photos that could be read."""
    return np.setdiff1d(np.arange(photos), np.fromiter(failed, np.int64, len(failed)))
