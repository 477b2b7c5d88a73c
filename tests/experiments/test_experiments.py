"""The demo and ablations from Python, as the commands call them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from obelisk.config import Recipe, load_ablation
from obelisk.data import read_catalog
from obelisk.errors import DataError
from obelisk.experiments import run_ablation, run_demo


@pytest.fixture
def small_arms(tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts recipes that train in a second in the place of the arms."""

    def load(name: str) -> Recipe:
        return tiny_recipe.model_copy(update={"name": name})

    monkeypatch.setattr("obelisk.experiments.demo.load_recipe", load)


def test_the_demo_trains_compares_and_recognizes(small_arms: None, tiny_dataset: Path, tmp_path: Path) -> None:
    done = run_demo(read_catalog(tiny_dataset), tmp_path / "demo")
    assert [arm.name for arm in done.comparison.arms] == ["baseline_softmax", "proposed_triplet"]
    assert len(done.answers) == 3
    assert done.report.read_text(encoding="utf-8").startswith("<!")
    assert done.picture.is_file()
    again = run_demo(read_catalog(tiny_dataset), tmp_path / "demo")
    assert again.comparison.to_json() == done.comparison.to_json()
    assert again.answers == done.answers


def test_a_dataset_without_a_query_of_a_landmark_has_no_demo(tiny_dataset: Path, tmp_path: Path) -> None:
    catalog = read_catalog(tiny_dataset)
    distractors = catalog.queries.filter(pl.col("landmark_ids").list.len() == 0)
    with pytest.raises(DataError, match="no query shows a landmark"):
        run_demo(replace(catalog, queries=distractors), tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


def test_cells_of_one_training_run_differ_by_what_decides(
    tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path
) -> None:
    shared = [
        text for text in tiny_recipe.to_toml().split("\n[")[1:] if not text.startswith(("classifier", "ensemble"))
    ]
    factors = (
        '\n[factors.classifier.layer.classifier]\nkind = "softmax"\n'
        '[factors.classifier.neighbours.classifier]\nkind = "knn"\nvote = "majority"\n'
    )
    path = tmp_path / "ablation.toml"
    path.write_text('name = "two"\n' + "".join(f"[recipe.{text}\n" for text in shared) + factors)
    done = run_ablation(load_ablation(str(path)), read_catalog(tiny_dataset), tmp_path / "out")
    layer, neighbors = (one.target for one in done.evaluated)
    assert layer.bundle.fingerprint == neighbors.bundle.fingerprint
    assert (layer.classifier.kind, neighbors.classifier.kind, neighbors.classifier.vote) == (
        "softmax",
        "knn",
        "majority",
    )
    scores = [one.predictions.scores[:, 0].tolist() for one in done.evaluated]
    assert scores[0] != scores[1]
    assert sorted(path.name for path in (tmp_path / "out" / "cells").iterdir()) == ["layer", "neighbours"]
