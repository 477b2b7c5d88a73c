"""Simulate where photos were taken, and measure what that tells: ``python tools/simulate_positions.py DATA``.

The photos of Google Landmarks state no position, so each gets one: that of its landmark, with an error in a random
direction (normal, of the given root mean square). A photo of no landmark gets that of a query drawn at random, so that
a position alone tells nothing about whether the gallery has the landmark. In ``exchanged``, all positions are dealt out
anew; in ``anywhere``, they are uniform on Earth: both are wrong on purpose.

First come reference photos, a third of each landmark's kept out of the gallery and every fourth landmark whole: what
the constants of :mod:`obelisk.recognition.nearness` were chosen with. Then come the queries, which chose nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from obelisk.arrays import Booleans, Floats, Integers
from obelisk.data import read_catalog
from obelisk.embedding import CachedEmbedder
from obelisk.errors import UsageError
from obelisk.gallery import ExactSearch
from obelisk.positions import Position
from obelisk.recognition import Recognizer
from obelisk.recognition.calibration import find_margins
from obelisk.recognition.classifier import KNNClassifier
from obelisk.recognition.nearness import NEARBY, LandmarkPositions, Nearness, choose_weight

KILOMETERS_A_DEGREE = 111.2
ERRORS = {"0 km": 0.0, "5 km": 5.0, "25 km": 25.0, "exchanged": 25.0, "anywhere": 0.0}
SEEDS = range(3)
MOST_ASKED = 20  # reference photos of a landmark
PRECISION = 0.95
MIX = {"known": 0.6, "unknown": 0.2, "ordinary": 0.2}


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """First candidates of Q photos: confidences, which are right, which show a known landmark, how much each counts."""

    confidence: Floats
    right: Booleans
    known: Booleans
    weights: Floats

    def describe(self, threshold: float) -> str:
        """Return precision and recall at a threshold, recall at PRECISION in hindsight, and top-1, in percent."""
        given, known = self.confidence >= threshold, self.weights[self.known].sum()
        order = np.argsort(-self.confidence, kind="stable")
        hits = np.cumsum((self.weights * self.right)[order])
        reached = hits / np.cumsum(self.weights[order]) >= PRECISION
        numbers = (
            self.weights[given & self.right].sum() / self.weights[given].sum(),
            self.weights[given & self.right].sum() / known,
            hits[reached].max(initial=0.0) / known,
            self.weights[self.right].sum() / known,
        )
        return "".join(f"{number:>10.3f}" for number in numbers)


def draw_positions(case: str, landmarks: Integers, places: dict[int, Position], seed: int) -> list[Position]:
    """Return a simulated position for each photo of ``landmarks`` (Q,), -1 being none that has a position."""
    rng = np.random.default_rng(seed)
    known = landmarks[landmarks >= 0]
    shown = np.where(landmarks >= 0, landmarks, rng.choice(known, len(landmarks)))
    if case == "anywhere":
        latitudes = np.degrees(np.arcsin(rng.uniform(-1, 1, len(shown))))
        return [Position(*pair) for pair in zip(latitudes, rng.uniform(-180, 180, len(shown)), strict=True)]
    if case == "exchanged":
        shown = rng.permutation(shown)
    moved = rng.normal(0, ERRORS[case] / np.sqrt(2), size=(len(shown), 2)) / KILOMETERS_A_DEGREE
    return [
        Position(place.latitude + north, place.longitude + east / np.cos(np.radians(place.latitude)))
        for place, (north, east) in zip((places[landmark] for landmark in shown.tolist()), moved, strict=True)
    ]


def ask_queries(recognizer: Recognizer, data: Path) -> Iterator[tuple[str, Outcome]]:
    """Ask the bundled gallery for all queries, without positions and in each case."""
    catalog = read_catalog(data)
    photos = catalog.locate_photos(catalog.queries)
    truth = np.array([shown[0] if shown else -1 for shown in catalog.queries["landmark_ids"].to_list()])
    places = find_places(recognizer)
    for case in ("none", *ERRORS):
        for seed in SEEDS if case != "none" else [0]:
            near = "none" if case == "none" else draw_positions(case, truth, places, seed)
            answers = list(recognizer.recognize(photos, near=near))
            first = np.array([answer.candidates[0].landmark_id for answer in answers])
            confidence = np.array([answer.confidence for answer in answers])
            weights = np.ones(len(first))
            yield case, Outcome(confidence=confidence, right=first == truth, known=truth >= 0, weights=weights)


def find_places(recognizer: Recognizer) -> dict[int, Position]:
    """Return landmark id → position of the gallery's landmarks."""
    return {one.id: Position(one.latitude, one.longitude) for one in recognizer.gallery.landmarks if one.latitude}


