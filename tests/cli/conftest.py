"""The command line in this process; and a model small enough to be written down, that sees a 4 × 4 grid of colors."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from obelisk.cli.main import run
from obelisk.embedding import Bundle, write_bundle
from obelisk.recognition import pack_background

Photograph = Callable[[Path, tuple[int, int, int], int], None]


def color_grid_network() -> bytes:
    """Photos (N, 3, 32, 32) → embeddings (N, 48): means of 8 × 8 pixels, of unit length."""
    nodes = [
        helper.make_node("AveragePool", ["photos"], ["grid"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["grid"], ["row"]),
        helper.make_node("LpNormalization", ["row"], ["embedding"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "color_grid",
        [helper.make_tensor_value_info("photos", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 48])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_color_bundle(folder: Path, name: str, attachments: Mapping[str, bytes] | None = None) -> Bundle:
    mean = (0.5, 0.5, 0.5) if name == "colors" else (0.4, 0.4, 0.4)
    return write_bundle(
        folder,
        network=color_grid_network(),
        card="# Colors\n",
        attachments=attachments,
        name=name,
        size=32,
        resize="squash",
        mean=mean,
        std=(0.5, 0.5, 0.5),
        dimensions=48,
        licence="MIT",
        data="none",
    )


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A training run, of which only the exported model matters here."""
    write_color_bundle(tmp_path / "run" / "model", "colors")
    return tmp_path / "run"


@pytest.fixture
def calibrated_bundle(tmp_path: Path) -> Path:
    attachments = {
        "background.npy": pack_background(np.eye(48, dtype=np.float32)),
        "calibration.json": b'{"slope": 5, "centre": -1, "growth": 0.05, "precisions": [[0.5, 0.9]]}',
    }
    return write_color_bundle(tmp_path / "calibrated", "colors", attachments).folder


@pytest.fixture
def other_bundle(tmp_path: Path) -> Path:
    return write_color_bundle(tmp_path / "other", "other").folder


@pytest.fixture
def photograph() -> Photograph:
    def save(path: Path, color: tuple[int, int, int], seed: int) -> None:
        rng = np.random.default_rng(seed)
        pixels = np.clip(np.array(color) + rng.normal(0, 20, size=(40, 40, 3)), 0, 255).astype(np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    return save


@pytest.fixture
def places(tmp_path: Path, photograph: Photograph) -> Path:
    """A folder per landmark: three landmarks of three photos, the names not all ASCII."""
    colors = {"Dome": (230, 60, 60), "Tôrre de Belém": (60, 220, 60), "塔": (60, 60, 240)}
    for number, (name, color) in enumerate(colors.items()):
        for photo in range(3):
            photograph(tmp_path / "places" / name / f"{photo}.png", color, 10 * number + photo)
    return tmp_path / "places"


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Forbid listing a folder; by hand, because tests may run as root, who may list everything."""
    scandir = os.scandir

    def lock(folder: Path) -> None:
        def refuse(path: str | int) -> Iterator[os.DirEntry[str]]:
            if str(path) == str(folder):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)

    return lock


Outcome = tuple[int, str, str]
Command = Callable[..., Outcome]


@pytest.fixture
def obelisk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process; return exit code, stdout and stderr, in which no traceback may be."""

    def command(*words: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["obelisk", *map(str, words)])
        code = 0
        try:
            run()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return command
