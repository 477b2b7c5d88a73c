from __future__ import annotations

import json

import pytest

from obelisk.evaluation import measure, write_metrics

CONTRACT = [
    "queries",
    "landmarks",
    "top1",
    "top5",
    "f1_macro",
    "f1_weighted",
    "gap",
    "auroc_distractors",
    "auroc_unknown",
    "ece",
    "buckets",
    "intervals",
]


@pytest.fixture
def catalog(make_catalog):
    truths = {f"q{n:03}": [n % 12] for n in range(90)} | {f"x{n:03}": [] for n in range(30)}
    return make_catalog({landmark: 1 + 3 * landmark for landmark in range(12)}, truths)


@pytest.fixture
def predictions(catalog, make_predictions):
    return make_predictions(catalog)


def test_the_json_has_the_keys_that_scripts_depend_on(predictions, catalog):
    fields = json.loads(measure(predictions, catalog, resamples=20).to_json())
    assert [key for key in fields if key in CONTRACT] == CONTRACT
    assert set(fields["buckets"]) == {"head", "mid", "tail"}
    assert (fields["queries"], fields["landmarks"]) == (120, 12)
    assert (fields["known_queries"], fields["distractors"]) == (90, 30)
    for name in ("top1", "top5", "f1_macro", "f1_weighted", "gap", "auroc_distractors", "ece", "tail", "point_like"):
        low, high = fields["intervals"][name]
        value = fields["buckets"].get(name, fields.get(name))
        assert 0 <= low <= high <= 1
        # The ECE of a resample has the noise of drawing again on top, so that its interval leans upwards.
        assert name == "ece" or low <= value <= high


def test_what_the_data_cannot_tell_is_null(predictions, catalog):
    fields = json.loads(measure(predictions, catalog, resamples=20).to_json())
    for name in ("auroc_unknown", "map100"):
        assert fields[name] is None
        assert fields["intervals"][name] is None
    assert fields["threshold"] is None


def test_precision_and_recall_are_those_at_the_threshold(predictions, catalog):
    fields = json.loads(measure(predictions, catalog, threshold=0.5, resamples=20).to_json())
    assert fields["threshold"] == 0.5
    assert fields["intervals"]["precision"][0] <= fields["precision"] <= 1
    assert 0 <= fields["recall"] <= fields["top1"], "an answer that is not given is not right"


def test_a_dataset_of_distractors_alone_measures_nothing(make_catalog, make_predictions):
    catalog = make_catalog({1: 3, 2: 3}, {"x1": [], "x2": []})
    fields = json.loads(measure(make_predictions(catalog), catalog, resamples=5).to_json())
    assert fields["top1"] is fields["gap"] is fields["auroc_distractors"] is None
    assert fields["ece"] is not None


def test_equal_predictions_give_equal_bytes(predictions, catalog, tmp_path):
    first, again = (
        write_metrics(tmp_path / name, measure(predictions, catalog, resamples=50)) for name in ("a.json", "b.json")
    )
    assert first.read_bytes() == again.read_bytes()
    other = write_metrics(tmp_path / "c.json", measure(predictions, catalog, resamples=50, seed=1))
    assert json.loads(other.read_text())["top1"] == json.loads(first.read_text())["top1"]
    assert json.loads(other.read_text())["intervals"] != json.loads(first.read_text())["intervals"]