def ask_references(recognizer: Recognizer, ordinary: list[Path]) -> Iterator[tuple[str, Outcome]]:
    """Ask galleries of some reference photos for the others, for landmarks they lack, and for ordinary photos."""
    references, places = recognizer.gallery.references(), find_places(recognizer)
    rows, shown = references.rows(np.arange(len(references))), references.landmark_ids
    strangers = np.stack([found.embedding for found in recognizer.embedder.embed(ordinary)])
    strangers /= np.linalg.norm(strangers, axis=1, keepdims=True)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        landmarks = np.unique(shown)
        absent = rng.choice(landmarks, len(landmarks) // 4, replace=False)
        asked = np.zeros(len(rows), dtype=bool)
        for landmark in landmarks.tolist():
            photos = rng.permutation(np.flatnonzero(shown == landmark))
            asked[photos[: min(max(1, len(photos) // 3), MOST_ASKED)]] = True
        inside = ~np.isin(shown, absent)
        classifier = KNNClassifier(
            ExactSearch(rows[inside & ~asked]), shown[inside & ~asked], background=recognizer.background
        )
        own = np.concatenate([shown[asked], np.full(len(strangers), -1)])
        truth = np.where(np.isin(own, absent), -1, own)
        ranking = classifier.classify(np.concatenate([rows[asked], strangers]), k=3, top=NEARBY)
        kinds = {"known": truth >= 0, "unknown": (truth < 0) & (own >= 0), "ordinary": own < 0}
        weights = sum(MIX[kind] * mask / mask.sum() for kind, mask in kinds.items())
        left = {number: one for number, one in references.landmarks.items() if number not in absent}
        for case in ("none", *ERRORS):
            found = ranking
            if case != "none":
                positions = draw_positions(case, own, places, seed)
                nearness = Nearness(landmarks=LandmarkPositions(left), positions=positions)
                found = nearness.rank(ranking, choose_weight(recognizer.calibration, probabilities=False))
            confidence = recognizer.calibration.confidence(found.scores[:, 0], find_margins(found.scores), inside.sum())
            right = found.candidates[:, 0] == truth
            yield case, Outcome(confidence=confidence, right=right, known=truth >= 0, weights=weights)


def print_table(title: str, outcomes: Iterator[tuple[str, Outcome]], threshold: float) -> None:
    """Print one row a case, averaged over seeds."""
    rows: dict[str, list[list[float]]] = {}
    for case, outcome in outcomes:
        rows.setdefault(case, []).append([float(number) for number in outcome.describe(threshold).split()])
    sys.stdout.write(f"{title}\n{'position':12}{'precision':>10}{'recall':>10}{'r at .95':>10}{'top-1':>10}\n")
    for case, numbers in rows.items():
        sys.stdout.write(f"{case:12}" + "".join(f"{number:>10.3f}" for number in np.mean(numbers, axis=0)) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise UsageError("one folder is needed", fix="python tools/simulate_positions.py DATA")
    data = Path(sys.argv[1])
    opened = Recognizer.open()
    opened.embedder = CachedEmbedder(opened.embedder.bundle)
    bound = opened.threshold(PRECISION) or 0.0
    distractors = read_catalog(data).select_distractors()
    background = [path for path in read_catalog(data).locate_photos(distractors) if path.stem[-1] in "02468ace"]
    print_table("reference photos", ask_references(opened, background), bound)
    print_table("queries", ask_queries(opened, data), bound)
