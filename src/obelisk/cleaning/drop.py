"""Cleaning a dataset's labels: catalog and model in, suspects and a subset without them out.

::

    near-duplicates → folds → embeddings (cached) → judgement (label_noise) → suspects → what is dropped → subset
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from obelisk.arrays import Embeddings, l2_normalize
from obelisk.cleaning.label_errors import NEIGHBOURS, Judgement, check_bounds, choose_dropped, judge_labels
from obelisk.data import Catalog, Subset, assign_folds, find_near_duplicates, leave_out, write_subset
from obelisk.data.folds import check_folds
from obelisk.data.formats.subset_manifest import render_csv
from obelisk.data.progress import Progress, keep_silent
from obelisk.embedding import Bundle, DescriptorCache
from obelisk.errors import DataError, PhotoError

SUSPECTS: Final = "suspects.csv"
COLUMNS: Final = (
    *("image_id", "path", "landmark_id", "landmark", "named_id", "named", "margin", "agreement"),
    *("own_fit", "named_fit", "own_similarity", "own_photo", "named_similarity", "named_photo", "dropped"),
)

MARGIN = 0.2  # docs/results.md, "Label noise"
KEEP_AT_LEAST = 3
FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class CleaningRule:
    """What makes a photo a suspect, and which suspects go; the manifest tells it.

    A suspect fits another landmark better than its own by more than ``margin``, in cosine; ``keep_at_least`` photos of
    each landmark stay. ``folds``, drawn from ``seed``, and ``neighbours`` say who judges.
    """

    margin: float = MARGIN
    keep_at_least: int = KEEP_AT_LEAST
    folds: int = FOLDS
    neighbours: int = NEIGHBOURS
    seed: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Cleaning:
    """A judged dataset.

    ``suspects`` is a frame of :data:`COLUMNS`, worst first; ``photos`` are the N judged ones, as a catalog's
    references, with their unit ``embeddings`` (N, D) and ``fold``. ``unreadable`` says by image id why photos were left
    out, ``facts`` what the manifest tells of it all.
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
        return render_csv(COLUMNS, self.suspects.select(COLUMNS).iter_rows())


def clean_labels(
    catalog: Catalog,
    bundle: Bundle,
    rule: CleaningRule,
    *,
    progress: Progress = keep_silent,
    embedded: Callable[[int, int], None] = lambda done, total: None,
) -> Cleaning:
    """Judge the labels of a catalog's training photos, and leave out those that other photos contradict.

    Photos of the split ``val`` neither judge nor are judged: what measures the cleaning must not depend on it. Photos
    that cannot be read are left out and named. ``embedded`` is told how many photos of how many are embedded.
    Raises DataError when no training photo can be used, UsageError, before any work, for a rule out of bounds.
    """
    check_folds(rule.folds)
    check_bounds(k=rule.neighbours, threshold=rule.margin, keep_at_least=rule.keep_at_least)
    found = find_near_duplicates(catalog.root, catalog.references, progress=progress)
    unreadable = dict(found.unreadable)
    photos = catalog.select_references("train").filter(~pl.col("image_id").is_in(list(unreadable)))
    photos = assign_folds(photos, folds=rule.folds, seed=rule.seed, groups=found.groups)
    embeddings, failed = embed(catalog, photos, bundle, embedded)
    unreadable |= failed
    photos = photos.filter(~pl.col("image_id").is_in(list(failed)))
    if photos.is_empty():
        raise DataError("none of the training photos can be used", where=catalog.root, fix="obelisk data check DIR")
    landmark_ids, folds = photos["landmark_id"].to_numpy(), photos["fold"].to_numpy()
    judgement = judge_labels(embeddings, landmark_ids, folds, k=rule.neighbours)
    dropped = choose_dropped(judgement.margins, landmark_ids, threshold=rule.margin, keep_at_least=rule.keep_at_least)
    suspects = list_suspects(catalog, photos, judgement, dropped, rule.margin, embeddings)
    facts = {
        "model": bundle.name,
        "fingerprint": bundle.fingerprint,
        "margin": rule.margin,
        "keep_at_least": rule.keep_at_least,
        "folds": rule.folds,
        "neighbours": rule.neighbours,
        "judged": int(judgement.judged.sum()),
        "not_judged": int((~judgement.judged).sum()),
        "suspects": suspects.height,
        "dropped": int(dropped.sum()),
        "unreadable": len(unreadable),
    }
    gone = {*photos["image_id"].filter(pl.Series(dropped)).to_list(), *unreadable}
    return Cleaning(
        catalog=catalog,
        photos=photos,
        embeddings=embeddings,
        suspects=suspects,
        unreadable=unreadable,
        subset=leave_out(catalog, gone, seed=rule.seed, found=found, cleaning=facts),
        facts=facts,
    )


