"""From the score of the first candidate to the confidence that it is right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obelisk.errors import UsageError


def confidence_of(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the confidence, in [0, 1] and strictly increasing in the score.

    A score is already the share of the votes' full weight that the landmark won, in [0, 1], and stands
    for itself: it orders answers from sure to unsure, but is not a measured probability.
    """
    return scores


def check_threshold(threshold: float | None) -> None:
    """Refuse a confidence threshold outside [0, 1]; None rejects nothing."""
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise UsageError(f"threshold = {threshold}", fix="a threshold is a confidence, from 0 to 1")
