"""Revisited Oxford and Paris: the figures of its own evaluation code."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from obelisk.data.formats.revisited import RevisitedDataset, RevisitedQuery
from obelisk.evaluation import Retrieval
from obelisk.evaluation.metrics import precision_at, trapezoid_precision
from obelisk.evaluation.revisited_protocol import DEPTHS, measure_revisited

LABELS = ("easy", "hard", "junk")


def literal_figures(ranking: list[int], positive: list[int], junk: list[int]) -> list[float]:
    """The definition, step by step: walk down the ranking, pass over junk, add up a trapezoid for each hit."""
    if not positive:
        return [math.nan] * (1 + len(DEPTHS))
    area, seen, hits, places = 0.0, 0, 0, []
    for photo in ranking:
        if photo in junk:
            continue
        if photo in positive:
            before = hits / seen if seen else 1.0
            area += (before + (hits + 1) / (seen + 1)) / 2 / len(positive)
            hits += 1
            places.append(seen + 1)
        seen += 1
    figures = [area]
    for k in DEPTHS:
        depth = min(places[-1], k)
        figures.append(sum(place <= depth for place in places) / depth)
    return figures


def test_equals_the_literal_definition_on_random_rankings() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        size = int(rng.integers(1, 40))
        ranking = rng.permutation(size)
        labels = rng.integers(4, size=size)
        ranks = np.argsort(ranking)
        for positive, junk in (((0,), (1,)), ((0, 1), (2,)), ((1,), (0, 2))):
            photos, passed = (np.flatnonzero(np.isin(labels, chosen)) for chosen in (positive, junk))
            found = [trapezoid_precision(ranks[photos], ranks[passed])]
            found += [precision_at(ranks[photos], ranks[passed], k) for k in DEPTHS]
            np.testing.assert_allclose(found, literal_figures(ranking.tolist(), photos.tolist(), passed.tolist()))


def test_equals_the_published_evaluation_code(real_photos: Path) -> None:
    published = json.loads((real_photos.parent / "revisited_oracle.json").read_text())
    for case in published["cases"]:
        queries, ranks = [], []
        for number, (ranking, truth) in enumerate(zip(case["ranking"], case["ground_truth"], strict=True)):
            labels = {label: np.array(truth[label], np.int64) for label in LABELS}
            queries.append(RevisitedQuery(name=str(number), path=Path(), box=(0, 0, 1, 1), **labels))
            ranks.append(np.argsort(ranking)[np.concatenate(list(labels.values()))])
        dataset = RevisitedDataset(name="roxford5k", photos=[Path()] * case["database"], queries=queries)
        result = measure_revisited(dataset, ranks, Retrieval())
        for difficulty, expected in case["expected"].items():
            assert result.figures[difficulty]["map"] == pytest.approx(
                expected["map"] or math.nan, abs=1e-9, nan_ok=True
            )
            rows = [[ap, *at] for ap, at in zip(expected["ap"], expected["precision_at"], strict=True)]
            np.testing.assert_allclose(
                result.per_query[difficulty], np.array(rows, dtype=np.float64), atol=1e-9, rtol=0
            )