def embed(
    catalog: Catalog, photos: pl.DataFrame, bundle: Bundle, embedded: Callable[[int, int], None]
) -> tuple[Embeddings, dict[str, str]]:
    """Return the unit embeddings (N, D) of the photos that have one, through the cache, and by image id why not."""
    paths = catalog.locate_photos(photos)
    found = DescriptorCache(bundle).get(paths, progress=lambda done: embedded(done, len(paths)))
    lengths = np.linalg.norm(found.rows.astype(np.float64), axis=1)
    sound = (lengths > 0) & np.isfinite(lengths)
    failed = {}
    for place in np.flatnonzero(~sound).tolist():
        blank = PhotoError("the model sees nothing in the photo: its embedding has no direction", where=paths[place])
        failed[photos["image_id"][place]] = str(found.failed.get(place, blank))
    return l2_normalize(found.rows[sound], dimensions=bundle.dimensions), failed


def list_suspects(
    catalog: Catalog,
    photos: pl.DataFrame,
    judgement: Judgement,
    dropped: np.ndarray[Any, np.dtype[np.bool_]],
    margin: float,
    embeddings: Embeddings,
) -> pl.DataFrame:
    """Return the suspects with what speaks for and against their label, worst first, then by image id."""
    rows = np.flatnonzero(judgement.margins > margin)
    names = catalog.landmark_names()
    ids = photos["image_id"].to_numpy()
    own, other = judgement.own_best[rows], judgement.named_best[rows]
    named = judgement.named[rows].tolist()
    landmarks = photos["landmark_id"].to_numpy()[rows].tolist()
    listed = pl.DataFrame(
        {
            "image_id": ids[rows].tolist(),
            "path": photos["path"].to_numpy()[rows].tolist(),
            "landmark_id": landmarks,
            "landmark": [names.get(landmark, f"landmark {landmark}") for landmark in landmarks],
            "named_id": named,
            "named": [names.get(landmark, f"landmark {landmark}") for landmark in named],
            "margin": judgement.margins[rows],
            "agreement": judgement.agreement[rows],
            "own_fit": judgement.own_fits[rows],
            "named_fit": judgement.named_fits[rows],
            "own_similarity": similarities(embeddings, rows, own),
            "own_photo": ids[own].tolist(),
            "named_similarity": similarities(embeddings, rows, other),
            "named_photo": ids[other].tolist(),
            "dropped": ["yes" if gone else "no" for gone in dropped[rows].tolist()],
        }
    )
    return listed.sort(["margin", "image_id"], descending=[True, False])


def similarities(embeddings: Embeddings, rows: np.ndarray[Any, Any], others: np.ndarray[Any, Any]) -> list[float]:
    """Return the cosine of each row with its counterpart."""
    return [float(one) for one in np.einsum("nd,nd->n", embeddings[rows], embeddings[others], dtype=np.float64)]


def write_cleaning(cleaning: Cleaning, out: Path, *, draw: Callable[[Path], object]) -> Path:
    """Write manifests, suspects and what ``draw`` adds into the folder ``out``, whole or not at all; return it."""

    def add(folder: Path) -> None:
        (folder / SUSPECTS).write_bytes(cleaning.render_suspects())
        draw(folder)

    return write_subset(cleaning.subset, out, add=add)
