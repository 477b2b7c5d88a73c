"""A gallery's own references as evidence: what they answer, what is made of it, and what is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from obelisk.arrays import Embeddings, Integers, l2_normalize
from obelisk.gallery import ExactSearch
from obelisk.recognition import Background, Calibration, KNNClassifier
from obelisk.recognition.calibration import Evidence, find_margins, fit_calibration
from obelisk.recognition.self_calibration import COPY_SIMILARITY, ask_references, find_twins, refine

D = 24


def scatter(seed: int, *, landmarks: int = 8, each: int = 6, spread: float = 0.35) -> tuple[Embeddings, Integers]:
    """Photos around the center of each landmark; two of them are copies of one another."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(landmarks, D))
    ids = np.repeat(np.arange(landmarks) * 10, each)
    rows = l2_normalize(centers[ids // 10] + spread * rng.normal(size=(len(ids), D)) * 2, dimensions=D)
    rows[1] = l2_normalize(rows[:1] + 0.01, dimensions=D)[0]
    return rows, ids


@pytest.fixture(params=[True, False], ids=["background", "no background"])
def background(request: pytest.FixtureRequest) -> Background | None:
    return Background(np.random.default_rng(5).normal(size=(30, D))) if request.param else None


@pytest.mark.parametrize(("vote", "k"), [("blended", 3), ("weighted", 5), ("majority", 3)])
def test_references_answer_as_from_a_gallery_without_them(background: Background | None, vote: str, k: int) -> None:
    rows, ids = scatter(0)
    general = make_general().model_copy(update={"vote": vote, "k": k})
    known, unknown = ask_references(general, ExactSearch(rows), ids, background)
    for row, (query, landmark) in enumerate(zip(rows, ids, strict=True)):
        copies = rows @ query > COPY_SIMILARITY
        copies[row] = True
        for answers, left_out in ((known, copies), (unknown, copies | (ids == landmark))):
            literal = KNNClassifier(ExactSearch(rows[~left_out]), ids[~left_out], vote=vote, background=background)
            ranking = literal.classify(query[None], k=k, top=2)
            assert answers.scores[row] == pytest.approx(ranking.scores[0, 0], abs=1e-5)
            assert answers.margins[row] == pytest.approx(find_margins(ranking.scores)[0], abs=1e-4)
            assert answers.right[row] == (ranking.candidates[0, 0] == landmark)
            assert answers.usable[row]
    assert known.right.any()
    assert not unknown.right.any()


def make_general(seed: int = 3) -> Calibration:
    """A calibration of galleries whose strangers look strange."""
    rng = np.random.default_rng(seed)
    right = rng.random(3000) < 0.6
    scores = np.clip(np.where(right, 0.82, 0.55) + 0.06 * rng.normal(size=3000), 0.01, 1.0)
    margins = np.clip(np.where(right, 0.2, 0.04) + 0.06 * rng.normal(size=3000), 0.0, 0.35)
    ones = np.ones(3000)
    return fit_calibration(
        Evidence(scores=scores, margins=margins, references=ones, inliers=np.nan * ones, right=right, weights=ones)
    )


def test_look_alikes_raise_the_bar_and_only_the_intercept_moves() -> None:
    general = make_general()
    rng = np.random.default_rng(1)
    shared = rng.normal(size=D)
    ids = np.repeat(np.arange(12), 6)
    own = rng.normal(size=(12, D))
    alike = l2_normalize(shared * 1.5 + own[ids] + 0.5 * rng.normal(size=(72, D)), dimensions=D)
    unlike = l2_normalize(own[ids] + 0.3 * rng.normal(size=(72, D)), dimensions=D)
    among_alike, among_unlike = (refine(general, ExactSearch(rows), ids, None).calibration for rows in (alike, unlike))
    assert among_alike.center > among_unlike.center
    for refined in (among_alike, among_unlike):
        assert (refined.slope, refined.margin, refined.growth) == (general.slope, general.margin, general.growth)
        assert refined.references == 72
        assert refined.evidence == ()
        thresholds = [refined.threshold(wanted) for wanted in (0.8, 0.9, 0.95, 0.99)]
        assert thresholds == sorted(thresholds)


@pytest.mark.parametrize(("landmarks", "each"), [(1, 6), (6, 1)], ids=["one landmark", "one photo of each"])
def test_references_that_tell_nothing_leave_the_calibration_as_it_is(landmarks: int, each: int) -> None:
    rng = np.random.default_rng(2)
    rows = l2_normalize(rng.normal(size=(landmarks * each, D)), dimensions=D)
    general = make_general()
    refined = refine(general, ExactSearch(rows), np.repeat(np.arange(landmarks), each), None).calibration
    assert (refined.center, refined.precisions) == (general.center, general.precisions)


def test_two_landmarks_are_enough_for_a_threshold_that_means_something() -> None:
    rows, ids = scatter(4, landmarks=2, each=6, spread=0.1)
    refined = refine(make_general(), ExactSearch(rows), ids, None).calibration
    confidence = refined.confidence(np.array([0.3, 0.95]), np.array([0.0, 0.3]), len(rows))
    assert confidence[0] < refined.threshold(0.95) < confidence[1]


def test_three_folders_of_one_place_are_no_evidence_of_strangers() -> None:
    rng = np.random.default_rng(7)
    centers = l2_normalize(rng.normal(size=(8, D)), dimensions=D)
    places = np.array([0, 1, 2, 3, 4, 5, 5, 5])  # the last three folders show one place
    ids = np.repeat(np.arange(8), 6)
    rows = l2_normalize(centers[places[ids]] + 0.15 * rng.normal(size=(48, D)), dimensions=D)
    whole = refine(make_general(), ExactSearch(rows), ids, None)
    assert {one for one, _ in whole.twins} == {5, 6, 7}
    once = np.isin(ids, range(6))
    without = refine(make_general(), ExactSearch(rows[once]), ids[once], None).calibration
    assert whole.calibration.center < without.center + 0.1  # as strangers they would raise the bar


def test_references_that_are_all_alike_leave_the_calibration_as_it_is() -> None:
    rows = l2_normalize(np.ones((12, D)), dimensions=D)
    general = make_general()
    refined = refine(general, ExactSearch(rows), np.repeat(np.arange(3), 4), None).calibration
    assert (refined.center, refined.precisions) == (general.center, general.precisions)


def test_a_place_in_two_folders_is_no_evidence_of_strangers() -> None:
    rows, ids = scatter(4, landmarks=8)
    twin = np.isin(ids, (0, 10))  # photos of one place, filed under two names
    center = np.random.default_rng(9).normal(size=D)
    rows[twin] = l2_normalize(center + 0.9 * np.random.default_rng(8).normal(size=(twin.sum(), D)), dimensions=D)
    known, unknown = ask_references(make_general(), ExactSearch(rows), ids, None)
    general = make_general()
    assert find_twins(general, known, unknown, len(rows), len(np.unique(ids))) == ((0, 10), (10, 0))


def test_sampling_and_batches_change_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, ids = scatter(6)
    whole, _ = ask_references(make_general(), ExactSearch(rows), ids, None)
    monkeypatch.setattr("obelisk.recognition.self_calibration.ASKED_AT_ONCE", 7)
    in_parts, _ = ask_references(make_general(), ExactSearch(rows), ids, None)
    assert in_parts.scores == pytest.approx(whole.scores)
    monkeypatch.setattr("obelisk.recognition.self_calibration.MOST_ASKED", 20)
    sampled, _ = ask_references(make_general(), ExactSearch(rows), ids, None)
    assert len(sampled.scores) == 20
    assert set(sampled.scores.round(6)) <= set(whole.scores.round(6))


def test_strangers_are_evidence_but_copies_of_references_are_not() -> None:
    rows, ids = scatter(7)
    general = make_general()
    rng = np.random.default_rng(1)
    near = l2_normalize(rows + 0.12 * rng.normal(size=rows.shape), dimensions=D)  # look like what the gallery has
    near = near[(near @ rows.T).max(axis=1) < COPY_SIMILARITY]
    plain = refine(general, ExactSearch(rows), ids, None)
    warned = refine(general, ExactSearch(rows), ids, None, np.concatenate([near, rows[:3]]))
    assert warned.copies == 3
    assert warned.calibration.center > plain.calibration.center
    assert set(warned.named) <= set(range(len(near)))
