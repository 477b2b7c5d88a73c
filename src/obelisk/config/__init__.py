"""Recipes: one TOML file an experiment, checked whole before anything runs."""

from __future__ import annotations

from obelisk.config.ablation import Ablation, Cell, load_ablation, shipped_ablations
from obelisk.config.loading import find_recipe, load_recipe, shipped_recipes
from obelisk.config.schema import (
    BackboneSection,
    LossSection,
    NeckSection,
    PhotosSection,
    Recipe,
    Section,
    ViewsSection,
    as_toml,
)

__all__ = [
    "Ablation",
    "BackboneSection",
    "Cell",
    "LossSection",
    "NeckSection",
    "PhotosSection",
    "Recipe",
    "Section",
    "ViewsSection",
    "as_toml",
    "find_recipe",
    "load_ablation",
    "load_recipe",
    "shipped_ablations",
    "shipped_recipes",
]
