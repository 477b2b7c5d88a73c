"""Recipes: one TOML file an experiment, checked whole before anything runs."""

from __future__ import annotations

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
    "BackboneSection",
    "LossSection",
    "NeckSection",
    "PhotosSection",
    "Recipe",
    "Section",
    "ViewsSection",
    "as_toml",
    "find_recipe",
    "load_recipe",
    "shipped_recipes",
]
