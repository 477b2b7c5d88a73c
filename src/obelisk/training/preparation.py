"""What every look at a training begins with: recipe, data and machine checked, photos held out, backbones loaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from obelisk.config import FinetuningSection, Recipe
from obelisk.data import Catalog
from obelisk.errors import DataError, RecipeError
from obelisk.training.distributed import World
from obelisk.training.loading.samplers import refuse_small_batches
from obelisk.training.memory_estimate import Sizes, measure_sizes
from obelisk.training.model.backbones import FrozenBackbone, load_backbones
from obelisk.training.validation import split_for_validation


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A catalog with its validation photos held out, the loaded backbones, and what memory depends on."""

    catalog: Catalog
    backbones: Sequence[FrozenBackbone]
    sizes: Sizes


def prepare_training(recipe: Recipe, catalog: Catalog, world: World) -> Prepared:
    """Check that a recipe can be trained on a catalog's reference photos, and make ready what it is trained with.

    Whether it fits in memory is the caller's to ask. Raises RecipeError for what the recipe, the photos or the machine
    rule out, DataError for data that nothing can be learned from.
    """
    if recipe.ensemble.runs:
        raise RecipeError(
            f"{recipe.name} joins finished runs and trains nothing", fix="look at the recipe of one of its runs"
        )
    refuse_machine(recipe.finetuning, world.device)
    if recipe.finetuning.epochs:
        refuse_small_batches(recipe, recipe.finetuning.batch_size, world.size)
    refuse_too_few(recipe, catalog)
    catalog = split_for_validation(recipe, catalog)
    refuse_without_validation(recipe, catalog)
    backbones = load_backbones(recipe.backbone, recipe.photos, recipe.seed)
    return Prepared(catalog=catalog, backbones=backbones, sizes=measure_sizes(recipe, catalog, backbones))


def refuse_machine(section: FinetuningSection, device: torch.device) -> None:
    """Refuse a fine-tuning that this machine cannot do."""
    if not section.epochs:
        return
    if section.precision == "float16" and device.type != "cuda":
        raise RecipeError(
            f"finetuning.precision = 'float16' needs a CUDA GPU, and this machine computes on {device.type}",
            fix="--set finetuning.precision=float32",
        )
    compiler = os.environ.get("CXX", "g++")
    if section.compile and not shutil.which(compiler):
        raise RecipeError(
            f"finetuning.compile = true needs a C++ compiler, and there is no `{compiler}`",
            fix="install g++, or --set finetuning.compile=false",
        )


def refuse_too_few(recipe: Recipe, catalog: Catalog) -> None:
    """Refuse a catalog that nothing can be learned from."""
    references, landmarks = catalog.references.height, catalog.references["landmark_id"].n_unique()
    if landmarks < 2:
        raise DataError(
            f"{references} reference photos of {landmarks} landmark",
            where=catalog.root,
            fix="give photos of at least two landmarks",
        )
    if recipe.classifier.k > references:
        raise RecipeError(f"classifier.k = {recipe.classifier.k}, but there are only {references} reference photos")


def refuse_without_validation(recipe: Recipe, catalog: Catalog) -> None:
    """Refuse to look for the best epoch where there is nothing to tell it by."""
    if recipe.finetuning.keep == "best" and not (catalog.references["split"] == "val").any():
        raise RecipeError(
            "finetuning.keep = 'best', but no reference photo is held out for validation",
            where=catalog.root,
            fix="raise data.validation_share, give more photos a landmark, or set finetuning.keep = 'last'",
        )
