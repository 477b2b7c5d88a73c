"""How many of a dataset's landmarks a judge was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from obelisk.bundled import bundled_gallery
from obelisk.cleaning import count_learned_landmarks
from obelisk.config import load_recipe
from obelisk.data import LANDMARKS, QUERIES, REFERENCES, Catalog
from obelisk.gallery import Gallery


def make_catalog(names: dict[int, str]) -> Catalog:
    landmarks = pl.DataFrame({"landmark_id": list(names), "name": list(names.values())})
    return Catalog(
        root=Path(),
        references=pl.DataFrame(schema=REFERENCES),
        queries=pl.DataFrame(schema=QUERIES),
        landmarks=pl.concat([pl.DataFrame(schema=LANDMARKS), landmarks], how="diagonal"),
    )


CATALOG = make_catalog({1: "Dome", 2: "Tower", 3: "Bridge"})


@pytest.mark.parametrize(
    ("settings", "learned"),
    [
        ([], 2),
        (["neck.kind=whitening", "loss.kind=none"], 0),  # nothing is trained
    ],
)
def test_a_run_has_learned_the_landmarks_that_it_was_trained_on(tmp_path, settings, learned):
    (tmp_path / "run.json").write_text(json.dumps({"landmarks": [1, 2, 9]}))
    (tmp_path / "recipe.toml").write_text(load_recipe("arcface", settings).to_toml())
    assert count_learned_landmarks(tmp_path, CATALOG) == learned


def test_a_bundle_is_not_known_to_have_learned_any(tmp_path):
    assert count_learned_landmarks(tmp_path, CATALOG) == 0


def test_the_bundled_model_has_learned_landmarks_of_the_same_id_and_name():
    known = Gallery.open(bundled_gallery()).landmarks[0]
    assert count_learned_landmarks(bundled_gallery(), make_catalog({known.id: known.name})) == 1
    assert count_learned_landmarks(bundled_gallery(), make_catalog({known.id: "another name"})) == 0
