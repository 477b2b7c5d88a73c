"""Where a photo was taken, against its equations written out; and what it may and may not do to an answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from obelisk.embedding import Bundle, Embedded
from obelisk.errors import UsageError
from obelisk.gallery import Gallery, Landmark
from obelisk.photos import StatedPosition
from obelisk.positions import Position
from obelisk.recognition import Recognizer
from obelisk.recognition.nearness import LandmarkPositions, Nearness
from obelisk.recognition.ranking import Ranking

D = 8
PARIS, ROME, VIENNA = Position(48.86, 2.29), Position(41.89, 12.49), Position(48.21, 16.37)
LANDMARKS = {
    3: Landmark(id=3, name="Tower", latitude=PARIS.latitude, longitude=PARIS.longitude),
    5: Landmark(id=5, name="Arena", latitude=ROME.latitude, longitude=ROME.longitude),
    9: Landmark(id=9, name="Nowhere"),
}


def literal_evidence(landmark: Landmark, position: Position) -> float:
    def distance(one: Landmark) -> float:
        north, south = math.radians(one.latitude or 0), math.radians(position.latitude)
        across = math.radians((one.longitude or 0) - position.longitude)
        cosine = math.sin(north) * math.sin(south) + math.cos(north) * math.cos(south) * math.cos(across)
        return 6371 * math.acos(min(1.0, cosine))

    def spread(one: Landmark) -> float:
        return 1 / (1 + (distance(one) / 20) ** 2) ** 1.5

    if landmark.latitude is None:
        return 0.0
    known = [spread(one) for one in LANDMARKS.values() if one.latitude is not None]
    return math.log(0.7 + 0.3 * spread(landmark) / (sum(known) / len(known) + 0.005))


@pytest.mark.parametrize("position", [PARIS, ROME, Position(48.86, 2.6), Position(-33.9, 151.2), Position(0, -180)])
def test_the_evidence_is_that_of_the_equations(position: Position) -> None:
    nearness = Nearness(landmarks=LandmarkPositions(LANDMARKS), positions=[None, position])
    candidates = np.array([[5, 3, 9], [3, 9, 5]])
    evidence = nearness.weigh(nearness.measure(candidates))
    assert evidence[0].tolist() == [0, 0, 0]
    expected = [literal_evidence(LANDMARKS[number], position) for number in candidates[1]]
    assert evidence[1] == pytest.approx(expected, abs=1e-6)
    assert evidence.min() >= math.log(0.7)


def rank(scores: list[float], position: Position | None, landmarks: dict[int, Landmark] = LANDMARKS) -> Ranking:
    candidates = np.array([list(landmarks)])
    ranking = Ranking(
        candidates=candidates,
        scores=np.array([scores]),
        confidence=np.array([scores[0]]),
        neighbors=np.zeros((1, 1), dtype=np.int64),
        similarities=np.zeros((1, 1), dtype=np.float32),
    )
    return Nearness(landmarks=LandmarkPositions(landmarks), positions=[position]).rank(ranking, weight=30.0)


def test_a_near_landmark_comes_before_a_far_one_that_looks_a_little_better() -> None:
    found = rank([0.60, 0.59, 0.50], ROME)
    assert found.candidates.tolist() == [[5, 3, 9]]
    assert (np.diff(found.scores) <= 0).all()
    assert rank([0.75, 0.55, 0.50], ROME).candidates.tolist() == [[3, 5, 9]]  # but not before one that looks far better


def test_candidates_far_away_lose_little_however_far() -> None:
    far = [rank([0.60, 0.5, 0.4], position).scores[0, 0] for position in (VIENNA, Position(-48.86, -177.7))]
    assert far == pytest.approx([0.60 * 0.7 ** (1 / 30)] * 2, abs=2e-4)


def test_a_landmark_without_a_position_stays_as_it_is() -> None:
    for position in (PARIS, VIENNA):
        found = rank([0.60, 0.5, 0.4], position)
        assert found.scores[0, found.candidates[0].tolist().index(9)] == 0.4


def test_the_only_landmark_with_a_position_gains_next_to_nothing() -> None:
    alone = {3: LANDMARKS[3], 9: LANDMARKS[9], 11: Landmark(id=11, name="Elsewhere")}
    assert rank([0.6, 0.5, 0.4], PARIS, alone).scores[0, 0] == pytest.approx(0.6, abs=1e-4)
    assert rank([0.6, 0.5, 0.4], ROME, alone).candidates.tolist() == [[3, 9, 11]]


def test_in_a_crowd_a_position_says_next_to_nothing() -> None:
    crowd = {
        number: Landmark(id=number, name=f"{number}", latitude=48.2 + number / 1000, longitude=16.4)
        for number in range(40)
    }
    scores = np.linspace(0.7, 0.3, 40).tolist()
    assert rank(scores, Position(48.21, 16.4), crowd).scores[0] == pytest.approx(scores, abs=2e-3)


def test_no_score_exceeds_one() -> None:
    many = {**LANDMARKS, **{n: Landmark(id=n, name=f"{n}", latitude=-40.0, longitude=n) for n in range(20, 120)}}
    found = rank([0.999] * 103, PARIS, many)
    assert found.scores.max() == 1.0
    assert found.candidates[0, 0] == 3


def embed_name(name: str) -> np.ndarray:
    return np.random.default_rng(sum(name.encode())).normal(size=D).astype(np.float32)


class StatingEmbedder:
    """Turns a photo's name into an embedding, and states a position as told by a table."""

    gives_logits = False

    def __init__(self, stated: dict[str, StatedPosition]) -> None:
        self.stated = stated

    def embed(self, sources: Iterable[Path], *, located: bool = False, **options: bool) -> Iterator[Embedded]:
        for path in sources:
            found = Embedded(path=path, content_hash="", embedding=embed_name(path.stem))
            yield replace(found, stated=self.stated.get(path.name, StatedPosition()) if located else None)


