"""``obelisk landmarks``: what a gallery knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from obelisk.gallery import Gallery, Landmark


@pytest.fixture
def city(tmp_path: Path, places: Path, run_folder: Path, obelisk: Any) -> Path:
    """A gallery of three landmarks, one of which has a position and a link."""
    obelisk("gallery", "build", tmp_path / "city", "--data", places, "--model", run_folder)
    gallery = Gallery.open(tmp_path / "city")
    dome = next(landmark for landmark in gallery.landmarks if landmark.name == "Dome")
    links = ("https://commons.wikimedia.org/wiki/Category:Dome",)
    located = Landmark(id=dome.id, name="Dome", latitude=41.9022, longitude=12.4533, links=links)
    gallery.add(gallery.references().rows([0]), [located], ["one more"])
    return tmp_path / "city"


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("dome", ["Dome"]),
        ("TORRE", ["Tôrre de Belém"]),  # neither capitals nor accents make a difference
        ("belem torre", ["Tôrre de Belém"]),  # every word, in any order
        ("塔", ["塔"]),
        ("", ["Dome", "Tôrre de Belém", "塔"]),
        ("castle", []),
    ],
)
def test_finds_landmarks_by_words_of_their_names(city: Path, obelisk: Any, search: str, found: list[str]) -> None:
    code, out, _ = obelisk("landmarks", "--gallery", city, "--search", search, "--json")
    assert (code, [json.loads(line)["landmark"] for line in out.splitlines()]) == (0, found)


def test_json_has_the_keys_of_answers(city: Path, obelisk: Any) -> None:
    _, out, err = obelisk("landmarks", "--gallery", city, "--search", "Dome", "--json")
    assert json.loads(out) == {
        "landmark": "Dome",
        "landmark_id": 1,
        "id": 1,
        "name": "Dome",
        "photos": 4,
        "latitude": 41.9022,
        "longitude": 12.4533,
        "links": ["https://commons.wikimedia.org/wiki/Category:Dome"],
        "origins": [],
        "gallery": str(city),
    }
    assert out in obelisk("gallery", "info", city, "--landmarks", "--json")[1], "both lists have the same rows"
    assert err == "1 of 3 landmarks\n"


def test_the_table_shows_position_and_link(city: Path, obelisk: Any) -> None:
    _, out, _ = obelisk("landmarks", "--gallery", city)
    header, first, *_ = out.splitlines()
    assert header.split() == ["landmark", "id", "photos", "position", "link"]
    assert first.split() == [
        "Dome",
        "1",
        "4",
        "41.9022,",
        "12.4533",
        "https://commons.wikimedia.org/wiki/Category:Dome",
    ]


def test_a_near_name_is_named_where_nothing_is_found(city: Path, obelisk: Any) -> None:
    assert obelisk("landmarks", "--gallery", city, "--search", "Dume") == (
        0,
        "",
        "no landmark is called `Dume` · did you mean `Dome`?\n",
    )


def test_several_galleries_are_listed_together(city: Path, obelisk: Any) -> None:
    _, out, _ = obelisk("landmarks", "--search", "dome", "--gallery", city, "--gallery", "bundled")
    assert [line.split()[-1] for line in out.splitlines()] == [
        "gallery",
        str(city),
        *["bundled"] * (out.count("bundled")),
    ]
    assert "bundled" in out
