"""From neighbours to an answer: votes, confidence, rejection, and the :class:`Recognizer` façade."""

from __future__ import annotations

from obelisk.recognition.classifier import NeighbourClassifier, Votes, recognize_embeddings
from obelisk.recognition.recognizer import Recognizer
from obelisk.recognition.votes import EXPONENT, VOTES

__all__ = ["EXPONENT", "VOTES", "NeighbourClassifier", "Recognizer", "Votes", "recognize_embeddings"]
