"""What the core install can do: everything but training, with nothing of the extras there to be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

# Takes the modules named in the first argument out of Python's sight, then runs the command line on the rest.
PROGRAM = """
import json, sys
from importlib.machinery import PathFinder

hidden = set(json.loads(sys.argv.pop(1)))

class CoreOnly:
    find_distributions = PathFinder.find_distributions

    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [CoreOnly if finder is PathFinder else finder for finder in sys.meta_path]
from obelisk.cli.main import run
run()
"""


def core_distributions(name: str = "obelisk-landmarks") -> Iterator[str]:
    """What an installation without extras brings, by name; a package may come up more than once."""
    yield name
    for line in requires(name) or []:
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            yield from core_distributions(wanted.name.lower().replace("_", "-"))


@pytest.fixture(scope="module")
def hidden() -> list[str]:
    """Every module installed here that a core installation lacks."""
    core = set(core_distributions())
    return [
        module
        for module, owners in packages_distributions().items()
        if not core & {owner.lower().replace("_", "-") for owner in owners}
    ]


@pytest.fixture
def core(hidden: list[str], tmp_path: Path) -> Any:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PROGRAM, json.dumps(hidden), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=300)

    return run


def test_the_extras_are_out_of_sight(hidden: list[str]) -> None:
    assert {"torch", "timm", "torchvision", "matplotlib", "sklearn", "scipy", "onnx", "pytest"} <= set(hidden)
    assert not {"numpy", "PIL", "onnxruntime", "faiss", "polars", "pydantic", "typer", "rich"} & set(hidden)


# Run one after the other, in a folder with `places`, a folder a landmark, and `run`, which holds a model.
PATH = [
    ("data", "check", "places"),
    ("gallery", "build", "city", "--data", "places", "--model", "run"),
    ("gallery", "info", "city"),
    ("recognize", "places", "--gallery", "city", "--json"),
    ("gallery", "remove", "city", "--landmark", "塔"),
    ("gallery", "add", "city", "places/塔/0.png", "--landmark", "Tower"),
    ("gallery", "check", "city"),
    ("recognize", "places/塔/1.png", "--gallery", "city", "--explain", "pictures"),
    ("bench", "places/Dome/0.png", "--gallery", "city", "--answers", "1"),
]


def test_all_but_training_works_without_the_extras(core: Any, places: Path, run_folder: Path) -> None:
    done = [core(*words) for words in PATH]
    assert [(words, one.stderr) for words, one in zip(PATH, done, strict=True) if one.returncode] == []
    assert "Tower" in done[-2].stdout
    assert "timm and scikit-learn not installed" in done[-1].stderr


@pytest.mark.parametrize("words", [("train", "arcface", "--data", "places", "--out", "new"), ("demo",)])
def test_training_says_what_to_install(core: Any, places: Path, words: tuple[str, ...]) -> None:
    done = core(*words)
    assert done.returncode == 2
    assert "pip install " in done.stderr
    assert "[train]" in done.stderr
