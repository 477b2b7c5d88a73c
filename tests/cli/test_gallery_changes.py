"""``obelisk gallery``: add, remove, rename, merge, and what info lists."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from obelisk.cli.gallery import gallery_app
from obelisk.errors import GalleryError, UsageError

app = typer.Typer()
app.add_typer(gallery_app)


def gallery(*words: object) -> Result:
    return CliRunner().invoke(app, ["gallery", *map(str, words)])


@pytest.fixture
def city(tmp_path: Path, places: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Dome (1), Tôrre de Belém (2) and 塔 (3), three photos each."""
    monkeypatch.chdir(tmp_path)
    gallery("build", "city", "--data", "places", "--model", "run")
    return tmp_path / "city"


def landmarks() -> dict[str, int]:
    lines = gallery("info", "city", "--landmarks", "--json").stdout.splitlines()
    return {f"{row['name']} {row['id']}": row["photos"] for row in map(json.loads, lines)}


def test_add_prints_a_line_for_each_photo(city: Path, places: Path, photograph: Any) -> None:
    photograph(Path("new/1.png"), (200, 200, 30), 70)
    shutil.copy(places / "Dome" / "0.png", "new/2.png")
    Path("new/3.jpg").write_text("a text")
    added = gallery("add", "city", "new", "--landmark", "Dome")
    assert added.exit_code == 1
    first, second = added.stdout.splitlines()
    assert first.startswith("new/1.png: added as `1-")
    assert first.endswith(".png` of `Dome` (id 1)")
    assert second == "new/2.png: is there already, as `Dome/0.png` of `Dome` (id 1)"
    assert "new/3.jpg" in added.stderr
    assert "1 of 3 photos could not be added" in added.stderr
    again = gallery("add", "city", "new/1.png", "--landmark", "Dome", "--json")
    assert again.exit_code == 0
    answer = json.loads(again.stdout)
    assert first == f"new/1.png: added as `{answer.pop('id')}` of `Dome` (id 1)"
    assert answer == {"photo": "new/1.png", "landmark": "Dome", "landmark_id": 1, "new": False, "error": None}


def test_info_lists_the_photos(city: Path, places: Path) -> None:
    listed = [json.loads(line) for line in gallery("info", "city", "--photos", "--json").stdout.splitlines()]
    assert len(listed) == 9
    assert listed[0] == {
        "id": "Dome/0.png",
        "landmark": "Dome",
        "landmark_id": 1,
        "file": str(places / "Dome" / "0.png"),
    }
    printed = gallery("info", "city", "--photos").stdout.splitlines()
    assert printed[0].split() == ["id", "landmark", "landmark_id", "file"]
    assert printed[1].split() == ["Dome/0.png", "Dome", "1", str(places / "Dome" / "0.png")]
    assert gallery("remove", "city", "--photo", listed[0]["id"]).exit_code == 0
    assert isinstance(gallery("info", "city", "--photos", "--landmarks").exception, UsageError)


def test_a_new_name_is_reported_with_the_nearest_known_one(city: Path, photograph: Any) -> None:
    photograph(Path("new.png"), (200, 200, 30), 70)
    added = gallery("add", "city", "new.png", "--landmark", "Dom")
    assert added.exit_code == 0
    assert added.stderr == "`Dom` is a new landmark · did you mean `Dome`?\n"
    assert landmarks()["Dom 4"] == 1


def test_a_new_name_is_not_reported_when_no_photo_made_it_a_landmark(city: Path) -> None:
    Path("bad.jpg").write_text("a text")
    added = gallery("add", "city", "bad.jpg", "--landmark", "Dom")
    assert added.exit_code == 1
    assert "new landmark" not in added.stderr
    assert "Dom 4" not in landmarks()


