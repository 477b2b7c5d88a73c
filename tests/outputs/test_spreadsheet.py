"""CSV for spreadsheets: no cell is a formula, numbers stay numbers, and every text is there."""

from __future__ import annotations

import csv
import io

import polars as pl
import pytest

from obelisk.outputs import CSV_COLUMNS, csv_header, csv_line
from obelisk.records import Candidate, Recognition


def answer(photo: str = "a.jpg", landmark: str = "Dome") -> Recognition:
    return Recognition(
        photo=photo,
        landmark=None,
        landmark_id=None,
        verdict="probable",
        confidence=0.1 + 0.2,
        latitude=-33.8568,
        longitude=-0.5,
        links=("https://x.org/a", "https://x.org/b"),
        candidates=(Candidate(landmark=landmark, landmark_id=1, score=0.5),),
    )


def read(line: str) -> dict[str, str]:
    (found,) = csv.DictReader(io.StringIO(csv_header() + line))
    return found


@pytest.mark.parametrize("text", ["=1+1", "+49", "-x", "@SUM(A1)", "\tx", "\rx"])
def test_no_text_is_a_formula(text: str) -> None:
    found = read(csv_line(answer(text, text)))
    assert (found["photo"], found["candidate"]) == (f"'{text}", f"'{text}")


@pytest.mark.parametrize("text", ["a=b", "'quoted'", 'a "b", c;d', "two\nlines", "塔 مسجد", " =x", ""])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert read(csv_line(answer(text)))["photo"] == text


def test_numbers_are_numbers_and_what_is_missing_is_empty() -> None:
    found = read(csv_line(answer()))
    assert tuple(found) == CSV_COLUMNS
    assert float(found["confidence"]) == 0.1 + 0.2
    assert (found["latitude"], found["longitude"]) == ("-33.8568", "-0.5")
    assert (found["landmark"], found["landmark_id"], found["error"]) == ("", "", "")
    assert found["links"] == "https://x.org/a https://x.org/b"
    table = pl.read_csv(io.StringIO(csv_header() + csv_line(answer())))
    assert table["longitude"].to_list() == [-0.5]


def test_a_name_that_is_not_utf8_is_escaped() -> None:
    assert read(csv_line(answer("a\udcff.jpg")))["photo"] == r"a\udcff.jpg"
