"""The protocol of Revisited Oxford and Paris: mAP and mean precision at 1, 5 and 10, three times.

Queries are cropped to their boxes, and all photos of the database are ranked for each. What counts as found, and what
is taken out of the ranking, depends on the difficulty:

==========  ==============  ==============
difficulty  to be found     taken out
==========  ==============  ==============
``easy``    easy            hard and junk
``medium``  easy and hard   junk
``hard``    hard            easy and junk
==========  ==============  ==============

A query with nothing to be found at a difficulty is left out of its means. (The benchmark's own code turns the sum of
precisions to nan there.) Distractors, as the million of R1M, may follow the database: embedded photos, read part by
part. Radenović, Iscen, Tolias, Avrithis & Chum, CVPR 2018.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
from PIL import Image

from obelisk.arrays import Floats, Integers
from obelisk.data.formats.revisited import RevisitedDataset, RevisitedQuery
from obelisk.embedding import Bundle, CachedEmbedder
from obelisk.errors import DataError
from obelisk.evaluation.intervals import Interval, bootstrap, draw_resamples, percentile_interval
from obelisk.evaluation.metrics import precision_at, trapezoid_precision
from obelisk.evaluation.part_search import PartedRows, find_nearest_rows, find_ranks
from obelisk.evaluation.protocol import plain, plain_interval
from obelisk.evaluation.retrieval import PLAIN, VERIFIED, Retrieval, embed_files, embed_queries, expand, reorder
from obelisk.photos import read_photo
from obelisk.records import Progress, no_progress

DIFFICULTIES = {
    "easy": (("easy",), ("hard", "junk")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("easy", "junk")),
}
"""difficulty → labels to be found, labels that are taken out"""
DEPTHS = (1, 5, 10)
FIGURES = ("map", *(f"mp{k}" for k in DEPTHS))
TOLERANCE = 1.0  # pixels that a box may lie outside its photo


@dataclass(frozen=True, kw_only=True, eq=False)
class RevisitedResult:
    """The result of the protocol: figures and their 95 % intervals, by difficulty and name (:data:`FIGURES`).

    ``per_query`` has, for each difficulty, a row (Q, 4) of these figures for each query; nan where it has nothing to
    be found. ``distractors`` counts the photos that follow the database.
    """

    name: str
    queries: tuple[str, ...]
    photos: int
    distractors: int
    how: Retrieval
    per_query: Mapping[str, Floats]
    figures: Mapping[str, Mapping[str, float]]
    intervals: Mapping[str, Mapping[str, Interval]]

    def to_fields(self) -> dict[str, object]:
        """Return what :meth:`to_json` writes."""
        return {
            "protocol": self.name,
            "photos": self.photos,
            "distractors": self.distractors,
            "queries": len(self.queries),
            "expand": self.how.expand,
            "verify": self.how.verify,
            **{
                difficulty: {
                    **{name: plain(value) for name, value in figures.items()},
                    "queries": int(np.isfinite(self.per_query[difficulty][:, 0]).sum()),
                    "intervals": {name: plain_interval(found) for name, found in self.intervals[difficulty].items()},
                }
                for difficulty, figures in self.figures.items()
            },
        }

    def to_json(self) -> str:
        """Return one line of JSON, as ``obelisk evaluate --protocol roxford5k --json`` prints it."""
        return json.dumps(self.to_fields())

    def table(self) -> pl.DataFrame:
        """Return a row for each query and difficulty: what a paired comparison of two models needs."""
        return pl.concat(
            pl.DataFrame({"query": self.queries, "difficulty": difficulty}).hstack(
                pl.DataFrame(rows, schema=list(FIGURES)).fill_nan(None)
            )
            for difficulty, rows in self.per_query.items()
        )


def evaluate_revisited(
    bundle: Bundle,
    dataset: RevisitedDataset,
    *,
    how: Retrieval = PLAIN,
    distractors: PartedRows | None = None,
    progress: Progress = no_progress,
) -> RevisitedResult:
    """Run the protocol with a bundle's embeddings.

    ``distractors`` are rows (N, D) of the same bundle. Raises DataError for a box outside its photo, and PhotoError for
    a photo that can't be read: figures of an incomplete benchmark can't be compared with any other.
    """
    crops = [crop_query(query) for query in dataset.queries]
    embedder = CachedEmbedder(bundle, progress=progress)
    queries = embed_queries(embedder, crops)
    rows, failed = embed_files(embedder, dataset.photos)
    if failed:
        raise next(iter(failed.values()))
    wanted = [np.concatenate([query.easy, query.hard, query.junk]) for query in dataset.queries]
    queries, database = expand(queries, rows, distractors, how, progress)
    ranks = find_ranks(queries, database, wanted, progress)
    if how.verify:
        nearest = find_nearest_rows(queries, database, VERIFIED, progress)
        order = reorder(nearest, crops, dataset.photos, progress)
        ranks = [move_ranks(*row) for row in zip(ranks, wanted, order, strict=True)]
    return measure_revisited(dataset, ranks, how, distractors.count if distractors else 0)


def crop_query(query: RevisitedQuery) -> Image.Image:
    """Return the part of a query photo that is asked for; raise DataError if its box lies outside the photo."""
    photo = read_photo(query.path)
    left, top, right, bottom = query.box
    if min(left, top) < -TOLERANCE or right > photo.width + TOLERANCE or bottom > photo.height + TOLERANCE:
        what = f"the box ({left:g}, {top:g}, {right:g}, {bottom:g}) of query `{query.name}` lies outside its photo of "
        what += f"{photo.width} × {photo.height} pixels"
        raise DataError(what, where=query.path, fix="use the benchmark's own photos, in their full size")
    return photo.crop((round(left), round(top), round(right), round(bottom)))


def move_ranks(ranks: Integers, wanted: Integers, order: Integers) -> Integers:
    """Return the ranks (n,) of wanted rows (n,) once the nearest rows come in another ``order`` (k,)."""
    position = {int(row): rank for rank, row in enumerate(order)}
    return np.array([position.get(int(row), rank) for row, rank in zip(wanted, ranks, strict=True)], np.int64)


def measure_revisited(
    dataset: RevisitedDataset, ranks: list[Integers], how: Retrieval, distractors: int = 0
) -> RevisitedResult:
    """Measure rankings: for each query, the ranks of its easy, hard and junk photos, in this order."""
    per_query: dict[str, list[list[float]]] = {difficulty: [] for difficulty in DIFFICULTIES}
    for query, found in zip(dataset.queries, ranks, strict=True):
        ends = np.cumsum([len(query.easy), len(query.hard)])
        of_label = dict(zip(("easy", "hard", "junk"), np.split(found, ends), strict=True))
        for difficulty, labels in DIFFICULTIES.items():
            positive, junk = (np.concatenate([of_label[label] for label in part]) for part in labels)
            precisions = [precision_at(positive, junk, k) for k in DEPTHS]
            per_query[difficulty].append([trapezoid_precision(positive, junk), *precisions])
    measured = {difficulty: np.array(rows, np.float64) for difficulty, rows in per_query.items()}
    figures, intervals = {}, {}
    for difficulty, rows in measured.items():
        asked = rows[np.isfinite(rows[:, 0])]
        figures[difficulty] = mean_of_columns(asked, np.arange(len(asked)))
        every = np.arange(len(asked))
        samples = bootstrap(partial(mean_of_columns, asked), draw_resamples(every, 0 * every))
        intervals[difficulty] = {name: percentile_interval(values) for name, values in samples.items()}
    return RevisitedResult(
        name=dataset.name,
        queries=tuple(query.name for query in dataset.queries),
        photos=len(dataset.photos),
        distractors=distractors,
        how=how,
        per_query=measured,
        figures=figures,
        intervals=intervals,
    )


def mean_of_columns(rows: Floats, drawn: Integers) -> dict[str, float]:
    """Return the mean of each figure over the drawn queries; nan for none."""
    means = rows[drawn].mean(axis=0) if len(drawn) else np.full(len(FIGURES), np.nan)
    return dict(zip(FIGURES, map(float, means), strict=True))
