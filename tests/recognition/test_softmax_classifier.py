"""Recognition by a softmax layer: against the equation written out, in galleries that hold some of its landmarks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from obelisk.embedding import Embedded
from obelisk.errors import ModelError
from obelisk.gallery import ExactSearch, refuse_directionless
from obelisk.recognition import SoftmaxClassifier

LAYER = np.array([40, 10, 30, 20, 50])


def random_units(rng: np.random.Generator, count: int) -> np.ndarray:
    rows = rng.normal(size=(count, 6))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("held", [[10, 20, 30, 40, 50], [20, 50], [30]], ids=["all", "some", "one"])
def test_probabilities_rank_the_landmarks_of_the_gallery(held: list[int]) -> None:
    rng = np.random.default_rng(len(held))
    landmark_ids = np.array(held * 2)
    references, queries = random_units(rng, len(landmark_ids)), random_units(rng, 9)
    logits = (8 * rng.normal(size=(9, 5))).astype(np.float32)
    ranking = SoftmaxClassifier(ExactSearch(references), landmark_ids, LAYER).classify(queries, logits, k=2, top=3)
    for query, row in enumerate(logits.tolist()):
        # Shared out among all landmarks of the layer, those that the gallery lacks among them.
        total = sum(math.exp(value) for value in row)
        share = {landmark: math.exp(value) / total for landmark, value in zip(LAYER.tolist(), row, strict=True)}
        expected = sorted(held, key=lambda landmark: -share[landmark])[:3]
        assert ranking.candidates[query].tolist() == expected
        assert ranking.scores[query] == pytest.approx([share[landmark] for landmark in expected], rel=1e-12)
        assert ranking.confidence[query] == ranking.scores[query, 0]
        cosines = sorted((float(queries[query] @ reference) for reference in references), reverse=True)[:2]
        assert ranking.similarities[query] == pytest.approx(cosines, abs=1e-6)


def test_a_query_does_not_depend_on_the_others() -> None:
    rng = np.random.default_rng(0)
    landmark_ids = np.repeat(LAYER, 3)
    classifier = SoftmaxClassifier(ExactSearch(random_units(rng, 15)), landmark_ids, LAYER)
    queries, logits = random_units(rng, 33), (5 * rng.normal(size=(33, 5))).astype(np.float32)
    together = classifier.classify(queries, logits, k=3, top=5)
    for query in range(33):
        alone = classifier.classify(queries[query : query + 1], logits[query : query + 1], k=3, top=5)
        assert np.array_equal(alone.scores[0], together.scores[query])
        assert np.array_equal(alone.candidates[0], together.candidates[query])


def test_equal_and_extreme_logits_have_an_order() -> None:
    rng = np.random.default_rng(1)
    classifier = SoftmaxClassifier(ExactSearch(random_units(rng, 5)), LAYER, LAYER)
    logits = np.array([[0, 0, 0, 0, 0], [3e38, -3e38, 0, 0, 0]], dtype=np.float32)
    ranking = classifier.classify(random_units(rng, 2), logits, k=1, top=5)
    assert ranking.candidates[0].tolist() == [10, 20, 30, 40, 50]
    assert ranking.scores[0].tolist() == [0.2] * 5
    assert (ranking.candidates[1, 0], ranking.confidence[1]) == (40, 1.0)


def test_logits_of_another_width_are_refused() -> None:
    rng = np.random.default_rng(2)
    classifier = SoftmaxClassifier(ExactSearch(random_units(rng, 5)), LAYER, LAYER)
    with pytest.raises(ModelError, match=r"logits of shape \(2, 4\) for a softmax layer of 5 landmarks"):
        classifier.classify(random_units(rng, 2), np.zeros((2, 4), np.float32), k=1, top=5)


def test_a_photo_whose_logits_are_not_finite_fails_alone() -> None:
    photos = [
        Embedded(
            path=Path("photo.jpg"),
            content_hash="",
            embedding=np.ones(6, np.float32),
            logits=np.array([1, value], np.float32),
        )
        for value in (2, np.nan, np.inf)
    ]
    sound, *bad = refuse_directionless(photos)
    assert sound.error is None
    assert [photo.embedding for photo in bad] == [None, None]
    assert all("no finite logits" in str(photo.error) for photo in bad)
