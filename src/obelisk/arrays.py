"""The array types that all rooms share, their shape letters, and the one L2 normalization.

Shape letters are the same everywhere: N photos, Q queries, D dimensions, C landmarks, K neighbors, H W pixels. An alias
gives the element type; the docstring of each function gives the shapes that it takes and returns.
"""

from __future__ import annotations

from collections.abc import Iterator

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

ROWS_AT_ONCE = 1 << 14  # so that float64 copies stay small


def l2_normalize(embeddings: NDArray[np.floating], *, dimensions: int) -> Embeddings:
    """Return the embeddings (N, D) as float32 rows of unit length.

    Raises :class:`UsageError` if the shape isn't (N, ``dimensions``), or if a row is zero or not finite.
    """
    rows = np.asarray(embeddings)
    if rows.ndim != 2 or rows.shape[1] != dimensions:
        raise UsageError(f"embeddings of shape {rows.shape}", fix=f"give an array of shape (N, {dimensions})")
    units = np.empty(rows.shape, dtype=np.float32)
    for part in parts_of(len(rows)):
        precise = rows[part].astype(np.float64)
        with np.errstate(over="ignore"):
            lengths = np.sqrt(np.vecdot(precise, precise))
        usable = np.isfinite(lengths) & (lengths > 0)
        if not usable.all():
            where = f"row {part.start + usable.argmin()}"
            raise UsageError("an embedding that is zero or not finite", where=where, fix="leave it out")
        np.divide(precise, lengths[:, None], out=units[part], casting="same_kind")
    return units


def parts_of(count: int) -> Iterator[slice]:
    """Yield slices that cover ``count`` rows, few enough in each for a float64 copy."""
    for start in range(0, count, ROWS_AT_ONCE):
        yield slice(start, start + ROWS_AT_ONCE)
