"""Answers in words: what is claimed of a photo, and numbers that rounding leaves true."""

from __future__ import annotations

import doctest
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obelisk.records import Candidate, Recognition, Verdict
from obelisk.wording import describe_confidence, describe_verdict, format_confidence, format_decimal


def make_answer(verdict: Verdict, *, confidence: float = 0.79, score: float = 0.6) -> Recognition:
    sure = verdict == "sure"
    return Recognition(
        photo="a.jpg",
        landmark="Eiffel Tower" if sure else None,
        landmark_id=7 if sure else None,
        verdict=verdict,
        confidence=confidence,
        candidates=(Candidate(landmark="Eiffel Tower", landmark_id=7, score=score),),
    )


@pytest.mark.parametrize(
    ("verdict", "words", "with_another_name"),
    [
        ("sure", "Eiffel Tower", "landmark 7"),
        ("probable", "probably Eiffel Tower", "probably landmark 7"),
        ("unknown", "not a landmark I know", "not a landmark I know"),
    ],
)
def test_the_words_of_a_verdict(verdict: Verdict, words: str, with_another_name: str) -> None:
    assert describe_verdict(make_answer(verdict)) == words
    assert describe_verdict(make_answer(verdict), "landmark 7") == with_another_name


def test_a_photo_that_failed_is_no_landmark_that_is_known() -> None:
    assert describe_verdict(Recognition.failed("a.jpg", "gone")) == "not a landmark I know"


def test_only_a_probability_is_given_in_percent() -> None:
    assert describe_confidence(make_answer("sure")) == "79 %"
    assert describe_confidence(make_answer("sure", score=0.79)) == "score 0.79"
    assert describe_confidence(make_answer("sure", confidence=0.9997, score=0.9997)) == "score >0.99"


@given(st.floats(0, 1))
def test_no_confidence_is_certain(confidence: float) -> None:
    written = format_confidence(confidence)
    assert written not in ("0 %", "100 %")
    number = float(written.strip("<> %"))
    assert abs(number - 100 * confidence) <= (1.0 if written[0] in "<>" else 0.5 + 1e-9)


@given(st.floats(-1, 1), st.integers(1, 5))
def test_decimals_reach_1_and_0_only_where_the_number_does(value: float, digits: int) -> None:
    written = format_decimal(value, digits)
    number = float(written.strip("<>"))
    assert abs(number - value) <= 10**-digits
    if value >= 0:
        assert (number in (0.0, 1.0)) == (value in (0.0, 1.0))
        assert {"<": value < number, ">": value > number}.get(written[0], True)


def test_the_examples_hold() -> None:
    results = doctest.testmod(sys.modules["obelisk.wording"])
    assert results.attempted >= 4
    assert results.failed == 0
