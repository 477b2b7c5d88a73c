"""The tool that makes the bundled model and gallery, run whole on a small dataset."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from obelisk.config import Recipe
from obelisk.gallery import Gallery
from obelisk.recognition import CALIBRATION, Recognizer
from obelisk.synthetic import generate_dataset

pytestmark = pytest.mark.stress

TOOL = Path(__file__).parents[2] / "tools" / "bundled.py"


@pytest.fixture
def tool(tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(TOOL.parent)
    spec = importlib.util.spec_from_file_location("bundled_tool", TOOL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    recipe = tmp_path / "tiny.toml"
    # Pretrained weights: with random ones, better scores are not more often right, and nothing can be calibrated.
    backbone = tiny_recipe.backbone.model_copy(update={"names": ("tf_efficientnet_lite0",), "weights": "auto"})
    section = tiny_recipe.finetuning.model_copy(update={"epochs": 1, "batch_size": 32, "frozen_groups": 6})
    neck = tiny_recipe.neck.model_copy(update={"dimensions": 64, "start": "whitening"})
    sections = {"backbone": backbone, "neck": neck, "finetuning": section}
    recipe.write_text(tiny_recipe.model_copy(update=sections).to_toml())
    monkeypatch.setattr(module, "RECIPE", str(recipe))
    monkeypatch.setenv("OBELISK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OBELISK_PHOTOS", "")  # set by the tool, restored after the test
    return module


def test_the_tool_trains_calibrates_and_builds(tool: ModuleType, tmp_path: Path) -> None:
    data = generate_dataset(tmp_path / "photos", landmarks=30, references=300, queries=40, distractors=16, size=64)
    gallery = tool.build_bundled(data, tmp_path / "out")
    assert gallery == tmp_path / "out" / "gallery"
    opened = Gallery.open(gallery)
    assert len(opened.references().landmarks) == 30
    assert not any(photo.path for photo in opened.photos)
    assert (gallery / CALIBRATION).is_file()
    recognizer = Recognizer.open(gallery)
    assert recognizer.background
    assert 0.0 < recognizer.threshold() < 1.0
    query = next((data / "test").rglob("*.jpg"))
    (answer,) = recognizer.recognize([query])
    assert answer.error is None

    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("model.onnx")}
    tool.build_bundled(data, tmp_path / "out")
    trained = [
        path for path in written if "gallery" not in path.parts and path.parent.parent.name in ("bundled", "held_out")
    ]
    assert len(trained) == 2
    assert all(path.stat().st_mtime_ns == written[path] for path in trained)
