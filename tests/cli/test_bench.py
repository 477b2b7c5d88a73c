"""``obelisk bench``: what it measures and what it says; never how fast this machine is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from obelisk.bench import STAGES, benchmark
from obelisk.cli.bench import bench
from obelisk.cli.gallery import gallery_app
from obelisk.errors import UsageError
from obelisk.photos import read_photo

app = typer.Typer()
app.command("bench")(bench)
app.add_typer(gallery_app)


@pytest.fixture
def city(tmp_path: Path, places: Path, run_folder: Path, photograph: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(app, ["gallery", "build", "city", "--data", "places", "--model", "run"])
    photograph(Path("in/a.png"), (230, 60, 60), 80)
    photograph(Path("in/b.png"), (60, 60, 240), 81)
    return Path("city")


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["bench", "--gallery", "city", "--answers", "3", *words])


def test_json_holds_every_stage_and_the_work_by_hand(city: Path) -> None:
    printed = run("in", "--backbone", "test_efficientnet", "--json")
    assert printed.exit_code == 0, printed.exception
    said = json.loads(printed.stdout)
    assert (said["model"], said["references"], said["missing"]) == ("colors", 9, [])
    (measured,) = said["measured"]
    assert (measured["photos"], measured["count"]) == ("given", 2)
    assert tuple(measured["stages"]) == STAGES
    assert all(0 < times["p50"] <= times["p95"] for times in measured["stages"].values())
    for pace in (measured["obelisk"], measured["by_hand"]):
        assert pace["a_second"] > 0
        assert 0 < pace["answer"]["p50"] <= pace["answer"]["p95"]
    assert measured["cold_s"] > 0
    assert measured["peak_mib"] is None or measured["peak_mib"] > 0


def test_people_get_a_table_and_what_is_missing_is_said(city: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "NAIVE_REQUIREMENTS", {"scikit-learn": "no_such_module"})
    monkeypatch.setattr(benchmark, "PROCESS_STATUS", Path("nowhere"))
    Path("in/bad.png").write_text("no photo")
    printed = run("in")
    assert printed.exit_code == 1, printed.exception
    lines = printed.stdout.splitlines()
    assert "engine onnxruntime · model colors · input 32 · references 9" in lines[0]
    assert [line.split()[0] for line in lines[4:11]] == [*STAGES, "answer"]
    assert "by hand" not in printed.stdout
    assert lines[-1].endswith("s from command to answer")
    assert "nothing to compare with: scikit-learn not installed" in printed.stderr
    assert "in/bad.png" in printed.stderr


def test_without_photos_small_and_large_ones_are_made(city: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}

    def look(name: str, photos: list[Path], *_: object, **__: object) -> None:
        seen[name] = [read_photo(photo).size for photo in photos]

    monkeypatch.setattr(benchmark, "RENDERED_PHOTOS", {"224 px": 2, "12 megapixels": 1})
    monkeypatch.setattr(benchmark, "NAIVE_REQUIREMENTS", {"timm": "no_such_module"})
    monkeypatch.setattr(benchmark, "benchmark_photos", look)
    run("--json")
    assert seen == {"224 px": [(224, 224)] * 2, "12 megapixels": [(4000, 3000)]}


def test_only_bad_photos_are_a_mistake(city: Path) -> None:
    Path("bad.png").write_text("no photo")
    assert isinstance(run("bad.png").exception, UsageError)
