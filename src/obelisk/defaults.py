"""What is taken where nobody chooses: each default that several rooms share stands here, once."""

from __future__ import annotations

from typing import Final

K: Final = 3
"""nearest reference photos that vote"""
TOP: Final = 5
"""candidates listed in an answer"""
VOTE: Final = "blended"
"""how neighbours vote: a name in :data:`obelisk.recognition.votes.VOTES`"""
PRECISION: Final = 0.95
"""share of the answers given that should be right; sets the threshold"""
