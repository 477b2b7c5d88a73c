"""Which regions of two photos match, from the feature maps that a network pools. Arrays in, arrays out.

With f_i the feature at location i of the query's map, g_j that at j of the reference's, and both maps pooled by
their mean, the cosine of the pooled descriptors is a sum over pairs of locations::

    s = Σ_ij c_ij        c_ij = f_i·g_j / (‖Σ f‖ · ‖Σ g‖)

so that ``c_i = Σ_j c_ij`` is what location i adds to the similarity (Stylianou, Souvenir & Pless, *Visualizing deep
similarity networks*, WACV 2019). Two locations match when each is the other's most similar one, by the cosine of their
features; matches that are adjacent in both photos form a region. For a network that pools differently, or has a trained
neck after its pooling, this shows where the similarity comes from, but not the exact amounts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Embeddings, Floats, Integers

Features = NDArray[np.floating | np.integer]
Box = tuple[int, int, int, int]

LEAST_COSINE = 0.5  # of a match: features less alike don't match, even if nothing else is nearer
LEAST_WEIGHT = 0.15  # of the heaviest match: lighter ones are dropped
MOST_REGIONS = 5


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part of the query and the part of the reference that matches it.

    Both are boxes (top, left, bottom, right) in cells of the maps; bottom and right are exclusive. ``share``, in
    [0, 1], is the share of the similarity that comes from the query's box.
    """

    query: Box
    reference: Box
    share: float


@dataclass(frozen=True, kw_only=True)
class Resemblance:
    """Where the similarity of two photos comes from.

    ``query`` (H, W) and ``reference`` (H', W') hold what each location adds: 1 where it is most, 0 for nothing.
    ``regions`` match; the largest share comes first.
    """

    query: Floats
    reference: Floats
    regions: tuple[Region, ...]


def compare_maps(query: Features, reference: Features) -> Resemblance:
    """Compare the feature maps (C, H, W) and (C, H', W') of two photos."""
    f, g = locations_of(query), locations_of(reference)
    # Not `f @ g.T`: threads of a BLAS that wait for each other cost ten times as much as so small a product.
    added = np.vecdot(f[:, np.newaxis], g).astype(np.float64)  # c_ij up to a common factor
    by_query, by_reference = added.sum(axis=1), added.sum(axis=0)
    shares = (by_query / max(added.sum(), 1e-12)).reshape(query.shape[1:])
    regions = []
    cosines = added / np.outer(lengths_of(f), lengths_of(g))
    for pairs in group_matches(match_locations(cosines, added), query, reference):
        box = box_around(cells_at(pairs[:, 0], query))
        top, left, bottom, right = box
        share = float(np.clip(shares[top:bottom, left:right].sum(), 0.0, 1.0))
        regions.append(Region(query=box, reference=box_around(cells_at(pairs[:, 1], reference)), share=share))
    ranked = sorted(regions, key=lambda region: -region.share)
    return Resemblance(
        query=to_heat(by_query, query), reference=to_heat(by_reference, reference), regions=tuple(ranked)
    )


def weigh_locations(features: Features) -> Floats:
    """Return what each location of a feature map (C, H, W) adds to the photo's own descriptor: (H, W) in [0, 1]."""
    f = locations_of(features)
    return to_heat(np.einsum("ic,c->i", f, f.sum(axis=0)), features)


def match_locations(cosines: Embeddings, added: Floats) -> Integers:
    """Return the pairs (M, 2) of locations that match, heaviest first.

    The weight of a match is what it adds to the similarity times the cosine of its two features.
    """
    best = cosines.argmax(axis=1)
    query = np.flatnonzero(cosines.argmax(axis=0)[best] == np.arange(len(best)))
    pairs = np.stack([query, best[query]], axis=1)
    alike = cosines[pairs[:, 0], pairs[:, 1]]
    weights = np.where(alike >= LEAST_COSINE, alike * added[pairs[:, 0], pairs[:, 1]], 0.0)
    order = np.argsort(-weights, kind="stable")
    heavy = weights[order] > LEAST_WEIGHT * max(weights.max(initial=0.0), 0.0)
    matches: Integers = pairs[order[heavy]]
    return matches


def group_matches(pairs: Integers, query: Features, reference: Features) -> Iterator[Integers]:
    """Yield matches in groups: each starts with the heaviest match left and takes those next to it in both photos."""
    both = cells_at(pairs[:, 0], query), cells_at(pairs[:, 1], reference)
    left = np.ones(len(pairs), dtype=bool)
    for _ in range(MOST_REGIONS):
        if not left.any():
            return
        seed = int(left.argmax())
        near = [np.abs(cells - cells[seed]).max(axis=1) <= 1 for cells in both]
        group = left & near[0] & near[1]
        left &= ~group
        yield pairs[group]


def box_around(cells: Integers) -> Box:
    """Return the box (top, left, bottom, right) around cells (n, 2); bottom and right are exclusive."""
    (top, left), (bottom, right) = cells.min(axis=0).tolist(), (cells.max(axis=0) + 1).tolist()
    return top, left, bottom, right


def locations_of(features: Features) -> Features:
    """Return a feature map (C, H, W) as one row per location, (H·W, C), divided by its largest value.

    So no product overflows; only ratios of products count. Values that are not finite become 0.
    """
    rows = np.ascontiguousarray(features.reshape(len(features), -1).T, dtype=np.result_type(features, np.float32))
    if not np.isfinite(rows).all():
        rows = np.where(np.isfinite(rows), rows, rows.dtype.type(0))
    largest = max(rows.max(), -rows.min())
    return rows / largest if largest else rows


def lengths_of(rows: Features) -> Floats:
    """Return the lengths (n,) of rows (n, C); 1 for a row of zeros, whose products are 0 anyway."""
    lengths: Floats = np.sqrt(np.vecdot(rows, rows).astype(np.float64))
    return np.where(lengths > 0, lengths, 1.0)


def cells_at(locations: Integers, features: Features) -> Integers:
    """Return the cells (n, 2), row and column, of locations (n,) in a feature map (C, H, W)."""
    return np.stack(np.unravel_index(locations, features.shape[1:]), axis=1).astype(np.int64)


def to_heat(added: Floats, features: Features) -> Floats:
    """Return contributions (H·W,) as a map (H, W) in [0, 1]; negative ones, which lower the similarity, become 0."""
    positive: Floats = np.maximum(added, 0.0).reshape(features.shape[1:])
    positive /= max(positive.max(), 1e-12)
    return positive
