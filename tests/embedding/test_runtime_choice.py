"""Which runtime runs a network: a stand-in for OpenVINO that is fast, slow, wrong or broken; and the real one."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from obelisk.embedding import Bundle, Embedder, OnnxModel
from obelisk.embedding import runtime_choice as choice
from obelisk.embedding.runtime_choice import decide, make_probes, open_network, read_runtime
from obelisk.errors import MissingExtraError, ModelError, UsageError

WriteBundle = Callable[..., Bundle]
Rows = np.ndarray[Any, Any]

has_openvino = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not has_openvino, reason="the extra `openvino` is not installed")


class StandIn:
    """A runtime whose arithmetics are known beforehand: how long a photo takes, seconds, and how wrong it is."""

    def __init__(
        self, network: bytes, size: int, *, arithmetic: str = "f32", ranges: object = None, where: object = ""
    ) -> None:
        self.seconds, self.noise = self.arithmetics[arithmetic]
        if self.noise is None:
            raise ModelError("cannot be compiled")
        self.input_shape = ["N", 3, size, size]
        self._plain = OnnxModel(network)

    arithmetics: dict[str, tuple[float, float | None]] = {}  # noqa: RUF012

    def run(self, rows: Rows) -> Rows:
        found = self._plain.run(rows)
        return found + np.float32(self.noise) * np.random.default_rng(0).normal(size=found.shape).astype(np.float32)

    def features(self, rows: Rows) -> Rows | None:
        return None


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Install the stand-in, with arithmetics from fastest to slowest; ONNX Runtime takes 5 ms a photo."""

    def install(**arithmetics: tuple[float, float | None]) -> None:
        monkeypatch.setenv("OBELISK_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("OBELISK_RUNTIME", "auto")
        monkeypatch.setattr(StandIn, "arithmetics", arithmetics)
        monkeypatch.setattr(choice, "OpenVinoModel", StandIn)
        monkeypatch.setattr(choice, "find_arithmetics", lambda: list(arithmetics))
        monkeypatch.setattr(choice, "best_time", lambda run, photos: getattr(run.__self__, "seconds", 0.005))
        monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: name)
        monkeypatch.setattr(choice.importlib.metadata, "version", lambda name: "1.0")

    return install


# Arithmetic → (seconds, noise), what is taken by itself, what when OpenVINO is asked for.
CASES: dict[str, tuple[dict[str, tuple[float, float | None]], str, str | None]] = {
    "right and faster": ({"f32": (0.0, 0.0)}, "openvino-f32", "openvino-f32"),
    "right and slower": ({"f32": (0.02, 0.0)}, "onnxruntime", "openvino-f32"),
    "fast and wrong": ({"f32": (0.0, 0.1)}, "onnxruntime", None),
    "not to be compiled": ({"f32": (0.0, None)}, "onnxruntime", None),
    "bfloat16 is right": ({"bf16": (0.0, 0.001), "f32": (0.02, 0.0)}, "openvino-bf16", "openvino-bf16"),
    "bfloat16 is wrong": ({"bf16": (0.0, 0.1), "f32": (0.0, 0.0)}, "openvino-f32", "openvino-f32"),
    "int8 is right": ({"i8": (0.0, 0.01), "f32": (0.02, 0.0)}, "openvino-i8", "openvino-i8"),
    "int8 is wrong": ({"i8": (0.0, 0.1), "f32": (0.0, 0.0)}, "openvino-f32", "openvino-f32"),
}


@pytest.mark.parametrize(("arithmetics", "by_itself", "asked_for"), CASES.values(), ids=CASES)
def test_openvino_is_taken_when_it_is_right_and_faster(
    tiny_network: bytes,
    stand_in: Callable[..., None],
    arithmetics: dict[str, tuple[float, float | None]],
    by_itself: str,
    asked_for: str | None,
) -> None:
    stand_in(**arithmetics)
    ranges = {"a tensor": (0.0, 6.0)}
    assert decide(tiny_network, 32, ranges, must_be_faster=True) == by_itself
    if asked_for is None:
        with pytest.raises(ModelError, match=r"differ from ONNX Runtime's.*OBELISK_RUNTIME=onnxruntime"):
            decide(tiny_network, 32, ranges, must_be_faster=False)
    else:
        assert decide(tiny_network, 32, ranges, must_be_faster=False) == asked_for


def test_without_ranges_nothing_is_computed_in_int8(tiny_network: bytes, stand_in: Callable[..., None]) -> None:
    stand_in(i8=(0.0, 0.0), f32=(0.0, 0.0))
    assert decide(tiny_network, 32, must_be_faster=True) == "openvino-f32"


