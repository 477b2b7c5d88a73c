"""The array types that all rooms share, their shape letters, and the one L2 normalization.

Shape letters are the same everywhere: N photos, Q queries, D dimensions, C landmarks, K neighbors, H W pixels. An alias
gives the element type; the docstring of each function gives the shapes that it takes and returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from obelisk.errors import UsageError

Embeddings = NDArray[np.float32]
"""rows (N, D), of unit length unless a docstring says otherwise"""
Floats = NDArray[np.float64]
"""scores, metrics, confidences"""
Integers = NDArray[np.int64]
"""landmark ids, row indices, counts"""
Booleans = NDArray[np.bool_]
"""masks"""
Pixels = NDArray[np.uint8]
"""an upright RGB photo, (H, W, 3)"""

T = TypeVar("T")

ROWS_AT_ONCE = 1 << 14  # so that float64 copies stay small


def l2_normalize(embeddings: NDArray[np.floating], *, dimensions: int | None = None, strict: bool = True) -> Embeddings:
    """Return the embeddings (N, D) as float32 rows of unit length.

    Raises :class:`UsageError` if the shape isn't (N, ``dimensions``), or if a row is zero or not finite. If not
    ``strict``, zero rows stay zero, and rows that aren't finite contain nan.
    """
    rows = np.asarray(embeddings)
    if rows.ndim != 2 or dimensions not in (None, rows.shape[1]):
        raise UsageError(f"embeddings of shape {rows.shape}", fix=f"give an array of shape (N, {dimensions or 'D'})")
    units = np.empty(rows.shape, dtype=np.float32)
    for part in parts_of(len(rows)):
        precise = rows[part].astype(np.float64)
        lengths = row_norms(precise)
        if strict and not (usable := has_direction(lengths)).all():
            where = f"row {part.start + usable.argmin()}"
            raise UsageError("an embedding that is zero or not finite", where=where, fix="leave it out")
        with np.errstate(invalid="ignore"):
            np.divide(precise, np.where(lengths == 0, 1.0, lengths)[:, None], out=units[part], casting="same_kind")
    return units


def row_norms(rows: NDArray[np.floating]) -> Floats:
    """Return the lengths (N,) of rows (N, D), computed in float64; they are not finite if the rows aren't."""
    precise = rows.astype(np.float64, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths: Floats = np.sqrt(np.vecdot(precise, precise))
    return lengths


def has_direction(norms: Floats) -> Booleans:
    """Return which norms (N,) belong to rows that can be compared with others: they are positive and finite."""
    directed: Booleans = (norms > 0) & np.isfinite(norms)
    return directed


def paired_cosines(rows: NDArray[np.floating], others: NDArray[np.floating]) -> Floats:
    """Return the cosine (N,) of each row (N, D) with its counterpart (N, D).

    It is 0 if one of the two is zero, and nan if one is not finite.
    """
    pairs = (l2_normalize(side, strict=False).astype(np.float64) for side in (rows, others))
    cosines: Floats = np.vecdot(*pairs)
    return cosines


def parts_of(count: int) -> Iterator[slice]:
    """Yield slices that cover ``count`` rows, few enough in each for a float64 copy."""
    for start in range(0, count, ROWS_AT_ONCE):
        yield slice(start, start + ROWS_AT_ONCE)


def join_columns(parts: Sequence[T]) -> T:
    """Concatenate records of one class whose fields are all arrays with a row for each query, field by field."""
    columns = {name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])}
    return type(parts[0])(**columns)


def indices_of(ids: Integers, rows: Integers) -> Integers:
    """Return the indices of rows among the ascending ``ids`` (N,), which must hold them all."""
    if len(ids) and int(ids[-1]) - int(ids[0]) == len(ids) - 1:  # without gaps there is no need to search
        return np.asarray(rows - ids[0])
    return np.searchsorted(ids, rows)
