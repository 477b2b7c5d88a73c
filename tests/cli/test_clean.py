"""``obelisk data clean``, from photos with planted label errors to manifests that can be used like a subset."""

from __future__ import annotations

import csv
import inspect
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from obelisk.cleaning import CleaningRule
from obelisk.cli.clean import clean_command
from obelisk.cli.data import data_app
from obelisk.data import read_catalog
from obelisk.errors import DataError, ObeliskError, UsageError
from obelisk.recognition.explain.strip import WIDTH

COLORS = {"Dome": (230, 60, 60), "Tôrre de Belém": (60, 220, 60), "塔": (60, 60, 240)}
PLANTED = ("Dome/green.png", "塔/red.png")


@pytest.fixture
def noisy(tmp_path, photograph) -> Path:
    """Three landmarks of six photos, two of them with a photo more that shows another one; a fourth has two photos."""
    for number, (name, color) in enumerate(COLORS.items()):
        for photo in range(6):
            photograph(tmp_path / "places" / name / f"{photo}.png", color, 10 * number + photo)
    photograph(tmp_path / "places" / PLANTED[0], COLORS["Tôrre de Belém"], 90)
    photograph(tmp_path / "places" / PLANTED[1], COLORS["Dome"], 91)
    photograph(tmp_path / "places" / "Few" / "red.png", COLORS["Dome"], 92)
    photograph(tmp_path / "places" / "Few" / "green.png", COLORS["Tôrre de Belém"], 93)
    return tmp_path / "places"


def call(*words: object) -> Result:
    return CliRunner().invoke(data_app, ["clean", *(str(word) for word in words)])


def clean(data: Path, out: Path, model: Path, *more: object) -> Result:
    return call(data, "--out", out, "--model", model, *more)


def suspects_of(out: Path) -> dict[str, dict[str, str]]:
    with (out / "suspects.csv").open(encoding="utf-8") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def test_planted_errors_are_found_dropped_and_drawn(noisy, tmp_path, run_folder):
    out = tmp_path / "out"
    done = clean(noisy, out, run_folder, "--json")
    assert done.exit_code == 0, done.output
    suspects = suspects_of(out)
    assert {path for path, row in suspects.items() if row["dropped"] == "yes"} == set(PLANTED)
    assert suspects[PLANTED[0]]["named"] == "Tôrre de Belém"
    assert suspects[PLANTED[1]]["named"] == "Dome"
    assert float(suspects[PLANTED[0]]["named_similarity"]) > float(suspects[PLANTED[0]]["own_similarity"])
    # Two photos that contradict each other cannot tell which of them is wrong: both are named, neither goes.
    assert {path for path, row in suspects.items() if row["dropped"] == "no"} == {"Few/red.png", "Few/green.png"}
    (line,) = done.stdout.splitlines()
    reported = json.loads(line)
    assert reported["cleaning"]["suspects"] == 4
    assert reported["cleaning"]["dropped"] == 2
    assert reported.items() <= json.loads((out / "manifest.json").read_text()).items()
    with Image.open(out / "pictures" / "001.png") as sheet:
        assert sheet.width > WIDTH


def test_the_result_is_read_like_a_subset(noisy, tmp_path, run_folder, monkeypatch):
    monkeypatch.setenv("OBELISK_PHOTOS", str(noisy))
    clean(noisy, tmp_path / "out", run_folder)
    before, after = read_catalog(noisy), read_catalog(tmp_path / "out")
    left = set(before.references["path"]) - set(after.references["path"])
    assert left == set(PLANTED)
    assert after.landmark_names() == before.landmark_names()
    assert not after.notes


