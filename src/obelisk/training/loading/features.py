"""Feature extraction: the descriptors that heads train on, of plain and augmented views, through the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from obelisk.config import Recipe
from obelisk.data import Catalog
from obelisk.embedding import PLAIN, DescriptorCache, View
from obelisk.errors import DataError, PhotoError
from obelisk.records import Progress, no_progress
from obelisk.training.loading.augmentation import augmented_views
from obelisk.training.model.backbones import FrozenBackbone


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceFeatures:
    """The descriptors of the N reference photos of a catalog that could be read.

    ``views`` (V, N, D_in) has the plain view first; ``labels`` (N,) are indices into ``landmarks`` (C,), which are ids,
    and into their ``names`` (C,); ``is_val`` (N,) marks the validation photos. ``skipped`` gives, by image id, the
    reason a photo is left out.
    """

    views: NDArray[np.float16]
    labels: NDArray[np.int64]
    landmarks: NDArray[np.int64]
    names: Sequence[str]
    is_val: NDArray[np.bool_]
    paths: Sequence[Path]
    skipped: dict[str, str]

    def choose_trained(self, recipe: Recipe) -> NDArray[np.bool_]:
        """Return a mask (N,) of what the kept weights are trained on: all if the recipe refits, else all but is_val."""
        return np.full_like(self.is_val, recipe.data.refit) | ~self.is_val


def extract_reference_features(
    recipe: Recipe, catalog: Catalog, backbones: Sequence[FrozenBackbone], progress: Progress
) -> ReferenceFeatures:
    """Extract the features of every reference photo, in all views of the recipe, or read them from the cache.

    Raises DataError when no photo can be read.
    """
    references = catalog.references
    paths = catalog.locate_photos(references)
    plain, failed = extract_features(backbones, paths, progress=progress)
    kept = np.setdiff1d(np.arange(len(paths)), list(failed)).astype(np.int64)
    if not len(kept):
        raise DataError("none of the reference photos could be read", where=catalog.root, fix="obelisk data check DIR")
    readable = [paths[row] for row in kept]
    augmented = []
    for view in augmented_views(recipe.views, recipe.seed):
        augmented.append(extract_again(backbones, readable, view=view, view_name=view.name, progress=progress))
    landmarks, labels = np.unique(references["landmark_id"].to_numpy()[kept], return_inverse=True)
    names = catalog.landmark_names()
    return ReferenceFeatures(
        views=np.stack([plain[kept], *augmented]),
        labels=labels,
        landmarks=landmarks,
        names=[names[landmark_id] for landmark_id in landmarks.tolist()],
        is_val=(references["split"] == "val").to_numpy()[kept],
        paths=readable,
        skipped={references["image_id"][row]: str(error) for row, error in failed.items()},
    )


def extract_again(
    backbones: Sequence[FrozenBackbone],
    paths: Sequence[Path],
    *,
    view: View | None = None,
    view_name: str = PLAIN,
    progress: Progress = no_progress,
) -> NDArray[np.float16]:
    """Extract descriptors (N, D_in) of photos that could be read before; raises DataError if one has vanished."""
    rows, vanished = extract_features(backbones, paths, view=view, view_name=view_name, progress=progress)
    for error in vanished.values():
        raise DataError(f"a photo vanished meanwhile: {error}", fix="bring it back, or start again without it")
    return rows


def extract_features(
    backbones: Sequence[FrozenBackbone],
    paths: Sequence[Path],
    *,
    view: View | None = None,
    view_name: str = PLAIN,
    progress: Progress = no_progress,
) -> tuple[NDArray[np.float16], dict[int, PhotoError]]:
    """Extract one view's descriptors (N, D_in), all backbones side by side; also return the failures, by row."""
    blocks: list[NDArray[np.float16]] = []
    failed: dict[int, PhotoError] = {}
    for backbone in backbones:
        what = f"descriptors of {backbone.bundle.name}, {view_title(view_name)}"
        cache = DescriptorCache(backbone.bundle)
        found = cache.get(paths, view=view, view_name=view_name, what=what, progress=progress)
        # The cache keeps float16, so nothing is lost here.
        blocks.append(found.rows.astype(np.float16))
        failed |= found.failed
    return np.concatenate(blocks, axis=1), failed


def view_title(view_name: str) -> str:
    """Name a view in words."""
    return "photos as they are" if view_name == PLAIN else f"augmented view {view_name.rsplit('-', 1)[1]}"
