"""The answer as shipped, blended vote, background and calibration together, against a literal and slow oracle.

The oracle takes one query and one reference photo at a time, in plain Python, straight from the equations in
docs/architecture.md and at the top of the modules. It shares no code with the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from obelisk.embedding import Bundle, Embedded
from obelisk.gallery import Gallery, Landmark
from obelisk.recognition import (
    BACKGROUND,
    CALIBRATION,
    Recognizer,
    find_calibration,
    pack_background,
    read_background,
)
from obelisk.records import Recognition

D = 12
LANDMARKS = 30
REFERENCES = 260  # more than the 100 nearest that are reranked
SLOPE, CENTRE, GROWTH = 14.0, -0.75, 0.05
PRECISIONS = [[0.02, 0.61], [0.2, 0.9], [0.35, 0.957], [0.5, 0.965], [0.9, 0.99]]
CALIBRATION_JSON = f'{{"slope": {SLOPE}, "centre": {CENTRE}, "growth": {GROWTH}, "precisions": {PRECISIONS}}}'

Row = list[float]


def dot(a: Row, b: Row) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(row: Row) -> Row:
    length = math.sqrt(dot(row, row))
    return [x / length for x in row]


def mean_of_largest(values: list[float], count: int) -> float:
    largest = sorted(values, reverse=True)[:count]
    return sum(largest) / len(largest)


def normalized_similarities(query: Row, references: list[Row], labels: list[int], background: list[Row]) -> list[float]:
    """Blend the 100 nearest with their prototypes; then take off what photo and query share with the background."""
    plain = [dot(query, row) for row in references]
    nearest = sorted(range(len(references)), key=lambda n: (-plain[n], n))
    blended = list(plain)
    for n in nearest[:100]:
        own = [references[m] for m in range(len(references)) if labels[m] == labels[n]]
        prototype = unit([sum(column) for column in zip(*own, strict=True)])
        blended[n] = (plain[n] + 0.35 * dot(query, prototype)) / 1.35
    least = min(blended[n] for n in nearest[:100])
    for n in nearest[100:]:
        blended[n] = min(plain[n], least)
    of_query = mean_of_largest([dot(query, row) for row in background], 10)
    normalized = []
    for n, row in enumerate(references):
        of_reference = max(0.0, mean_of_largest([dot(row, other) for other in background], 5))
        normalized.append(min(1.0, max(-1.0, blended[n] - 0.25 * of_reference - 1.0 * of_query)))
    return normalized


def vote_literally(similarities: list[float], labels: list[int]) -> list[tuple[int, float]]:
    """Let the three most similar photos vote with exponent 48; others have half a vote of their best photo."""
    voters = sorted(range(len(labels)), key=lambda n: -similarities[n])[:3]
    ranked = []
    for landmark in sorted(set(labels)):
        best = max(similarities[n] for n in range(len(labels)) if labels[n] == landmark)
        votes = [((1 + similarities[n]) / 2) ** 48 for n in voters if labels[n] == landmark]
        weight = sum(votes) if votes else ((1 + best) / 2) ** 48 / 2
        ranked.append(((weight / 3) ** (1 / 48), best, landmark))
    ranked.sort(key=lambda entry: (-entry[0], -entry[1], entry[2]))
    return [(landmark, score) for score, _, landmark in ranked[:5]]


def confidence_literally(score: float) -> float:
    s0 = math.exp(CENTRE + GROWTH * math.log(REFERENCES))
    return 1 / (1 + (s0 / score) ** SLOPE)


class RowEmbedder:
    """Stands in for a network: the photo ``7.jpg`` has the seventh of these embeddings."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def embed(self, sources: Iterable[Path], **options: bool) -> Iterator[Embedded]:
        for path in sources:
            yield Embedded(path=path, content_hash="", embedding=self.rows[int(path.stem)])