def test_the_same_photos_elsewhere_give_the_same_bytes(noisy, tmp_path, run_folder):
    shutil.copytree(noisy, tmp_path / "elsewhere" / "copy")
    for data, out in ((noisy, "a"), (tmp_path / "elsewhere" / "copy", "b")):
        clean(data, tmp_path / out, run_folder, "--pictures", 0)
    names = ["landmarks.csv", "manifest.json", "photos.csv", "suspects.csv"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    for name in names:
        data = (tmp_path / "a" / name).read_bytes()
        assert data == (tmp_path / "b" / name).read_bytes()
        assert str(tmp_path).encode() not in data


def test_copies_do_not_vouch_for_each_other(noisy, tmp_path, run_folder):
    shutil.copyfile(noisy / PLANTED[0], noisy / "Dome" / "green again.png")
    clean(noisy, tmp_path / "out", run_folder)
    dropped = {path for path, row in suspects_of(tmp_path / "out").items() if row["dropped"] == "yes"}
    assert dropped == {*PLANTED, "Dome/green again.png"}


def test_unreadable_photos_are_named_counted_and_left_out(noisy, tmp_path, run_folder):
    (noisy / "Dome" / "text.jpg").write_text("no photo")
    done = clean(noisy, tmp_path / "out", run_folder)
    assert done.exit_code == 1
    assert "text.jpg" in done.stderr
    assert "1 photos could not be used" in done.stderr
    assert "text.jpg" not in (tmp_path / "out" / "photos.csv").read_text()
    assert "suspects" in done.stdout


def test_keep_at_least_and_margin_spare_photos(noisy, tmp_path, run_folder):
    clean(noisy, tmp_path / "seven", run_folder, "--keep-at-least", 7)
    assert {row["dropped"] for row in suspects_of(tmp_path / "seven").values()} == {"no"}
    clean(noisy, tmp_path / "two", run_folder, "--margin", 2)
    assert suspects_of(tmp_path / "two") == {}


def test_validation_photos_neither_judge_nor_are_judged(noisy, tmp_path, run_folder, monkeypatch):
    monkeypatch.setenv("OBELISK_PHOTOS", str(noisy))
    done = CliRunner().invoke(
        data_app, ["subset", str(noisy), "--landmarks", "4", "--seed", "3", "--out", str(tmp_path / "split")]
    )
    assert done.exit_code == 0, done.output
    before = read_catalog(tmp_path / "split")
    output = json.loads(clean(tmp_path / "split", tmp_path / "out", run_folder, "--json").stdout)
    after = read_catalog(tmp_path / "out")
    assert before.select_references("val").height > 0
    assert after.select_references("val").equals(before.select_references("val"))
    assert after.queries.equals(before.queries)
    assert output["cleaning"]["judged"] + output["cleaning"]["not_judged"] == before.select_references("train").height


# Mistakes of the caller: each exits 2, tells what would be right, and leaves no folder behind.
MISTAKES = {
    "no such folder": (("{out}x", "--out", "{out}"), "no such folder"),
    "no photo": (("{empty}", "--out", "{out}"), "no photo"),
    "output folder in use": (("{places}", "--out", "{places}"), "holds something else"),
    "output folder in a file": (("{places}", "--out", "{file}/out"), "no folder can be made here"),
    "no model": (("{places}", "--out", "{out}", "--model", "{empty}"), "no model bundle"),
    "one fold": (("{places}", "--out", "{out}", "--model", "{model}", "--folds", "1"), "at least 2"),
    "no neighbour": (("{places}", "--out", "{out}", "--model", "{model}", "--neighbours", "0"), "at least 1"),
    "nothing to keep": (("{places}", "--out", "{out}", "--model", "{model}", "--keep-at-least", "0"), "at least 1"),
    "a margin below 0": (("{places}", "--out", "{out}", "--model", "{model}", "--margin", "-1"), "from 0"),
}


@pytest.mark.parametrize(("words", "reported"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_usage_errors_that_tell_the_remedy(words, reported, noisy, tmp_path, run_folder):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("a file")
    places = {
        "file": tmp_path / "file",
        "out": tmp_path / "out",
        "places": noisy,
        "empty": tmp_path / "empty",
        "model": run_folder,
    }
    done = call(*(word.format(**places) for word in words))
    assert isinstance(done.exception, UsageError)
    assert reported in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_photos_that_all_fail_are_an_error(tmp_path, run_folder):
    (tmp_path / "places" / "A").mkdir(parents=True)
    (tmp_path / "places" / "A" / "a.jpg").write_text("no photo")
    done = clean(tmp_path / "places", tmp_path / "out", run_folder)
    assert isinstance(done.exception, DataError)
    assert isinstance(done.exception, ObeliskError)
    assert "none of the training photos" in str(done.exception)


def test_the_defaults_of_the_command_are_those_of_the_library():
    defaults = {name: parameter.default for name, parameter in inspect.signature(clean_command).parameters.items()}
    assert {name: defaults[name] for name in asdict(CleaningRule())} == asdict(CleaningRule())
