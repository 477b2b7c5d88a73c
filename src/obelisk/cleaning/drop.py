"""Dropping photos with doubtful labels: from a catalog and a model to the suspects and a subset without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from obelisk.arrays import Booleans, Embeddings, Integers, has_direction, l2_normalize, row_norms
from obelisk.cleaning.label_errors import NEIGHBORS, LabelIssues, check_bounds, choose_dropped, find_label_issues
from obelisk.data import (
    Catalog,
    Subset,
    assign_folds,
    check_folds,
    exclude_photos,
    find_near_duplicates,
    render_csv,
    write_subset,
)
from obelisk.embedding import Bundle, DescriptorCache
from obelisk.errors import DataError, PhotoError
from obelisk.records import Progress, no_progress

SUSPECTS: Final = "suspects.csv"
SUSPECT_COLUMNS: Final = (
    *("image_id", "path", "landmark_id", "landmark", "named_id", "named", "margin", "agreement"),
    *("own_fit", "named_fit", "own_similarity", "own_photo", "named_similarity", "named_photo", "dropped"),
)

MARGIN: Final = 0.2  # docs/results.md, "Label noise"
KEEP_AT_LEAST: Final = 3
FOLDS: Final = 5


@dataclass(frozen=True, kw_only=True)
class CleaningRule:
    """Which photos are suspects, and which suspects are dropped; the rule is recorded in the manifest.

    A suspect fits another landmark better than its own by more than ``margin``, in cosine. At least ``keep_at_least``
    photos of each landmark remain. A photo is judged by its ``neighbors`` nearest photos in the other ``folds``, which
    are drawn from ``seed``.
    """

    margin: float = MARGIN
    keep_at_least: int = KEEP_AT_LEAST
    folds: int = FOLDS
    neighbors: int = NEIGHBORS
    seed: int = 0

    def to_fields(self, judge: Bundle) -> dict[str, Any]:
        """Return the rule and the judge as plain values, for the manifest."""
        return {
            "model": judge.name,
            "fingerprint": judge.fingerprint,
            "margin": self.margin,
            "keep_at_least": self.keep_at_least,
            "folds": self.folds,
            "neighbours": self.neighbors,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Cleaning:
    """A dataset whose labels were judged.

    ``suspects`` is a frame of :data:`SUSPECT_COLUMNS`, worst first. ``photos`` are the N judged references with their
    ``fold``, ``embeddings`` (N, D) their unit embeddings. ``unreadable`` maps the image ids of photos that were left
    out to the reason. ``facts`` go into the manifest.
    """

    catalog: Catalog
    photos: pl.DataFrame
    embeddings: Embeddings
    suspects: pl.DataFrame
    unreadable: dict[str, str]
    subset: Subset
    facts: dict[str, Any]

    def render_suspects(self) -> bytes:
        """Return the suspects as a CSV table."""
        return render_csv(SUSPECT_COLUMNS, self.suspects.select(SUSPECT_COLUMNS).iter_rows())


def clean_labels(catalog: Catalog, bundle: Bundle, rule: CleaningRule, *, progress: Progress = no_progress) -> Cleaning:
    """Judge the labels of a catalog's training photos, and exclude the photos that others contradict.

    Photos of the split ``val`` neither judge nor are judged, so they can measure the effect of the cleaning. Unreadable
    photos are reported and left out.

    Raises DataError if no training photo can be used; UsageError, before any work, for a rule out of bounds.
    """
    check_folds(rule.folds)
    check_bounds(k=rule.neighbors, threshold=rule.margin, keep_at_least=rule.keep_at_least)
    found = find_near_duplicates(catalog.root, catalog.references, progress=progress)
    unreadable = dict(found.unreadable)
    photos = catalog.select_references("train").filter(~pl.col("image_id").is_in(list(unreadable)))
    photos = assign_folds(photos, folds=rule.folds, seed=rule.seed, groups=found.groups)
    embeddings, failed = embed_photos(catalog, photos, bundle, progress)
    unreadable |= failed
    photos = photos.filter(~pl.col("image_id").is_in(list(failed)))
    if photos.is_empty():
        raise DataError("none of the training photos can be used", where=catalog.root, fix="obelisk data check DIR")
    landmark_ids, folds = photos["landmark_id"].to_numpy(), photos["fold"].to_numpy()
    issues = find_label_issues(embeddings, landmark_ids, folds, k=rule.neighbors)
    dropped = choose_dropped(issues.margins, landmark_ids, threshold=rule.margin, keep_at_least=rule.keep_at_least)
    suspects = list_suspects(catalog, photos, issues, dropped, rule.margin, embeddings)
    facts = {
        **rule.to_fields(bundle),
        "judged": int(issues.judged.sum()),
        "not_judged": int((~issues.judged).sum()),
        "suspects": suspects.height,
        "dropped": int(dropped.sum()),
        "unreadable": len(unreadable),
    }
    excluded = {*photos["image_id"].filter(pl.Series(dropped)).to_list(), *unreadable}
    return Cleaning(
        catalog=catalog,
        photos=photos,
        embeddings=embeddings,
        suspects=suspects,
        unreadable=unreadable,
        subset=exclude_photos(catalog, excluded, seed=rule.seed, found=found, cleaning=facts),
        facts=facts,
    )


def embed_photos(
    catalog: Catalog, photos: pl.DataFrame, bundle: Bundle, progress: Progress
) -> tuple[Embeddings, dict[str, str]]:
    """Return the unit embeddings (N, D) of the photos that have one, and the reasons of the others by image id."""
    paths = catalog.locate_photos(photos)
    found = DescriptorCache(bundle).get(paths, what="embedding photos", progress=progress)
    sound = has_direction(row_norms(found.rows))
    failed = {}
    for row in np.flatnonzero(~sound).tolist():
        blank = PhotoError("the model sees nothing in the photo: its embedding has no direction", where=paths[row])
        failed[photos["image_id"][row]] = str(found.failed.get(row, blank))
    return l2_normalize(found.rows[sound], dimensions=bundle.dimensions), failed


def list_suspects(
    catalog: Catalog,
    photos: pl.DataFrame,
    issues: LabelIssues,
    dropped: Booleans,
    margin: float,
    embeddings: Embeddings,
) -> pl.DataFrame:
    """Return the suspects with the evidence for and against their labels, worst first, then by image id."""
    rows = np.flatnonzero(issues.margins > margin)
    names = catalog.landmark_names()
    ids = photos["image_id"].to_numpy()
    own, other = issues.label_best[rows], issues.rival_best[rows]
    rivals = issues.rivals[rows].tolist()
    landmarks = photos["landmark_id"].to_numpy()[rows].tolist()
    listed = pl.DataFrame(
        {
            "image_id": ids[rows].tolist(),
            "path": photos["path"].to_numpy()[rows].tolist(),
            "landmark_id": landmarks,
            "landmark": [names.get(landmark, f"landmark {landmark}") for landmark in landmarks],
            "named_id": rivals,
            "named": [names.get(landmark, f"landmark {landmark}") for landmark in rivals],
            "margin": issues.margins[rows],
            "agreement": issues.agreement[rows],
            "own_fit": issues.label_fits[rows],
            "named_fit": issues.rival_fits[rows],
            "own_similarity": row_similarities(embeddings, rows, own),
            "own_photo": ids[own].tolist(),
            "named_similarity": row_similarities(embeddings, rows, other),
            "named_photo": ids[other].tolist(),
            "dropped": ["yes" if gone else "no" for gone in dropped[rows].tolist()],
        }
    )
    return listed.sort(["margin", "image_id"], descending=[True, False])


def row_similarities(embeddings: Embeddings, rows: Integers, others: Integers) -> list[float]:
    """Return the cosine of each row with its counterpart."""
    return [float(one) for one in np.einsum("nd,nd->n", embeddings[rows], embeddings[others], dtype=np.float64)]


def write_cleaning(cleaning: Cleaning, out: Path, *, draw: Callable[[Path], object]) -> Path:
    """Write the manifests, the suspects and what ``draw`` adds to the folder ``out``, complete or not at all."""

    def add(folder: Path) -> None:
        (folder / SUSPECTS).write_bytes(cleaning.render_suspects())
        draw(folder)

    return write_subset(cleaning.subset, out, add=add)
