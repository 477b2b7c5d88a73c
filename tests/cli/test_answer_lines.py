"""Answers as people read them: lines that no name breaks, and a count that fits the terminal."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from obelisk.cli.answer_lines import AnswerLines, describe_in_detail
from obelisk.records import Candidate, Recognition, Verdict

LINKS = ("https://commons.wikimedia.org/wiki/Category:Eiffel_Tower", "https://en.wikipedia.org/wiki/Eiffel_Tower")


def make_answer(
    verdict: Verdict = "sure",
    *,
    photo: str = "IMG_1.jpg",
    name: str = "Eiffel Tower",
    landmark_id: int = 7,
    confidence: float = 0.97,
    gallery: str = "bundled",
    links: tuple[str, ...] = LINKS,
    threshold: float = 0.83,
) -> Recognition:
    where = {"latitude": 48.858262, "longitude": 2.294495}
    sure = verdict == "sure"
    return Recognition(
        photo=photo,
        landmark=name if sure else None,
        landmark_id=landmark_id if sure else None,
        verdict=verdict,
        confidence=confidence,
        candidates=(Candidate(landmark=name, landmark_id=landmark_id, score=0.7, gallery=gallery, **where),),
        links=links,
        threshold=threshold,
        **where,
    )


def print_lines(answers: list[Recognition], capsys: pytest.CaptureFixture[str], *, summary: bool = False) -> list[str]:
    lines = AnswerLines(details=False, summary=summary)
    for answer in answers:
        lines.show(answer)
    lines.close()
    return capsys.readouterr().out.splitlines()


def test_each_verdict_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    answers = [
        make_answer(),
        make_answer("probable", confidence=0.79),
        make_answer("unknown", photo="a.jpg", confidence=0.131),
        make_answer(photo="塔.jpg", confidence=0.9997, links=()),
        Recognition.failed("gone.jpg", "no such photo"),
        make_answer("probable", photo="x" * 50, confidence=0.71, links=()),
        make_answer(photo="b.jpg", links=("http://example.org/tower",)),
    ]
    assert print_lines(answers, capsys) == [
        "IMG_1.jpg  Eiffel Tower · 97 % · 48.8583, 2.2945 · commons.wikimedia.org/wiki/Category:Eiffel_Tower",
        "IMG_1.jpg  probably Eiffel Tower, 79 % · 48.8583, 2.2945 · commons.wikimedia.org/wiki/Category:Eiffel_Tower",
        "a.jpg      not a landmark I know (nearest: Eiffel Tower, 13 %)",
        "塔.jpg     Eiffel Tower · >99 % · 48.8583, 2.2945",
        f"{'x' * 50}  probably Eiffel Tower, 71 % · 48.8583, 2.2945",
        f"{'b.jpg':40}  Eiffel Tower · 97 % · 48.8583, 2.2945 · example.org/tower",
        "",
        "7 photos: 3 named, 2 probable, 1 unknown, 1 failed",
        "named  probable  landmark",
        "    3         2  Eiffel Tower",
    ]


def test_landmarks_are_counted_by_gallery_and_id(capsys: pytest.CaptureFixture[str]) -> None:
    answers = [
        *[make_answer(name="Gate", landmark_id=landmark_id) for landmark_id in (9, 12, 12)],
        make_answer(name="Gate", landmark_id=9, gallery="city"),
        make_answer("probable", name="Arch", landmark_id=1, confidence=0.6),
        make_answer("unknown", name="Dome", landmark_id=2, confidence=0.1),
    ]
    assert print_lines(answers, capsys, summary=True) == [
        "6 photos: 4 named, 1 probable, 1 unknown",
        "named  probable  landmark  gallery",
        "    2         0  Gate      bundled",
        "    1         0  Gate      bundled",
        "    1         0  Gate      city",
        "    0         1  Arch      bundled",
    ]


@pytest.mark.parametrize(
    "name", ["two\nlines", "red \x1b[31m", "\x9b2J", "\u202egnp.exe", "mark\u200f", "\u2066x", "a\rb", "\u2028"]
)
def test_no_name_breaks_a_line(capsys: pytest.CaptureFixture[str], name: str) -> None:
    answer = make_answer(photo=f"{name}.jpg", name=name, links=(f"https://example.org/{name}",))
    line, *count = print_lines([answer, make_answer(photo="b.jpg", name="B", landmark_id=2)], capsys)
    assert line.isprintable()
    escape = next(f"\\u{ord(character):04x}" for character in name if not character.isprintable())
    assert line.count(escape) == 3
    assert escape in count[-1] + count[-2]


def test_the_count_fits_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [make_answer(name=f"L{n:02}", landmark_id=n) for n in range(40) for _ in range(40 - n)]
    answers += [make_answer("probable", name="L39", landmark_id=39, confidence=0.6)]
    piped = print_lines(answers, capsys, summary=True)
    assert len(piped) == 42
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_: os.terminal_size((80, 24)))
    shown = [line.rstrip() for line in print_lines(answers, capsys, summary=True)]
    assert shown[:-1] == piped[:20]
    assert shown[-1] == f"and 22 more landmarks: {sum(range(1, 23))} named, 1 probable"


def test_a_confidence_just_below_the_threshold_is_told_from_it() -> None:
    (first, *_) = describe_in_detail(make_answer("probable", confidence=0.829_999_96, threshold=0.83))
    assert first == "IMG_1.jpg: probably Eiffel Tower (confidence 0.82999996, below the threshold 0.83000000)"
    (first, *_) = describe_in_detail(make_answer("unknown", confidence=0.000_01))
    assert first == "IMG_1.jpg: not a landmark I know (confidence <0.0001, below the threshold 0.8300)"
    first, candidate = describe_in_detail(make_answer(confidence=0.999_99))
    assert first == "IMG_1.jpg: Eiffel Tower (confidence >0.9999)"
    assert candidate == f"    1. Eiffel Tower  score 0.7000  48.8583, 2.2945  {LINKS[0]}  {LINKS[1]}"


def test_a_long_name_stays_in_one_row_of_the_count(capsys: pytest.CaptureFixture[str]) -> None:
    lines = print_lines([make_answer(name="tower " * 100)], capsys, summary=True)
    assert lines == ["1 photo: 1 named", "named  landmark", f"    1  {'tower ' * 100}".rstrip()]
