"""Recipes: one TOML file per experiment, checked as a whole before anything runs."""

from __future__ import annotations

from obelisk.config.ablation import Ablation, AblationCell, load_ablation, shipped_ablations
from obelisk.config.loading import find_recipe, load_recipe, load_recorded_recipe, shipped_recipes
from obelisk.config.recipe import Recipe, as_toml
from obelisk.config.sections import (
    MARGIN_SOFTMAX,
    PAIR_LOSSES,
    BackboneSection,
    ClassifierSection,
    FinetuningSection,
    LossSection,
    NeckSection,
    PhotosSection,
    SecondOrderSection,
    Section,
    TrainingSection,
    ViewsSection,
)

__all__ = [
    "MARGIN_SOFTMAX",
    "PAIR_LOSSES",
    "Ablation",
    "AblationCell",
    "BackboneSection",
    "ClassifierSection",
    "FinetuningSection",
    "LossSection",
    "NeckSection",
    "PhotosSection",
    "Recipe",
    "SecondOrderSection",
    "Section",
    "TrainingSection",
    "ViewsSection",
    "as_toml",
    "find_recipe",
    "load_ablation",
    "load_recipe",
    "load_recorded_recipe",
    "shipped_ablations",
    "shipped_recipes",
]
