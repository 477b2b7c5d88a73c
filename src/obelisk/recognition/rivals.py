"""The rivals that a gallery of few landmarks lacks.

The margin of a first candidate says much because every landmark of a gallery competes: in a gallery of many, a photo of
something unknown resembles several about equally. A gallery of two or three can't show that, as its next landmark is
weak by chance, and a gallery of one has none. So a gallery of C landmarks competes as if it had
:data:`ENOUGH_LANDMARKS`, L. Each of the L − C missing ones scores r, as a landmark does with a photo of a look-alike.
All rivals count together by a power mean, since the best of many is better than one. With s₁ and s₂ the scores of the
first two candidates::

    margin' = ln(s₁ / t)      t = (s₂ᵖ + (L − C) · rᵖ)^(1/p)

t ≥ s₂, so the margin only ever falls, least for the highest scores. From L landmarks on it is what it was.
"""

from __future__ import annotations

import math

import numpy as np

from obelisk.arrays import Floats

ENOUGH_LANDMARKS = 12  # L
FEW_LANDMARKS = 5  # fewer say little about strangers: what they have in common is hardly seen
RIVAL_POWER = 12.0  # p: the best score of C wrong landmarks grows by C^(1/p)
RARE = 0.9  # share of the strangers that r is not below


def add_missing_rivals(margins: Floats | float, scores: Floats, landmarks: int, typical: float) -> Floats:
    """Return the margins (Q,) of first candidates with these ``scores`` (Q,) after the missing rivals have competed.

    ``landmarks`` is C, and ``typical`` is r; 0 adds no rivals.
    """
    missing = ENOUGH_LANDMARKS - landmarks
    if missing <= 0 or typical <= 0:
        return np.asarray(margins, dtype=np.float64)
    with np.errstate(divide="ignore"):
        behind = RIVAL_POWER * (math.log(typical) - np.log(scores)) + math.log(missing)
    return np.asarray(-np.logaddexp(-RIVAL_POWER * np.asarray(margins), behind) / RIVAL_POWER, dtype=np.float64)


def raise_by_left_out(scores: Floats, landmarks: int) -> Floats:
    """Return scores (Q,) of photos whose own landmark was left out of C, as C other landmarks would give them.

    With so few, one more or less makes a difference: real strangers meet all of them.
    """
    if not 1 < landmarks < ENOUGH_LANDMARKS:
        return scores
    raised: Floats = np.minimum(1.0, scores * (landmarks / (landmarks - 1)) ** (1 / RIVAL_POWER))
    return raised


def find_rival(best: Floats, landmarks: Floats) -> float:
    """Return r, given the best scores (Q,) of strangers and how many landmarks (Q,) competed for each.

    It is what nine of ten strangers would not exceed with one landmark: of those that people ask for, more are alike.
    """
    return float(np.quantile(best * landmarks ** (-1 / RIVAL_POWER), RARE))
