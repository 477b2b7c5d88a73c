"""``obelisk gallery calibrate``, and the calibration that every change of a gallery renews by itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.conftest import Command, write_color_bundle

from obelisk.cli.gallery_changes import recalibrate
from obelisk.errors import GalleryError
from obelisk.gallery import Gallery
from obelisk.recognition import CALIBRATION, Evidence, fit_calibration


@pytest.fixture
def city(tmp_path: Path, places: Path, obelisk: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gallery of three landmarks, with a model whose calibration has evidence."""
    monkeypatch.setattr("obelisk.recognition.self_calibration.COPY_SIMILARITY", 0.9999)  # photos are of one color each
    rng = np.random.default_rng(0)
    right = rng.random(400) < 0.6
    scores = np.clip(np.where(right, 0.9, 0.6) + 0.1 * rng.normal(size=400), 0.01, 1.0)
    ones = np.ones(400)
    found = fit_calibration(
        Evidence(scores=scores, margins=0.1 * ones, references=ones, inliers=np.nan * ones, right=right, weights=ones)
    )
    model = write_color_bundle(tmp_path / "model", "colors", {CALIBRATION: found.to_json().encode()}).folder
    assert obelisk("gallery", "build", tmp_path / "city", "--data", places, "--model", model)[0] == 0
    return tmp_path / "city"


def threshold_of(city: Path, obelisk: Command) -> float:
    return float(json.loads(obelisk("gallery", "info", city, "--json")[1])["threshold"])


def test_a_build_and_each_change_calibrate_the_gallery(city: Path, places: Path, obelisk: Command) -> None:
    first = Gallery.open(city).own_calibration()
    assert first is not None
    assert json.loads(first)["references"] == 9
    assert obelisk("gallery", "remove", city, "--landmark", "Dome")[0] == 0
    second = json.loads(Gallery.open(city).own_calibration() or "")
    assert second["references"] == 6
    assert second["centre"] != json.loads(first)["centre"]
    # A change from Python leaves the calibration as it is; `calibrate` renews it.
    Gallery.open(city).remove(landmarks=[2])
    assert json.loads(Gallery.open(city).own_calibration() or "") == second
    rc, out, _ = obelisk("gallery", "calibrate", city)
    assert rc == 0
    assert f"landmarks are named from a confidence of {threshold_of(city, obelisk):.4f} on" in out
    assert json.loads(Gallery.open(city).own_calibration() or "")["references"] == 3


def test_strangers_are_taken_and_copies_of_references_are_named(
    city: Path, places: Path, photograph: Any, obelisk: Command, tmp_path: Path
) -> None:
    for number in range(3):
        photograph(tmp_path / "strangers" / f"{number}.png", (150, 150, 60), 70 + number)
    shutil.copy(places / "Dome" / "0.png", tmp_path / "strangers" / "own.png")
    (tmp_path / "strangers" / "bad.png").write_bytes(b"no photo")
    rc, _, err = obelisk("gallery", "calibrate", city, "--strangers", tmp_path / "strangers")
    assert rc == 0
    assert "left out: 1 of" in err
    assert "bad.png" in err
    rc, _, err = obelisk("gallery", "calibrate", city, "--strangers", tmp_path / "nothing")
    assert rc == 2


