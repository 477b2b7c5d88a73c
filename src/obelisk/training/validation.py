"""Which reference photos a run holds back, to watch its training by and to choose the weights of an ensemble."""

from __future__ import annotations

from obelisk.config import Recipe
from obelisk.data import Catalog, find_near_duplicates, split_references


def split_for_validation(recipe: Recipe, catalog: Catalog) -> Catalog:
    """Carve validation photos from the references, unless the dataset's manifest has done it.

    Near-duplicates never stand on both sides.
    """
    if (catalog.references["split"] == "val").any() or recipe.data.validation_share == 0:
        return catalog
    found = find_near_duplicates(catalog.root, catalog.references)
    return split_references(
        catalog, validation_share=recipe.data.validation_share, seed=recipe.seed, groups=found.groups
    )
