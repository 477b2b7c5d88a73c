"""The two arms of the reference comparison, from photos to an answer, on a few made-up photos and random weights.

Exporting a network of a hundred layers takes most of a minute: the quick tests put a small ResNet in its place.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from obelisk.embedding import Embedder
from obelisk.evaluation import read_predictions
from obelisk.evaluation.run_reader import Run
from obelisk.synthetic import generate_dataset

Outcome = tuple[int, str, str]


WHOLE = pytest.param("", marks=pytest.mark.stress, id="its own backbone")


@pytest.mark.parametrize("backbone", [pytest.param("test_resnet", id="a small backbone"), WHOLE])
@pytest.mark.parametrize("arm", ["paper_baseline", "paper_proposed"])
def test_an_arm_goes_from_photos_to_an_answer(
    obelisk: Callable[..., Outcome], tmp_path: Path, arm: str, backbone: str
) -> None:
    data = generate_dataset(tmp_path / "data", landmarks=3, references=12, queries=4, distractors=1, size=32)
    few = {"photos.size": 32, "backbone.weights": "random", "views.count": 0, "training.epochs": 1}
    if backbone:
        few["backbone.names"] = f'["{backbone}"]'
    if arm == "paper_baseline":
        few |= {"finetuning.epochs": 1, "finetuning.batch_size": 6}
    else:
        few |= {"neck.dimensions": 8}
    words = [word for key, value in few.items() for word in ("--set", f"{key}={value}")]
    code, out, err = obelisk("train", arm, "--data", data, "--out", tmp_path / "run", *words)
    assert code == 0, err
    code, out, err = obelisk("evaluate", tmp_path / "run", "--data", data, "--json")
    assert code == 0, err
    assert json.loads(out)["landmarks"] == 3
    opened = Run.open(tmp_path / "run")
    if arm == "paper_baseline":
        predictions = read_predictions(opened.folder / "predictions.parquet")
        paths = {path.stem: path for path in (data / "test").rglob("*.jpg")}
        embedder = Embedder(opened.bundle, logits=True)
        photos = embedder.embed([paths[name] for name in predictions.query_ids.tolist()])
        logits = np.stack([photo.logits for photo in photos if photo.logits is not None]).astype(np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        assert np.allclose((powers / powers.sum(axis=1, keepdims=True)).max(axis=1), predictions.scores[:, 0])
    code, out, err = obelisk("gallery", "build", tmp_path / "gallery", "--data", data, "--model", opened.folder)
    assert code == 0, err
    photo = next((data / "train").rglob("*.jpg"))
    code, out, err = obelisk("recognize", photo, "--gallery", tmp_path / "gallery", "--threshold", 0, "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert answer["neighbours"][0]["similarity"] == pytest.approx(1.0, abs=1e-3)
    assert answer["landmark_id"] in opened.landmarks
