"""``obelisk gallery``: build, info, check."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from obelisk.cli.gallery import gallery_app
from obelisk.embedding import write_bundle
from obelisk.errors import DataError, GalleryError, ModelError, UsageError

app = typer.Typer()
app.add_typer(gallery_app)


def gallery(*words: object) -> Result:
    return CliRunner().invoke(app, ["gallery", *map(str, words)])


def test_builds_from_a_run_and_shows_what_it_holds(tmp_path: Path, places: Path, run_folder: Path) -> None:
    city = tmp_path / "city"
    built = gallery("build", city, "--data", places, "--model", run_folder)
    assert (built.exit_code, built.stderr) == (0, "embedding photos: 9 of 9\n")
    assert built.stdout == f"{city}: 9 photos of 3 landmarks (9 new)\n"

    again = gallery("build", city, "--data", places, "--model", run_folder / "model")
    assert again.stdout == f"{city}: 9 photos of 3 landmarks (9 unchanged)\n"

    facts = json.loads(gallery("info", city, "--json").stdout)
    assert (facts["model"], facts["dimensions"], facts["landmarks"], facts["photos"]) == ("colors", 48, 3, 9)
    assert facts["fingerprint"] in gallery("info", city).stdout
    assert facts["threshold"] is None
    assert gallery("check", city).stdout == f"{city}: sound, 9 photos of 3 landmarks\n"


def test_bad_photos_are_named_and_the_gallery_is_built(tmp_path: Path, places: Path, run_folder: Path) -> None:
    (places / "Dome" / "text.jpg").write_text("no photo")
    (places / "Ruin").mkdir()
    (places / "Ruin" / "empty.png").write_bytes(b"")
    (places / "Void").mkdir()
    built = gallery("build", tmp_path / "city", "--data", places, "--model", run_folder)
    assert built.exit_code == 1
    assert "9 photos of 3 landmarks" in built.stdout
    for expected in (
        "text.jpg",
        "empty.png",
        "2 of 11 photos could not be used",
        "no usable photo of `Ruin`",
        "'Void'",
    ):
        assert expected in built.stderr


def test_a_model_that_cannot_be_used_leaves_nothing_in_the_way(tmp_path: Path, places: Path, run_folder: Path) -> None:
    rule = {"size": 32, "resize": "squash", "mean": (0.5,) * 3, "std": (0.5,) * 3, "licence": "MIT", "data": "none"}
    good = (run_folder / "model" / "model.onnx").read_bytes()
    for name, network, dimensions in (("garbage", b"no network", 48), ("too long", good, 47)):
        write_bundle(tmp_path / name, network=network, card="", name=name, dimensions=dimensions, **rule)
        failed = gallery("build", tmp_path / "city", "--data", places, "--model", tmp_path / name)
        assert isinstance(failed.exception, ModelError)
        assert list(tmp_path.glob("city*")) == []


def test_a_folder_that_may_not_be_listed_is_named_and_the_gallery_is_built(
    tmp_path: Path, places: Path, run_folder: Path, lock: Callable[[Path], None]
) -> None:
    lock(places / "Dome")
    built = gallery("build", tmp_path / "city", "--data", places, "--model", run_folder)
    assert built.exit_code == 1
    assert "6 photos of 2 landmarks" in built.stdout
    assert f"cannot be searched: Permission denied · {places / 'Dome'}" in built.stderr
    assert "1 folder could not be used" in built.stderr


def test_names_and_paths_cannot_command_the_terminal(
    tmp_path: Path, places: Path, run_folder: Path, obelisk: Callable[..., tuple[int, str, str]]
) -> None:
    odd = "evil\x1b[31m\x9b1m\n\u202e[b]"
    (places / "Dome").rename(places / odd)
    city = tmp_path / "ci\nty\x1b[0m"
    (places / odd / "bad\x1b.png").write_text("no photo")
    assert obelisk("gallery", "build", city, "--data", places, "--model", run_folder)[0] == 1
    photo = places / odd / "0.png"
    shown = r"evil\u001b[31m\u009b1m\u000a\u202e[b]"
    for words in (
        ("gallery", "build", city, "--data", places),
        ("gallery", "info", city, "--landmarks"),
        ("gallery", "remove", city, "--landmark", odd + "x"),
        ("recognize", photo, "--gallery", city),
        ("data", "check", places),
    ):
        _, out, err = obelisk(*words)
        assert shown in out + err, words
        assert not {"\x1b", "\x9b", "\u202e"} & set(out + err), words
    _, out, _ = obelisk("recognize", photo, "--gallery", city, "--json")
    assert json.loads(out)["landmark"] == odd
    assert "\x9b" not in out


def test_check_prints_each_fault(tmp_path: Path, places: Path, run_folder: Path) -> None:
    city = tmp_path / "city"
    gallery("build", city, "--data", places, "--model", run_folder)
    with closing(sqlite3.connect(city / "gallery.sqlite")) as connection, connection:
        connection.execute("UPDATE embeddings SET vector = x'00' WHERE row = 4")
    (city / "model" / "bundle.json").unlink()
    checked = gallery("check", city)
    assert checked.exit_code == 1
    assert len(checked.stdout.splitlines()) == 2
    assert "the copy of the model cannot be used" in checked.stdout
    assert "row 4 has 1 bytes, not 96" in checked.stdout
    assert checked.stderr.startswith("if nothing else helps, move the folder away and build a new one: `obelisk")


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        ("model/background.npy", None, "`background.npy` is missing"),
        ("model/calibration.json", b"{}", "the attachment `calibration.json` was changed"),
        ("calibration.json", b"garbage", "unreadable calibration: not JSON"),
        ("calibration.json", b'{"slope": NaN, "centre": 0, "growth": 0}', "unreadable calibration: slope"),
        ("calibration.json", b'{"format": 5, "slope": 1, "centre": 0, "growth": 0}', "unreadable calibration: format"),
    ],
)
def test_check_reads_what_recognition_reads(
    tmp_path: Path, places: Path, calibrated_bundle: Path, file: str, content: bytes | None, text: str
) -> None:
    city = tmp_path / "city"
    gallery("build", city, "--data", places, "--model", calibrated_bundle)
    assert gallery("check", city).exit_code == 0
    (city / file).unlink() if content is None else (city / file).write_bytes(content)
    checked = gallery("check", city)
    assert checked.exit_code == 1
    assert text in checked.stdout
    assert len(checked.stdout.splitlines()) == 1


def test_a_model_that_lost_an_attachment_builds_nothing(tmp_path: Path, places: Path, calibrated_bundle: Path) -> None:
    (calibrated_bundle / "calibration.json").unlink()
    built = gallery("build", tmp_path / "city", "--data", places, "--model", calibrated_bundle)
    assert isinstance(built.exception, ModelError)
    assert "`calibration.json` is missing" in str(built.exception)
    assert not list(tmp_path.glob("city*"))


@pytest.mark.parametrize(
    ("words", "error", "text"),
    [
        pytest.param(["--data", "places", "--model", "nowhere"], ModelError, "no model bundle", id="missing model"),
        pytest.param(["--data", "nowhere", "--model", "run"], DataError, "nowhere", id="missing data"),
        pytest.param(["--data", "places", "--model", "other"], GalleryError, "obelisk gallery build", id="other model"),
    ],
)
def test_mistakes_are_named_and_cost_nothing(
    tmp_path: Path,
    places: Path,
    run_folder: Path,
    other_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    error: type[UsageError],
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    gallery("build", "city", "--data", places, "--model", run_folder)
    before = gallery("info", "city", "--json").stdout
    failed = gallery("build", "city", *words)
    assert isinstance(failed.exception, error)
    assert failed.exception.exit_code == 2
    with pytest.raises(error, match=text):
        raise failed.exception
    assert gallery("info", "city", "--json").stdout == before


@pytest.mark.parametrize("command", ["info", "check"])
def test_no_gallery_is_a_mistake(tmp_path: Path, command: str) -> None:
    failed = gallery(command, tmp_path)
    assert isinstance(failed.exception, GalleryError)
    assert "`gallery.sqlite` is missing" in str(failed.exception)
