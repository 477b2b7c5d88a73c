"""From neighbours to an answer: votes, confidence, rejection, and the :class:`Recognizer` façade."""

from __future__ import annotations

from obelisk.recognition.calibration import CALIBRATION, Calibration, Evidence, fit_calibration
from obelisk.recognition.classifier import NeighbourClassifier, Votes, recognize_embeddings
from obelisk.recognition.recognizer import Recognizer, check_recognition
from obelisk.recognition.rerank.background import BACKGROUND, Background, pack_background
from obelisk.recognition.votes import DEFAULT_VOTE, VOTES

__all__ = [
    "BACKGROUND",
    "CALIBRATION",
    "DEFAULT_VOTE",
    "VOTES",
    "Background",
    "Calibration",
    "Evidence",
    "NeighbourClassifier",
    "Recognizer",
    "Votes",
    "check_recognition",
    "fit_calibration",
    "pack_background",
    "recognize_embeddings",
]
