"""Calibrated confidence: what is fitted, what a threshold promises, and what a damaged file gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from obelisk.embedding import Bundle, Embedder
from obelisk.errors import ModelError, UsageError
from obelisk.gallery import Gallery, Landmark
from obelisk.recognition import CALIBRATION, Calibration, Evidence, Recognizer, fit_calibration
from obelisk.recognition.calibration import (
    CAUTION,
    MARGIN_CAP,
    check_threshold,
    find_calibration,
    find_margins,
    read_calibration,
    shift_intercept,
)

PLAIN = Calibration(slope=20.0, center=-0.6, growth=0.03, margin=9.0, precisions=((0.1, 0.6), (0.5, 0.9), (0.8, 0.97)))


def simulate(count: int, seed: int = 0) -> tuple[Evidence, np.ndarray]:
    """Draw scores in galleries of many sizes whose answers are right with a known probability."""
    rng = np.random.default_rng(seed)
    scores, references = rng.uniform(0.3, 0.99, count), rng.choice([15.0, 100.0, 3000.0], count)
    margins = rng.uniform(0.0, MARGIN_CAP, count)
    truth = PLAIN.confidence(scores, margins, references)
    right, nothing = rng.random(count) < truth, np.full(count, np.nan)
    return Evidence(
        scores=scores, margins=margins, references=references, inliers=nothing, right=right, weights=np.ones(count)
    ), truth


def test_the_fit_finds_what_the_answers_were_drawn_from() -> None:
    evidence, _ = simulate(40_000)
    found = fit_calibration(evidence)
    assert found.slope == pytest.approx(PLAIN.slope, rel=0.08)
    assert found.center == pytest.approx(PLAIN.center, abs=0.03)
    assert found.growth == pytest.approx(PLAIN.growth, abs=0.006)
    assert found.margin == pytest.approx(PLAIN.margin, rel=0.1)


def test_the_fit_is_the_logistic_regression_of_a_reference_library() -> None:
    evidence, _ = simulate(2_000, seed=1)
    columns = np.stack([np.log(evidence.scores), np.log(evidence.references), evidence.margins], axis=1)
    oracle = LogisticRegression(C=1e6, tol=1e-10, max_iter=10_000).fit(columns, evidence.right)
    found = fit_calibration(evidence)
    assert found.slope == pytest.approx(oracle.coef_[0, 0], rel=0.02)
    assert found.growth == pytest.approx(-oracle.coef_[0, 1] / oracle.coef_[0, 0], abs=0.002)
    assert found.margin == pytest.approx(oracle.coef_[0, 2], rel=0.05)


def test_a_margin_ratio_fixes_the_weight_of_the_margin_and_sharpness_steepens_both() -> None:
    evidence, _ = simulate(20_000)
    plain = fit_calibration(evidence, margin_ratio=PLAIN.margin / PLAIN.slope)
    assert plain.slope == pytest.approx(PLAIN.slope, rel=0.05)
    assert plain.margin == pytest.approx(PLAIN.margin, rel=0.05)
    sharp = fit_calibration(evidence, margin_ratio=0.5, sharpness=1.3)
    blunt = fit_calibration(evidence, margin_ratio=0.5)
    assert (sharp.slope, sharp.margin) == pytest.approx((1.3 * blunt.slope, 1.3 * blunt.margin))
    # The intercept is fitted again: on average, confidence is the share of right answers all the same.
    confidence = sharp.confidence(evidence.scores, evidence.margins, evidence.references)
    assert confidence.mean() == pytest.approx(evidence.right.mean(), abs=0.01)


def test_confidence_is_calibrated_and_a_threshold_holds_its_precision() -> None:
    found = fit_calibration(simulate(20_000)[0])
    fresh, _ = simulate(20_000, seed=9)
    confidence = found.confidence(fresh.scores, fresh.margins, fresh.references)
    bins = np.minimum((confidence * 15).astype(int), 14)
    error = sum(abs(confidence[bins == b].sum() - fresh.right[bins == b].sum()) for b in range(15)) / len(confidence)
    assert error < 0.02
    for precision in (0.8, 0.9, 0.95):
        answered = confidence >= found.threshold(precision)
        assert fresh.right[answered].mean() == pytest.approx(1 - CAUTION * (1 - precision), abs=0.02)


def test_confidence_is_strictly_increasing_within_bounds_and_falls_with_the_gallery() -> None:
    scores = np.concatenate([[0.0], np.linspace(0.001, 1.0, 2_000)])
    confidence = PLAIN.confidence(scores, 0.1, 100)
    assert (np.diff(confidence) > 0).all()
    assert confidence[0] == 0.0
    assert confidence[-1] < 1.0
    assert (PLAIN.confidence(scores[1:], 0.1, 10_000) < confidence[1:]).all()


def test_a_margin_raises_the_confidence_up_to_its_cap() -> None:
    scores = np.array([[0.8, 0.8], [0.8, 0.7], [0.8, 0.3], [0.8, 0.0]])
    margins = find_margins(scores)
    assert margins == pytest.approx([0.0, np.log(8 / 7), MARGIN_CAP, MARGIN_CAP])
    confidence = PLAIN.confidence(scores[:, 0], margins, 100)
    assert confidence[0] < confidence[1] < confidence[2] == confidence[3]
    assert find_margins(scores[:, :1]).tolist() == [MARGIN_CAP] * 4  # no other landmark


def test_a_calibration_without_margin_is_read_and_means_what_it_meant() -> None:
    old = b'{"format":1,"slope":20.0,"centre":-0.6,"growth":0.03,"precisions":[[0.1,0.6],[0.5,0.9]]}'
    found = read_calibration(old, Path("calibration.json"))
    expected = 1 / (1 + (np.exp(-0.6 + 0.03 * np.log(100)) / 0.7) ** 20)
    assert found.confidence(np.array([0.7]), 0.2, 100)[0] == pytest.approx(expected)


def test_inliers_count_only_for_the_queries_that_were_verified() -> None:
    found = PLAIN.model_copy(update={"inliers": 1.5, "verified": -2.0})
    scores, inliers = np.full(3, 0.7), np.array([np.nan, 0.0, 9.0])
    z = found.combine(scores, 0.1, 100, inliers=inliers)
    assert z - found.combine(scores, 0.1, 100) == pytest.approx([0.0, -2.0, 1.5 * np.log(10) - 2.0])
    confidence = found.confidence(scores, 0.1, 100, inliers=inliers)
    assert confidence == pytest.approx(1 / (1 + np.exp(-z - found.intercept)))
    assert (found.confidence(scores, 0.1, 100) == PLAIN.confidence(scores, 0.1, 100)).all()
    rising = np.linspace(0.001, 1.0, 500)
    assert (np.diff(found.confidence(rising, 0.1, 100, inliers=np.full(500, 4.0))) > 0).all()


def test_a_calibration_of_format_2_is_read_and_means_what_it_meant() -> None:
    old = b'{"format":2,"slope":20.0,"centre":-0.6,"growth":0.03,"margin":9.0,"precisions":[[0.1,0.6]],"evidence":[]}'
    found = read_calibration(old, Path("calibration.json"))
    assert (found.confidence(np.array([0.7]), 0.2, 100) == PLAIN.confidence(np.array([0.7]), 0.2, 100)).all()
    assert '"format":4' in found.to_json().replace(" ", "")


def verify_some(count: int, seed: int = 0) -> tuple[Evidence, float]:
    """Draw answers of which a half was verified: the odds grow with the fourth power of 1 + inliers."""
    rng = np.random.default_rng(100 + seed)
    evidence, _ = simulate(count, seed)
    counts = np.arange(5.0, 11.0)
    wrong = 0.5 ** np.arange(6)
    chances = [share / share.sum() for share in (wrong, wrong * ((1 + counts) / 7.0) ** 4)]
    drawn = np.where(evidence.right, *(rng.choice(counts, count, p=chances[right]) for right in (1, 0)))
    truth = np.log(wrong.sum() / (wrong * ((1 + counts) / 7.0) ** 4).sum()) - 4 * np.log(7)
    return replace(evidence, inliers=np.where(rng.random(count) < 0.5, drawn, np.nan)), truth


def test_the_weight_of_inliers_is_that_of_the_odds_they_were_drawn_by() -> None:
    evidence, shift = verify_some(40_000)
    found, plain = fit_calibration(evidence), fit_calibration(replace(evidence, inliers=np.full(40_000, np.nan)))
    assert found.inliers == pytest.approx(4.0, rel=0.1)
    assert found.verified == pytest.approx(shift, rel=0.1)
    assert (found.slope, found.margin, found.precisions) == (plain.slope, plain.margin, plain.precisions)
    assert [inliers for inliers, _, _ in found.inlier_shares] == [5, 6, 7, 8, 9, 10]
    assert np.sum(found.inlier_shares, axis=0)[1:] == pytest.approx([1, 1], abs=1e-4)
    assert (plain.inliers, plain.verified, plain.inlier_shares, plain.verified_precisions) == (0, 0, (), ())


def test_verified_answers_are_calibrated_too_and_have_a_threshold_of_their_own() -> None:
    found = fit_calibration(verify_some(60_000)[0])
    fresh, _ = verify_some(60_000, seed=9)
    verified = ~np.isnan(fresh.inliers)
    scores, margins, references = (column[verified] for column in (fresh.scores, fresh.margins, fresh.references))
    right = fresh.right[verified]
    confidence = found.confidence(scores, margins, references, inliers=fresh.inliers[verified])
    for low in np.arange(0.0, 1.0, 0.2):
        inside = (confidence >= low) & (confidence < low + 0.2)
        assert confidence[inside].mean() == pytest.approx(right[inside].mean(), abs=0.05)
    for wanted in (0.9, 0.95):
        named = confidence >= found.threshold(wanted, verified=True)
        assert right[named].mean() == pytest.approx(wanted, abs=0.015)
    assert found.threshold(0.9, verified=True) < found.threshold(0.9)
    z = found.combine(fresh.scores, fresh.margins, fresh.references)
    moved = shift_intercept(found, z - 1.0, fresh.right.astype(float), np.full(60_000, 1 / 60_000))
    assert moved.verified_precisions != found.verified_precisions, "a gallery's own intercept moves both tables"
    assert PLAIN.threshold(0.9, verified=True) == PLAIN.threshold(0.9), "one that knows nothing of inliers has one"


def test_inliers_that_mislead_or_are_all_of_one_kind_have_no_weight() -> None:
    evidence, _ = simulate(500)
    misleading = np.where(evidence.right, 5.0, 15.0)
    only_right = np.where(evidence.right, 12.0, np.nan)
    for inliers in (misleading, only_right):
        found = fit_calibration(replace(evidence, inliers=inliers))
        assert (found.inliers, found.verified, found.inlier_shares) == (0, 0, ())


@pytest.mark.parametrize(
    ("precision", "threshold"),
    [(0.4, 0.1), (0.85, 0.5), (0.95, 0.8), (0.99, 0.8)],
    ids=["lowest", "measured", "next measured", "more than was measured"],
)
def test_a_threshold_is_the_least_confidence_that_reached_the_precision(precision: float, threshold: float) -> None:
    assert PLAIN.threshold(precision) == threshold


@pytest.mark.parametrize("precision", [0.0, 1.0, -1.0, float("nan")])
def test_a_precision_that_is_no_share_is_refused(precision: float) -> None:
    with pytest.raises(UsageError, match="above 0 and below 1"):
        PLAIN.threshold(precision)


@pytest.mark.parametrize("right", [True, False], ids=["all right", "all wrong"])
def test_answers_of_one_kind_cannot_calibrate(right: bool) -> None:
    ones = np.ones(10)
    with pytest.raises(UsageError, match="all right, or all wrong"):
        fit_calibration(
            Evidence(
                scores=ones,
                margins=ones,
                references=ones,
                inliers=np.nan * ones,
                right=np.full(10, right),
                weights=ones,
            )
        )


def test_scores_that_mislead_cannot_calibrate() -> None:
    scores = np.linspace(0.2, 0.9, 40)
    ones = np.ones(40)
    evidence = Evidence(
        scores=scores, margins=0 * ones, references=ones, inliers=np.nan * ones, right=scores < 0.5, weights=ones
    )
    with pytest.raises(UsageError, match="not more often right"):
        fit_calibration(evidence)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        PLAIN.model_dump_json().replace("20.0", "-1.0").encode(),
        PLAIN.model_dump_json().replace('"format":4', '"format":5').encode(),
        PLAIN.model_dump_json().replace("20.0", "NaN").encode(),
        PLAIN.model_dump_json().replace('"slope"', '"slop"').encode(),
        PLAIN.model_dump_json().replace("0.97", "1.01").encode(),
        PLAIN.model_dump_json().replace("[0.1,", "[-7,").encode(),
    ],
    ids=[
        "empty",
        "without keys",
        "falling",
        "newer",
        "no number",
        "unknown key",
        "a precision above 1",
        "a confidence below 0",
    ],
)
def test_a_damaged_file_is_one_clear_error(text: bytes) -> None:
    with pytest.raises(ModelError, match="unreadable calibration"):
        read_calibration(text, Path("calibration.json"))


@pytest.fixture
def bundle(tmp_path: Path, write_any_bundle: Callable[..., Bundle]) -> Bundle:
    return write_any_bundle(tmp_path / "m", attachments={CALIBRATION: PLAIN.model_dump_json().encode()})


def test_a_gallery_goes_by_its_own_calibration_else_by_its_models(bundle: Bundle, tmp_path: Path) -> None:
    gallery = Gallery.create(tmp_path / "g", bundle)
    assert find_calibration(gallery, gallery.load_bundle()) == PLAIN
    own = PLAIN.model_copy(update={"slope": 30.0})
    (gallery.path / CALIBRATION).write_text(own.model_dump_json())
    assert find_calibration(gallery, gallery.load_bundle()) == own


class OneEmbedder(Embedder):
    """Embeds every photo as the same row."""

    def __init__(self, row: np.ndarray) -> None:
        self.row = row

    def embed(self, sources, **options):  # type: ignore[no-untyped-def]
        from obelisk.embedding import Embedded

        for path in sources:
            yield Embedded(path=path, content_hash="", embedding=self.row)


def test_the_recognizer_rejects_below_the_threshold_that_the_precision_needs(bundle: Bundle, tmp_path: Path) -> None:
    gallery = Gallery.create(tmp_path / "g", bundle)
    rows = np.eye(4, dtype=np.float32)[:3]
    gallery.add(rows, [Landmark(id=1, name="A"), Landmark(id=2, name="B"), Landmark(id=3, name="C")], ["a", "b", "c"])
    near, far = rows[0], np.array([0.2, 0.19, 0.0, 0.96], np.float32)
    for row, named in ((near, "A"), (far, None)):
        recognizer = Recognizer(gallery, OneEmbedder(row), calibration=PLAIN)
        assert recognizer.threshold() == 0.8
        (answer,) = recognizer.recognize(["p.jpg"])
        assert answer.landmark == named
        assert answer.candidates[0].landmark == "A"
        scores = np.array([[candidate.score for candidate in answer.candidates]])
        expected = PLAIN.confidence(scores[:, 0], find_margins(scores), 3)[0]
        assert answer.confidence == expected
        (certain,) = recognizer.recognize(["p.jpg"], threshold=0.0)
        assert certain.landmark == "A"


@pytest.mark.parametrize("threshold", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_threshold_outside_the_range_is_refused(threshold: float) -> None:
    with pytest.raises(UsageError, match="from 0 to 1"):
        check_threshold(threshold)


@pytest.mark.parametrize("threshold", [None, 0.0, 0.5, 1.0])
def test_a_threshold_within_the_range_is_taken(threshold: float | None) -> None:
    check_threshold(threshold)
