"""Photos per landmark: counts, percentiles, buckets, and the long-tail figure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import polars as pl

from obelisk.arrays import Integers
from obelisk.data.catalog import Catalog
from obelisk.errors import MissingExtraError, UsageError
from obelisk.files import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Bucket = Literal["head", "mid", "tail"]

# A tail and a mid landmark have at most this many reference photos. With five, the k = 3 neighbors of a vote are seldom
# outvoted; twenty is near the mean of Google Landmarks v2 (4,132,914 photos of 203,094 landmarks).
TAIL_PHOTOS: Final = 5
MID_PHOTOS: Final = 20
PERCENTILES: Final = (0, 10, 25, 50, 75, 90, 99, 100)
FIGURE_SUFFIX: Final = ".png"


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Counts of a dataset; ``percentiles`` are of reference photos per landmark, ``buckets`` count landmarks."""

    landmarks: int
    references: int
    queries: int
    queries_with_landmark: int
    distractors: int
    single_photo_landmarks: int
    percentiles: Mapping[str, int]
    buckets: Mapping[str, int]

    def to_fields(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return dataclasses.asdict(self)


def photos_per_landmark(references: pl.DataFrame) -> Integers:
    """Return the number of photos of each landmark (C,), largest first."""
    counts = references.group_by("landmark_id").len()["len"].sort(descending=True)
    return counts.to_numpy().astype(np.int64)


def take_percentiles(counts: Integers) -> dict[str, int]:
    """Return the percentiles of photos per landmark, p0 … p100; each is a count that occurs (nearest rank)."""
    ordered = np.sort(counts)
    ranks = {percent: max(1, -(-percent * len(ordered) // 100)) for percent in PERCENTILES}
    return {f"p{percent}": int(ordered[rank - 1]) for percent, rank in ranks.items()}


def landmark_buckets(references: pl.DataFrame) -> dict[int, Bucket]:
    """Return the bucket of each landmark by its number of reference photos.

    ``tail`` has up to TAIL_PHOTOS, ``mid`` up to MID_PHOTOS, ``head`` more. Every row counts, so pass only the photos
    that the recognizer uses.
    """
    counts = references.group_by("landmark_id").len().sort("landmark_id")
    return {landmark: bucket_of(photos) for landmark, photos in counts.iter_rows()}


def bucket_of(photos: int) -> Bucket:
    """Return the bucket of a landmark with this many photos."""
    if photos <= TAIL_PHOTOS:
        return "tail"
    return "mid" if photos <= MID_PHOTOS else "head"


def ks_distance(a: Integers, b: Integers) -> float:
    """Return the Kolmogorov–Smirnov distance of two samples: sup over x of |F_a(x) − F_b(x)|, in [0, 1]."""
    values = np.union1d(a, b)
    shares = [np.searchsorted(np.sort(sample), values, side="right") / len(sample) for sample in (a, b)]
    return float(np.abs(shares[0] - shares[1]).max())


def compute_statistics(catalog: Catalog) -> Statistics:
    """Count the landmarks, references and queries of a dataset."""
    counts = photos_per_landmark(catalog.references)
    known = catalog.select_known_queries().height
    buckets = [bucket_of(int(photos)) for photos in counts]
    return Statistics(
        landmarks=len(counts),
        references=int(counts.sum()),
        queries=catalog.queries.height,
        queries_with_landmark=known,
        distractors=catalog.queries.height - known,
        single_photo_landmarks=int((counts == 1).sum()),
        percentiles=take_percentiles(counts),
        buckets={bucket: buckets.count(bucket) for bucket in ("head", "mid", "tail")},
    )


def draw_long_tail(distributions: Mapping[str, Integers], figure: Path) -> Path:
    """Plot photos per landmark, largest first, on a log scale; write the picture and return its path.

    ``distributions`` maps a legend label to photos per landmark (C,). Each curve fills the width, so a subset can be
    compared with its source. The percentiles of the first one are marked. The same counts give the same picture.

    Raises MissingExtraError without matplotlib, and UsageError if the name does not end in .png.
    """
    if figure.suffix.lower() != FIGURE_SUFFIX:
        raise UsageError("the figure must be a PNG file", where=figure, fix=f"end its name with {FIGURE_SUFFIX}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("train", needed_for="drawing a figure") from None
    canvas = Figure(figsize=(8, 4.5), layout="constrained")
    axes = canvas.subplots()
    for label, counts in distributions.items():
        share = (np.arange(len(counts)) + 0.5) / len(counts) * 100
        axes.step(share, np.sort(counts)[::-1], where="mid", label=label, linewidth=1.8)
    mark_percentiles(axes, next(iter(distributions.values())))
    axes.set(yscale="log", xlim=(0, 100), xlabel="landmarks, most photos first (%)", ylabel="photos per landmark")
    axes.grid(axis="y", alpha=0.25)
    axes.legend(frameon=False)
    return replace_file(figure, lambda partial: canvas.savefig(partial, format="png", dpi=120))


def mark_percentiles(axes: Axes, counts: Integers) -> None:
    """Mark the quartiles and the top tenth with their counts, and the bucket limits."""
    found = take_percentiles(counts)
    for percent in (90, 75, 50, 25):
        photos = found[f"p{percent}"]
        axes.plot(100 - percent, photos, "o", color="#222222", markersize=4)
        text = f"p{percent}: {photos}"
        axes.annotate(text, (100 - percent, photos), textcoords="offset points", xytext=(6, 6), fontsize=9)
    for photos, name in ((TAIL_PHOTOS, "tail"), (MID_PHOTOS, "mid")):
        axes.axhline(photos + 0.5, color="#888888", linewidth=0.8, linestyle=":")
        axes.annotate(f"{name} ≤ {photos}", (99, photos + 0.5), ha="right", va="top", fontsize=8, color="#666666")
