"""From neighbors to an answer: rerank, vote, calibrate, answer or reject; :class:`Recognizer` does it all."""

from __future__ import annotations

from obelisk.recognition.calibration import CALIBRATION, Calibration, Evidence, find_calibration, fit_calibration
from obelisk.recognition.classifier import KNNClassifier, recognize_embeddings
from obelisk.recognition.ranking import Ranking
from obelisk.recognition.recognizer import Recognizer, check_recognition, find_classifier
from obelisk.recognition.rerank.background import BACKGROUND, Background, pack_background, read_background
from obelisk.recognition.self_calibration import Refined, calibrate_gallery
from obelisk.recognition.softmax_classifier import SoftmaxClassifier, find_layer_remark
from obelisk.recognition.votes import VOTES

__all__ = [
    "BACKGROUND",
    "CALIBRATION",
    "VOTES",
    "Background",
    "Calibration",
    "Evidence",
    "KNNClassifier",
    "Ranking",
    "Recognizer",
    "Refined",
    "SoftmaxClassifier",
    "calibrate_gallery",
    "check_recognition",
    "find_calibration",
    "find_classifier",
    "find_layer_remark",
    "fit_calibration",
    "pack_background",
    "read_background",
    "recognize_embeddings",
]
