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


def make_photos() -> tuple[HeldOutPhotos, np.ndarray]:
    """Photos of 24 landmarks that nobody was trained on, and which of them are to be asked."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(24), 8)
    rows = rng.normal(size=(24, 16))[labels] + 0.9 * rng.normal(size=(192, 16))
    parts = rows, rng.normal(size=(20, 16)), rng.normal(size=(20, 16))
    unit = [(x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in parts]
    nobody = np.zeros(192, dtype=bool)
    background = Background(unit[2])
    photos = HeldOutPhotos(
        embeddings=unit[0], landmarks=labels, trained=nobody, known=nobody, ordinary=unit[1], background=background
    )
    return photos, np.arange(192) % 4 == 0


def test_inliers_are_counted_with_the_first_candidates_nearest_photos_in_the_gallery() -> None:
    photos, asked = make_photos()
    calls = []

    def count(query: int, nearest: np.ndarray) -> float:
        calls.append((query, nearest.tolist()))
        return 20.0 if photos.landmarks[nearest[0]] == photos.landmarks[query] else 6.0

    found = calibrate_new_landmarks(replace(photos, count_inliers=count), asked)
    assert found.inliers > 1
    assert found.inlier_shares == ((6.0, 0.0, 1.0), (20.0, 1.0, 0.0))
    assert found.threshold(0.9, verified=True) < found.threshold(0.9)
    for query, nearest in calls:
        assert asked[query]
        assert not asked[nearest].any(), "photos to be asked are in no gallery"
        assert len(set(photos.landmarks[nearest])) == 1
        similarities = photos.embeddings[nearest] @ photos.embeddings[query]
        assert (np.diff(similarities) <= 0).all()
    plain = calibrate_new_landmarks(photos, asked)
    assert (plain.inliers, plain.slope, plain.precisions) == (0.0, found.slope, found.precisions)
