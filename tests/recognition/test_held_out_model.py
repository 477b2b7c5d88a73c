"""Calibration by photos that a held-out model never saw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from obelisk.errors import UsageError
from obelisk.recognition import Background
from obelisk.recognition.held_out_model import HeldOutPhotos, calibrate_new_landmarks, calibrate_trained_landmarks


def test_calibrations_for_the_training_landmarks_and_for_new_ones() -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(40, 32))
    labels = np.repeat(np.arange(40), 12)
    rows = centers[labels] + 0.7 * rng.normal(size=(480, 32))
    ordinary, background = rng.normal(size=(60, 32)), rng.normal(size=(60, 32))
    unit = [(x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (rows, ordinary, background)]
    held = np.arange(480) % 4 == 0
    photos = HeldOutPhotos(
        embeddings=unit[0],
        landmarks=labels,
        trained=~held & (labels < 24),
        known=labels < 24,
        ordinary=unit[1],
        background=Background(unit[2]),
    )
    few = replace(photos, known=labels < 37)
    with pytest.raises(UsageError, match="3 landmarks are unknown to the held-out model"):
        calibrate_new_landmarks(few, held)
    for found in (calibrate_new_landmarks(photos, held), calibrate_trained_landmarks(photos)):
        assert found.slope > 1
        assert 0 < found.threshold(0.9) <= found.threshold(0.99) <= 1
        assert [pair[1] for pair in found.precisions] == sorted(pair[1] for pair in found.precisions)
