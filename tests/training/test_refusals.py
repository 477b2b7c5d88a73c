"""What cannot be trained is refused before any work, whichever way one looks at it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from obelisk.config import load_recipe
from obelisk.data import read_catalog
from obelisk.errors import DataError, RecipeError
from obelisk.training.dry_run import dry_run
from obelisk.training.lr_finder import find_rate
from obelisk.training.train import train_run

Look = Callable[..., object]


@pytest.fixture(params=["train", "dry run", "find rate"])
def look(request: pytest.FixtureRequest, tmp_path: Path) -> Look:
    """Train a recipe on a catalog, or look at it without training."""
    return {"train": partial(train_run, out=tmp_path / "run"), "dry run": dry_run, "find rate": find_rate}[
        request.param
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["finetuning.precision=float16"], "needs a CUDA GPU.*--set finetuning.precision=float32"),
        (["finetuning.compile=true"], r"needs a C\+\+ compiler.* `no-compiler`.*finetuning.compile=false"),
        (["finetuning.keep=best", "data.refit=false", "data.validation_share=0"], "no reference photo is held out"),
        (["classifier.k=1000"], "classifier.k = 1000, but there are only 60"),
    ],
    ids=["float16", "compile", "best epoch", "k"],
)
def test_what_data_or_machine_rule_out_is_refused(
    look: Look,
    overrides: list[str],
    message: str,
    tiny_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CXX", "no-compiler")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    recipe = load_recipe("arcface", ["finetuning.epochs=1", *overrides])
    with pytest.raises(RecipeError, match=message):
        look(recipe, read_catalog(tiny_dataset))
    assert not (tmp_path / "run").exists()


def test_photos_of_one_landmark_teach_nothing(look: Look, tiny_dataset: Path, tmp_path: Path) -> None:
    place = next(path for path in sorted((tiny_dataset / "train").iterdir()) if path.is_dir())
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / place.name).symlink_to(place)
    with pytest.raises(DataError, match="photos of 1 landmark"):
        look(load_recipe("arcface"), read_catalog(alone))


def test_triplets_need_a_landmark_with_two_pictures(look: Look, tiny_dataset: Path, tmp_path: Path) -> None:
    places = [path for path in sorted((tiny_dataset / "train").iterdir()) if path.is_dir()]
    for place in places:
        photo = next(place.rglob("*.jpg"))
        alone = tmp_path / "alone" / place.name
        alone.mkdir(parents=True)
        (alone / photo.name).write_bytes(photo.read_bytes())
    catalog = read_catalog(tmp_path / "alone")
    with pytest.raises(RecipeError, match=r"no triplet · .* · set views.count = 3"):
        look(load_recipe("proposed_triplet", ["views.count=0"]), catalog)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("look_only", [dry_run, find_rate])
def test_an_ensemble_of_runs_has_nothing_to_look_at(look_only: Look, tiny_dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "both.toml"
    path.write_text('name = "both"\n[ensemble]\nruns = ["runs/a", "runs/b"]\n')
    with pytest.raises(RecipeError, match="both joins finished runs and trains nothing"):
        look_only(load_recipe(str(path)), read_catalog(tiny_dataset))
