"""Ablation files: their cells, the trainings these share, and what is refused."""

from pathlib import Path

import pytest

from obelisk.config import Recipe, load_ablation, shipped_ablations
from obelisk.errors import RecipeError

SMALL = """
name = "small"
[recipe.views]
count = 1
[factors.size.small.photos]
size = 64
[factors.size.large.photos]
size = 96
[factors.read.near.classifier]
kind = "knn"
[factors.read.soft.classifier]
kind = "softmax"
[factors.read.one.classifier]
k = 1
"""


def load(tmp_path: Path, text: str, *overrides: str) -> object:
    path = tmp_path / "ablation.toml"
    path.write_text(text)
    return load_ablation(str(path), overrides)


def without(recipe: Recipe) -> dict:
    return recipe.model_dump(exclude={"name", "title", "classifier"})


@pytest.mark.parametrize("name", shipped_ablations())
def test_shipped_ablations_vary_three_choices_and_hold_the_rest(name: str) -> None:
    ablation = load_ablation(name)
    assert list(ablation.factors) == ["backbone", "loss", "classifier"]
    assert (len(ablation.cells), len(ablation.training_recipes)) == (8, 4)
    for cell in ablation.cells:
        assert without(cell.recipe) == without(cell.training)
        assert cell.training.classifier.kind == "softmax"  # so that each has a layer to read
    necks = {cell.recipe.neck.model_dump_json() for cell in ablation.cells}
    views = {cell.recipe.views.model_dump_json() for cell in ablation.cells}
    schedules = {cell.recipe.training.model_dump_json(exclude={"photos_per_landmark"}) for cell in ablation.cells}
    assert (len(necks), len(views), len(schedules)) == (1, 1, 1)


def test_cells_are_every_choice_and_the_last_factor_changes_first(tmp_path: Path) -> None:
    ablation = load(tmp_path, SMALL, "seed=7")
    assert [cell.recipe.name for cell in ablation.cells] == [
        *("small-near", "small-soft", "small-one"),
        *("large-near", "large-soft", "large-one"),
    ]
    assert [cell.recipe.photos.size for cell in ablation.cells] == [64] * 3 + [96] * 3
    assert {cell.recipe.seed for cell in ablation.cells} == {7}
    assert [cell.recipe.classifier.k for cell in ablation.cells] == [3, 3, 1] * 2
    assert [cell.training.name for cell in ablation.cells] == ["small"] * 3 + ["large"] * 3
    assert [recipe.name for recipe in ablation.training_recipes] == ["small", "large"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("size = 64", "sise = 64"), r"unknown key `photos.sise`, did you mean `size`.*cell small-near"),
        (("size = 96", "size = 5"), r"`photos.size` = 5: .*cell large-near"),
        (("[factors.size.large.photos]\nsize = 96\n", ""), r"factor `size` has 1 level"),
        (("[recipe.views]", "[recipes.views]"), r"not an ablation: `recipes`: Extra"),
        (('name = "small"', ""), r"not an ablation: `name`: Field required"),
        (
            (
                "[factors.size.large.photos]\nsize = 96",
                '[factors.size."sm/all".photos]\nsize = 96\n[factors.size.sm_all.photos]\nsize = 128',
            ),
            "same name",
        ),
        (("kind", "kind ="), "not TOML"),
    ],
    ids=["unknown key", "wrong value", "one level", "unknown table", "no name", "names alike", "not TOML"],
)
def test_mistakes_are_reported_with_their_place(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load(tmp_path, SMALL.replace(*change))


def test_an_unknown_ablation_names_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="no ablation `ligt` · did you mean `lite`"):
        load_ablation("ligt")
