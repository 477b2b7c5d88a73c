"""``obelisk recognize``: what goes in, what comes out, and the exit codes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from obelisk.cli.gallery import gallery_app
from obelisk.cli.recognize import recognize_command
from obelisk.errors import GalleryError, ModelError, UsageError
from obelisk.recognition.calibration import UNCALIBRATED

app = typer.Typer()
app.command("recognize")(recognize_command)
app.add_typer(gallery_app)

TOWER = (60, 60, 240)
DOME = (230, 60, 60)


@pytest.fixture
def city(tmp_path: Path, places: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(app, ["gallery", "build", "city", "--data", "places", "--model", "run"])
    return Path("city")


def recognize(*words: object, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(app, ["recognize", *map(str, words)], input=stdin)


def answers(printed: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.stdout.splitlines()]


def test_json_follows_the_contract(city: Path, photograph: Any) -> None:
    photograph(Path("in/b.png"), TOWER, 50)
    printed = recognize("in/b.png", "--gallery", city, "--json", "--top", 2, "--k", 4)
    assert (printed.exit_code, printed.stderr) == (0, f"{UNCALIBRATED}\n")
    (said,) = answers(printed)
    keys = "photo landmark landmark_id verdict confidence latitude longitude links candidates neighbours"
    assert list(said) == [*keys.split(), "threshold", "model", "distance_km", "position_helped", "warning", "error"]
    assert (said["verdict"], said["threshold"], said["model"].split("@")[0]) == ("sure", None, "colors")
    assert (said["photo"], said["landmark"], said["error"]) == ("in/b.png", "塔", None)
    assert "塔" in printed.stdout, "not escaped"
    candidate_keys = ["landmark", "landmark_id", "score", "latitude", "longitude", "gallery"]
    assert [list(candidate) for candidate in said["candidates"]] == [candidate_keys] * 2
    assert said["candidates"][0]["gallery"] == "city"
    assert said["candidates"][0]["landmark"] == "塔"
    assert said["confidence"] == said["candidates"][0]["score"]
    assert len(said["neighbours"]) == 4
    for neighbour in said["neighbours"]:
        assert " ".join(neighbour) == "id landmark landmark_id similarity distance source gallery"
        assert Path(neighbour["source"]).is_file()
        assert neighbour["distance"] == pytest.approx((2 - 2 * neighbour["similarity"]) ** 0.5)
    assert {neighbour["id"] for neighbour in said["neighbours"][:3]} == {f"塔/{number}.png" for number in range(3)}


def test_folders_files_and_stdin_keep_their_order(city: Path, photograph: Any) -> None:
    for name in ("in/b.png", "in/a/z.png", "in/c.png", "one.png", "two.png"):
        photograph(Path(name), DOME, 60)
    printed = recognize("two.png", "in", "-", "--gallery", city, "--json", stdin="./one.png\n\ntwo.png\r\n")
    expected = ["two.png", "in/a/z.png", "in/b.png", "in/c.png", "./one.png", "two.png"]
    assert [said["photo"] for said in answers(printed)] == expected
    assert {said["landmark"] for said in answers(printed)} == {"Dome"}


def test_a_bad_photo_is_named_and_the_others_are_answered(city: Path, photograph: Any) -> None:
    photograph(Path("good.png"), DOME, 61)
    Path("bad.jpg").write_text("no photo")
    printed = recognize("bad.jpg", "-", "good.png", "--gallery", city, "--json", stdin="gone.jpg\n")
    assert printed.exit_code == 1
    bad, gone, good = answers(printed)
    assert (bad["photo"], bad["landmark"], bad["confidence"], bad["candidates"]) == ("bad.jpg", None, 0.0, [])
    assert "bad.jpg" in bad["error"]
    assert "gone.jpg" in gone["error"]
    assert (good["landmark"], good["error"]) == ("Dome", None)
    assert "bad.jpg" in printed.stderr
    assert "gone.jpg" in printed.stderr
    assert "2 of 3 photos could not be used" in printed.stderr


def test_a_folder_of_which_nothing_can_be_used_is_named_and_counted(city: Path, photograph: Any, lock: Any) -> None:
    photograph(Path("in/a.png"), DOME, 69)
    photograph(Path("in/locked/b.png"), DOME, 70)
    Path("void").mkdir()
    lock(Path("in/locked"))
    printed = recognize("in", "void", "--gallery", city, "--json")
    assert printed.exit_code == 1
    assert [said["photo"] for said in answers(printed)] == ["in/a.png"]
    assert printed.stderr.splitlines() == [
        "warning: the folder cannot be searched: Permission denied · in/locked · change its permissions",
        "warning: no photo in the folder void",
        UNCALIBRATED,
        "warning: 2 folders could not be used",
    ]
    assert recognize("in/locked", "--gallery", city).exit_code == 1


def test_a_photo_in_a_locked_folder_is_not_called_missing(
    city: Path, photograph: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    photograph(Path("locked/d.png"), DOME, 71)

    def refuse(path: object, **options: object) -> os.stat_result:
        if str(path) == "locked/d.png":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return stat(path, **options)  # type: ignore[arg-type]

    stat = os.stat
    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os, "lstat", refuse)
    printed = recognize("locked/d.png", "--gallery", city)
    assert printed.exit_code == 1
    assert "no permission to read the photo · locked/d.png" in printed.stderr


def test_a_gallery_that_may_not_be_read_is_reported_without_usage(
    city: Path, photograph: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    photograph(Path("d.png"), DOME, 72)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK and access(path, mode))
    assert "Usage" not in recognize("d.png", "--gallery", city).stderr


def test_people_get_a_line_a_photo(city: Path, photograph: Any) -> None:
    photograph(Path("d.png"), DOME, 62)
    printed = recognize("d.png", "--gallery", city)
    assert printed.stdout == "d.png  Dome · score >0.99\n", "without calibration, no percent"


def test_details_are_the_candidates_and_the_reference_photos(city: Path, photograph: Any) -> None:
    photograph(Path("d.png"), DOME, 62)
    Path("bad.jpg").write_text("no photo")
    printed = recognize("d.png", "bad.jpg", "--gallery", city, "--top", 2, "--k", 1, "--details")
    lines = printed.stdout.splitlines()
    assert lines[0].startswith("d.png: Dome (confidence 0.9")
    assert lines[1].startswith("    1. Dome  score 0.9")
    assert lines[2].startswith("    2. ")
    assert lines[3].startswith("    near Dome/")
    assert "  Dome  similarity 0.9" in lines[3]
    assert Path(lines[3].split("  ")[-1]).is_file()
    assert lines[4:] == ["", "2 photos: 1 named, 1 failed", "named  landmark", "    1  Dome"]
    assert "bad.jpg" in printed.stderr


def test_the_summary_counts_the_photos_of_each_landmark(city: Path, photograph: Any) -> None:
    for number in range(3):
        photograph(Path(f"in/{number}.png"), DOME, 80 + number)
    photograph(Path("in/t.png"), TOWER, 83)
    photograph(Path("in/gray.png"), (128, 128, 128), 63)
    printed = recognize("in", "--gallery", city, "--threshold", "0.9", "--summary")
    assert (printed.exit_code, printed.stderr) == (0, f"{UNCALIBRATED}\n")
    count = ["5 photos: 4 named, 1 unknown", "named  landmark", "    3  Dome", "    1  塔"]
    assert printed.stdout.splitlines() == count
    lines = recognize("in", "--gallery", city, "--threshold", "0.9").stdout.splitlines()
    assert lines[-5:] == ["", *count]
    assert len(lines) == 10
    assert lines[3].startswith("in/gray.png  not a landmark I know (nearest: ")
    assert recognize("-", "--gallery", city, "--summary").stdout == "0 photos\n"


@pytest.mark.parametrize("options", [["--details", "--summary"], ["--json", "--details"], ["--csv", "--summary"]])
def test_there_is_one_output(city: Path, photograph: Any, options: list[str]) -> None:
    photograph(Path("d.png"), DOME, 62)
    printed = recognize("d.png", "--gallery", city, *options)
    assert printed.stdout == ""
    with pytest.raises(UsageError, match="each ask for another output · give one of them"):
        raise printed.exception


def test_a_rejected_photo_is_an_answer(city: Path, photograph: Any) -> None:
    photograph(Path("gray.png"), (128, 128, 128), 63)
    printed = recognize("gray.png", "--gallery", city, "--threshold", "0.95", "--json")
    assert printed.exit_code == 0
    (said,) = answers(printed)
    assert (said["landmark"], said["landmark_id"], said["error"]) == (None, None, None)
    assert 0 < said["confidence"] < 0.95
    assert len(said["candidates"]) == 3
    assert said["verdict"] == "unknown"
    reported = recognize("gray.png", "--gallery", city, "--threshold", "0.95", "--details").stdout.splitlines()[0]
    assert reported.startswith("gray.png: not a landmark I know (confidence 0.")
    assert reported.endswith(", below the threshold 0.9500)")


@pytest.mark.parametrize("options", [("--expand", "query"), ("--expand", "references"), ("--augment",)])
def test_photos_may_lean_on_others_and_on_their_views(city: Path, photograph: Any, options: tuple[str, ...]) -> None:
    photograph(Path("d.png"), DOME, 64)
    (said,) = answers(recognize("d.png", "--gallery", city, *options, "--json"))
    assert said["candidates"][0]["landmark"] == "Dome"
    assert said["neighbours"][0]["landmark"] == "Dome"


@pytest.mark.parametrize("vote", ["weighted", "majority", "prototype"])
def test_every_vote_can_be_chosen(city: Path, photograph: Any, vote: str) -> None:
    photograph(Path("d.png"), DOME, 64)
    (said,) = answers(recognize("d.png", "--gallery", city, "--vote", vote, "--json"))
    assert said["landmark"] == "Dome"


def test_nothing_on_stdin_is_nothing_to_do(city: Path) -> None:
    printed = recognize("-", "--gallery", city, "--json")
    assert (printed.exit_code, printed.stdout, printed.stderr) == (0, "", f"{UNCALIBRATED}\n")


def test_the_gallerys_own_model_may_be_named(city: Path, photograph: Any) -> None:
    photograph(Path("d.png"), DOME, 65)
    assert recognize("d.png", "--gallery", city, "--model", "run").exit_code == 0


@pytest.mark.parametrize(
    ("words", "error", "text"),
    [
        pytest.param(["d.png", "--gallery", "gone"], GalleryError, "no such gallery · gone", id="missing gallery"),
        pytest.param(["d.png", "--gallery", "places"], GalleryError, "not a gallery", id="another folder"),
        pytest.param(["gone.png", "--gallery", "city"], UsageError, "no such photo or folder: `gone", id="no path"),
        pytest.param(["void", "--gallery", "city"], UsageError, "no photo found · void", id="a folder without photos"),
        pytest.param(["d.png", "--gallery", "city", "--k", "10"], GalleryError, "only 9 reference", id="k above N"),
        pytest.param(["d.png", "--gallery", "city", "--k", "0"], UsageError, "k = 0", id="k below 1"),
        pytest.param(["d.png", "--gallery", "city", "--top", "0"], UsageError, "top = 0", id="top below 1"),
        pytest.param(["d.png", "--gallery", "city", "--threshold", "2"], UsageError, "threshold = 2.0", id="threshold"),
        pytest.param(["d.png", "--gallery", "city", "--vote", "wighted"], UsageError, "`weighted`", id="mistyped vote"),
        pytest.param(["d.png", "--gallery", "city", "--model", "gone"], ModelError, "no model bundle", id="no model"),
        pytest.param(["d.png", "--gallery", "city", "--model", "other"], GalleryError, "build NEW-", id="other model"),
    ],
)
def test_mistakes_are_named_before_anything_is_answered(
    city: Path, photograph: Any, other_bundle: Path, words: list[str], error: type[UsageError], text: str
) -> None:
    photograph(Path("d.png"), DOME, 66)
    Path("void").mkdir()
    failed = recognize(*words)
    assert failed.stdout == ""
    assert isinstance(failed.exception, error)
    assert failed.exception.exit_code == 2
    with pytest.raises(error, match=text):
        raise failed.exception


def test_recognising_loads_neither_torch_nor_tables_nor_plots(city: Path, photograph: Any) -> None:
    photograph(Path("d.png"), DOME, 67)
    program = (
        "import sys, typer\n"
        "from obelisk.cli.recognize import recognize_command\n"
        "app = typer.Typer(); app.command()(recognize_command)\n"
        "app(['d.png', '--gallery', 'city'], standalone_mode=False)\n"
        "sys.exit(', '.join({'torch', 'matplotlib', 'polars', 'timm', 'sklearn', 'faiss'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, f"{UNCALIBRATED}\n")
    assert done.stdout.startswith("d.png  Dome")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are not bytes there")
def test_file_names_that_are_not_utf8_come_back_as_they_are(city: Path, photograph: Any) -> None:
    photograph(Path("d.png"), DOME, 68)
    odd = b"caf\xe9.png"
    Path("d.png").rename(os.fsdecode(odd))
    command = [sys.executable, "-m", "obelisk", "recognize", "-", "--gallery", "city", "--json"]
    for more, end in (([], b"\n"), (["-0"], b"\0")):
        done = subprocess.run([*command, *more], input=odd + end, capture_output=True, check=False, timeout=300)
        said = json.loads(done.stdout)
        assert os.fsencode(said["photo"]) == odd
        assert said["landmark"] == "Dome"


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no line feed in a name")
def test_paths_that_end_with_nul_may_hold_line_feeds(city: Path, photograph: Any) -> None:
    for name in ("a\nb.png", "c\r.png", " d.png"):
        photograph(Path(name), DOME, 68)
    printed = recognize("-0", "-", "--gallery", city, "--json", stdin="a\nb.png\0c\r.png\0\0 d.png")
    assert [said["photo"] for said in answers(printed)] == ["a\nb.png", "c\r.png", " d.png"]


def test_paths_that_end_with_nul_are_told_from_lines(city: Path) -> None:
    printed = recognize("-", "--gallery", city, stdin="a.png\0b.png\0")
    with pytest.raises(UsageError, match="add -0"):
        raise printed.exception