def draw_rows(rng: np.random.Generator, centers: np.ndarray, labels: np.ndarray, spread: float) -> np.ndarray:
    rows = centers[labels] + spread * rng.normal(size=(len(labels), D))
    rows[:, 0] += 0.8  # what all photos have in common, so that the background has something to take off
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def shipped(
    tmp_path_factory: pytest.TempPathFactory, write_any_bundle: Callable[..., Bundle]
) -> tuple[Gallery, Bundle, np.ndarray]:
    """A gallery whose bundle carries a background and a calibration, and query embeddings near and far."""
    rng = np.random.default_rng(11)
    folder = tmp_path_factory.mktemp("shipped")
    centers = rng.normal(size=(LANDMARKS, D))
    background = draw_rows(rng, np.zeros((1, D)), np.zeros(40, dtype=int), 1.0)
    attachments = {BACKGROUND: pack_background(background), CALIBRATION: CALIBRATION_JSON.encode()}
    bundle = write_any_bundle(folder / "bundle", attachments=attachments, dimensions=D)
    gallery = Gallery.create(folder / "gallery", bundle)
    labels = np.concatenate([np.arange(LANDMARKS), rng.integers(0, LANDMARKS, REFERENCES - LANDMARKS)])
    landmarks = [Landmark(id=100 + label, name=f"landmark {label}") for label in labels.tolist()]
    gallery.add(draw_rows(rng, centers, labels, 0.5), landmarks, [f"photo {n}" for n in range(REFERENCES)])
    asked = rng.integers(0, LANDMARKS, 40)
    near, far = draw_rows(rng, centers, asked, 0.5), draw_rows(rng, rng.normal(size=(20, D)), np.arange(20), 0.5)
    return gallery, bundle, np.concatenate([near, far]).astype(np.float32)


def test_answers_are_those_of_the_literal_oracle(shipped: tuple[Gallery, Bundle, np.ndarray]) -> None:
    gallery, bundle, queries = shipped
    recognizer = Recognizer(
        gallery, RowEmbedder(queries), background=read_background(bundle), calibration=find_calibration(gallery, bundle)
    )
    answers = list(recognizer.recognize([f"{n}.jpg" for n in range(len(queries))]))

    stored = gallery.references()
    references = [unit(row) for row in stored.rows(np.arange(REFERENCES)).astype(float).tolist()]
    labels = stored.landmark_ids.tolist()
    background = [unit(row) for row in read_background(bundle).rows.astype(float).tolist()]
    for answer, query in zip(answers, queries.astype(float).tolist(), strict=True):
        similarities = normalized_similarities(unit(query), references, labels, background)
        check_answer(answer, vote_literally(similarities, labels))
        plain = [dot(unit(query), row) for row in references]
        nearest = sorted(range(REFERENCES), key=lambda n: -plain[n])[:3]
        assert [neighbor.id for neighbor in answer.neighbours] == [f"photo {n}" for n in nearest]
        assert [neighbor.landmark_id for neighbor in answer.neighbours] == [labels[n] for n in nearest]
        for neighbor, n in zip(answer.neighbours, nearest, strict=True):
            assert neighbor.similarity == pytest.approx(plain[n], abs=1e-6)
    assert {answer.landmark is None for answer in answers} == {True, False}, "the cases try both"


def check_answer(answer: Recognition, expected: list[tuple[int, float]]) -> None:
    """Compare candidates, scores, confidence and verdict with the oracle's."""
    assert [candidate.landmark_id for candidate in answer.candidates] == [landmark for landmark, _ in expected]
    for candidate, (_, score) in zip(answer.candidates, expected, strict=True):
        assert candidate.score == pytest.approx(score, abs=1e-6)
    confidence = confidence_literally(expected[0][1])
    assert answer.confidence == pytest.approx(confidence, rel=1e-4)
    # 0.95 of the answers should be right, and only 0.8 of the mistakes that this allows may be made: 0.96.
    threshold = min(at for at, reached in PRECISIONS if reached >= 0.96)
    assert abs(confidence - threshold) > 1e-4, "too near the threshold to tell"
    assert answer.landmark_id == (expected[0][0] if confidence >= threshold else None)
    assert answer.error is None
