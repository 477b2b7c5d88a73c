"""``obelisk evaluate`` judges what ``obelisk recognize`` answers, to the last digit; scored by code of its own."""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from obelisk.config import Recipe
from obelisk.data import read_catalog
from obelisk.embedding import Bundle, read_classifier, read_layer, write_bundle
from obelisk.evaluation import read_predictions
from obelisk.evaluation.run_reader import Run
from obelisk.gallery import build_gallery
from obelisk.recognition import BACKGROUND, CALIBRATION, pack_background
from obelisk.training.train import train_run

Outcome = tuple[int, str, str]
Command = Callable[..., Outcome]
Answers = dict[str, dict[str, Any]]


def change(recipe: Recipe, **sections: dict[str, object]) -> Recipe:
    fields = {name: {**dict(getattr(recipe, name)), **keys} for name, keys in sections.items()}
    return Recipe.model_validate({**recipe.model_dump(), **fields})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def softmax_run(tiny_recipe: Recipe, tiny_dataset: Path, folder: Path) -> Run:
    """Classifies by the layer of its own loss, which reads features before normalization."""
    recipe = change(tiny_recipe, loss={"kind": "softmax"}, classifier={"kind": "softmax"})
    return train_run(recipe, read_catalog(tiny_dataset), folder / "softmax")


@pytest.fixture(scope="module")
def probe_run(tiny_recipe: Recipe, tiny_dataset: Path, folder: Path) -> Run:
    """Classifies by a layer that was trained on its unit-norm embeddings."""
    return train_run(change(tiny_recipe, classifier={"kind": "softmax"}), read_catalog(tiny_dataset), folder / "probe")


@pytest.fixture(scope="module")
def majority_run(tiny_recipe: Recipe, tiny_dataset: Path, folder: Path) -> Run:
    """Its recipe says that five neighbours vote by majority."""
    recipe = change(tiny_recipe, classifier={"k": 5, "vote": "majority"})
    return train_run(recipe, read_catalog(tiny_dataset), folder / "majority")


@pytest.fixture(scope="module")
def ensemble_run(tiny_recipe: Recipe, softmax_run: Run, tiny_run: Run, tiny_dataset: Path, folder: Path) -> Run:
    """Joins a run with a softmax layer and one without; neighbours decide."""
    runs = (str(softmax_run.folder), str(tiny_run.folder))
    recipe = Recipe.model_validate({"name": "pair", "ensemble": {"runs": runs, "weights": (1.0, 2.0)}})
    return train_run(recipe, read_catalog(tiny_dataset), folder / "pair")


@pytest.fixture(scope="module")
def calibrated_gallery(tiny_run: Run, tiny_dataset: Path, folder: Path) -> Path:
    """As the bundled one: its model carries a background and a calibration."""
    bundle = tiny_run.bundle
    (member,) = bundle.members
    rows = np.random.default_rng(0).normal(size=(12, bundle.dimensions))
    calibration = {"slope": 6, "centre": -0.3, "growth": 0.02, "precisions": [[0.05, 0.5], [0.3, 0.8], [0.5, 0.97]]}
    kept = bundle.manifest.model_dump(exclude={"format", "files", "fingerprint", "members"})
    calibrated = write_bundle(
        folder / "calibrated",
        network=bundle.read_network(member),
        card="",
        attachments={BACKGROUND: pack_background(rows), CALIBRATION: json.dumps(calibration).encode()},
        **kept,
    )
    return build_gallery(folder / "gallery", read_catalog(tiny_dataset), calibrated).gallery.path


MODELS = ("tiny_run", "majority_run", "softmax_run", "probe_run", "ensemble_run", "calibrated_gallery")


