"""From photos to the descriptors that heads are trained on: plain and augmented views, through the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from obelisk.config import Recipe
from obelisk.data import Catalog
from obelisk.embedding import PLAIN, DescriptorCache, View
from obelisk.errors import DataError, PhotoError
from obelisk.training.loading.augmentation import augmented_views
from obelisk.training.model.backbones import FrozenBackbone

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many are done, and how many there are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DescribedReferences:
    """The reference photos of a catalog that could be read, N of them, as a head sees them.

    ``views`` (V, N, D_in), the plain view first; ``labels`` (N,) count through ``landmarks`` (C,), which are ids;
    ``is_val`` (N,) marks the validation photos. ``skipped`` says by image id why a photo is not among them.
    """

    views: NDArray[np.float16]
    labels: NDArray[np.int64]
    landmarks: NDArray[np.int64]
    is_val: NDArray[np.bool_]
    paths: Sequence[Path]
    skipped: dict[str, str]


def describe_references(
    recipe: Recipe, catalog: Catalog, backbones: Sequence[FrozenBackbone], progress: Progress
) -> DescribedReferences:
    """Compute, or take from the cache, every view of every reference photo that the recipe asks for.

    Raises DataError when no photo can be read.
    """
    references = catalog.references
    paths = catalog.locate_photos(references)
    plain, failed = describe(backbones, paths, progress=progress)
    kept = np.setdiff1d(np.arange(len(paths)), list(failed)).astype(np.int64)
    if not len(kept):
        raise DataError("none of the reference photos could be read", where=catalog.root, fix="obelisk data check DIR")
    readable = [paths[place] for place in kept]
    augmented = []
    for view in augmented_views(recipe.views, recipe.seed):
        rows, vanished = describe(backbones, readable, view=view, view_name=view.name, progress=progress)
        for error in vanished.values():
            raise DataError(f"a photo vanished meanwhile: {error}", fix="bring it back, or start again without it")
        augmented.append(rows)
    landmarks, labels = np.unique(references["landmark_id"].to_numpy()[kept], return_inverse=True)
    return DescribedReferences(
        views=np.stack([plain[kept], *augmented]),
        labels=labels,
        landmarks=landmarks,
        is_val=(references["split"] == "val").to_numpy()[kept],
        paths=readable,
        skipped={references["image_id"][place]: str(error) for place, error in failed.items()},
    )


def describe(
    backbones: Sequence[FrozenBackbone],
    paths: Sequence[Path],
    *,
    view: View | None = None,
    view_name: str = PLAIN,
    progress: Progress = lambda *_: None,
) -> tuple[NDArray[np.float16], dict[int, PhotoError]]:
    """Return the descriptors (N, D_in) of one view of each photo, all backbones side by side, and the failures."""
    blocks: list[NDArray[np.float16]] = []
    failed: dict[int, PhotoError] = {}
    for backbone in backbones:
        what = f"descriptors of {backbone.bundle.name}, {view_title(view_name)}"
        found = DescriptorCache(backbone.bundle).get(
            paths,
            view=view,
            view_name=view_name,
            progress=lambda done, what=what: progress(what, done, len(paths)),  # type: ignore[misc]
        )
        # The cache keeps float16, so nothing is lost here.
        blocks.append(found.rows.astype(np.float16))
        failed |= found.failed
    return np.concatenate(blocks, axis=1), failed


def view_title(view_name: str) -> str:
    """Say in words which view of the photos is meant."""
    return "photos as they are" if view_name == PLAIN else f"augmented view {view_name.rsplit('-', 1)[1]}"
