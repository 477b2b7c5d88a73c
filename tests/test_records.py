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

CANDIDATES = st.builds(Candidate, landmark=TEXTS, landmark_id=IDS, score=SHARES)
NEIGHBOURS = st.builds(Neighbor, id=TEXTS, landmark=TEXTS, landmark_id=IDS, similarity=st.floats(-1, 1))
RECOGNITIONS = st.builds(
    Recognition,
    photo=TEXTS,
    landmark=st.none() | TEXTS,
    landmark_id=st.none() | IDS,
    confidence=SHARES,
    candidates=st.lists(CANDIDATES, max_size=4).map(tuple),
    neighbours=st.lists(NEIGHBOURS, max_size=4).map(tuple),
    error=st.none() | TEXTS,
)


def test_the_line_of_recognize_json() -> None:
    answer = Recognition(
        photo="photos/näh.jpg",
        landmark="Space Needle",
        landmark_id=108502,
        confidence=0.97,
        candidates=(Candidate(landmark="Space Needle", landmark_id=108502, score=0.97),),
        neighbours=(Neighbor(id="0a1b", landmark="Space Needle", landmark_id=108502, similarity=0.875),),
    )
    assert answer.to_json() == (
        '{"photo": "photos/näh.jpg", "landmark": "Space Needle", "landmark_id": 108502, "confidence": 0.97, '
        '"candidates": [{"landmark": "Space Needle", "landmark_id": 108502, "score": 0.97}], '
        '"neighbours": [{"id": "0a1b", "landmark": "Space Needle", "landmark_id": 108502, '
        '"similarity": 0.875, "distance": 0.5}], "warning": null, "error": null}'
    )


def test_the_line_of_a_photo_that_failed() -> None:
    assert Recognition.failed("bad.jpg", "empty file · bad.jpg").to_json() == (
        '{"photo": "bad.jpg", "landmark": null, "landmark_id": null, "confidence": 0.0, '
        '"candidates": [], "neighbours": [], "warning": null, "error": "empty file · bad.jpg"}'
    )


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
