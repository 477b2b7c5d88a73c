"""Answers as notebooks show them: pictures inside, every name escaped, no more than they need."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from obelisk.records import Candidate, Neighbor, Recognition

EVIL = "<img src=x onerror=alert(1)>\"'\n\u202eabc" + 500 * "塔"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def answer(photo: Path) -> Recognition:
    near = [Neighbor(id="1", landmark=EVIL, landmark_id=1, similarity=0.5, source=str(photo)) for _ in range(40)]
    return Recognition(
        photo=str(photo),
        landmark=EVIL,
        landmark_id=1,
        verdict="sure",
        confidence=0.9997,
        latitude=48.85826,
        longitude=2.2945,
        links=("https://en.wikipedia.org/wiki/Dome", "javascript:alert(1)"),
        candidates=tuple(Candidate(landmark=EVIL, landmark_id=n, score=n / 50) for n in range(50)),
        neighbours=tuple(near),
    )


def test_a_card_shows_the_photo_the_answer_its_facts_and_the_reference_photos(answer: Recognition) -> None:
    card = answer._repr_html_()
    assert card.count('<img src="data:image/jpeg;base64,') == 6
    assert "&gt;99 %" in card
    assert "48.8583, 2.2945" in card
    assert 'href="https://en.wikipedia.org/wiki/Dome"' in card
    assert "width:8.0%" in card  # the bar of the score 4/50
    assert len(card) < 150_000


def test_nothing_in_a_card_runs_or_loads_anything(answer: Recognition) -> None:
    card = replace(answer, photo=EVIL, error=None, warning=EVIL)._repr_html_()
    tags = {tag.lower() for tag in re.findall(r"<\s*/?\s*([a-zA-Z]+)", card)}
    assert tags <= {"div", "span", "img", "bdi", "a"}
    assert "javascript:" not in card
    assert "<img src=x" not in card
    assert "\u202e" not in card
    assert {address[:11] for address in re.findall(r'src="([^"]*)"', card)} == {"data:image/"}


def test_without_files_a_card_has_links_or_says_so(answer: Recognition) -> None:
    near = (
        Neighbor(id="1", landmark="Dome", landmark_id=1, similarity=0.5, source="https://x.org/1.jpg", author="A<b>"),
        Neighbor(id="2", landmark="Dome", landmark_id=1, similarity=0.4),
    )
    card = replace(answer, photo="photo 3", neighbours=near)._repr_html_()
    assert "<img" not in card
    assert 'href="https://x.org/1.jpg"' in card
    assert "A&lt;b&gt;" in card
    assert "no picture at hand" in card


@pytest.mark.parametrize(("verdict", "words"), [("probable", "probably Dome"), ("unknown", "not a landmark I know")])
def test_a_rejected_photo_is_said_to_be_one(answer: Recognition, verdict: str, words: str) -> None:
    first = (Candidate(landmark="Dome", landmark_id=1, score=0.4),)
    rejected = replace(answer, landmark=None, landmark_id=None, verdict=verdict, candidates=first)
    assert words in rejected._repr_html_()
    assert ("48.8583" in rejected._repr_html_()) == (verdict == "probable")


def test_a_photo_that_could_not_be_read_shows_why() -> None:
    card = Recognition.failed("gone.jpg", "no such photo · gone.jpg")._repr_html_()
    assert "not answered" in card
    assert "no such photo · gone.jpg" in card
