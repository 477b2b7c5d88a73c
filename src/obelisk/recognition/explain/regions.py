"""Which regions of two photos resemble each other, from the feature maps that a network pooled. Arrays in, arrays out.

With f_i the feature at location i of the query's map, g_j that at j of the reference's, and both maps pooled by
their mean, the cosine of the pooled descriptors is a sum over pairs of locations::

    s = Σ_ij c_ij        c_ij = f_i·g_j / (‖Σ f‖ · ‖Σ g‖)

so that ``c_i = Σ_j c_ij`` is what location i adds to the similarity (Stylianou, Souvenir & Pless, Visualizing deep
similarity networks, WACV 2019). Two locations match when each is the other's most similar, by the cosine of their
features; matches that adjoin in both photos make a region. For a network that pools otherwise, or has a trained
neck behind its pooling, this shows where the similarity comes from, not its exact amount.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Floats, Integers

Features = NDArray[np.floating]
Box = tuple[int, int, int, int]

LEAST_COSINE = 0.5  # features less alike are no match, even where nothing else is nearer
LEAST_WEIGHT = 0.15  # of the heaviest match; lighter ones are left out
MOST_REGIONS = 5


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part of the query and the part of the reference that matches it.

    Both are boxes (top, left, bottom, right) in cells of the maps, the ends outside. ``share`` is the part of the
    similarity, in [0, 1], that comes from the query's box.
    """

    query: Box
    reference: Box
    share: float


@dataclass(frozen=True, kw_only=True)
class Resemblance:
    """Where the similarity of two photos comes from.

    ``query`` (H, W) and ``reference`` (H', W') say what each location adds, 1 where it adds most, 0 where it adds
    nothing. ``regions`` are what matches, the largest share first.
    """

    query: Floats
    reference: Floats
    regions: tuple[Region, ...]


def compare_maps(query: Features, reference: Features) -> Resemblance:
    """Compare the feature maps (C, H, W) and (C, H', W') of two photos."""
    f, g = locations_of(query), locations_of(reference)
    added = f @ g.T  # c_ij but for the factor that they share
    by_query, by_reference = added.sum(axis=1), added.sum(axis=0)
    shares = (by_query / max(added.sum(), 1e-12)).reshape(query.shape[1:])
    regions = []
    for pairs in gather(match_locations(unit(f) @ unit(g).T, added), query, reference):
        box = box_around(cells_at(pairs[:, 0], query))
        top, left, bottom, right = box
        share = float(np.clip(shares[top:bottom, left:right].sum(), 0.0, 1.0))
        regions.append(Region(query=box, reference=box_around(cells_at(pairs[:, 1], reference)), share=share))
    ranked = sorted(regions, key=lambda region: -region.share)
    return Resemblance(query=heat(by_query, query), reference=heat(by_reference, reference), regions=tuple(ranked))


def show_own_weight(features: Features) -> Floats:
    """Return what each location of a feature map (C, H, W) adds to the photo's own descriptor: (H, W), 0 to 1."""
    f = locations_of(features)
    return heat(f @ f.sum(axis=0), features)


def match_locations(cosines: Floats, added: Floats) -> Integers:
    """Return the pairs (M, 2) of locations that match, heaviest first.

    A match weighs what it adds to the similarity, times the cosine of its two features.
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


def gather(pairs: Integers, query: Features, reference: Features) -> Iterator[Integers]:
    """Yield the matches in groups: each begins with the heaviest left, and takes those next to it in both photos."""
    places = cells_at(pairs[:, 0], query), cells_at(pairs[:, 1], reference)
    left = np.ones(len(pairs), dtype=bool)
    for _ in range(MOST_REGIONS):
        if not left.any():
            return
        seed = int(left.argmax())
        near = [np.abs(cells - cells[seed]).max(axis=1) <= 1 for cells in places]
        group = left & near[0] & near[1]
        left &= ~group
        yield pairs[group]


def box_around(cells: Integers) -> Box:
    """Return the box (top, left, bottom, right) around cells (n, 2); bottom and right are the first outside."""
    (top, left), (bottom, right) = cells.min(axis=0).tolist(), (cells.max(axis=0) + 1).tolist()
    return top, left, bottom, right


def locations_of(features: Features) -> Floats:
    """Return a feature map (C, H, W) as one row a location, (H·W, C); what is not a number counts as 0."""
    rows: Floats = features.reshape(len(features), -1).T.astype(np.float64)
    return np.where(np.isfinite(rows), rows, 0.0)


def cells_at(locations: Integers, features: Features) -> Integers:
    """Return the cells (n, 2), row and column, of locations (n,) in a feature map (C, H, W)."""
    return np.stack(np.unravel_index(locations, features.shape[1:]), axis=1).astype(np.int64)


def unit(rows: Floats) -> Floats:
    """Return rows (N, C) of length 1; a zero row stays zero."""
    units: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return units


def heat(added: Floats, features: Features) -> Floats:
    """Return contributions (H·W,) as a map (H, W) from 0 to 1; what speaks against the similarity counts as 0."""
    positive: Floats = np.maximum(added, 0.0).reshape(features.shape[1:])
    positive /= max(positive.max(), 1e-12)
    return positive
