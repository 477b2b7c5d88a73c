from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from obelisk.data import LANDMARKS, QUERIES, REFERENCES, Catalog
from obelisk.evaluation import Predictions, collect_predictions

MakeCatalog = Callable[..., Catalog]
MakePredictions = Callable[..., Predictions]


@pytest.fixture
def make_catalog(tmp_path: Path) -> MakeCatalog:
    """A catalog from counts: landmark id → number of reference photos, and query id → true landmarks."""

    def make(
        photos: dict[int, int],
        truths: dict[str, list[int]],
        *,
        areas: Sequence[int] = (),
        names: dict[int, str] | None = None,
        root: Path = tmp_path,
    ) -> Catalog:
        references = [
            {"image_id": f"r{landmark}-{n:03}", "path": f"train/r{landmark}-{n:03}.png", "landmark_id": landmark}
            for landmark, count in photos.items()
            for n in range(count)
        ]
        landmarks = [
            {"landmark_id": landmark, "name": (names or {}).get(landmark, f"Place {landmark}")}
            | {"area_level": int(landmark in areas)}
            for landmark in sorted(photos)
        ]
        queries = [
            {"image_id": query, "path": f"test/{query}.png", "landmark_ids": true, "usage": "Public"}
            for query, true in sorted(truths.items())
        ]
        return Catalog(
            root=root,
            references=pl.DataFrame(
                [row | {"split": "train"} for row in references], schema=REFERENCES, orient="row"
            ).sort("image_id"),
            queries=pl.DataFrame(queries, schema=QUERIES, orient="row"),
            landmarks=pl.DataFrame(
                [row | dict.fromkeys(LANDMARKS.names()[2:], None) | row for row in landmarks],
                schema=LANDMARKS,
                orient="row",
            ),
        )

    return make


@pytest.fixture
def make_predictions() -> MakePredictions:
    """Predictions from a seed: each query is answered right with a given chance, else by another landmark."""

    def make(
        catalog: Catalog, *, accuracy: float = 0.7, seed: int = 0, noise_seed: int | None = None, K: int = 5
    ) -> Predictions:
        # One stream says how hard a query is, the other what this run makes of it: runs of one seed are correlated.
        difficulty = np.random.default_rng(seed)
        rng = np.random.default_rng([seed, 1 if noise_seed is None else noise_seed])
        landmarks = catalog.references["landmark_id"].unique().sort().to_list()
        photos = catalog.references["image_id"].to_list()
        rows = catalog.queries.select("image_id", "landmark_ids").rows()
        candidates, confidence, neighbors, similarities = [], [], [], []
        for _, true in rows:
            order = rng.permutation(landmarks).tolist()
            luck = 0.8 * difficulty.random() + 0.2 * rng.random()
            known = [landmark for landmark in true if landmark in landmarks]
            if known and luck < accuracy:
                order = [known[0], *(landmark for landmark in order if landmark != known[0])]
            elif known:
                order = [*(landmark for landmark in order if landmark not in known), *known]
            candidates.append(order[:5])
            confidence.append(float(np.clip(1.1 - luck if known else 0.6 * luck, 0, 1)))
            neighbors.append(rng.permutation(photos)[:K].tolist())
            similarities.append(np.sort(rng.random(min(K, len(photos))))[::-1].tolist())
        return collect_predictions(
            query_ids=[query for query, _ in rows],
            truths=[true for _, true in rows],
            candidates=candidates,
            scores=[
                [value / (rank + 1) for rank in range(len(c))] for c, value in zip(candidates, confidence, strict=True)
            ],
            confidence=confidence,
            neighbors=neighbors,
            similarities=similarities,
            made_by=f"seed {seed}",
        )

    return make
