"""The first stage of an evaluation, on disk: what a recognizer said about every query.

Metrics, intervals and reports are made from this file alone, so that none of them runs a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from obelisk.arrays import Floats, Integers
from obelisk.errors import DataError
from obelisk.evaluation.metrics import NO_LANDMARK
from obelisk.files import open_limited, replace_file

# Of a file that is read: GLDv2's 117,577 queries take about 20 MB.
LARGEST = 2**29  # bytes
MOST_QUERIES = 10**7
MOST_CELLS = 10**8  # of a column, when short rows are padded

Strings = NDArray[np.str_]

# One row per query, rows in the order of the query ids. Lists keep their lengths: nothing is padded on disk.
COLUMNS = pl.Schema(
    {
        "query_id": pl.String(),
        "landmark_ids": pl.List(pl.Int64()),
        "candidate_ids": pl.List(pl.Int64()),
        "candidate_scores": pl.List(pl.Float64()),
        "confidence": pl.Float64(),
        "neighbour_ids": pl.List(pl.String()),
        "similarities": pl.List(pl.Float32()),
        "made_by": pl.String(),
    }
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """What a recognizer said about Q queries, in the order of their ids.

    ================  ======  ===============================================================
    ``query_ids``     (Q,)    ids of the query photos, ascending, each once
    ``truths``        (Q, L)  landmark ids that are true, padded with ``NO_LANDMARK``
    ``candidates``    (Q, T)  landmark ids, best first, padded with ``NO_LANDMARK``
    ``scores``        (Q, T)  their scores, higher is better; 0 where there is no candidate
    ``confidence``    (Q,)    that the first candidate is right, in [0, 1]
    ``neighbors``     (Q, K)  ids of the nearest reference photos, nearest first, padded with ``""``
    ``similarities``  (Q, K)  their cosine similarities; 0 where there is no neighbor
    ================  ======  ===============================================================

    A query that could not be read has no candidate, no neighbor and confidence 0: it counts as missed.
    ``made_by`` is the fingerprint of the model, data and settings that the predictions depend on.
    """

    query_ids: Strings
    truths: Integers
    candidates: Integers
    scores: Floats
    confidence: Floats
    neighbors: Strings
    similarities: NDArray[np.float32]
    made_by: str = ""

    @property
    def answers(self) -> Integers:
        """The first candidates (Q,), ``NO_LANDMARK`` where there is none."""
        return self.candidates[:, 0]


def collect_predictions(
    *,
    query_ids: Sequence[str],
    truths: Sequence[Sequence[int]],
    candidates: Sequence[Sequence[int]] | Integers,
    scores: Sequence[Sequence[float]] | Floats,
    confidence: Sequence[float] | Floats,
    neighbors: Sequence[Sequence[str]],
    similarities: Sequence[Sequence[float]] | NDArray[np.float32],
    made_by: str = "",
) -> Predictions:
    """Collect the answers to Q queries, in any order, in arrays ordered by query id.

    Rows of the nested sequences may differ in length. Raises DataError when there is no query, when an
    id comes twice, or when the sequences do not have Q rows each.
    """
    Q = len(query_ids)
    if Q == 0:
        raise DataError("no query to evaluate", fix="give a dataset with test photos")
    lengths = {len(rows) for rows in (truths, candidates, scores, confidence, neighbors, similarities)}
    if lengths != {Q}:
        raise DataError(f"predictions of {Q} queries with columns of {sorted(lengths)} rows")
    ids, order, counts = np.unique(np.asarray(query_ids, dtype=np.str_), return_index=True, return_counts=True)
    if len(ids) != Q:
        raise DataError(f"query `{ids[counts.argmax()]}` is listed {counts.max()} times", fix="list it once")
    return Predictions(
        query_ids=ids,
        truths=fill_up(truths, NO_LANDMARK, np.int64)[order],
        candidates=fill_up(candidates, NO_LANDMARK, np.int64)[order],
        scores=fill_up(scores, 0.0, np.float64)[order],
        confidence=np.asarray(confidence, dtype=np.float64)[order],
        neighbors=fill_up(neighbors, "", np.str_)[order],
        similarities=fill_up(similarities, 0.0, np.float32)[order],
        made_by=made_by,
    )


def fill_up(rows: Sequence[Sequence[Any]] | NDArray[Any], filler: object, dtype: Any) -> NDArray[Any]:
    """Return rows of any lengths as one array (Q, longest row, at least 1)."""
    width = max(1, *(len(row) for row in rows))
    return np.array([[*row, *[filler] * (width - len(row))] for row in rows], dtype=dtype)


def write_predictions(path: Path, predictions: Predictions) -> Path:
    """Write predictions as parquet, whole or not at all; equal predictions give equal bytes."""
    named = (predictions.candidates != NO_LANDMARK).sum(axis=1)
    true = (predictions.truths != NO_LANDMARK).sum(axis=1)
    near = (predictions.neighbors != "").sum(axis=1)
    frame = pl.DataFrame(
        {
            "query_id": predictions.query_ids.tolist(),
            "landmark_ids": trim_rows(predictions.truths, true),
            "candidate_ids": trim_rows(predictions.candidates, named),
            "candidate_scores": trim_rows(predictions.scores, named),
            "confidence": predictions.confidence.tolist(),
            "neighbour_ids": trim_rows(predictions.neighbors, near),
            "similarities": trim_rows(predictions.similarities, near),
            "made_by": [predictions.made_by] * len(predictions.query_ids),
        },
        schema=COLUMNS,
    )
    return replace_file(
        path,
        lambda partial: frame.write_parquet(partial, compression="zstd", compression_level=3, row_group_size=65536),
    )


def trim_rows(rows: NDArray[Any], lengths: Integers) -> list[list[Any]]:
    """Return the first ``lengths[q]`` values of each row."""
    return [row[:length] for row, length in zip(rows.tolist(), lengths.tolist(), strict=True)]


def read_predictions(path: Path) -> Predictions:
    """Read predictions that :func:`write_predictions` wrote; raises DataError for another file, or none."""
    if not path.is_file():
        raise DataError("no predictions here", where=path, fix="obelisk evaluate RUN --data DIR")
    fix = "delete it, and run `obelisk evaluate` again"
    try:
        with open_limited(path, LARGEST):
            queries = pl.scan_parquet(path).select(pl.len()).collect().item()
        if queries > MOST_QUERIES:
            raise DataError(f"predictions of {queries:,} queries, more than {MOST_QUERIES:,}", where=path, fix=fix)
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DataError(f"unreadable predictions ({reason})", where=path, fix=fix) from error
    if frame.schema != COLUMNS:
        missing = ", ".join(f"`{name}`" for name in COLUMNS if frame.schema.get(name) != COLUMNS[name])
        raise DataError(f"not a file of predictions: columns {missing} are missing or differ", where=path)
    try:
        return parse_frame(frame)
    except (TypeError, ValueError) as error:
        raise DataError(f"unreadable predictions ({error})", where=path, fix=fix) from error


def parse_frame(frame: pl.DataFrame) -> Predictions:
    """Return predictions as arrays; raises TypeError or ValueError for empty cells and for rows that don't fit."""
    lengths = frame.select(pl.col(pl.List).list.len())
    if len(frame) * max([0, *(column.max() or 0 for column in lengths)]) > MOST_CELLS:  # type: ignore[operator]
        raise ValueError(f"more than {MOST_CELLS:,} cells")
    for one, other in (("candidate_ids", "candidate_scores"), ("neighbour_ids", "similarities")):
        if not lengths[one].equals(lengths[other]):
            raise ValueError(f"`{one}` and `{other}` differ in length")
    predictions = collect_predictions(
        query_ids=frame["query_id"].to_list(),
        truths=frame["landmark_ids"].to_list(),
        candidates=frame["candidate_ids"].to_list(),
        scores=frame["candidate_scores"].to_list(),
        confidence=frame["confidence"].to_list(),
        neighbors=frame["neighbour_ids"].to_list(),
        similarities=frame["similarities"].to_list(),
        made_by=frame["made_by"][0] if len(frame) else "",
    )
    if not (np.isfinite(predictions.scores).all() and np.isfinite(predictions.confidence).all()):
        raise ValueError("a score or confidence is not finite")
    return predictions
