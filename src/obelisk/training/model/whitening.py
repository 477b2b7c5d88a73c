"""PCA whitening of descriptors."""

from __future__ import annotations

import torch
from torch import Tensor

from obelisk.errors import DataError

# The variance of a direction estimated from fewer photos is mostly noise, which whitening would amplify.
PHOTOS_PER_DIRECTION = 2
SMALLEST_VARIANCE = 1e-9  # of the largest


def pca_whitening(rows: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Learn ``y = P (x − μ)`` from rows (N, D_in); return P, (D, D_in), and the bias ``−P μ``, (D,).

    The rows of P are the leading eigenvectors of the covariance, each divided by the square root of its
    eigenvalue, so that no direction outweighs another. Jégou, Chum, *Negative Evidences and Co-occurrences in
    Image Retrieval*, ECCV 2012, section 3. P is scaled so that whitened rows have a mean length of one.

    D is ``most``, or fewer if the photos determine fewer: one direction for every two photos, and no more than they
    span. Raises DataError if all rows are equal.
    """
    exact = rows.double()
    mean = exact.mean(dim=0)
    centered = exact - mean
    values, vectors = torch.linalg.eigh(centered.T @ centered / len(rows))
    # eigh gives ascending eigenvalues.
    values, vectors = values.flip(0), vectors.flip(1)
    if not values[0] > 0:
        raise DataError(f"all {len(rows)} photos look the same to the backbone", fix="give photos that differ")
    spanned = int((values > values[0] * SMALLEST_VARIANCE).sum())
    known = max(1, min(most, spanned, len(rows) // PHOTOS_PER_DIRECTION))
    values, vectors = values[:known], vectors[:, :known]
    # An eigenvector may point either way: a sign convention makes the result the same everywhere.
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)).sign()
    projection = (vectors / values.sqrt()).T
    projection = projection / (centered @ projection.T).norm(dim=1).mean()
    return projection.float(), (-projection @ mean).float()
