"""The examples run as they are, on rendered photos, and need no more than they say."""

from __future__ import annotations

import ast
import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import obelisk
from obelisk.config import Recipe
from obelisk.data import read_catalog

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NOTEBOOK = EXAMPLES / "recognize.ipynb"
CORE = {"numpy", "obelisk", "PIL", "polars", *sys.stdlib_module_names}
Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def run_script(name: str, *arguments: object) -> str:
        monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run_script


@pytest.fixture(scope="module")
def places(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos for each of the landmarks."""
    folder = tmp_path_factory.mktemp("places")
    catalog = read_catalog(tiny_dataset)
    for path, landmark in zip(
        catalog.locate_photos(catalog.references), catalog.references["landmark_id"], strict=True
    ):
        (folder / f"place {landmark}").mkdir(exist_ok=True)
        shutil.copy(path, folder / f"place {landmark}")
    return folder


@pytest.fixture(scope="module")
def holiday(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos and a file that is none."""
    folder = tmp_path_factory.mktemp("holiday")
    catalog = read_catalog(tiny_dataset)
    for path in catalog.locate_photos(catalog.queries)[:3]:
        shutil.copy(path, folder)
    (folder / "broken.jpg").write_bytes(b"no photo")
    return folder


def test_a_folder_is_named_and_counted(run: Run, holiday: Path) -> None:
    lines = run("name_a_folder.py", holiday).splitlines()
    assert len([line for line in lines if line.startswith(str(holiday))]) == 3
    assert "skipped: not a photo" in "".join(lines)
    assert lines[-1].split() == ["3", "unknown"]


def test_a_gallery_of_ones_own_answers(run: Run, places: Path, holiday: Path) -> None:
    photos = sorted(holiday.glob("*.jpg"))[:2]
    printed = run("own_gallery.py", places, "mycity", *photos)
    assert "Gallery('mycity', 6 landmarks, 60 photos, model " in printed
    assert printed.count(str(places)) >= 3  # the files of the nearest reference photos


def test_a_watched_folder_is_named_once(run: Run, holiday: Path) -> None:
    assert len(run("watch_folder.py", holiday, "--once").splitlines()) == 4


def test_two_recipes_are_trained_and_compared(
    run: Run, tiny_dataset: Path, tiny_recipe: Recipe, tiny_run: Any, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run.folder, tmp_path / "runs" / "tiny")  # a finished run is not trained again
    other = tiny_recipe.model_copy(update={"name": "other"})
    for recipe in (tiny_recipe, other):
        (tmp_path / f"{recipe.name}.toml").write_text(recipe.to_toml(), encoding="utf-8")
    lines = run("train_and_compare.py", tiny_dataset, "runs", "tiny.toml", "other.toml").splitlines()
    assert lines[0].startswith("tiny and other are level: ")
    assert [line.split(":")[0] for line in lines[1:]] == ["tiny", "other"]


def test_a_table_of_answers_is_read(run: Run, holiday: Path, tmp_path: Path) -> None:
    table = obelisk.to_polars(obelisk.Recognizer.open().recognize(sorted(holiday.iterdir()), threshold=0.0))
    table.write_parquet(tmp_path / "answers.parquet")
    printed = run("read_answers.py", tmp_path / "answers.parquet")
    assert "photos" in printed
    assert "not read: not a photo" in printed


def test_the_notebook_runs_and_shows_an_answer_a_gallery_and_an_explanation(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    client.execute()
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    kinds = [next(kind for kind in ("image/png", "text/html", "text/plain") if kind in data) for data in shown]
    assert kinds == ["text/html", "text/html", "text/plain", "image/png", "text/html", "text/html"]
    assert "data:image/jpeg" in shown[1]["text/html"]
    assert "Eiffel Tower" in shown[5]["text/html"] or "228 landmarks" in shown[5]["text/html"]


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert [cell["execution_count"] or cell["outputs"] for cell in cells if cell["cell_type"] == "code"] == [[]] * 7


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("name_a_folder.py", ["gone"], "gone"),
        ("own_gallery.py", ["gone", "mycity"], "no such folder · gone"),
        ("read_answers.py", ["gone.parquet"], "gone.parquet is no table of answers"),
        ("read_answers.py", [NOTEBOOK], "is no table of answers"),
        ("train_and_compare.py", ["gone", "runs"], "no such folder · gone"),
        ("watch_folder.py", ["gone"], "give a folder that exists"),
        ("http_client.py", ["http://localhost:9", "gone.jpg"], "gone.jpg was not answered by http://localhost:9"),
        ("http_client.py", ["http://localhost:9", NOTEBOOK], "was not answered by http://localhost:9"),
    ],
)
def test_a_wrong_argument_is_reported_without_a_traceback(
    run: Run, name: str, arguments: list[object], said: str
) -> None:
    with pytest.raises(SystemExit, match=said):
        run(name, *arguments)
    if name != "watch_folder.py":
        with pytest.raises(SystemExit, match=f"python examples/{name}"):
            run(name)


def test_without_torch_the_example_that_trains_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obelisk.training.train", None)
    with pytest.raises(SystemExit, match=r"training needs .* pip install"):
        run("train_and_compare.py", "data", "runs")


def imported(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_an_example_is_short_and_says_how_it_is_run_and_what_it_needs(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    documented = ast.get_docstring(ast.parse(source)) or ""
    modules = imported(source)
    assert len(source.splitlines()) <= 40
    assert f"python examples/{path.name} " in documented
    assert {name.partition(".")[0] for name in modules} <= CORE
    trains = any(name.startswith(("obelisk.training", "obelisk.experiments")) for name in modules)
    assert ("Needs the extra `train`." in documented) == trains


def test_the_notebook_needs_no_extra() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    modules = set().union(*(imported("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"))
    assert {name.partition(".")[0] for name in modules} <= CORE
    assert not [name for name in modules if name.startswith(("obelisk.training", "obelisk.experiments"))]
