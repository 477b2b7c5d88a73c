"""The recipes of DINOv2 and SigLIP, from photos to an answer, on tiny transformers of random weights."""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from obelisk.embedding import Embedder
from obelisk.evaluation.run_reader import Run
from obelisk.training.model.weights import build_network

Outcome = tuple[int, str, str]
SMALL = {"photos.size": 64, "backbone.weights": "random", "views.count": 0, "training.epochs": 1, "neck.dimensions": 8}


def words(changes: dict[str, object]) -> list[str]:
    return [word for key, value in (SMALL | changes).items() for word in ("--set", f"{key}={value}")]


def test_the_recipes_of_transformers_go_from_photos_to_an_answer(
    obelisk: Callable[..., Outcome], tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two blocks of the six and nine: nearly all of the time goes into writing them down for the runtime.
    shallow = functools.partial(build_network, depth=2)
    monkeypatch.setattr("obelisk.training.model.backbones.build_network", shallow)
    stand_in = {"backbone.names": '["test_vit"]'}
    finetuning = {"finetuning.epochs": 1, "finetuning.batch_size": 16, "finetuning.learned_exponent": "true"}
    photo = next((tiny_dataset / "train").rglob("*.jpg"))
    for recipe, changes in {
        "dinov2_linear": stand_in,
        "dinov2_finetuned": stand_in | finetuning | {"finetuning.frozen_groups": 1},
        "siglip_linear": {"backbone.names": '["test_vit3"]'},
    }.items():
        out = tmp_path / recipe
        code, _, err = obelisk("train", recipe, "--data", tiny_dataset, "--out", out, *words(changes))
        assert code == 0, err
        bundle = Run.open(out).bundle
        assert bundle.manifest.licence == "none"
        maps = Embedder(bundle).features(photo)
        assert maps is not None
        assert maps.shape[1:] == (4, 4)

    tuned = tmp_path / "dinov2_finetuned"
    code, _, err = obelisk("export", tuned, "--out", tmp_path / "int8", "--precision", "int8", "--data", tiny_dataset)
    assert code == 0, err
    assert "no layer can be computed in int8" in err
    code, _, err = obelisk("gallery", "build", tmp_path / "gallery", "--data", tiny_dataset, "--model", tuned)
    assert code == 0, err
    asked = ("--gallery", tmp_path / "gallery", "--threshold", 0, "--json", "--explain", tmp_path / "shown")
    code, shown, err = obelisk("recognize", photo, *asked)
    assert code == 0, err
    assert json.loads(shown)["neighbours"][0]["similarity"] == pytest.approx(1.0, abs=1e-3)
    assert list((tmp_path / "shown").iterdir())

    growing = words(stand_in | finetuning | {"finetuning.epochs": 2, "finetuning.start_size": 32})
    code, _, err = obelisk("train", "dinov2_finetuned", "--data", tiny_dataset, "--out", tmp_path / "no", *growing)
    assert code == 2
    assert "finetuning.start_size = 32, but `test_vit` takes photos of one size" in err


@pytest.mark.parametrize("recipe", ["dinov2_linear", "siglip_linear", "dinov2_finetuned"])
def test_weights_that_cannot_be_had_get_one_line(
    obelisk: Callable[..., Outcome], tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("obelisk.training.model.backbones.takes_size", lambda name, size: True)
    code, _, err = obelisk("train", recipe, "--data", tiny_dataset, "--out", tmp_path / "run")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "cannot be fetched from the hub" in err
    assert "--set backbone.weights=FILE.safetensors" in err
