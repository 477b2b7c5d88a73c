"""Rivals that a gallery of few landmarks lacks lower its margins; from twelve landmarks on, none is missing."""

from __future__ import annotations

import numpy as np
import pytest

from obelisk.recognition import Calibration
from obelisk.recognition.calibration import MARGIN_CAP
from obelisk.recognition.rivals import ENOUGH_LANDMARKS, add_missing_rivals, find_rival, raise_by_left_out

CALIBRATION = Calibration(slope=15.0, center=-0.6, growth=0.03, margin=15.0, rival=0.45, precisions=((0.5, 0.95),))


@pytest.mark.parametrize("landmarks", [2, 5, 11])
def test_all_rivals_count_together_by_a_power_mean(landmarks: int) -> None:
    first, second = np.array([0.7, 0.55, 0.5]), np.array([0.6, 0.5, 0.5])
    rivals = [second, *[np.full(3, 0.45)] * (12 - landmarks)]
    together = sum(rival**12 for rival in rivals) ** (1 / 12)
    assert add_missing_rivals(np.log(first / second), first, landmarks, 0.45) == pytest.approx(np.log(first / together))


def test_enough_landmarks_or_a_calibration_without_rivals_leave_every_margin_as_it_is() -> None:
    scores, margins = np.array([0.0, 0.3, 0.9]), np.array([0.0, 0.1, MARGIN_CAP])
    for landmarks, typical in ((ENOUGH_LANDMARKS, 0.45), (228, 0.45), (1, 0.0)):
        assert add_missing_rivals(margins, scores, landmarks, typical).tobytes() == margins.tobytes()


@pytest.mark.parametrize("landmarks", [1, 2, 11, 12])
def test_confidence_rises_strictly_with_the_score_in_galleries_of_any_size(landmarks: int) -> None:
    scores = np.concatenate([[0.0], np.linspace(0.01, 1.0, 500)])
    confidence = CALIBRATION.confidence(scores, 0.2, 40, landmarks=landmarks)
    assert confidence[0] == 0.0
    assert (np.diff(confidence) > 0).all()
    assert CALIBRATION.combine(scores, 0.2, 40, landmarks=landmarks)[0] == -np.inf


def test_one_landmark_alone_is_no_proof() -> None:
    alone = CALIBRATION.confidence(np.array([0.55, 0.72]), MARGIN_CAP, 40, landmarks=1)
    assert alone[0] < 0.8 < 0.99 < alone[1]
    assert CALIBRATION.confidence(np.array([0.55]), MARGIN_CAP, 40)[0] > 0.95, "what the widest margin would mean"


def test_photos_whose_landmark_was_left_out_score_as_if_one_more_had_competed() -> None:
    scores = np.array([0.5, 1.0])
    assert raise_by_left_out(scores, 2) == pytest.approx([0.5 * 2 ** (1 / 12), 1.0])
    assert raise_by_left_out(scores, 1) is scores
    assert raise_by_left_out(scores, ENOUGH_LANDMARKS) is scores


def test_the_rival_is_what_nine_of_ten_strangers_stay_under_with_one_landmark() -> None:
    alone = np.linspace(0.3, 0.5, 101)
    landmarks = np.resize([5.0, 8.0, 24.0], 101)
    assert find_rival(alone * landmarks ** (1 / 12), landmarks) == pytest.approx(0.48)
