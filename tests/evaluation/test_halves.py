"""The halves protocol: figures against a literal count, queries from every source, and what bad input gets."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from obelisk.data import read_catalog
from obelisk.embedding import Bundle
from obelisk.errors import DataError, UsageError
from obelisk.evaluation import evaluate_halves, write_halves
from obelisk.evaluation.halves import KINDS, SHARES, WANTED, HalvesAnswers, measure_halves
from obelisk.evaluation.metrics import expected_calibration_error, precision_at_coverage, reliability


def make_answers(seed: int, *, galleries: int = 4, queries: int = 60) -> HalvesAnswers:
    rng = np.random.default_rng(seed)
    kind = rng.integers(len(KINDS), size=galleries * queries)
    landmark = rng.integers(7, size=galleries * queries)
    return HalvesAnswers(
        gallery=np.repeat(np.arange(galleries), queries),
        kind=kind,
        unit=np.where(kind == 2, -1 - landmark, landmark),
        right=(kind == 0) & (rng.random(galleries * queries) < 0.8),
        confidence=rng.random(galleries * queries).round(2),
        thresholds=rng.uniform(0.2, 0.9, size=(galleries, len(WANTED))),
    )


@pytest.mark.parametrize("seed", range(5))
def test_figures_are_those_of_a_literal_count(seed: int) -> None:
    answers = make_answers(seed)
    reached, _ = measure_halves(answers, resamples=2)
    for column, wanted in enumerate(WANTED):
        figures: dict[str, list[float]] = {name: [] for name in ("precision", "recall", "unknown", "ordinary")}
        for gallery, thresholds in enumerate(answers.thresholds):
            named, asked, right = [0.0] * 3, [0.0] * 3, 0.0
            for row in np.flatnonzero(answers.gallery == gallery):
                kind = answers.kind[row]
                asked[kind] += 1
                if answers.confidence[row] >= thresholds[column]:
                    named[kind] += 1
                    right += answers.right[row]
            shares = [share * count / total for share, count, total in zip(SHARES, named, asked, strict=True)]
            figures["precision"].append(SHARES[0] * right / asked[0] / sum(shares))
            figures["recall"].append(right / asked[0])
            figures["unknown"].append(named[1] / asked[1])
            figures["ordinary"].append(named[2] / asked[2])
        found = reached[wanted]
        assert found["least_precision"] == pytest.approx(min(figures["precision"]))
        for name, own in zip(("precision", "recall", "unknown_named", "ordinary_named"), figures.values(), strict=True):
            assert found[name] == pytest.approx(np.mean(own)), name


@pytest.mark.parametrize("seed", range(3))
def test_what_is_called_probable_is_counted_over_all_galleries(seed: int) -> None:
    answers = make_answers(seed)
    reached, _ = measure_halves(answers, resamples=2)
    for column, wanted in enumerate(WANTED):
        probable, asked, right = [0] * 3, [0] * 3, 0
        for row, kind in enumerate(answers.kind):
            asked[kind] += 1
            if 0.5 <= answers.confidence[row] < answers.thresholds[answers.gallery[row], column]:
                probable[kind] += 1
                right += answers.right[row]
        weighed = sum(share * count / total for share, count, total in zip(SHARES, probable, asked, strict=True))
        share_right = SHARES[0] * right / asked[0] / weighed if weighed else math.nan
        assert reached[wanted]["probable_right"] == pytest.approx(share_right, nan_ok=True)
        assert reached[wanted]["unknown_probable"] == pytest.approx(probable[1] / asked[1])


def test_intervals_resample_landmarks_and_hold_the_figure() -> None:
    answers = make_answers(1)
    reached, intervals = measure_halves(answers, resamples=300)
    for wanted in WANTED:
        for name, (low, high) in intervals[wanted].items():
            assert low < reached[wanted][name] < high
    assert measure_halves(answers, resamples=300)[1] == intervals


def test_a_gallery_that_names_nothing_has_no_precision() -> None:
    answers = make_answers(2, galleries=1)
    silent = HalvesAnswers(**vars(answers) | {"thresholds": np.full((1, len(WANTED)), 1.1)})
    reached, intervals = measure_halves(silent, resamples=2)
    assert math.isnan(reached[0.95]["precision"])
    assert math.isnan(reached[0.95]["least_precision"])
    assert math.isnan(intervals[0.95]["precision"][0])
    assert reached[0.95]["recall"] == reached[0.95]["unknown_named"] == 0.0


def test_weights_give_each_kind_its_share_of_every_gallery() -> None:
    answers = make_answers(3)
    weights = answers.weights()
    for gallery in range(4):
        for kind, share in enumerate(SHARES):
            chosen = (answers.gallery == gallery) & (answers.kind == kind)
            assert weights[chosen].sum() == pytest.approx(share)


def test_the_risk_coverage_curve_gives_queries_of_one_confidence_together() -> None:
    coverage, precision = precision_at_coverage(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
    assert coverage.tolist() == [0.25, 0.75, 1.0]
    assert precision.tolist() == pytest.approx([1.0, 2 / 3, 0.5])


def test_reliability_bins_are_those_of_the_calibration_error() -> None:
    rng = np.random.default_rng(0)
    confidence, right = rng.random(500), rng.random(500) < 0.7
    means, accuracy, share = reliability(confidence, right)
    assert share.sum() == pytest.approx(1.0)
    assert share @ np.abs(accuracy - means) == pytest.approx(expected_calibration_error(confidence, right))
    # A weight of two is a query asked twice.
    weights = rng.integers(1, 3, size=500)
    doubled = reliability(np.repeat(confidence, weights), np.repeat(right, weights))
    for one, other in zip(reliability(confidence, right, weights.astype(float)), doubled, strict=True):
        assert one == pytest.approx(other)


@pytest.fixture
def bundle(tiny_run) -> Bundle:
    return tiny_run.bundle


def test_each_gallery_is_asked_for_both_halves(bundle: Bundle, tiny_dataset: Path, tmp_path: Path) -> None:
    catalog = read_catalog(tiny_dataset)
    ordinary = catalog.locate_photos(catalog.select_distractors())
    halves = evaluate_halves(bundle, catalog, ordinary=ordinary, draws=2)
    answers = halves.answers
    assert halves.galleries == 4
    known = answers.kind == 0
    shares = [answers.right[known & (answers.gallery == gallery)].mean() for gallery in range(4)]
    assert halves.top1 == pytest.approx(np.mean(shares))
    assert not halves.calibrated  # a run of one's own sets no threshold
    assert halves.reached[0.95]["unknown_named"] == 1.0
    assert halves.reached[0.95]["unknown_probable"] == 0.0
    assert math.isnan(halves.reached[0.95]["probable_right"])
    for gallery in (0, 2):
        known = [set(answers.unit[(answers.gallery == gallery + half) & (answers.kind == 0)]) for half in (0, 1)]
        assert not known[0] & known[1]
        unknown = set(answers.unit[(answers.gallery == gallery) & (answers.kind == 1)])
        assert unknown == known[1]
    again = evaluate_halves(bundle, catalog, ordinary=ordinary, draws=2)
    assert again.to_json() == halves.to_json()
    picture = write_halves(tmp_path / "out", "a <name>", halves)
    assert "a &lt;name&gt;" in picture.read_text()
    assert json.loads((tmp_path / "out" / "halves.json").read_text()) == json.loads(halves.to_json())


def test_too_few_landmarks_and_queries_of_others_are_refused(bundle: Bundle, tiny_dataset: Path) -> None:
    catalog = read_catalog(tiny_dataset)
    with pytest.raises(UsageError, match=r"0 draws.*--draws"):
        evaluate_halves(bundle, catalog, draws=0)
    three = catalog.landmarks["landmark_id"][:3].to_list()
    few = dataclasses.replace(catalog, references=catalog.references.filter(pl.col("landmark_id").is_in(three)))
    with pytest.raises(DataError, match="3 landmarks to deal"):
        evaluate_halves(bundle, few)


def test_queries_are_given_by_name_or_held_out_of_the_references(bundle: Bundle, tiny_dataset: Path) -> None:
    catalog = read_catalog(tiny_dataset)
    ordinary = catalog.locate_photos(catalog.select_distractors())
    without = dataclasses.replace(catalog, queries=catalog.queries[:0])
    held_out = evaluate_halves(bundle, without, ordinary=ordinary, draws=1)
    assert 20 <= held_out.queries <= 40  # of 60 references
    # Landmarks are matched by name: another dataset may number them otherwise, and have more of them.
    moved = dataclasses.replace(
        catalog,
        references=catalog.references.with_columns(pl.col("landmark_id") + 1000),
        landmarks=catalog.landmarks.with_columns(pl.col("landmark_id") + 1000),
    )
    by_name = evaluate_halves(bundle, without, queries=moved, ordinary=ordinary, draws=1)
    assert by_name.queries == 60
    assert set(by_name.answers.unit[by_name.answers.unit >= 0]) == set(catalog.landmarks["landmark_id"])