def test_landmarks_of_one_name_are_told_apart_by_id(city: Path, photograph: Any) -> None:
    for number in (1, 2):
        photograph(Path(f"{number}.png"), (200, 200, 30), number)
    assert gallery("add", "city", "1.png", "--landmark", "Dome", "--id", 70).exit_code == 0
    assert landmarks() == {"Dome 1": 3, "Tôrre de Belém 2": 3, "塔 3": 3, "Dome 70": 1}
    refused = gallery("add", "city", "2.png", "--landmark", "Dome")
    assert "2 landmarks are called `Dome` · ids [1, 70] · give the id" in str(refused.exception)
    merged = gallery("merge", "city", 70, "--into", 1)
    assert merged.stdout == "city: `Dome` (id 70) merged into `Dome` (id 1)\n"
    assert landmarks()["Dome 1"] == 4


def test_remove_prints_what_went(city: Path) -> None:
    removed = gallery("remove", "city", "--landmark", "塔", "--photo", "Dome/0.png", "--photo", "Dome/1.png")
    assert removed.stdout.splitlines() == [
        "city: removed photo `Dome/0.png`",
        "city: removed photo `Dome/1.png`",
        "city: removed landmark `塔` (id 3, 3 photos)",
    ]
    assert "removed landmark `Dome` (id 1, 1 photo)" in gallery("remove", "city", "--photo", "Dome/2.png").stdout
    assert landmarks() == {"Tôrre de Belém 2": 3}


def test_rename_and_merge_print_the_new_names(city: Path) -> None:
    assert gallery("rename", "city", "塔", "--into", "Tower").stdout == "city: `塔` (id 3) is called `Tower`\n"
    merged = gallery("merge", "city", "Tower", "Dome", "--into", "Ensemble")
    assert merged.stdout == "city: `Tower` (id 3), `Dome` (id 1) merged into `Ensemble` (id 1)\n"
    assert landmarks() == {"Ensemble 1": 6, "Tôrre de Belém 2": 3}
    assert gallery("check", "city").stdout == "city: sound, 9 photos of 2 landmarks\n"