def test_strangers_that_show_a_landmark_of_the_gallery_are_named(
    city: Path, photograph: Any, obelisk: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obelisk.recognition.self_calibration.CERTAIN", 0.9)  # so few photos make nothing certain
    photograph(tmp_path / "strangers" / "dome.png", (230, 60, 60), 99)
    photograph(tmp_path / "strangers" / "other.png", (128, 128, 128), 98)
    rc, _, err = obelisk("gallery", "calibrate", city, "--strangers", tmp_path / "strangers")
    assert rc == 0
    assert "dome.png: named with confidence all the same; does it show a landmark of the gallery?" in err
    assert "other.png" not in err


def test_a_calibration_of_another_model_does_not_count(city: Path, places: Path, obelisk: Command) -> None:
    own = threshold_of(city, obelisk)
    copied = json.loads(Gallery.open(city).own_calibration() or "") | {"model": "1234", "centre": -9.0}
    (city / CALIBRATION).write_text(json.dumps(copied))
    assert threshold_of(city, obelisk) == own
    rc, _, err = obelisk("recognize", places / "Dome" / "0.png", "--gallery", city)
    assert rc == 0
    assert "was made for another model (fingerprint 1234)" in err
    assert obelisk("gallery", "calibrate", city)[0] == 0
    copied["model"] = Gallery.open(city).fingerprint
    (city / CALIBRATION).write_text(json.dumps(copied))
    assert "another model" not in obelisk("recognize", places / "Dome" / "0.png", "--gallery", city)[2]


def test_one_place_in_two_folders_is_named(city: Path, photograph: Any, obelisk: Command, tmp_path: Path) -> None:
    for number in range(3):
        photograph(tmp_path / "again" / f"{number}.png", (230, 60, 60), 90 + number)
    assert obelisk("gallery", "add", city, tmp_path / "again", "--landmark", "Dome again")[0] == 0
    for command in ("calibrate", "check"):
        rc, _, err = obelisk("gallery", command, city)
        assert rc == 0
        assert err.count("look like one place") == 1
        assert "`Dome` and `Dome again`" in err


def test_the_same_is_told_of_a_dataset(city: Path, places: Path, photograph: Any, obelisk: Command) -> None:
    for number in range(3):
        photograph(places / "Dome again" / f"{number}.png", (230, 60, 60), 90 + number)
    check = ("data", "check", places, "--look-alikes", "--model", city / "model")
    rc, out, err = obelisk(*check)
    assert rc == 0  # they may be two places
    assert "look-alike: 1" in out
    assert "looks like one place with `Dome again`" in out
    assert "1 pair of landmarks may be one place" in err
    assert "no fault found" in err
    (places / "Dome" / "copy.png").write_bytes((places / "Dome" / "0.png").read_bytes())
    rc, out, _ = obelisk(*check, "--json")
    assert rc == 1
    assert [json.loads(line)["kind"] for line in out.splitlines()] == ["duplicate", "look-alike"]
    assert json.loads(out.splitlines()[1]) == {
        "kind": "look-alike",
        "where": "Dome",
        "what": "looks like one place with `Dome again`",
        "fix": "if this is one place, give the photos of both to one landmark",
    }
    rc, _, err = obelisk("gallery", "build", city.with_name("twice"), "--data", places, "--model", city / "model")
    assert rc == 0
    assert "`Dome` and `Dome again` look like one place" in err


def test_only_a_calibrated_model_finds_look_alikes(places: Path, run_folder: Path, obelisk: Command) -> None:
    rc, _, err = obelisk("data", "check", places, "--look-alikes", "--model", run_folder)
    assert rc == 2
    assert "the model is not calibrated" in err
    rc, _, err = obelisk("data", "check", places, "--model", run_folder)
    assert rc == 2
    assert "add --look-alikes" in err


def test_what_cannot_be_calibrated_is_said(city: Path, places: Path, run_folder: Path, obelisk: Command) -> None:
    assert obelisk("gallery", "build", city.with_name("plain"), "--data", places, "--model", run_folder)[0] == 0
    rc, _, err = obelisk("gallery", "calibrate", city.with_name("plain"))
    assert rc == 2
    assert "its model is not calibrated" in err
    (city / CALIBRATION).write_text(Gallery.open(city).own_calibration() or "")
    rc, _, err = obelisk("gallery", "calibrate", city)
    assert rc == 2
    assert "a calibration.json of its own" in err


def test_a_change_is_never_reported_as_failed(
    city: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Gallery, content: str) -> None:
        raise GalleryError("the gallery is busy", where=self.path)

    gallery = Gallery.open(city)
    gallery.remove(photos=[gallery.photos[0].id])
    monkeypatch.setattr(Gallery, "keep_calibration", refuse)
    recalibrate(gallery)
    assert "the change was made, but the gallery keeps its former calibration: the gallery is busy" in (
        capsys.readouterr().err
    )
