"""The votes on cases small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from obelisk.recognition.votes import VOTES, agreement, count_votes, rank_landmarks

EIFFEL, TOWER_BRIDGE, NEEDLE, DOME = 10, 20, 30, 40


def rank(landmarks: list[int], similarities: list[float], *, vote: str, k: int, top: int, p: float = 2.0):
    counts = count_votes(np.array([landmarks]), np.array([similarities], dtype=np.float32), k=k, exponent=p)
    candidates, scores = rank_landmarks(counts, VOTES[vote].score(counts), queries=1, top=top)
    return candidates[0].tolist(), scores[0].tolist()


def test_two_votes_beat_a_nearer_one() -> None:
    near = [EIFFEL, NEEDLE, NEEDLE, DOME], [0.6, 0.5, 0.5, 0.4]
    assert rank(*near, vote="majority", k=3, top=3)[0] == [NEEDLE, EIFFEL, DOME]
    assert rank(*near, vote="weighted", k=3, top=3)[0] == [NEEDLE, EIFFEL, DOME]


def test_a_large_exponent_leaves_the_decision_to_the_nearest() -> None:
    near = [EIFFEL, NEEDLE, NEEDLE], [0.6, 0.4, 0.4]
    assert rank(*near, vote="weighted", k=3, top=1, p=1.0)[0] == [NEEDLE]
    assert rank(*near, vote="weighted", k=3, top=1, p=30.0)[0] == [EIFFEL]


def test_scores_by_hand() -> None:
    near = [EIFFEL, NEEDLE, EIFFEL, DOME], [0.8, 0.6, 0.2, 0.0]
    ranked, scores = rank(*near, vote="weighted", k=3, top=3, p=2.0)
    assert ranked == [EIFFEL, NEEDLE, DOME]
    # a = 0.9, 0.8, 0.6 and 0.5
    assert scores == pytest.approx([((0.81 + 0.36) / 3) ** 0.5, (0.64 / 3) ** 0.5, (0.25 / 2 / 3) ** 0.5])
    _, scores = rank(*near, vote="majority", k=3, top=3)
    assert scores == pytest.approx([2.9 / 4, 1.8 / 4, 0.5 / 4])
    _, scores = rank(near[0][:2], near[1][:2], vote="prototype", k=1, top=2)
    assert scores == pytest.approx([0.9, 0.8])


@pytest.mark.parametrize("vote", ["weighted", "majority"])
def test_equal_evidence_is_ordered_by_landmark_id(vote: str) -> None:
    ranked, scores = rank([NEEDLE, EIFFEL, DOME, TOWER_BRIDGE], [0.5, 0.5, 0.1, 0.1], vote=vote, k=2, top=4)
    assert ranked == [EIFFEL, NEEDLE, TOWER_BRIDGE, DOME]
    assert scores[0] == scores[1] > scores[2] == scores[3]


def test_photos_after_the_k_nearest_do_not_vote() -> None:
    ranked, scores = rank([EIFFEL, NEEDLE, NEEDLE, NEEDLE], [0.9, 0.8, 0.8, 0.8], vote="majority", k=1, top=2)
    assert ranked == [EIFFEL, NEEDLE]
    assert scores == pytest.approx([1.95 / 2, 0.9 / 2])


def test_full_agreement_scores_one_and_none_scores_zero() -> None:
    for vote in ("weighted", "majority"):
        assert rank([EIFFEL] * 3, [1.0] * 3, vote=vote, k=3, top=1)[1] == [1.0]
        assert 0.0 <= rank([EIFFEL, NEEDLE], [-0.99, -1.0], vote=vote, k=1, top=2)[1][1] < 0.51
    assert agreement(np.array([-1.0, 0.0, 1.0])).tolist() == [0.0, 0.5, 1.0]


def test_a_list_that_is_too_short_is_filled_up() -> None:
    ranked, scores = rank([EIFFEL], [0.5], vote="weighted", k=1, top=3)
    assert ranked == [EIFFEL, -1, -1]
    assert scores[1:] == [0.0, 0.0]
