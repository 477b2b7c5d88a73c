"""``recognize --near`` and ``gallery add --at``: positions as people type them and as photos state them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from obelisk.cli.gallery import gallery_app
from obelisk.cli.recognize import recognize_command
from obelisk.errors import UsageError
from obelisk.gallery import Gallery

app = typer.Typer()
app.command("recognize")(recognize_command)
app.add_typer(gallery_app)

DOME = (230, 60, 60)
VIENNA = {1: "N", 2: (48, 12, 30), 3: "E", 4: (16, 22, 12)}  # 48.2083, 16.37


def obelisk(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def stamp(path: Path, fields: dict[int, object]) -> Path:
    """Save a photo again, as a JPEG that states a position."""
    exif = Image.Exif()
    exif.get_ifd(0x8825).update(fields)
    exif[0x8825] = exif.get_ifd(0x8825)
    Image.open(path).save(path.with_suffix(".jpg"), exif=exif)
    path.unlink()
    return path.with_suffix(".jpg")


@pytest.fixture
def city(tmp_path: Path, places: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gallery of folders, of which the dome's photos say where it is."""
    for photo in sorted((places / "Dome").glob("*.png")):
        stamp(photo, VIENNA)
    monkeypatch.chdir(tmp_path)
    assert obelisk("gallery", "build", "city", "--data", places, "--model", run_folder).exit_code == 0
    return tmp_path / "city"


def recognize(photo: Path, *words: str) -> dict[str, object]:
    asked = obelisk("recognize", photo, "--gallery", "city", "--json", *words)
    assert asked.exit_code == 0, asked.exception
    return json.loads(asked.stdout)


def test_a_position_is_given_or_read_and_named_by_the_answer(city: Path, photograph, tmp_path: Path) -> None:
    photograph(tmp_path / "d.png", DOME, 70)
    photo = stamp(tmp_path / "d.png", {**VIENNA, 2: (48, 30, 0)})
    plain = recognize(photo)
    assert (plain["landmark"], plain["distance_km"], plain["position_helped"]) == ("Dome", None, None)
    assert recognize(photo, "--near", "none") == plain
    by_exif, given = recognize(photo, "--near", "exif"), recognize(photo, "--near", "48.5,16.37")
    assert by_exif == given
    assert given["distance_km"] == pytest.approx(32.4, abs=0.1)
    southern = recognize(photo, "--near", "-33.8568,151.2153")
    assert (southern["landmark"], southern["position_helped"]) == ("Dome", False)
    line = obelisk("recognize", photo, "--gallery", "city", "--near", "48.2083,16.37").stdout
    assert " · 0.0 km from the camera" in line


@pytest.mark.parametrize("fields", [{1: "S"}, {2: (0, 0, 0), 4: (0, 0, 0)}, {2: (91, 0, 0)}])
def test_a_position_that_is_none_is_told_once(
    fields: dict[int, object], city: Path, photograph, tmp_path: Path
) -> None:
    photograph(tmp_path / "d.png", DOME, 70)
    sound = fields == {1: "S"}
    photo = stamp(tmp_path / "d.png", {**VIENNA, **fields})
    asked = obelisk("recognize", photo, "--gallery", "city", "--near", "exif", "--json")
    assert (json.loads(asked.stdout)["distance_km"] is not None) == sound
    assert ("the GPS position of 1 photo can't be used; the first is" in asked.stderr) == (not sound)


@pytest.mark.parametrize("near", ["vienna", "48,2083,16,37", "151.2153,-33.8568", "91,0", "", "nan,0"])
def test_near_refuses_what_is_no_position(near: str, city: Path) -> None:
    asked = obelisk("recognize", "d.png", "--gallery", "city", "--near", near)
    assert isinstance(asked.exception, UsageError)
    assert asked.stdout == ""


def test_folders_take_the_median_position_of_their_photos(city: Path) -> None:
    dome, *others = Gallery.open(city).landmarks
    assert (dome.latitude, dome.longitude) == pytest.approx((48.20833, 16.37))
    assert [one.latitude for one in others] == [None, None]


def test_photos_far_from_the_others_and_positions_of_no_use_are_told(
    places: Path, run_folder: Path, tmp_path: Path
) -> None:
    photos = sorted((places / "Dome").glob("*.png"))
    for photo, change in zip(photos, ({}, {}, {2: (41, 53, 0), 4: (12, 29, 0)}), strict=True):
        stamp(photo, {**VIENNA, **change})
    stamp(next((places / "塔").glob("*.png")), {**VIENNA, 1: ""})
    built = obelisk("gallery", "build", tmp_path / "city", "--data", places, "--model", run_folder)
    assert built.exit_code == 0
    assert "2.jpg: taken 766 km from most photos of its landmark" in built.stderr
    assert "the GPS position of 1 photo can't be used; the first is" in built.stderr
    assert "lacks a hemisphere" in built.stderr
    dome = Gallery.open(tmp_path / "city").landmarks[0]
    assert (dome.latitude, dome.longitude) == pytest.approx((48.20833, 16.37), abs=1e-5)


def position_of(gallery: Path, name: str) -> tuple[float | None, float | None]:
    (found,) = [one for one in Gallery.open(gallery).landmarks if one.name == name]
    return found.latitude, found.longitude


def test_add_sets_where_a_landmark_is(city: Path, places: Path, photograph, tmp_path: Path) -> None:
    photograph(tmp_path / "gate.png", (20, 20, 20), 5)
    added = obelisk("gallery", "add", city, tmp_path / "gate.png", "--landmark", "Gate", "--at", "-33.8568,151.2153")
    assert added.exit_code == 0
    assert position_of(city, "Gate") == (-33.8568, 151.2153)
    known = next((places / "Dome").glob("*.jpg"))
    assert obelisk("gallery", "add", city, known, "--landmark", "Dome", "--at", "48.2,16.4").exit_code == 0
    assert position_of(city, "Dome") == (48.2, 16.4)
    assert obelisk("gallery", "build", city, "--data", places).exit_code == 0
    assert position_of(city, "Dome") == (48.2, 16.4)  # the position that was given stays
    listed = obelisk("gallery", "info", city, "--landmarks").stdout
    assert "48.2" in listed
    assert "-33.8568" in listed


def test_added_photos_say_where_a_landmark_is_that_has_no_position(city: Path, photograph, tmp_path: Path) -> None:
    photograph(tmp_path / "gate.png", (20, 20, 20), 5)
    obelisk("gallery", "add", city, stamp(tmp_path / "gate.png", VIENNA), "--landmark", "Gate")
    assert position_of(city, "Gate") == pytest.approx((48.20833, 16.37), abs=1e-5)


@pytest.mark.parametrize("at", ["vienna", "151.2153,-33.8568", "48,2083,16,37"])
def test_add_refuses_what_is_no_position(at: str, city: Path, places: Path) -> None:
    photo = next((places / "Dome").glob("*.jpg"))
    added = obelisk("gallery", "add", city, photo, "--landmark", "Dome", "--at", at)
    assert isinstance(added.exception, UsageError)
    assert position_of(city, "Dome") == pytest.approx((48.20833, 16.37), abs=1e-5)
