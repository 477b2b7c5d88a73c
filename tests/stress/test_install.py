"""A core installation, made as a user makes it: its size, its time, its first answer, and how an extra is added."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from obelisk.bundled import GALLERY
from obelisk.synthetic import render_photo

ROOT = Path(__file__).resolve().parents[2]
INSTALL_MIB, INSTALL_S = 520, 60
LIMIT = 1200  # s
COLD = 3.0  # times what importing the libraries takes that compute the first answer
LIBRARIES = "import faiss, numpy, onnxruntime, PIL.Image, pydantic, typer"

pytestmark = pytest.mark.stress


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A virtual environment with the package and no extras, and the seconds that pip took."""
    folder, clone = tmp_path_factory.mktemp("core") / "venv", tmp_path_factory.mktemp("clones") / "my clone"
    shutil.copytree(ROOT / "src", clone / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, clone)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=LIMIT)
    start = time.perf_counter()
    pip = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", clone]
    done = subprocess.run(pip, capture_output=True, text=True, check=False, timeout=LIMIT)
    if done.returncode:
        pytest.skip(f"pip reaches no packages: {done.stderr.splitlines()[-1]}")
    return folder, time.perf_counter() - start


def test_it_is_small_and_quick(installed: tuple[Path, float]) -> None:
    folder, seconds = installed
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(sizes) / 2**20 <= INSTALL_MIB
    assert seconds <= INSTALL_S


def test_it_has_no_torch(installed: tuple[Path, float]) -> None:
    command = [installed[0] / "bin" / "pip", "list", "--format=json"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT)
    names = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert not {"torch", "timm", "torchvision", "matplotlib", "onnx", "scikit-learn"} & names


@pytest.mark.skipif(not GALLERY.is_dir(), reason="this checkout carries no bundled gallery")
def test_the_first_answer_comes_without_any_configuration(installed: tuple[Path, float], tmp_path: Path) -> None:
    render_photo(0, 0).save(tmp_path / "photo.jpg")
    seconds, importing = [], []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([installed[0] / "bin" / "python", "-c", LIBRARIES], check=True, timeout=LIMIT)
        importing.append(time.perf_counter() - start)
        start = time.perf_counter()
        # Where nothing may be written: no configuration, no cache, no download.
        done = subprocess.run(
            [installed[0] / "bin" / "obelisk", "recognize", "photo.jpg", "--json"],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env={"HOME": "/nonexistent"},
            timeout=LIMIT,
        )
        seconds.append(time.perf_counter() - start)
    assert json.loads(done.stdout)["candidates"]
    assert min(seconds) <= COLD * min(importing)
    shipped = next(installed[0].glob("lib/python*/site-packages/obelisk/bundled/gallery"))
    assert not list(shipped.glob("*-wal")) + list(shipped.glob("*-shm"))


def test_the_command_of_a_missing_extra_adds_it(installed: tuple[Path, float], tmp_path: Path) -> None:
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    command = [installed[0] / "bin" / "obelisk", "recognize", tmp_path / "photo.heic", "--json"]
    places = {"PATH": os.environ["PATH"]}, {"PATH": f"{installed[0] / 'bin'}:{os.environ['PATH']}"}
    for place in places:  # a shell outside the environment, and one in it
        failed = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | place, timeout=LIMIT
        )
        error = json.loads(failed.stdout)["error"]
        advice = error.partition("photo.heic · ")[2].removesuffix(", or save the photo as JPEG")
        assert "pip install " in advice
        subprocess.run(f"{advice} --dry-run --quiet", shell=True, check=True, env=os.environ | place, timeout=LIMIT)
    subprocess.run(advice, shell=True, check=True, env=os.environ | place, timeout=LIMIT)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)
    assert "needs the extra" not in done.stdout
    assert "damaged or incomplete HEIC photo" in done.stdout