def test_a_decision_is_made_once(
    write: WriteBundle,
    tiny_network: bytes,
    stand_in: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    stand_in(f32=(0.0, 0.0))
    path = write("bundle", tiny_network).folder / "model.onnx"
    assert isinstance(open_network(path, 32, "auto"), StandIn)
    (kept,) = (tmp_path / "cache" / "runtimes").iterdir()
    monkeypatch.setattr(choice, "decide", None)
    assert isinstance(open_network(path, 32, "auto"), StandIn)
    kept.write_text(json.dumps({"engine": "onnxruntime"}))
    assert isinstance(open_network(path, 32, "auto"), OnnxModel)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"engine": "a steam engine"}', '{"engine": ["openvino-f32"]}'])
def test_a_damaged_decision_is_made_again(
    write: WriteBundle, tiny_network: bytes, stand_in: Callable[..., None], tmp_path: Path, content: str
) -> None:
    stand_in(f32=(0.0, 0.0))
    path = write("bundle", tiny_network).folder / "model.onnx"
    open_network(path, 32, "auto")
    (kept,) = (tmp_path / "cache" / "runtimes").iterdir()
    kept.write_text(content)
    assert isinstance(open_network(path, 32, "auto"), StandIn)
    assert json.loads(kept.read_text()) == {"engine": "openvino-f32"}


def test_a_cache_that_cannot_be_written_stops_nothing(
    write: WriteBundle,
    tiny_network: bytes,
    stand_in: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    stand_in(f32=(0.0, 0.0))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OBELISK_CACHE", str(tmp_path / "file"))
    assert isinstance(open_network(write("bundle", tiny_network).folder / "model.onnx", 32, "auto"), StandIn)


def test_the_environment_overrides_the_choice(
    write: WriteBundle, stand_in: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tiny_network: bytes, photo: Path
) -> None:
    bundle = write("bundle", tiny_network)
    stand_in(f32=(0.0, 0.001))
    expected = OnnxModel(tiny_network)
    monkeypatch.setenv("OBELISK_RUNTIME", "onnxruntime")
    plain = Embedder(bundle).embed_one(photo).embedding
    monkeypatch.setenv("OBELISK_RUNTIME", "openvino")
    other = Embedder(bundle).embed_one(photo).embedding
    assert expected is not None
    assert plain is not None
    assert other is not None
    assert 0.99 < float(plain @ other) / float(np.linalg.norm(other)) < 1.0
    monkeypatch.setenv("OBELISK_RUNTIME", "steam")
    with pytest.raises(UsageError, match=r"OBELISK_RUNTIME=steam.*auto, onnxruntime, openvino"):
        Embedder(bundle)


def test_without_openvino_onnx_runtime_runs_and_asking_for_it_says_how_to_get_it(
    write: WriteBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write().folder / "model.onnx"
    monkeypatch.delenv("OBELISK_RUNTIME", raising=False)
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: None)
    assert read_runtime() == "auto"
    assert isinstance(open_network(path, 32, "auto"), OnnxModel)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[openvino\]"):
        open_network(path, 32, "openvino")


def test_probes_are_the_same_everywhere_and_unlike_each_other() -> None:
    probes = make_probes(64)
    assert np.array_equal(probes, make_probes(64))
    assert probes.shape == (8, 3, 64, 64)
    assert np.abs(probes).max() <= 1
    flat = probes.reshape(8, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(8)).max() < 0.9


@needs_openvino
@pytest.mark.filterwarnings("default")  # of OpenVINO's own imports
def test_openvino_gives_the_rows_of_onnx_runtime_whatever_the_thread(tiny_network: bytes) -> None:
    from obelisk.embedding.openvino_model import OpenVinoModel

    model, plain = OpenVinoModel(tiny_network, 32), OnnxModel(tiny_network)
    photos = make_probes(32)
    rows = model.run(photos)
    assert np.allclose(rows, plain.run(photos), atol=1e-5)
    assert model.features(photos) is None
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda place: model.run(photos[place % 8][np.newaxis])[0], range(64)))
    assert all(np.array_equal(row, rows[place % 8]) for place, row in enumerate(again))


@needs_openvino
@pytest.mark.filterwarnings("default")
def test_a_network_that_openvino_cannot_run_is_one_error() -> None:
    from obelisk.embedding.openvino_model import OpenVinoModel

    with pytest.raises(ModelError, match="cannot be run by OpenVINO") as caught:
        OpenVinoModel(b"", 32)
    assert len(str(caught.value).splitlines()) == 1