@pytest.fixture
def open_recognizer(tmp_path: Path, write_any_bundle: Callable[..., Bundle]) -> Callable[..., Recognizer]:
    def open_recognizer(**stated: StatedPosition) -> Recognizer:
        bundle = write_any_bundle(tmp_path / "model", b"a network", dimensions=D)
        gallery = Gallery.create(tmp_path / "gallery", bundle)
        between = embed_name("a") + embed_name("b")
        rows = np.stack([between + 0.05 * embed_name("x"), between + 0.06 * embed_name("y"), embed_name("c")])
        gallery.add(rows, list(LANDMARKS.values()), ["1", "2", "3"])
        table = {f"{name}.jpg": value for name, value in stated.items()}
        embedder: Any = StatingEmbedder(table)
        return Recognizer.open(gallery, embedder=embedder)

    return open_recognizer


def test_positions_come_from_the_caller_or_from_exif(open_recognizer: Callable[..., Recognizer]) -> None:
    fault = StatedPosition(fault="its GPS position is 0, 0, which means unknown")
    recognizer = open_recognizer(a=StatedPosition(position=ROME), b=fault)
    photos = ["a.jpg", "b.jpg", "c.jpg"]

    def distances(near: Any = None) -> list[float | None]:
        answers = recognizer.recognize(photos, near=near)
        return [answer.distance_km if answer.candidates[0].landmark_id != 9 else -1 for answer in answers]

    plain = [answer.candidates[0].landmark_id for answer in recognizer.recognize(photos)]
    assert distances() == distances("none") == [None if first != 9 else -1 for first in plain]
    assert recognizer.camera is None
    assert distances("exif")[0] is not None
    assert recognizer.camera
    assert (recognizer.camera.faulty, recognizer.camera.fault) == (1, f"b.jpg: {fault.fault}")
    assert all(one is not None for one in distances((48.86, 2.29)))
    assert distances([None, None, None]) == distances("none")
    assert distances(position for position in (PARIS, None, None))[0] is not None


def test_an_answer_says_how_far_and_whether_that_helped(open_recognizer: Callable[..., Recognizer]) -> None:
    recognizer = open_recognizer()
    (near,) = recognizer.recognize("a.jpg", near=ROME)
    (far,) = recognizer.recognize("a.jpg", near=(-33.9, 151.2))
    (plain,) = recognizer.recognize("a.jpg")
    assert (near.candidates[0].landmark, near.distance_km, near.position_helped) == ("Arena", 0.0, True)
    assert far.position_helped is False
    assert far.distance_km
    assert far.distance_km > 10_000
    assert far.candidates[0].landmark_id == plain.candidates[0].landmark_id
    assert (plain.distance_km, plain.position_helped) == (None, None)


@pytest.mark.parametrize(
    ("near", "text"),
    [
        ("paris", "near = `paris` · give exif, none"),
        ((91.0, 0.0), "outside the Earth"),
        ((float("nan"), 0.0), "outside the Earth"),
        ([PARIS], "fewer positions than there are photos"),
        ([PARIS, (151.2, -33.9)], "outside the Earth"),
        ([PARIS, "rome"], "give a latitude and a longitude"),
        ([PARIS, 7], "give a latitude and a longitude"),
    ],
)
def test_what_is_no_position_is_refused(near: Any, text: str, open_recognizer: Callable[..., Recognizer]) -> None:
    with pytest.raises(UsageError, match=text):
        list(open_recognizer().recognize(["a.jpg", "b.jpg"], near=near))
