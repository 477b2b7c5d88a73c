"""The records that cross rooms, and the JSON that scripts depend on."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import obelisk
from obelisk.records import Candidate, Neighbor, Recognition

IDS = st.integers(0, 2**40)
SHARES = st.floats(0, 1)
# Names of files that are not UTF-8 reach Python as lone surrogates.
TEXTS = st.text(st.characters(), max_size=20)

DEGREES = st.none() | st.floats(-90, 90)
CANDIDATES = st.builds(
    Candidate,
    landmark=TEXTS,
    landmark_id=IDS,
    score=SHARES,
    latitude=DEGREES,
    longitude=DEGREES,
    gallery=st.none() | TEXTS,
)
NEIGHBOURS = st.builds(
    Neighbor,
    id=TEXTS,
    landmark=TEXTS,
    landmark_id=IDS,
    similarity=st.floats(-1, 1),
    source=st.none() | TEXTS,
    gallery=st.none() | TEXTS,
    author=st.none() | TEXTS,
    licence=st.none() | TEXTS,
)
RECOGNITIONS = st.builds(
    Recognition,
    photo=TEXTS,
    landmark=st.none() | TEXTS,
    landmark_id=st.none() | IDS,
    verdict=st.sampled_from(["sure", "probable", "unknown"]),
    confidence=SHARES,
    latitude=DEGREES,
    longitude=DEGREES,
    links=st.lists(TEXTS, max_size=2).map(tuple),
    candidates=st.lists(CANDIDATES, max_size=4).map(tuple),
    neighbours=st.lists(NEIGHBOURS, max_size=4).map(tuple),
    threshold=st.none() | SHARES,
    model=st.none() | TEXTS,
    error=st.none() | TEXTS,
)

# A line of a version that wrote no verdicts, positions, links and sources.
FORMER_LINE = (
    '{"photo": "a.jpg", "landmark": "Dome", "landmark_id": 7, "confidence": 0.9, '
    '"candidates": [{"landmark": "Dome", "landmark_id": 7, "score": 0.8}], '
    '"neighbours": [{"id": "0a1b", "landmark": "Dome", "landmark_id": 7, "similarity": 0.875, "distance": 0.5}], '
    '"warning": null, "error": null}'
)


def test_the_line_of_recognize_json() -> None:
    answer = Recognition(
        photo="photos/näh.jpg",
        landmark="Space Needle",
        landmark_id=108502,
        verdict="sure",
        confidence=0.97,
        latitude=47.6204,
        longitude=-122.3491,
        links=("https://commons.wikimedia.org/wiki/Category:Space_Needle",),
        candidates=(
            Candidate(
                landmark="Space Needle",
                landmark_id=108502,
                score=0.97,
                latitude=47.6204,
                longitude=-122.3491,
                gallery="bundled",
            ),
        ),
        neighbours=(
            Neighbor(
                id="0a1b",
                landmark="Space Needle",
                landmark_id=108502,
                similarity=0.875,
                source="https://commons.wikimedia.org/wiki/File:Needle.jpg",
                gallery="bundled",
            ),
        ),
        threshold=0.83,
        model="bundled@8356872aa6ac",
    )
    assert answer.to_json() == (
        '{"photo": "photos/näh.jpg", "landmark": "Space Needle", "landmark_id": 108502, "verdict": "sure", '
        '"confidence": 0.97, "latitude": 47.6204, "longitude": -122.3491, '
        '"links": ["https://commons.wikimedia.org/wiki/Category:Space_Needle"], '
        '"candidates": [{"landmark": "Space Needle", "landmark_id": 108502, "score": 0.97, '
        '"latitude": 47.6204, "longitude": -122.3491, "gallery": "bundled"}], '
        '"neighbours": [{"id": "0a1b", "landmark": "Space Needle", "landmark_id": 108502, '
        '"similarity": 0.875, "distance": 0.5, "source": "https://commons.wikimedia.org/wiki/File:Needle.jpg", '
        '"gallery": "bundled"}], "threshold": 0.83, "model": "bundled@8356872aa6ac", "distance_km": null, '
        '"position_helped": null, "warning": null, "error": null}'
    )
    assert answer.to_dict() == json.loads(answer.to_json())


def test_the_line_of_a_photo_that_failed() -> None:
    assert Recognition.failed("bad.jpg", "empty file · bad.jpg").to_json() == (
        '{"photo": "bad.jpg", "landmark": null, "landmark_id": null, "verdict": "unknown", "confidence": 0.0, '
        '"latitude": null, "longitude": null, "links": [], "candidates": [], "neighbours": [], '
        '"threshold": null, "model": null, "distance_km": null, "position_helped": null, "warning": null, '
        '"error": "empty file · bad.jpg"}'
    )


def test_a_line_of_an_earlier_version_is_read() -> None:
    answer = Recognition.from_json(FORMER_LINE)
    assert answer == Recognition(
        photo="a.jpg",
        landmark="Dome",
        landmark_id=7,
        verdict="sure",
        confidence=0.9,
        candidates=(Candidate(landmark="Dome", landmark_id=7, score=0.8),),
        neighbours=(Neighbor(id="0a1b", landmark="Dome", landmark_id=7, similarity=0.875),),
    )
    rejected = FORMER_LINE.replace('"landmark": "Dome", "landmark_id": 7', '"landmark": null, "landmark_id": null', 1)
    assert Recognition.from_json(rejected).verdict == "unknown"


@given(RECOGNITIONS)
def test_an_answer_is_read_back_as_it_was_written(answer: Recognition) -> None:
    line = answer.to_json()
    assert Recognition.from_json(line) == answer
    assert "\n" not in line


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4), st.lists(st.floats(-1, 1), min_size=4, max_size=4))
def test_the_distance_is_that_of_the_unit_rows(a: list[float], b: list[float]) -> None:
    rows = np.array([a, b])
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if lengths.min() < 1e-6:
        rows, lengths = np.eye(4)[:2], np.ones((2, 1))
    p, q = rows / lengths
    near = Neighbor(id="", landmark="", landmark_id=0, similarity=float(p @ q))
    assert near.distance == pytest.approx(np.linalg.norm(p - q), abs=1e-7)


@pytest.mark.parametrize(
    ("similarity", "distance"),
    [
        pytest.param(1.0, 0.0, id="the same photo"),
        pytest.param(1.0000001, 0.0, id="above 1 by rounding"),
        pytest.param(0.5, 1.0, id="sixty degrees"),
        pytest.param(-1.0, 2.0, id="opposite"),
    ],
)
def test_distances_at_the_ends_of_the_range(similarity: float, distance: float) -> None:
    assert Neighbor(id="", landmark="", landmark_id=0, similarity=similarity).distance == distance


def test_a_line_without_a_field_of_the_contract_is_refused() -> None:
    fields = json.loads(Recognition.failed("a.jpg", "gone").to_json())
    del fields["confidence"]
    with pytest.raises(TypeError, match="confidence"):
        Recognition.from_json(json.dumps(fields))


def test_records_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recognition.failed("a.jpg", "gone").confidence = 1.0


def test_the_former_spelling_of_a_neighbour_still_imports() -> None:
    assert obelisk.Neighbour is Neighbor
    assert "Neighbour" not in obelisk.__all__


def test_a_line_from_before_warnings_is_read() -> None:
    answer = Recognition.failed("bad.jpg", "empty file · bad.jpg")
    line = answer.to_json().replace('"warning": null, ', "")
    assert Recognition.from_json(line) == answer
