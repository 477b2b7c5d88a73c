"""``obelisk recognize --explain`` and ``--verify``: what is drawn, where, and what if something is missing."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import typer
from click.testing import Result
from onnx import TensorProto, helper
from PIL import Image
from typer.testing import CliRunner

import obelisk
from obelisk.cli.gallery import gallery_app
from obelisk.cli.recognize import recognize_command
from obelisk.embedding import Embedder, cache_folder, write_bundle
from obelisk.errors import MissingExtraError, PhotoError, UsageError

app = typer.Typer()
app.command("recognize")(recognize_command)
app.add_typer(gallery_app)

DOME = (230, 60, 60)


def add_feature_map(bundle: Path) -> None:
    """Give the color grid's network its second output: the grid itself, (N, 3, 4, 4)."""
    model = onnx.load(bundle / "model.onnx")
    model.graph.node.append(helper.make_node("Relu", ["grid"], ["features"]))
    model.graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 3, 4, 4]))
    manifest = json.loads((bundle / "bundle.json").read_text())
    for key in ("format", "fingerprint", "precision", "normalised", "whitening"):
        manifest.pop(key, None)
    write_bundle(bundle, network=model.SerializeToString(), card="# Colors\n", **manifest)


@pytest.fixture(params=["with features", "without"])
def city(
    request: pytest.FixtureRequest, tmp_path: Path, places: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.chdir(tmp_path)
    if request.param == "with features":
        add_feature_map(run_folder / "model")
    CliRunner().invoke(app, ["gallery", "build", "city", "--data", "places", "--model", "run"])
    return Path("city")


def recognize(*words: object, stdin: str = "") -> Result:
    return CliRunner().invoke(app, ["recognize", *map(str, words)], input=stdin)


def test_a_picture_a_photo(city: Path, photograph: Any) -> None:
    photograph(Path("in/d.png"), DOME, 50)
    photograph(Path("in/more/d.png"), DOME, 51)
    plain = recognize("in", "--gallery", city, "--json")
    printed = recognize("in", "--gallery", city, "--json", "--explain", "why")
    assert (printed.exit_code, printed.stdout) == (0, plain.stdout), "the answers stay as they are"
    assert printed.stderr.splitlines()[-1] == "2 pictures in why"
    assert sorted(path.name for path in Path("why").iterdir()) == ["d-2.explained.jpg", "d.explained.jpg"]


def test_pictures_beside_the_photos_overwrite_none(city: Path, photograph: Any) -> None:
    photograph(Path("d.png"), DOME, 52)
    before = Path("d.png").read_bytes()
    assert recognize("d.png", "--gallery", city, "--explain", ".").exit_code == 0
    assert Path("d.png").read_bytes() == before
    assert Path("d.explained.jpg").is_file()


def test_matches_are_shown_only_where_there_is_a_feature_map(
    city: Path, photograph: Any, request: pytest.FixtureRequest
) -> None:
    photograph(Path("d.png"), DOME, 53)
    recognizer = obelisk.Recognizer.open(city)
    (answer,) = recognizer.recognize("d.png")
    whole = recognizer.explain(answer)
    for photo in Path("places").rglob("*.png"):
        photo.unlink()
    alone = recognizer.explain(answer)
    assert whole.width == alone.width
    if "without" in request.node.name:
        assert whole.height == alone.height < 600
    else:
        assert min(whole.height, alone.height) > 800
        assert np.any(np.asarray(whole)[600:790, 400:700] != 255)
        assert np.all(np.asarray(alone)[600:790, 400:700] == 255), "nothing stands in the reference's place"


def test_a_reference_is_not_run_through_the_network_again(
    city: Path, photograph: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    photograph(Path("d.png"), DOME, 57)

    def draw(folder: str) -> bytes:
        printed = recognize("d.png", "--gallery", city, "--explain", folder, "--explain-format", "png")
        assert printed.exit_code == 0, printed.output
        return Path(folder, "d.explained.png").read_bytes()

    shutil.rmtree(cache_folder() / "references", ignore_errors=True)
    first = draw("first")  # computes the map of the reference, and keeps it
    monkeypatch.setattr(Embedder, "features", None)
    assert draw("again") == first
    shutil.rmtree(cache_folder() / "references", ignore_errors=True)
    CliRunner().invoke(app, ["gallery", "build", "other", "--data", "places", "--model", "run"])
    assert draw("built") == first, "the build has kept it"


def test_a_reference_that_became_another_photo_is_not_shown(city: Path, photograph: Any) -> None:
    photograph(Path("d.png"), DOME, 54)
    recognizer = obelisk.Recognizer.open(city)
    (answer,) = recognizer.recognize("d.png", k=1)
    before = recognizer.explain(answer)
    photograph(Path("places") / answer.neighbours[0].id, (0, 255, 0), 55)
    after = recognizer.explain(answer)
    Path("places", answer.neighbours[0].id).unlink()
    assert after.tobytes() == recognizer.explain(answer).tobytes() != before.tobytes()


def test_reference_files_that_are_not_at_hand_are_counted_once(city: Path, photograph: Any) -> None:
    for number in range(2):
        photograph(Path(f"in/{number}.png"), DOME, 70 + number)
    Path("places/Dome/1.png").unlink()
    printed = recognize("in", "--gallery", city, "--explain", "why", "--k", 3)
    assert printed.exit_code == 0
    (warning,) = [line for line in printed.stderr.splitlines() if "at hand" in line]
    assert "of 3 photos asked for, 2 are at hand" in warning


def test_odd_photos_are_explained_and_bad_ones_named(city: Path) -> None:
    Path("in").mkdir()
    Image.new("RGB", (1, 1), "red").save("in/pixel.png")
    Image.new("RGB", (5000, 1), "red").save("in/row.png")
    Image.new("CMYK", (30, 900)).save("in/column.jpg")
    Image.new("LA", (300, 200), (80, 90)).save("in/塔 : 1.png")
    Path("in/bad.jpg").write_text("no photo")
    printed = recognize("in", "--gallery", city, "--explain", "why", "--json")
    assert printed.exit_code == 1
    names = {path.name for path in Path("why").iterdir()}
    assert names == {f"{stem}.explained.jpg" for stem in ("pixel", "row", "column", "塔___1")}
    assert "in/bad.jpg" in printed.stderr
    assert "4 pictures in why" in printed.stderr
    assert "1 of 5 photos could not be used" in printed.stderr


def test_a_photo_that_is_gone_by_now_is_named(city: Path, photograph: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    photograph(Path("d.png"), DOME, 56)

    def vanish(self: object, answer: obelisk.Recognition) -> None:
        raise PhotoError("no such photo", where=answer.photo)

    monkeypatch.setattr("obelisk.recognition.Recognizer.explain", vanish)
    printed = recognize("d.png", "--gallery", city, "--explain", "why")
    assert printed.exit_code == 1
    assert printed.stdout.startswith("d.png  Dome")
    assert "no picture: no such photo · d.png" in printed.stderr
    assert "0 pictures in why" in printed.stderr


def test_a_rejected_photo_is_explained_too(city: Path, photograph: Any) -> None:
    photograph(Path("gray.png"), (128, 128, 128), 57)
    printed = recognize("gray.png", "--gallery", city, "--threshold", "1", "--explain", "why")
    assert printed.exit_code == 0
    assert Path("why/gray.explained.jpg").is_file()


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_answered(city: Path, photograph: Any) -> None:
    photograph(Path("d.png"), DOME, 58)
    failed = recognize("d.png", "--gallery", city, "--explain", "d.png")
    assert isinstance(failed.exception, UsageError)
    assert failed.stdout == ""


def test_drawing_loads_nothing_heavy(city: Path, photograph: Any) -> None:
    photograph(Path("d.png"), DOME, 59)
    program = (
        "import sys, typer\n"
        "from obelisk.cli.recognize import recognize_command\n"
        "app = typer.Typer(); app.command()(recognize_command)\n"
        "app(['d.png', '--gallery', 'city', '--explain', 'why'], standalone_mode=False)\n"
        "sys.exit(', '.join({'torch', 'matplotlib', 'polars', 'cv2', 'sklearn'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "1 picture in why")


@pytest.mark.skipif(importlib.util.find_spec("cv2") is None, reason="the extra `verify` is not installed")
def test_verification_answers_in_the_same_form(city: Path, photograph: Any) -> None:
    photograph(Path("d.png"), DOME, 60)
    printed = recognize("d.png", "--gallery", city, "--json", "--verify", "--top", 2)
    assert printed.exit_code == 0
    assert "at hand" not in printed.stderr
    said = json.loads(printed.stdout)
    assert list(said) == list(json.loads(recognize("d.png", "--gallery", city, "--json").stdout))
    assert said["landmark"] == "Dome"
    assert len(said["candidates"]) == 2
    for photo in Path("places").rglob("*.png"):
        photo.unlink()
    blind = recognize("d.png", "--gallery", city, "--json", "--verify", "--top", 2)
    assert "of 6 photos asked for, 0 are at hand · `obelisk gallery build city --data DIR`" in blind.stderr
    unseen = json.loads(blind.stdout)
    assert unseen == json.loads(recognize("d.png", "--gallery", city, "--json", "--top", 2).stdout)


def test_verification_without_opencv_names_the_extra(
    city: Path, photograph: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    photograph(Path("d.png"), DOME, 61)
    monkeypatch.setattr("obelisk.recognition.rerank.geometry.importlib.util.find_spec", lambda name: None)
    failed = recognize("d.png", "--gallery", city, "--verify")
    assert isinstance(failed.exception, MissingExtraError)
    assert "[verify]" in str(failed.exception)
    assert failed.stdout == ""