def test_info_lists_landmarks_for_people(city: Path) -> None:
    lines = gallery("info", "city", "--landmarks").stdout.splitlines()
    assert lines[0].split() == ["id", "name", "latitude", "longitude", "photos"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3"]
    facts = json.loads(gallery("info", "city", "--json").stdout)
    assert (facts["format"], facts["landmarks"], facts["places"], facts["photos"]) == (4, 3, 0, 9)


def test_build_reports_where_the_gallery_differs(city: Path, places: Path) -> None:
    shutil.rmtree(places / "塔")
    gallery("merge", "city", "Dome", "--into", "Tôrre de Belém")
    built = gallery("build", "city", "--data", "places")
    assert built.stdout == "city: 9 photos of 2 landmarks (6 unchanged, 3 gone)\n"
    assert "3 photos of city are gone from places: `塔/0.png`, `塔/1.png`, `塔/2.png` · " in built.stderr
    pruned = gallery("build", "city", "--data", "places", "--prune")
    assert pruned.stdout.splitlines() == [
        "city: removed photo `塔/0.png`",
        "city: removed photo `塔/1.png`",
        "city: removed photo `塔/2.png`",
        "city: removed landmark `塔` (id 3), which had no photo left",
        "city: 6 photos of 1 landmark (6 unchanged, 3 removed)",
    ]


def test_build_names_what_moved_and_what_was_renamed(city: Path, places: Path, photograph: Any) -> None:
    gallery("rename", "city", "塔", "--into", "Tower")
    (places / "Dome" / "0.png").rename(places / "Tôrre de Belém" / "3.png")
    (places / "Dome" / "1.png").rename(places / "Dome" / "one.png")
    (places / "塔").rename(places / "高塔")
    photograph(places / "Dome" / "new.png", (230, 60, 60), 90)
    photograph(places / "Dome" / "2.png", (230, 60, 60), 91)
    (places / "@eaDir").mkdir()
    photograph(places / "Dome" / "edited.png", (230, 60, 60), 92)
    (places / "Dome" / "bad.png").write_text("no photo")
    built = gallery("build", "city", "--data", "places", "--exclude", "*edited*")
    assert built.exit_code == 1
    assert built.stdout.splitlines() == [
        "city: `Tower` follows its folder `塔` to `高塔` (id 3, 3 photos)",
        "city: moved photo `Dome/1.png` to `Dome/one.png`",
        "city: moved photo `Dome/0.png` to `Tôrre de Belém/3.png` from landmark `Dome` to `Tôrre de Belém`",
        "city: 10 photos of 3 landmarks (1 new, 1 changed, 2 moved, 3 renamed, 3 unchanged, 1 unusable)",
    ]
    (places / "Dome").rename(places / "Kuppel")
    renamed = gallery("build", "city", "--data", "places")
    assert renamed.stdout.startswith("city: renamed landmark `Dome` to `Kuppel` (id 1, 3 photos)\n")


def test_check_tells_the_same_photo_under_two_landmarks(city: Path, places: Path) -> None:
    shutil.copy(places / "Dome" / "0.png", places / "塔" / "copy.png")
    shutil.copy(places / "Dome" / "0.png", places / "Dome" / "copy.png")
    gallery("build", "city", "--data", "places")
    checked = gallery("check", "city")
    assert (checked.exit_code, checked.stdout) == (0, "city: sound, 11 photos of 3 landmarks\n")
    told = "1 photo is in it under two landmarks with the same bytes: `Dome/0.png` of `Dome` and "
    assert told in checked.stderr
    assert "`塔/copy.png` of `塔` · see which label is right, and `obelisk gallery remove city" in checked.stderr


def test_pruning_most_of_a_gallery_must_be_asked_for_twice(city: Path, places: Path, lock: Any) -> None:
    for name in ("Dome", "塔"):
        shutil.rmtree(places / name)
    refused = gallery("build", "city", "--data", "places", "--prune")
    assert "6 of the 9 photos that came from here are gone" in str(refused.exception)
    assert isinstance(refused.exception, GalleryError)
    assert landmarks() == {"Dome 1": 3, "Tôrre de Belém 2": 3, "塔 3": 3}
    lock(Path("places/empty"))
    (places / "empty").mkdir()
    locked = gallery("build", "city", "--data", "places", "--prune", "--prune")
    assert isinstance(locked.exception, UsageError)
    assert "nobody can say what is gone" in str(locked.exception)
    (places / "empty").rmdir()
    assert gallery("build", "city", "--data", "places", "--prune", "--prune").exit_code == 0
    assert landmarks() == {"Tôrre de Belém 2": 3}


@pytest.mark.parametrize(
    ("words", "error", "text"),
    [
        pytest.param(
            ["add", "city", "gone.png", "--landmark", "Dome"], UsageError, "no such photo", id="missing photo"
        ),
        pytest.param(["add", "gone", "places", "--landmark", "Dome"], GalleryError, "no such gallery", id="no gallery"),
        pytest.param(["add", "city", "places", "--landmark", " "], GalleryError, "landmark's name", id="empty name"),
        pytest.param(["add", "city", "places", "--landmark", "A", "--id", "1"], GalleryError, "`Dome`", id="taken id"),
        pytest.param(["add", "city", "places", "--landmark", "A", "--id", "-1"], GalleryError, "id", id="negative id"),
        pytest.param(["remove", "city"], UsageError, "--landmark NAME or --photo ID", id="nothing named"),
        pytest.param(["remove", "city", "--landmark", "Doom"], GalleryError, "did you mean `Dome`", id="mistyped"),
        pytest.param(["remove", "city", "--photo", "x"], GalleryError, "no photo with the id `x`", id="unknown photo"),
        pytest.param(
            ["rename", "city", "Dome", "--into", "塔"], GalleryError, "is called `塔` already", id="taken name"
        ),
        pytest.param(["rename", "city", "Doom", "--into", "A"], GalleryError, "did you mean", id="rename the unknown"),
        pytest.param(["merge", "city", "Doom", "--into", "Dome"], GalleryError, "did you mean", id="merge the unknown"),
    ],
)
def test_mistakes_are_named_and_change_nothing(
    city: Path, words: list[str], error: type[UsageError], text: str
) -> None:
    before = gallery("info", "city", "--json").stdout
    failed = gallery(*words)
    assert isinstance(failed.exception, error)
    assert text in str(failed.exception)
    assert gallery("info", "city", "--json").stdout == before
