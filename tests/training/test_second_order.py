"""The embedding of second order: covariances of early stages, whitened, beside the neck's embedding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from obelisk.config import Recipe
from obelisk.data import read_catalog
from obelisk.embedding import Embedder
from obelisk.errors import ModelError
from obelisk.evaluation.run_reader import Run
from obelisk.photos import prepare, read_photo
from obelisk.training.distributed import Distributed
from obelisk.training.export.export_run import export_run
from obelisk.training.export.restore import load_module
from obelisk.training.model.pooling import covariance
from obelisk.training.train import prepare_training, train_run

FINETUNED = {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3}


def change(recipe: Recipe, **sections: dict[str, object]) -> Recipe:
    tables = recipe.model_dump()
    for name, keys in sections.items():
        tables[name] |= keys
    return Recipe.model_validate(tables)


def photos_of(dataset: Path) -> list[Path]:
    return sorted((dataset / "train").rglob("*.jpg"))


def embed(run: Run, paths: list[Path]) -> np.ndarray:
    return np.stack([one.embedding for one in Embedder(run.bundle).embed(paths) if one.embedding is not None])


def test_covariance_is_that_of_the_channels_over_the_positions() -> None:
    maps = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    expected = [np.cov(each.flatten(1).numpy(), bias=True)[np.triu_indices(4)] for each in maps]
    assert np.allclose(covariance(maps).numpy(), np.stack(expected), atol=1e-6)
    # Products of these are beyond what half precision holds.
    assert torch.isfinite(covariance(1000 * maps.half())).all()


@pytest.mark.parametrize("finetuning", [{}, FINETUNED], ids=["frozen", "fine-tuned"])
def test_the_cosine_of_two_photos_is_a_weighted_mean_of_both(
    tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path, finetuning: dict[str, object]
) -> None:
    catalog, paths = read_catalog(tiny_dataset), photos_of(tiny_dataset)
    recipe = change(tiny_recipe, finetuning=finetuning)
    plain = train_run(recipe, catalog, tmp_path / "plain")
    joined = train_run(
        change(recipe, second_order={"stages": [1, 2], "dimensions": 6, "weight": 0.25}), catalog, tmp_path / "joined"
    )
    assert joined.bundle.dimensions == plain.bundle.dimensions + 6
    alone, both = embed(plain, paths), embed(joined, paths)
    # Nothing else is trained differently.
    assert np.allclose(both[:, :16], 0.75**0.5 * alone, atol=1e-5)
    second = both[:, 16:]
    assert np.allclose(np.linalg.norm(second, axis=1), 0.25**0.5, atol=1e-5)
    assert second.std(axis=0).min() > 1e-3

    # The module, and an export in small weights, are the same model.
    rule = joined.bundle.input
    inputs = torch.from_numpy(np.stack([prepare(read_photo(path, min_side=rule.size), rule) for path in paths]))
    with torch.inference_mode():
        assert np.allclose(load_module(joined)(inputs).numpy(), both, atol=1e-4)
    exported = export_run(joined, tmp_path / "int8", photos=paths, precision="int8")
    assert exported.cosine >= 0.9999
    assert "covariances of stages 1, 2" in exported.bundle.read_card()


def test_a_stage_that_the_backbone_lacks_is_refused_before_training(tiny_recipe: Recipe, tiny_dataset: Path) -> None:
    recipe = change(tiny_recipe, second_order={"stages": [9]})
    with pytest.raises(ModelError, match=r"second_order\.stages has 9, but `test_efficientnet` has 5 stages"):
        prepare_training(recipe, read_catalog(tiny_dataset), Distributed())


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"backbone": {"names": ["test_efficientnet", "test_resnet"]}}, "those of one backbone"),
        ({"loss": {"kind": "softmax"}, "classifier": {"kind": "softmax"}}, "classifier.kind = 'knn'"),
        ({"second_order": {"stages": [2, 2]}}, "names a stage twice"),
        ({"second_order": {"stages": [0]}}, "greater than or equal to 1"),
    ],
)
def test_second_order_is_refused_where_it_has_no_place(
    tiny_recipe: Recipe, sections: dict[str, dict[str, object]], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        change(tiny_recipe, **{"second_order": {"stages": [2]}, **sections})
