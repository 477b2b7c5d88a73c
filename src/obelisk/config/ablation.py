"""Ablations: one recipe with several factors, run in every combination of their levels.

The file lists the keys that all cells share, then the levels of each factor with the keys that each level sets::

    name = "mine"

    [recipe.views]
    count = 3

    [factors.loss."cross entropy".loss]
    kind = "softmax"
    [factors.loss.triplet.loss]
    kind = "triplet"

    [factors.classifier.softmax.classifier]
    kind = "softmax"
    [factors.classifier.neighbours.classifier]
    kind = "knn"

Every combination of levels is a *cell*: a whole recipe. Cells that differ only in their classifier share one training
run, so they are compared on exactly the same embedding.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field, ValidationError

from obelisk.config.loading import apply_override, check, find_recipe, parse, shipped_recipes
from obelisk.config.recipe import Recipe
from obelisk.config.renames import Tables
from obelisk.config.sections import Section
from obelisk.errors import RecipeError

FOLDER = "ablations"


class AblationFile(Section):
    """An ablation file as written: its recipe tables are checked after they are merged."""

    name: str = Field(min_length=1)
    """name of the ablation in reports"""
    title: str = ""
    """what varies, in one line"""
    recipe: Tables = Field(default_factory=dict)
    """keys that all cells share, as in a recipe"""
    factors: dict[str, dict[str, Tables]] = Field(min_length=1)
    """factor → level → keys that the level sets, as in a recipe; the first level of a factor is its reference"""


@dataclass(frozen=True, kw_only=True)
class AblationCell:
    """One level of every factor: the cell's recipe, and the recipe of the training run that it shares.

    The two differ only in name and classifier.
    """

    levels: Mapping[str, str]
    recipe: Recipe
    training: Recipe


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """All cells of an ablation, in the order of the file: the last factor changes fastest."""

    name: str
    title: str
    factors: Mapping[str, Sequence[str]]
    cells: Sequence[AblationCell]

    @property
    def training_recipes(self) -> list[Recipe]:
        """The recipes to train, each once."""
        return list({cell.training.name: cell.training for cell in self.cells}.values())


def shipped_ablations() -> list[str]:
    """Return the names of the ablations that come with the package, sorted."""
    return shipped_recipes(FOLDER)


def load_ablation(source: str, overrides: Sequence[str] = ()) -> Ablation:
    """Read an ablation file, or a shipped one by name; ``section.key=value`` overrides apply to every cell.

    Raises RecipeError, which lists the mistakes and the cell they are in.
    """
    text, where = find_recipe(source, FOLDER, "ablation")
    try:
        written = AblationFile.model_validate(parse(text, where))
    except ValidationError as error:
        mistakes = "; ".join(f"`{'.'.join(map(str, problem['loc']))}`: {problem['msg']}" for problem in error.errors())
        fix = "name, title, recipe and factors are its keys; see docs/how-to.md"
        raise RecipeError(f"not an ablation: {mistakes}", where=where, fix=fix) from None
    for factor, levels in written.factors.items():
        if len(levels) < 2:
            raise RecipeError(f"factor `{factor}` has {len(levels)} level", where=where, fix="give it two or more")
    choices = itertools.product(*written.factors.values())
    recipes = {levels: join_levels(written, levels, overrides, where) for levels in choices}
    trainings = choose_training_recipes(recipes, where)
    return Ablation(
        name=written.name,
        title=written.title,
        factors={factor: list(levels) for factor, levels in written.factors.items()},
        cells=[
            AblationCell(
                levels=dict(zip(written.factors, levels, strict=True)), recipe=recipe, training=trainings[levels]
            )
            for levels, recipe in recipes.items()
        ],
    )


def join_levels(written: AblationFile, levels: Sequence[str], overrides: Sequence[str], where: str) -> Recipe:
    """Build the recipe of a cell from the shared keys, those of its levels, and the overrides."""
    name = name_of(levels)
    tables: Tables = {"name": name, "title": ", ".join(levels), **copy.deepcopy(written.recipe)}
    for factor, level in zip(written.factors, levels, strict=True):
        for section, keys in written.factors[factor][level].items():
            if isinstance(keys, dict):
                tables.setdefault(section, {}).update(keys)
            else:
                tables[section] = keys
    for override in overrides:
        apply_override(tables, override)
    return check(tables, f"{where}, cell {name}", overrides)


def name_of(levels: Sequence[str]) -> str:
    """Name a cell, and its folder, by its levels."""
    return "-".join(re.sub(r"[^\w.]+", "_", level) for level in levels)


def choose_training_recipes(recipes: Mapping[tuple[str, ...], Recipe], where: str) -> dict[tuple[str, ...], Recipe]:
    """Choose one recipe to train for each group of cells that differ only in their classifier.

    If any cell of the group uses a softmax layer, a recipe that trains one is chosen. It is named after the levels
    that all its cells have in common.
    """
    alike: dict[str, list[tuple[str, ...]]] = {}
    for levels, recipe in recipes.items():
        alike.setdefault(recipe.model_dump_json(exclude={"name", "title", "classifier"}), []).append(levels)
    chosen: dict[tuple[str, ...], Recipe] = {}
    for cells in alike.values():
        # False comes before True: one with a softmax layer first, then in the order of the file.
        recipe = min((recipes[levels] for levels in cells), key=lambda one: one.classifier.kind != "softmax")
        common = [level for level, *others in zip(*cells, strict=True) if set(others) <= {level}]
        named = recipe.model_copy(update={"name": name_of(common) or "all", "title": ", ".join(common)})
        chosen |= dict.fromkeys(cells, named)
    trainings, names = {recipe.name for recipe in chosen.values()}, {recipe.name for recipe in recipes.values()}
    if len(trainings) < len(alike) or len(names) < len(recipes):
        raise RecipeError("two cells have the same name", where=where, fix="give the levels names that differ")
    return chosen
