"""The defaults that several rooms share, each in one place."""

from __future__ import annotations

from typing import Final

K: Final = 3
"""number of nearest reference photos that vote"""
TOP: Final = 5
"""number of candidates in an answer"""
VOTE: Final = "blended"
"""how neighbors vote: a name in :data:`obelisk.recognition.votes.VOTES`"""
PRECISION: Final = 0.95
"""share of the given answers that should be right, in [0, 1]; it sets the threshold of rejection"""
PROBABLE: Final = 0.5
"""confidence from which an answer below the threshold is called probable, where confidences are calibrated"""
DRAWS: Final = 10
"""times that the halves protocol deals the landmarks into two halves"""
