"""The dry run: it counts right, measures on the data, and writes nothing."""

import dataclasses
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from obelisk.cli.main import make_app
from obelisk.config import Recipe, load_recipe
from obelisk.data import read_catalog
from obelisk.training.dry_run import dry_run
from obelisk.training.model.backbones import load_backbones


@pytest.fixture
def recipe_file(tiny_recipe: Recipe, tmp_path: Path) -> Path:
    section = tiny_recipe.finetuning.model_copy(update={"epochs": 2, "batch_size": 8, "frozen_groups": 2})
    path = tmp_path / "recipes" / "tiny.toml"
    path.parent.mkdir()
    path.write_text(tiny_recipe.model_copy(update={"finetuning": section}).to_toml())
    return path


def test_counts_are_those_of_the_network_and_the_data(recipe_file: Path, tiny_dataset: Path) -> None:
    recipe = load_recipe(str(recipe_file))
    estimate = dry_run(recipe, read_catalog(tiny_dataset))
    assert (estimate.landmarks, estimate.photos, estimate.validation) == (6, 60, 13)
    (backbone,) = load_backbones(recipe.backbone, recipe.photos, recipe.seed)
    weights = {part.name: part.weights for part in estimate.parts}
    groups = [part for part in estimate.parts if "group" in part.name]
    assert sum(part.weights for part in groups) == sum(each.numel() for each in backbone.module.parameters())
    assert [part.trained for part in groups] == [False, False] + [True] * (len(groups) - 2)
    assert weights["neck"] == 16 * sum(backbone.parts) + 16
    assert weights["landmark weights"] == 6 * 16
    neck, finetuning = estimate.stages
    # The refit sees all 60 photos: 3 batches of 16 and one of 12; 7 of 8 and one of 4.
    assert (neck.epochs, neck.steps) == (3, 4)
    assert (finetuning.epochs, finetuning.steps) == (2, 8)
    assert finetuning.seconds >= 2 * 8 * finetuning.step_seconds > 0
    assert estimate.seconds > finetuning.seconds
    assert estimate.loaded_per_second > 0


def test_the_second_order_reads_all_photos_once_more(tiny_recipe: Recipe, tiny_dataset: Path) -> None:
    section = tiny_recipe.second_order.model_copy(update={"stages": (1, 2), "dimensions": 6})
    estimate = dry_run(tiny_recipe.model_copy(update={"second_order": section}), read_catalog(tiny_dataset))
    (stage,) = [stage for stage in estimate.stages if stage.name == "second order"]
    assert (stage.epochs, stage.steps) == (1, 60)
    assert stage.seconds == pytest.approx(60 / estimate.descriptors_per_second)


def test_photos_that_cannot_be_read_are_passed_over(recipe_file: Path, tiny_dataset: Path) -> None:
    catalog = read_catalog(tiny_dataset)
    broken = catalog.references.with_columns(path=catalog.references["path"].scatter([0, 30], "nowhere.jpg"))
    estimate = dry_run(load_recipe(str(recipe_file)), dataclasses.replace(catalog, references=broken))
    assert estimate.photos == 60


def test_the_command_prints_one_object_and_writes_nothing(
    recipe_file: Path, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files() -> set[Path]:
        return {path for folder in (tiny_dataset, tmp_path) for path in folder.rglob("*")}

    monkeypatch.chdir(tmp_path)
    before = files()
    words = ["train", str(recipe_file), "--data", str(tiny_dataset), "--dry-run"]
    reported = json.loads(CliRunner().invoke(make_app(), [*words, "--json"]).stdout)
    assert reported["recipe"]["finetuning"]["epochs"] == 2
    assert reported["memory"]["fine-tuning"]["photos of a step"] > 0
    assert reported["stages"][1]["name"] == "fine-tuning"
    shown = CliRunner().invoke(make_app(), words)
    assert shown.exit_code == 0
    assert 'name = "tiny"' in shown.stdout
    assert "all trained" in shown.stdout
    assert files() == before


def test_several_processes_do_not_dry_run(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = CliRunner().invoke(make_app(), ["train", "arcface", "--data", str(tiny_dataset), "--dry-run"])
    assert "without torchrun" in str(done.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "add --out RUN"),
        (["--out", "run", "--json"], "--json is for"),
        (["--dry-run", "--resume"], "--dry-run trains nothing"),
        (["--dry-run", "--find-rate", "rate.png"], "can't be combined with --find-rate"),
        (["--find-rate", "nowhere/rate.png"], "no such folder for the figure"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tiny_dataset: Path, words: list[str], message: str) -> None:
    done = CliRunner().invoke(make_app(), ["train", "arcface", "--data", str(tiny_dataset), *words])
    assert message in str(done.exception)