@pytest.mark.parametrize("model", MODELS)
def test_evaluate_measures_what_recognize_answers(
    obelisk: Command, model: str, tiny_dataset: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    found = request.getfixturevalue(model)
    judged = gallery = found if isinstance(found, Path) else tmp_path / "gallery"
    if isinstance(found, Run):
        judged = Path(shutil.copytree(found.folder, tmp_path / "run"))
        built = obelisk("gallery", "build", gallery, "--data", tiny_dataset, "--model", found.folder)
        assert built[0] == 0, built[2]
    code, out, err = obelisk("recognize", tiny_dataset / "test", "--gallery", gallery, "--json")
    assert code == 0, err
    answers = {Path(answer["photo"]).stem: answer for answer in map(json.loads, out.splitlines())}
    code, out, err = obelisk("evaluate", judged, "--data", tiny_dataset, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    metrics = json.loads(out)
    assert metrics["intervals"].keys() >= {"top1", "precision", "recall", "ece"}
    predictions = read_predictions(tmp_path / "out" / "predictions.parquet")
    assert predictions.query_ids.tolist() == sorted(answers)
    for query, name in enumerate(predictions.query_ids.tolist()):
        answer = answers[name]
        assert predictions.candidates[query].tolist() == [one["landmark_id"] for one in answer["candidates"]]
        assert predictions.scores[query].tolist() == [one["score"] for one in answer["candidates"]]
        assert predictions.confidence[query] == answer["confidence"]
        near = [(one["id"], one["similarity"]) for one in answer["neighbours"]]
        listed = zip(predictions.neighbors[query].tolist(), predictions.similarities[query].tolist(), strict=True)
        assert list(listed)[: len(near)] == near
    assert (metrics["threshold"] is not None) == (model == "calibrated_gallery")
    for name, value in score(answers, tiny_dataset).items():
        assert metrics[name] == pytest.approx(value, abs=1e-9), name


def score(answers: Answers, data: Path) -> dict[str, float]:
    """Score answers as :func:`obelisk.evaluation.measure` should, from GLDv2's tables, query by query."""
    with (data / "metadata" / "train.csv").open() as file:
        gallery = {int(row["landmark_id"]) for row in csv.DictReader(file)}
    with (data / "metadata" / "recognition_solution_v2.1.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["Usage"] != "Ignored"]
    truth = {row["id"]: {int(landmark) for landmark in row["landmarks"].split()} & gallery for row in rows}
    assert truth.keys() == answers.keys()
    known = [query for query in truth if truth[query]]
    first = {query: answers[query]["candidates"][0]["landmark_id"] for query in truth}
    right = {query: first[query] in truth[query] for query in truth}
    confidence = {query: answers[query]["confidence"] for query in truth}
    f1 = []
    for landmark in {landmark for query in known for landmark in truth[query]}:
        hits = sum(first[query] == landmark and right[query] for query in known)
        misses = sum(first[query] != landmark and landmark in truth[query] for query in known)
        false = sum(first[query] == landmark and not right[query] for query in known)
        f1.append(2 * hits / (2 * hits + misses + false))
    gap, seen = 0.0, 0
    for rank, query in enumerate(sorted(truth, key=lambda query: (-confidence[query], query)), start=1):
        seen += right[query]
        gap += right[query] * seen / rank / len(known)
    pairs = [(confidence[query], confidence[other]) for query in known for other in truth if not truth[other]]
    bins: dict[int, list[float]] = {}
    for query in truth:
        bins.setdefault(max(1, math.ceil(15 * confidence[query])), []).append(confidence[query] - right[query])
    given = [query for query in truth if answers[query]["landmark"] is not None]
    return {
        "top1": sum(right[query] for query in known) / len(known),
        "top5": sum(any(one["landmark_id"] in truth[query] for one in answers[query]["candidates"]) for query in known)
        / len(known),
        "f1_macro": sum(f1) / len(f1),
        "gap": gap,
        "auroc_distractors": sum((high > low) + (high == low) / 2 for high, low in pairs) / len(pairs),
        "ece": sum(abs(sum(surplus)) for surplus in bins.values()) / len(truth),
        "precision": sum(right[query] for query in given) / len(given),
        "recall": sum(right[query] for query in given) / len(known),
    }


def test_the_classifier_of_a_recipe_travels_in_its_bundle(majority_run: Run, softmax_run: Run, tiny_run: Run) -> None:
    said = {run.recipe.classifier.kind: read_classifier(run.bundle) for run in (majority_run, softmax_run)}
    assert said["knn"] is not None
    assert said["softmax"] is not None
    assert (said["knn"].k, said["knn"].vote) == (5, "majority")
    assert said["softmax"].kind == "softmax"
    layer = read_layer(softmax_run.bundle)
    assert layer is not None
    assert layer.landmarks == softmax_run.landmarks
    assert layer.names is not None
    assert len(set(layer.names)) == len(layer.landmarks)
    assert read_layer(tiny_run.bundle) is None


def test_a_landmark_that_the_layer_does_not_know_hands_over_to_neighbours(
    obelisk: Command, softmax_run: Run, tiny_dataset: Path, tmp_path: Path
) -> None:
    gallery = tmp_path / "gallery"
    assert obelisk("gallery", "build", gallery, "--data", tiny_dataset, "--model", softmax_run.folder)[0] == 0
    photo, *others = sorted((tiny_dataset / "test").rglob("*.jpg"))
    by_layer = json.loads(obelisk("recognize", photo, "--gallery", gallery, "--json")[1])
    # A probability is not rescaled to the landmarks of the gallery: here they are all the layer knows.
    assert sum(one["score"] for one in by_layer["candidates"]) <= 1.0
    voted = json.loads(obelisk("recognize", photo, "--gallery", gallery, "--vote", "blended", "--json")[1])
    assert voted["candidates"] != by_layer["candidates"]
    code, _, err = obelisk("gallery", "add", gallery, others[0], "--landmark", "A new one")
    assert code == 0, err
    code, out, err = obelisk("recognize", others[0], photo, "--gallery", gallery, "--json")
    new, known = map(json.loads, out.splitlines())
    assert code == 0
    assert err.count("does not know 1 of the gallery's landmarks") == 1
    assert new["landmark"] == "A new one"
    assert known["candidates"][0]["score"] == pytest.approx(voted["candidates"][0]["score"], abs=0.2)
    code, _, err = obelisk("gallery", "build", gallery, "--data", tiny_dataset)
    assert code == 0
    assert "does not know 1 of the gallery's landmarks" in err


def test_another_landmark_with_an_id_of_the_layer_hands_over_to_neighbours(
    obelisk: Command, softmax_run: Run, tiny_dataset: Path, tmp_path: Path
) -> None:
    gallery, taken = tmp_path / "gallery", softmax_run.landmarks[0]
    assert obelisk("gallery", "build", gallery, "--data", tiny_dataset, "--model", softmax_run.folder)[0] == 0
    assert obelisk("gallery", "remove", gallery, "--landmark", taken)[0] == 0
    photo = sorted((tiny_dataset / "test").rglob("*.jpg"))[0]
    code, _, err = obelisk("gallery", "add", gallery, photo, "--landmark", "Another", "--id", taken)
    assert code == 0, err
    code, out, err = obelisk("recognize", photo, "--gallery", gallery, "--json")
    assert code == 0
    assert f"does not know 1 of the gallery's landmarks, first `Another` (id {taken})" in err
    assert json.loads(out)["landmark"] == "Another"


def test_one_photo_and_many_get_the_same_probabilities(
    obelisk: Command, probe_run: Run, tiny_dataset: Path, tmp_path: Path
) -> None:
    gallery = tmp_path / "gallery"
    assert obelisk("gallery", "build", gallery, "--data", tiny_dataset, "--model", probe_run.folder)[0] == 0
    photos = sorted((tiny_dataset / "test").rglob("*.jpg"))
    together = obelisk("recognize", *photos, "--gallery", gallery, "--json")[1].splitlines()
    alone = [obelisk("recognize", photo, "--gallery", gallery, "--json")[1].strip() for photo in photos]
    assert together == alone


def test_a_bundle_is_evaluated_as_its_run(
    obelisk: Command, softmax_run: Run, tiny_dataset: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(softmax_run.folder, tmp_path / "run")
    by_run = obelisk("evaluate", run, "--data", tiny_dataset, "--json")
    assert by_run[0] == 0, by_run[2]
    assert obelisk("evaluate", run / "model", "--data", tiny_dataset, "--json")[:2] == by_run[:2]
    assert sorted(path.name for path in (run / "model").iterdir()) == [
        "bundle.json",
        "card.md",
        "classifier.json",
        "layer.json",
        "model.onnx",
    ]


def test_a_run_and_a_gallery_are_compared(
    obelisk: Command, tiny_run: Run, calibrated_gallery: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(tiny_run.folder, tmp_path / "run")
    code, out, err = obelisk("compare", run, calibrated_gallery, "--data", tiny_dataset, "--json")
    assert code == 0, err
    first, second = json.loads(out)["runs"]
    assert (first["run"], second["run"]) == ("tiny", "gallery")
    assert first["metrics"]["threshold"] is None
    assert second["metrics"]["threshold"] == 0.5


def test_an_export_of_a_run_without_its_layer_adds_it(
    obelisk: Command, softmax_run: Run, tiny_dataset: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(softmax_run.folder, tmp_path / "run"))
    whole = Bundle.load(run / "model")
    kept = whole.manifest.model_dump(exclude={"format", "files", "fingerprint", "members"})
    write_bundle(run / "model", network=whole.read_network(whole.members[0]), card="", **kept)
    code, _, err = obelisk("evaluate", run, "--data", tiny_dataset)
    assert code == 2
    assert f"obelisk export {run} --out BUNDLE" in err
    bundle = tmp_path / "bundle"
    code, _, err = obelisk("export", run, "--out", bundle, "--data", tiny_dataset, "--precision", "int8")
    assert code == 0, err
    assert "top-1 by the softmax layer" in err
    exported = json.loads(obelisk("evaluate", bundle, "--data", tiny_dataset, "--json")[1])
    before = json.loads(obelisk("evaluate", softmax_run.folder / "model", "--data", tiny_dataset, "--json")[1])
    assert abs(exported["top1"] - before["top1"]) <= 0.1


def test_evaluation_imports_no_torch(softmax_run: Run, tiny_dataset: Path, tmp_path: Path) -> None:
    program = "import sys; sys.modules['torch'] = sys.modules['onnx'] = None\nfrom obelisk.cli.main import run\nrun()"
    run = shutil.copytree(softmax_run.folder, tmp_path / "run")
    words = ["compare", str(run), str(run / "model"), "--data", str(tiny_dataset), "--json"]
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["runs"]) == 2


def test_halves_say_how_well_a_model_refuses_strangers(
    tiny_run: Run, tiny_dataset: Path, obelisk: Command, tmp_path: Path
) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.mkdir()
    catalog = read_catalog(tiny_dataset)
    for photo in catalog.locate_photos(catalog.select_distractors()):
        shutil.copy(photo, ordinary)
    words = ("evaluate", tiny_run.folder, "--data", tiny_dataset, "--protocol", "halves", "--draws", 2)
    rc, out, err = obelisk(*words, "--ordinary", ordinary, "--out", tmp_path / "out")
    assert rc == 0
    assert "4 galleries of half of 6 landmarks, each asked 18 queries and 6 ordinary photos" in out
    assert "it rejects nothing" in err  # a model of one's own is not calibrated, and that is said
    assert (tmp_path / "out" / "halves.svg").is_file()
    rc, out, _ = obelisk(*words, "--ordinary", ordinary, "--json")
    assert (rc, json.loads(out)) == (0, json.loads((tmp_path / "out" / "halves.json").read_text()))
    rc, _, err = obelisk("evaluate", tiny_run.folder, "--data", tiny_dataset, "--ordinary", ordinary)
    assert rc == 2
    assert "add --protocol halves" in err


def test_halves_ask_the_softmax_layer_of_a_run_that_has_one(
    softmax_run: Run, tiny_dataset: Path, obelisk: Command
) -> None:
    catalog = read_catalog(tiny_dataset)
    photo = catalog.locate_photos(catalog.select_distractors())[0]
    words = ("evaluate", softmax_run.folder, "--data", tiny_dataset, "--protocol", "halves", "--draws", 1, "--json")
    rc, out, _ = obelisk(*words, "--ordinary", photo)
    assert rc == 0
    assert json.loads(out)["calibrated"] is False
