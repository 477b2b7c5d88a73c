"""``obelisk calibrate``: a model of one's own learns to refuse, and what has no calibration says so."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import Command, write_color_bundle

from obelisk.bundled import bundled_gallery
from obelisk.data import Catalog, read_catalog
from obelisk.embedding import Bundle
from obelisk.evaluation import Run
from obelisk.evaluation.model_calibration import FEWEST_UNSEEN, plan_calibration
from obelisk.gallery import Gallery
from obelisk.recognition import CALIBRATION, Calibration
from obelisk.recognition.background_photos import embed_background

TOLD = "the model is not calibrated"


@pytest.fixture(autouse=True)
def few_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few ordinary photos and galleries, so that a calibration takes a second; photos of one color are no copies."""
    monkeypatch.setattr("obelisk.evaluation.model_calibration.embed_background", partial(embed_background, rendered=4))
    monkeypatch.setattr("obelisk.recognition.held_out_model.DRAWS", 2)
    monkeypatch.setattr("obelisk.recognition.self_calibration.COPY_SIMILARITY", 0.9999)


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """Sixteen landmarks of five photos, each of two colors of its own, side by side."""
    rng = np.random.default_rng(0)
    for landmark in range(16):
        base = rng.integers(20, 235, size=(4, 4, 3))
        for photo in range(5):
            spots = np.clip(base + rng.normal(0, 40, size=base.shape), 0, 255).astype(np.uint8)
            path = tmp_path / "city" / f"Tower {landmark}" / f"{photo}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.kron(spots, np.ones((16, 16, 1), dtype=np.uint8))).save(path)
    return tmp_path / "city"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_color_bundle(tmp_path / "bundle", "colors")


def read_own(bundle: Bundle) -> Calibration:
    content = Bundle.load(bundle.folder).read_attachment(CALIBRATION)
    assert content is not None
    return Calibration.model_validate_json(content)


def test_a_bundle_is_calibrated_and_its_galleries_take_it_over(
    city: Path, bundle: Bundle, obelisk: Command, tmp_path: Path
) -> None:
    gallery = tmp_path / "gallery"
    build = ("gallery", "build", gallery, "--data", city, "--model", bundle.folder)
    assert obelisk(*build)[0] == 0
    asked = city / "Tower 0" / "0.png"
    assert TOLD in obelisk("recognize", asked, "--gallery", gallery)[2]
    assert TOLD in obelisk("gallery", "info", gallery)[2]
    code, out, err = obelisk("calibrate", bundle.folder, "--data", city)
    assert code == 0
    assert "all 16 landmarks are taken for unseen" in err
    assert f"--model {bundle.folder}" in err
    found = read_own(bundle)
    assert f"landmarks are named from a confidence of {found.threshold():.4f} on" in out
    assert Bundle.load(bundle.folder).fingerprint == bundle.fingerprint
    # The gallery has a copy of the model without it, and goes on; the command that was told brings it up to date.
    assert TOLD in obelisk("recognize", asked, "--gallery", gallery)[2]
    assert obelisk(*build)[0] == 0
    assert TOLD not in obelisk("recognize", asked, "--gallery", gallery)[2]
    assert json.loads(obelisk("gallery", "info", gallery, "--json")[1])["threshold"] is not None
    kept = Calibration.model_validate_json(Gallery.open(gallery).own_calibration() or "")
    assert (kept.slope, kept.margin, kept.references) == (found.slope, found.margin, 80)


def test_a_gallery_is_calibrated_in_place(city: Path, bundle: Bundle, obelisk: Command, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    assert obelisk("gallery", "build", gallery, "--data", city, "--model", bundle.folder)[0] == 0
    assert obelisk("calibrate", gallery, "--data", city)[0] == 0
    assert obelisk("gallery", "info", gallery)[2] == ""
    assert Gallery.open(gallery).own_calibration() is not None


def test_what_is_too_little_to_calibrate_with_is_said(
    city: Path, bundle: Bundle, obelisk: Command, tmp_path: Path
) -> None:
    for name in ("Tower 0", "Tower 1"):
        (tmp_path / "two").mkdir(exist_ok=True)
        (city / name).rename(tmp_path / "two" / name)
        code, _, err = obelisk("calibrate", bundle.folder, "--data", tmp_path / "two")
        assert code == 2
        assert f"give photos of {FEWEST_UNSEEN} landmarks or more" in err
    for landmark in city.iterdir():
        for photo in sorted(landmark.iterdir())[1:]:
            photo.unlink()
    code, _, err = obelisk("calibrate", bundle.folder, "--data", city)
    assert code == 2
    assert "give two different photos or more of each landmark" in err


def test_the_bundled_model_stays_as_it_is(city: Path, obelisk: Command) -> None:
    for model in ("bundled", bundled_gallery(), bundled_gallery() / "model"):
        code, _, err = obelisk("calibrate", model, "--data", city)
        assert code == 2
        assert "belongs to the installation" in err


def test_a_run_is_calibrated_with_what_it_has_not_seen(city: Path, tiny_run: Run) -> None:
    plan = plan_calibration(tiny_run.folder, read_catalog(city))
    assert (plan.seen, plan.catalog.landmarks.height, plan.trained_on) == (0, 16, None)


def test_a_run_that_has_seen_everything_gets_a_held_out_model(
    city: Path, bundle: Bundle, tiny_run: Run, obelisk: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copyfile(tiny_run.folder / "recipe.toml", run / "recipe.toml")
    facts = json.loads((tiny_run.folder / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"names": [f"Tower {landmark}" for landmark in range(16)]}))
    own = write_color_bundle(run / "model", "colors")
    code, _, err = obelisk("calibrate", run, "--data", city)
    assert code == 2
    assert "the run has not seen 0 of 16 landmarks" in err
    monkeypatch.setattr("obelisk.evaluation.model_calibration.FEWEST_UNSEEN", 8)
    trained: list[int] = []

    def train(run: Run, trained_on: Catalog, progress: object) -> Run:
        trained.append(trained_on.references["landmark_id"].n_unique())
        return SimpleNamespace(bundle=bundle)  # type: ignore[return-value]

    monkeypatch.setattr("obelisk.experiments.held_out_run.train_held_out_run", train)
    code, _, err = obelisk("calibrate", run, "--data", city)
    assert code == 0
    assert "the run has seen 16 of 16 landmarks, so its recipe is trained again without 8 of them" in err
    assert trained == [8]
    assert read_own(own).threshold() > 0
