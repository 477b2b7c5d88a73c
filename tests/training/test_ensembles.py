"""Ensembles of runs: one joined network or several members, and weights that validation photos choose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from obelisk.config import Recipe
from obelisk.data import Catalog, read_catalog
from obelisk.embedding import Bundle, Embedder
from obelisk.errors import ModelError, UsageError
from obelisk.evaluation.run_reader import Run, read_facts
from obelisk.training.export.ensembles import combine_runs, compositions
from obelisk.training.export.export_run import export_run
from obelisk.training.loading.references import split_for_validation
from obelisk.training.train import train_run


@pytest.fixture(scope="module")
def catalog(tiny_dataset: Path) -> Catalog:
    return read_catalog(tiny_dataset)


@pytest.fixture(scope="module")
def runs(tiny_recipe: Recipe, catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Runs that kept their validation photos: two of one photo rule, and one of smaller photos."""
    changes = {"wide": (64, 16), "narrow": (64, 8), "small": (48, 12)}
    made = {}
    for name, (size, dimensions) in changes.items():
        recipe = tiny_recipe.model_copy(
            update={
                "name": name,
                "photos": tiny_recipe.photos.model_copy(update={"size": size}),
                "neck": tiny_recipe.neck.model_copy(update={"dimensions": dimensions}),
                "data": tiny_recipe.data.model_copy(update={"refit": False}),
            }
        )
        made[name] = train_run(recipe, catalog, tmp_path_factory.mktemp("runs") / name)
    return made


def embed(embedder: Embedder, paths: Sequence[Path]) -> np.ndarray:
    rows = [one.embedding for one in embedder.embed(paths)]
    assert all(row is not None for row in rows)
    return np.stack([row for row in rows if row is not None])


@pytest.mark.parametrize(
    ("names", "members", "whitened"), [(("wide", "narrow"), 1, False), (("wide", "small"), 2, True)]
)
def test_an_ensemble_weighs_its_members_cosines(
    runs: dict[str, Run], catalog: Catalog, tmp_path: Path, names: tuple[str, str], members: int, whitened: bool
) -> None:
    pair = [runs[name] for name in names]
    combined = combine_runs(pair, catalog, tmp_path / "pair", name="pair", weights=[3, 1], whiten=whitened)
    assert combined.weights == [0.75, 0.25]
    assert len(combined.bundle.members) == members
    paths = catalog.locate_photos(catalog.references)
    rows = embed(Embedder(combined.bundle), paths)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    apart = [embed(Embedder(run.bundle), paths) for run in pair]
    if whitened:
        apart = [whiten(each) for each in apart]
    expected = 0.75 * apart[0] @ apart[0].T + 0.25 * apart[1] @ apart[1].T
    assert np.abs(rows @ rows.T - expected).max() < 0.02


def whiten(rows: np.ndarray) -> np.ndarray:
    """Whiten embeddings by hand, in float64."""
    centred = rows.astype(np.float64) - rows.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(rows))
    kept = values > values.max() * 1e-9
    white = centred @ vectors[:, kept] / np.sqrt(values[kept])
    return np.asarray(white / np.linalg.norm(white, axis=1, keepdims=True))


def test_weights_are_chosen_on_validation_photos_and_the_choice_repeats_itself(
    runs: dict[str, Run], catalog: Catalog, tmp_path: Path
) -> None:
    pair = [runs["wide"], runs["small"]]
    first, second = (combine_runs(pair, catalog, tmp_path / name, name="pair") for name in ("first", "second"))
    assert sum(first.weights) == pytest.approx(1)
    assert min(first.weights) > 0
    assert first.weights == second.weights
    assert first.bundle.fingerprint == second.bundle.fingerprint
    assert "- wide, weight" in first.bundle.read_card()
    even = combine_runs(pair, catalog, tmp_path / "even", name="pair", weights="equal")
    assert validation_hits(first.bundle, pair[0], catalog) >= validation_hits(even.bundle, pair[0], catalog)


def validation_hits(bundle: Bundle, run: Run, catalog: Catalog) -> int:
    """Count the validation photos whose nearest other reference photo shows their landmark."""
    split = split_for_validation(run.recipe, catalog).references
    rows = embed(Embedder(bundle), catalog.locate_photos(split))
    labels, is_val = split["landmark_id"].to_numpy(), (split["split"] == "val").to_numpy()
    nearest = (rows[is_val] @ rows[~is_val].T).argmax(axis=1)
    return int((labels[~is_val][nearest] == labels[is_val]).sum())


def test_what_cannot_be_combined_says_why(
    runs: dict[str, Run], tiny_run: Run, catalog: Catalog, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="an ensemble of 1 run"):
        combine_runs([tiny_run], catalog, out)
    with pytest.raises(UsageError, match=r"refitted on its validation photos.*data.refit=false"):
        combine_runs([tiny_run, runs["wide"]], catalog, out)
    for weights in ([1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")], [1.0, float("inf")]):
        with pytest.raises(UsageError, match="give a positive number for each run"):
            combine_runs([tiny_run, runs["wide"]], catalog, out, weights=weights)
    assert not out.exists()
    assert combine_runs([tiny_run, runs["wide"]], catalog, out, weights="equal").weights == [0.5, 0.5]


def test_every_way_to_share_is_tried_once() -> None:
    found = [tuple(weights) for weights in compositions(3, 5)]
    assert len(set(found)) == len(found) == 6
    assert all(sum(weights) == pytest.approx(1) and min(weights) > 0 for weights in found)


def test_a_recipe_names_runs(runs: dict[str, Run], catalog: Catalog, tmp_path: Path) -> None:
    folders = [str(runs[name].folder) for name in ("wide", "small")]
    recipe = Recipe.model_validate({"name": "pair", "ensemble": {"runs": folders}})
    run = train_run(recipe, catalog, tmp_path / "pair")
    by_hand = combine_runs([runs["wide"], runs["small"]], catalog, tmp_path / "by_hand", name="pair")
    assert run.bundle.fingerprint == by_hand.bundle.fingerprint
    assert run.landmarks == runs["wide"].landmarks
    assert read_facts(run.folder)["weights"] == list(by_hand.weights)
    paths = catalog.locate_photos(catalog.queries)
    assert np.array_equal(embed(Embedder(run.bundle), paths), embed(Embedder(by_hand.bundle), paths))
    assert train_run(recipe, catalog, tmp_path / "pair") == run
    with pytest.raises(ModelError, match=r"joins others .*name .*small"):
        export_run(run, tmp_path / "again", photos=paths)


def test_a_recipe_that_names_a_refitted_run_leaves_no_folder(
    runs: dict[str, Run], tiny_run: Run, catalog: Catalog, tmp_path: Path
) -> None:
    folders = [str(runs["wide"].folder), str(tiny_run.folder)]
    recipe = Recipe.model_validate({"name": "pair", "ensemble": {"runs": folders}})
    with pytest.raises(UsageError, match="refitted on its validation photos"):
        train_run(recipe, catalog, tmp_path / "pair")
    assert not (tmp_path / "pair").exists()
    given = recipe.model_copy(update={"ensemble": recipe.ensemble.model_copy(update={"weights": (3.0, 1.0)})})
    assert read_facts(train_run(given, catalog, tmp_path / "pair").folder)["weights"] == [0.75, 0.25]
