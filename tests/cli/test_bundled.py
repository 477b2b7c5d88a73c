"""The gallery and the model that come with the package: found without a word, and never written to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from obelisk import bundled
from obelisk.cli.gallery import gallery_app
from obelisk.cli.recognize import recognize_command
from obelisk.errors import GalleryError, UsageError
from obelisk.gallery import Gallery, database
from obelisk.recognition import Recognizer

app = typer.Typer()
app.command("recognize")(recognize_command)
app.add_typer(gallery_app)

DOME = (230, 60, 60)


def obelisk(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.fixture
def shipped(tmp_path: Path, places: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small gallery in the place of the one that comes with the package."""
    folder = tmp_path / "site-packages" / "gallery"
    obelisk("gallery", "build", folder, "--data", places, "--model", run_folder)
    monkeypatch.setattr(bundled, "GALLERY", folder)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def none_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "GALLERY", tmp_path / "gone")
    monkeypatch.chdir(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_without_a_gallery_the_bundled_one_recognises(shipped: Path, photograph: Any) -> None:
    photograph(Path("d.png"), DOME, 70)
    before = contents(shipped)
    printed = obelisk("recognize", "d.png", "--json")
    assert (printed.exit_code, json.loads(printed.stdout)["landmark"]) == (0, "Dome")
    assert contents(shipped) == before


def test_without_a_model_a_gallery_is_built_with_the_bundled_one(shipped: Path, places: Path) -> None:
    built = obelisk("gallery", "build", "city", "--data", places)
    assert built.exit_code == 0
    assert Gallery.open("city").fingerprint == Gallery.open(shipped).fingerprint


def test_without_a_model_a_gallery_that_is_there_keeps_its_own(shipped: Path, places: Path, other_bundle: Path) -> None:
    obelisk("gallery", "build", "city", "--data", places, "--model", other_bundle)
    again = obelisk("gallery", "build", "city", "--data", places)
    assert again.exit_code == 0
    assert "9 unchanged" in again.stdout
    assert Gallery.open("city").model == "other"


def test_the_bundled_gallery_is_not_written_to(shipped: Path) -> None:
    before = contents(shipped)
    with pytest.raises(GalleryError, match="cannot be written to"):
        Gallery.open(shipped).remove(landmarks=[1])
    assert contents(shipped) == before


def test_the_word_bundled_names_it_wherever_a_gallery_is_named(shipped: Path, photograph: Any) -> None:
    photograph(Path("d.png"), DOME, 70)
    assert json.loads(obelisk("recognize", "d.png", "--json", "--gallery", "bundled").stdout)["landmark"] == "Dome"
    assert json.loads(obelisk("gallery", "info", "bundled", "--json").stdout)["gallery"] == str(shipped)
    assert obelisk("gallery", "check", "bundled").stdout == "bundled: sound, 9 photos of 3 landmarks\n"
    assert (Gallery.open("bundled").name, Recognizer.open().gallery.path) == ("bundled", shipped)


def test_a_folder_called_bundled_is_reached_by_its_path(shipped: Path, places: Path, photograph: Any) -> None:
    (places / "Dome").rename(places / "Cupola")
    built = obelisk("gallery", "build", "./bundled", "--data", places, "--model", "bundled")
    assert built.exit_code == 0
    photograph(Path("d.png"), DOME, 70)
    named = obelisk("recognize", "d.png", "--json", "--gallery", "./bundled")
    assert json.loads(named.stdout)["landmark"] == "Cupola"
    assert Gallery.open(Path("bundled")).path == Path("bundled")


@pytest.mark.parametrize(
    "words",
    [
        ("build", "bundled", "--data", "places"),
        ("add", "bundled", "places", "--landmark", "Dome"),
        ("remove", "bundled", "--landmark", "Dome"),
        ("rename", "bundled", "Dome", "--into", "Cupola"),
        ("merge", "bundled", "Dome", "塔", "--into", "Dome"),
    ],
    ids=lambda words: words[0],
)
def test_a_change_of_the_bundled_gallery_says_how_to_get_ones_own(shipped: Path, words: tuple[str, ...]) -> None:
    before = contents(shipped)
    failed = obelisk("gallery", *words)
    assert isinstance(failed.exception, GalleryError)
    assert "gallery build MYCITY" in failed.exception.fix
    assert "gallery export bundled FILE" in failed.exception.fix
    assert contents(shipped) == before


def test_reading_the_bundled_gallery_leaves_no_file_beside_it(shipped: Path) -> None:
    with database.reading(shipped) as connection:
        assert connection.execute("SELECT count(*) FROM photos").fetchone() == (9,)
        assert {path.name for path in shipped.iterdir()} == {"gallery.sqlite", "model"}


@pytest.mark.usefixtures("none_shipped")
@pytest.mark.parametrize("words", [("recognize", "d.png"), ("gallery", "build", "city", "--data", "places")])
def test_a_package_without_a_gallery_says_what_to_name(words: tuple[str, ...], photograph: Any) -> None:
    photograph(Path("d.png"), DOME, 71)
    failed = obelisk(*words)
    assert isinstance(failed.exception, UsageError)
    assert "has no bundled gallery" in str(failed.exception)
    assert "recognize --gallery G" in str(failed.exception)


def test_the_lookup_knows_its_folder_by_any_path(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(bundled.GALLERY.parent)
    assert bundled.is_bundled(tmp_path / "link" / "gallery")
    assert not bundled.is_bundled(tmp_path)


def test_the_bundled_gallery_shows_its_threshold() -> None:
    facts = json.loads(obelisk("gallery", "info", bundled.GALLERY, "--json").stdout)
    assert 0.5 < facts["threshold"] < 1


def test_every_landmark_of_the_bundled_gallery_has_a_position_and_a_link() -> None:
    landmarks = Gallery.open(bundled.GALLERY).landmarks
    assert len(landmarks) == 228
    assert [one.name for one in landmarks if one.latitude is None or one.longitude is None] == []
    assert [one.name for one in landmarks if not one.links or not one.links[0].startswith("https://commons.")] == []
