"""The two protocols of Google Landmarks v2: retrieval by mAP@100, recognition by GAP.

Retrieval ranks the index photos for each query; a query photo or index photo that can't be read is missed. Recognition
answers the test photos, of which most show no landmark, from a gallery of the training photos, as
``obelisk recognize`` answers. Queries whose usage is Ignored play no part; figures are given for Public and Private
queries as well. Weyand, Araujo, Cao & Sim, *Google Landmarks Dataset v2*, CVPR 2020.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from obelisk.arrays import Booleans, Integers
from obelisk.data import Catalog
from obelisk.data.formats.gldv2_retrieval import USAGES, RetrievalDataset
from obelisk.embedding import Bundle, CachedEmbedder
from obelisk.evaluation.intervals import Interval, draw_resamples, percentile_interval
from obelisk.evaluation.metrics import NO_LANDMARK, average_precision, find_hits, mean, ranked_precision
from obelisk.evaluation.part_search import find_nearest_rows
from obelisk.evaluation.predictions import Predictions
from obelisk.evaluation.protocol import plain, plain_interval
from obelisk.evaluation.retrieval import PLAIN, VERIFIED, Retrieval, embed_files, expand, reorder
from obelisk.records import Progress, no_progress

DEPTH = 100  # of mAP@100
QUERIES_AT_ONCE = 2048


@dataclass(frozen=True, kw_only=True, eq=False)
class Gldv2Result:
    """The result of a protocol: ``metric`` (``map100`` or ``gap``) of all queries and by usage, with 95 % intervals.

    ``left_out`` says which photos could not be used, and why.
    """

    protocol: str
    metric: str
    photos: int
    how: Retrieval
    queries: Mapping[str, int]
    figures: Mapping[str, float]
    intervals: Mapping[str, Interval]
    left_out: Sequence[str]
    per_query: pl.DataFrame

    def to_fields(self) -> dict[str, object]:
        """Return what :meth:`to_json` writes."""
        by_usage = [name for name in self.figures if name != "all"]
        return {
            "protocol": self.protocol,
            "photos": self.photos,
            "queries": self.queries["all"],
            "expand": self.how.expand,
            "verify": self.how.verify,
            self.metric: plain(self.figures["all"]),
            "interval": plain_interval(self.intervals["all"]),
            **{
                name.lower(): {
                    "queries": self.queries[name],
                    self.metric: plain(self.figures[name]),
                    "interval": plain_interval(self.intervals[name]),
                }
                for name in by_usage
            },
        }

    def to_json(self) -> str:
        """Return one line of JSON, as ``obelisk evaluate --protocol gldv2-retrieval --json`` prints it."""
        return json.dumps(self.to_fields())

    def table(self) -> pl.DataFrame:
        """Return a row for each query: what a paired comparison of two models needs."""
        return self.per_query


def evaluate_gldv2_retrieval(
    bundle: Bundle, dataset: RetrievalDataset, *, how: Retrieval = PLAIN, progress: Progress = no_progress
) -> Gldv2Result:
    """Rank the index for each query with a bundle's embeddings, and measure mAP@100."""
    embedder = CachedEmbedder(bundle, progress=progress)
    index, queries = (dataset.locate(photos) for photos in (dataset.index, dataset.queries))
    rows, failed = embed_files(embedder, index)
    asked, unreadable = embed_files(embedder, queries)
    usable = np.setdiff1d(np.arange(len(index)), np.array([*failed], np.int64))
    answered = np.setdiff1d(np.arange(len(queries)), np.array([*unreadable], np.int64))
    files = [index[row] for row in usable]
    found: list[list[str]] = [[] for _ in queries]
    names = dataset.index["image_id"].gather(usable)
    expanded, database = expand(asked[answered], rows[usable], None, how, progress)
    for start in range(0, len(answered), QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        nearest = find_nearest_rows(expanded[part], database, max(DEPTH, VERIFIED), progress)
        order = nearest.indices
        if how.verify:
            order = reorder(nearest, [queries[row] for row in answered[part]], files, progress)
        for query, best in zip(answered[part], order[:, :DEPTH], strict=True):
            found[query] = names.gather(best).to_list()
    relevant = np.zeros((len(queries), DEPTH), dtype=bool)
    expected = dataset.queries["images"].to_list()
    for hits, photos, wanted in zip(relevant, found, map(frozenset, expected), strict=True):
        hits[: len(photos)] = [photo in wanted for photo in photos]
    precision = average_precision(relevant, np.array([len(set(ids)) for ids in expected], np.int64), DEPTH)
    return summarize_usages(
        protocol="gldv2-retrieval",
        metric="map100",
        photos=len(usable),
        how=how,
        usages=dataset.queries["usage"].to_list(),
        statistic=lambda drawn: mean(precision[drawn]),
        left_out=[str(error) for error in (*failed.values(), *unreadable.values())],
        per_query=dataset.queries.select(query="image_id", usage="usage").with_columns(average_precision=precision),
    )


def measure_gldv2_recognition(
    predictions: Predictions, catalog: Catalog, *, how: Retrieval, left_out: Sequence[str] = ()
) -> Gldv2Result:
    """Measure GAP of what a recognizer answered to the test photos of GLDv2, by usage."""
    usage = dict(catalog.queries.select("image_id", "usage").iter_rows())
    right = find_hits(predictions.candidates[:, :1], predictions.truths)[:, 0]
    answered = predictions.answers != NO_LANDMARK
    has_landmark = (predictions.truths != NO_LANDMARK).any(axis=1)
    ranked = np.argsort(-predictions.confidence, kind="stable")  # ties by query id, which is the order of the rows
    ids = predictions.query_ids[ranked]
    return summarize_usages(
        protocol="gldv2-recognition",
        metric="gap",
        photos=catalog.references.height,
        how=how,
        usages=[usage[str(query)] for query in ids],
        statistic=gap_of_rows(right[ranked], answered[ranked], has_landmark[ranked]),
        left_out=left_out,
        per_query=pl.DataFrame(
            {
                "query": ids.tolist(),
                "usage": [usage[str(query)] for query in ids],
                "confidence": predictions.confidence[ranked],
                "right": right[ranked],
            }
        ).sort("query"),
    )


def gap_of_rows(right: Booleans, answered: Booleans, has_landmark: Booleans) -> Callable[[Integers], float]:
    """Return what measures GAP of any of Q ranked queries, given by ascending rows."""

    def measure(rows: Integers) -> float:
        return ranked_precision(right[rows][answered[rows]], int(has_landmark[rows].sum()))

    return measure


def summarize_usages(
    *,
    protocol: str,
    metric: str,
    photos: int,
    how: Retrieval,
    usages: Sequence[str],
    statistic: Callable[[Integers], float],
    left_out: Sequence[str],
    per_query: pl.DataFrame,
) -> Gldv2Result:
    """Measure a statistic of rows on all Q queries and on those of each usage, with intervals over queries."""
    usage = np.array(usages, dtype=np.str_)
    groups = {"all": np.arange(len(usage))} | {name: np.flatnonzero(usage == name) for name in USAGES}
    groups = {name: rows for name, rows in groups.items() if len(rows)}
    intervals = {}
    for name, rows in groups.items():
        every = np.arange(len(rows))
        samples = [statistic(rows[drawn]) for drawn in draw_resamples(every, 0 * every)]
        intervals[name] = percentile_interval(np.array(samples))
    return Gldv2Result(
        protocol=protocol,
        metric=metric,
        photos=photos,
        how=how,
        queries={name: len(rows) for name, rows in groups.items()},
        figures={name: statistic(rows) for name, rows in groups.items()},
        intervals=intervals,
        left_out=left_out,
        per_query=per_query,
    )
