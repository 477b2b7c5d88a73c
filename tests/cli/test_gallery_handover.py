"""``obelisk gallery export`` and ``import``: what they print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from obelisk.gallery import Gallery


@pytest.fixture
def city(tmp_path: Path, places: Path, run_folder: Path, obelisk: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    obelisk("gallery", "build", "city", "--data", places, "--model", run_folder)
    return Path("city")


def test_a_gallery_is_handed_on_with_a_note(city: Path, obelisk: Any) -> None:
    handed = "9 photos of 3 landmarks; model `colors` (MIT)"
    code, out, _ = obelisk("gallery", "export", city, "city.tar", "--note", "Made by Ann, CC0")
    assert (code, out) == (0, f"city.tar: {handed}\n")
    code, out, err = obelisk("gallery", "import", "city.tar", "mine")
    assert (code, out) == (0, f"mine: {handed}\n")
    assert "note: Made by Ann, CC0" in err
    assert Gallery.open("mine").landmarks == Gallery.open("city").landmarks


def test_photos_that_are_gone_are_counted(city: Path, places: Path, obelisk: Any) -> None:
    (places / "Dome" / "0.png").unlink()
    _, out, err = obelisk("gallery", "export", city, "city.tar", "--photos")
    assert "9 photos of 3 landmarks, with the files of 8" in out
    assert "1 of 9 photos are not at hand" in err


def test_import_over_what_is_there_is_refused(city: Path, obelisk: Any) -> None:
    obelisk("gallery", "export", city, "city.tar")
    code, _, err = obelisk("gallery", "import", "city.tar", city)
    assert (code, err) == (2, "error: this path already exists · city · choose a new folder\n")
