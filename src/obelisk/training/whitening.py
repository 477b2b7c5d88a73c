"""PCA whitening of descriptors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obelisk.errors import RecipeError


def pca_whitening(rows: NDArray[np.float32], dimensions: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Learn ``y = P (x − μ)`` from rows (N, D_in); return P, (D, D_in), and the bias ``−P μ``, (D,).

    The rows of P are the leading eigenvectors of the covariance, each divided by the square root of its
    eigenvalue, so that no direction outweighs another. Jégou, Chum, *Negative Evidences and Co-occurrences in
    Image Retrieval*, ECCV 2012, section 3. P is scaled so that whitened rows have a mean length of one.

    Raises RecipeError when the rows span fewer than ``dimensions`` directions.
    """
    mean = rows.mean(axis=0, dtype=np.float64)
    centred = rows.astype(np.float64) - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(rows))
    # eigh gives ascending eigenvalues; a sign convention makes the result the same everywhere.
    values, vectors = values[::-1][:dimensions], vectors[:, ::-1][:, :dimensions]
    if len(values) < dimensions or values[-1] <= values[0] * 1e-9:
        spanned = int((values > values[0] * 1e-9).sum())
        raise RecipeError(
            f"neck.dimensions = {dimensions}, but {len(rows)} descriptors span only {spanned} directions",
            fix=f"--set neck.dimensions={spanned} or less",
        )
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(dimensions)])
    projection = (vectors / np.sqrt(values)).T
    projection /= np.linalg.norm(centred @ projection.T, axis=1).mean()
    return projection.astype(np.float32), (-projection @ mean).astype(np.float32)
