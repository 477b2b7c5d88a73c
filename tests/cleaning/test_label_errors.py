"""Label issues: against a slow, literal version of the equations, and what must always hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obelisk.cleaning import choose_dropped, find_label_issues
from obelisk.errors import UsageError


def make_photos(seed: int, *, count: int = 40, landmarks: int = 5, folds: int = 3):
    """Unit rows around a centre for each landmark, an eighth of them with a label drawn anew."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, landmarks, count) * 7
    centers = rng.normal(size=(7 * landmarks, 6))
    rows = centers[labels] + 0.8 * rng.normal(size=(count, 6))
    swapped = rng.random(count) < 1 / 8
    labels = np.where(swapped, rng.integers(0, landmarks, count) * 7, labels)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return rows, labels.astype(np.int64), rng.integers(0, folds, count).astype(np.int64)


def judge_literally(rows, labels, folds, k):
    """The equations of the module, one photo and one landmark at a time: (named, margin, own fit, agreement)."""
    judged = []
    for x in range(len(rows)):
        others = [r for r in range(len(rows)) if folds[r] != folds[x]]
        similarity = {r: float(np.dot(rows[x].astype(float), rows[r].astype(float))) for r in others}
        near = sorted(others, key=lambda r: -similarity[r])[:k]
        own = sorted((similarity[r] for r in others if labels[r] == labels[x]), reverse=True)
        agreement = sum(labels[r] == labels[x] for r in near) / max(1, len(near))
        best = (labels[x], -2.0, None)
        for landmark in sorted({labels[r] for r in near} - {labels[x]}):
            rival = sorted((similarity[r] for r in others if labels[r] == landmark), reverse=True)
            m = min(3, len(own), len(rival))
            if m and (best[2] is None or np.mean(rival[:m]) > best[2]):
                best = (landmark, np.mean(rival[:m]) - np.mean(own[:m]), np.mean(rival[:m]))
        judged.append((best[0], best[1], agreement))
    return judged


@pytest.mark.parametrize("k", [1, 4, 20, 100])
def test_the_judgement_is_that_of_the_equations(k):
    for seed in range(4):
        rows, labels, folds = make_photos(seed)
        found = find_label_issues(rows, labels, folds, k=k)
        for x, (named, margin, agreement) in enumerate(judge_literally(rows, labels, folds, k)):
            assert found.rivals[x] == named
            assert found.margins[x] == pytest.approx(margin, abs=3e-6)
            assert found.agreement[x] == pytest.approx(agreement)


def test_a_copy_in_the_same_fold_does_not_vouch():
    # Photos 0 and 1 are copies with a wrong label; 2 to 4 show what they show, 5 and 6 show the landmark of that label.
    rows = np.array([[1, 0], [1, 0], [1, 0.1], [1, -0.1], [1, 0.05], [0, 1], [0.1, 1]], np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = np.array([9, 9, 4, 4, 4, 9, 9])
    together = find_label_issues(rows, labels, np.array([0, 0, 1, 2, 1, 2, 1]))
    assert together.rivals[:2].tolist() == [4, 4]
    assert (together.margins[:2] > 0.5).all()
    apart = find_label_issues(rows, labels, np.array([0, 1, 1, 2, 1, 2, 1]))
    assert apart.margins[0] < together.margins[0]


@pytest.mark.parametrize(
    ("labels", "folds"),
    [
        ([1, 2, 2], [0, 1, 2]),  # the only photo of its landmark
        ([1, 1, 2], [0, 0, 1]),  # both photos of a landmark in one fold
        ([1, 1, 1], [0, 1, 2]),  # nobody who could contradict
        ([1, 2, 3], [0, 0, 0]),  # no other fold
        ([1], [0]),
    ],
)
def test_who_cannot_be_judged_or_is_not_contradicted_is_no_suspect(labels, folds):
    rows = np.eye(3, dtype=np.float32)[: len(labels)]
    found = find_label_issues(rows, np.array(labels), np.array(folds))
    assert found.margins[0] == -2
    assert found.rivals[0] == labels[0]
    assert np.isnan(found.rival_fits[0])


@given(seed=st.integers(0, 500), order=st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_the_order_of_the_photos_decides_nothing(seed, order):
    rows, labels, folds = make_photos(seed)
    moved = list(range(len(labels)))
    order.shuffle(moved)
    straight, shuffled = (
        find_label_issues(rows, labels, folds),
        find_label_issues(rows[moved], labels[moved], folds[moved]),
    )
    np.testing.assert_array_equal(shuffled.margins, straight.margins[moved])
    np.testing.assert_array_equal(shuffled.rivals, straight.rivals[moved])
    known = straight.label_best[moved] >= 0
    np.testing.assert_array_equal(np.array(moved)[shuffled.label_best[known]], straight.label_best[moved][known])


@given(
    margins=st.lists(st.floats(-2, 2), min_size=1, max_size=30),
    seed=st.integers(0, 100),
    keep=st.integers(1, 4),
    threshold=st.floats(0, 2),
)
@settings(deadline=None)
def test_no_landmark_is_emptied_and_only_suspects_go_worst_first(margins, seed, keep, threshold):
    labels = np.random.default_rng(seed).integers(0, 5, len(margins))
    found = np.array(margins)
    dropped = choose_dropped(found, labels, threshold=threshold, keep_at_least=keep)
    assert (found[dropped] > threshold).all()
    for landmark in np.unique(labels):
        members = labels == landmark
        stays = int((members & ~dropped).sum())
        assert stays >= min(keep, int(members.sum()))
        spared = members & ~dropped & (found > threshold)
        if spared.any():  # a suspect stays only because the landmark has no photo to spare
            assert stays == min(keep, int(members.sum()))
            assert not dropped[members].any() or found[members & dropped].min() >= found[spared].max()


def test_impossible_rules_are_refused():
    rows, labels, folds = make_photos(0)
    with pytest.raises(UsageError, match="0 neighbors"):
        find_label_issues(rows, labels, folds, k=0)
    for threshold, keep, reported in (
        (-0.1, 1, "margin of -0.1"),
        (float("nan"), 1, "margin of nan"),
        (0.1, 0, "at least 1"),
    ):
        with pytest.raises(UsageError, match=reported):
            choose_dropped(np.zeros(3), np.zeros(3, np.int64), threshold=threshold, keep_at_least=keep)
