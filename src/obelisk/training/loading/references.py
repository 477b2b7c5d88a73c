"""Which reference photos a run trains on, and which it holds out for validation."""

from __future__ import annotations

from obelisk.config import FinetuningSection, Recipe
from obelisk.data import Catalog, find_near_duplicates, split_references
from obelisk.errors import DataError, RecipeError


def split_for_validation(recipe: Recipe, catalog: Catalog) -> Catalog:
    """Hold out validation photos from the references, unless the dataset's manifest has done so.

    They decide on early stopping, and on the weights of an ensemble. Near-duplicates never end up on both sides.
    """
    if (catalog.references["split"] == "val").any() or recipe.data.validation_share == 0:
        return catalog
    found = find_near_duplicates(catalog.root, catalog.references)
    return split_references(
        catalog, validation_share=recipe.data.validation_share, seed=recipe.seed, groups=found.groups
    )


def refuse_too_few(catalog: Catalog, k: int) -> None:
    """Refuse a catalog that nothing can be learned from, or with fewer references than the ``k`` that vote."""
    references, landmarks = catalog.references.height, catalog.references["landmark_id"].n_unique()
    if landmarks < 2:
        raise DataError(
            f"{references} reference photos of {landmarks} landmark",
            where=catalog.root,
            fix="give photos of at least two landmarks",
        )
    if k > references:
        raise RecipeError(f"classifier.k = {k}, but there are only {references} reference photos")


def refuse_without_validation(catalog: Catalog, section: FinetuningSection) -> None:
    """Refuse to look for the best epoch if no photo is held out to find it by."""
    if section.keep == "best" and not (catalog.references["split"] == "val").any():
        raise RecipeError(
            "finetuning.keep = 'best', but no reference photo is held out for validation",
            where=catalog.root,
            fix="raise data.validation_share, give more photos per landmark, or set finetuning.keep = 'last'",
        )


def refuse_without_positives(catalog: Catalog, recipe: Recipe) -> None:
    """Refuse triplets for a head if no landmark has two different pictures: the loss would be 0 throughout."""
    trained = catalog.references.filter(catalog.references["split"] != "val")
    alone = trained["landmark_id"].is_unique().all()
    if recipe.loss.kind == "triplet" and recipe.training.epochs and not recipe.views.count and alone:
        raise RecipeError(
            f"loss.kind = 'triplet' and views.count = 0, but none of the {trained.height} landmarks to train on has "
            "a second photo, so there is no triplet",
            where=catalog.root,
            fix="set views.count = 3, or give more photos per landmark",
        )
