"""A network that is new to this machine is first used in a process that can be ended."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from obelisk.bundled import bundled_gallery
from obelisk.embedding import Bundle, Embedder
from obelisk.embedding.network_check import check_network
from obelisk.embedding.network_trial import VARIABLE, TrialLimits, tried, try_first
from obelisk.errors import ModelError

WriteBundle = Callable[..., Bundle]


@pytest.fixture(autouse=True)
def new_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine that has seen no network; trials take place on it."""
    monkeypatch.setenv("OBELISK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("obelisk.embedding.runtime.try_first", try_first)
    tried.clear()
    return tmp_path / "cache"


@pytest.fixture
def count_trials(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fingerprints of the networks that were tried, without trying them."""
    counted: list[str] = []
    monkeypatch.setattr("obelisk.embedding.network_trial.try_network", lambda path, member, name: counted.append(name))
    return counted


def constant(name: str, value: Any) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value)))


def from_nodes(*nodes: onnx.NodeProto, **given: Any) -> bytes:
    """A network from photos to ``embedding``, by way of ``row``, the photo as a vector."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["photos"], ["row"]), *nodes],
        "hostile",
        [helper.make_tensor_value_info("photos", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("made.up", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8, **given).SerializeToString())


def constant_of(rows: int, columns: int) -> bytes:
    return from_nodes(
        constant("shape", [rows, columns]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("MatMul", ["row", "zeros"], ["embedding"]),
    )


def functions_that_double(depth: int) -> bytes:
    """Functions that call the next one twice each: 2 ** depth nodes once they are put in."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("made.up", 1)]
    functions = []
    for level in range(depth):
        inner = {"op_type": f"f{level + 1}", "domain": "made.up"} if level < depth - 1 else {"op_type": "Abs"}
        nodes = [helper.make_node(inputs=["x"], outputs=["y"], **inner)]
        nodes.append(helper.make_node(inputs=["y"], outputs=["z"], **inner))
        functions.append(helper.make_function("made.up", f"f{level}", ["x"], ["z"], nodes, opsets))
    return from_nodes(helper.make_node("f0", ["row"], ["embedding"], domain="made.up"), functions=functions)


def endless_loop(operator: str = "Loop") -> onnx.NodeProto:
    scalars = {"i": TensorProto.INT64, "on": TensorProto.BOOL, "v": TensorProto.FLOAT}
    ends = {f"{name}_": kind for name, kind in scalars.items() if name != "i"}
    body = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_"]) for name in ("on", "v")],
        "body",
        [helper.make_tensor_value_info(name, kind, None) for name, kind in scalars.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in ends.items()],
    )
    return helper.make_node(operator, ["most", "yes", "row"], ["embedding"], body=body)


def test_a_sound_network_is_tried_once(write: WriteBundle, new_machine: Path) -> None:
    bundle = write()
    before = Embedder(bundle)
    assert [path.name for path in (new_machine / "networks").iterdir()] == [bundle.fingerprint]
    assert before.engine == "onnxruntime"


def test_a_trial_imports_nothing_from_the_current_folder(
    write: WriteBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for module in ("json", "numpy", "onnxruntime"):
        (here / f"{module}.py").write_text("open('loaded', 'w')")
    monkeypatch.chdir(here)
    Embedder(write())
    assert not (here / "loaded").exists()


# What a network of less than a kilobyte asks for, and what the error says.
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a constant of 40 TB": (lambda: constant_of(3072, 10**10 // 3), "more than 258 MB for one photo"),
    "a constant of 8 GB": (lambda: constant_of(3072, 700_000), "more than 258 MB for one photo"),
    "a product of 40 GB": (
        lambda: from_nodes(
            constant("shape", [3072, 1]),
            helper.make_node("Reshape", ["row", "shape"], ["column"]),
            constant("times", [32, 1]),
            helper.make_node("Tile", ["column", "times"], ["long"]),
            helper.make_node("Transpose", ["long"], ["wide"]),
            helper.make_node("MatMul", ["long", "wide"], ["embedding"]),
        ),
        "more than 258 MB for one photo",
    ),
    "no network": (lambda: b"hello", "damaged or cut off"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
@pytest.mark.parametrize(("make", "said"), HOSTILE.values(), ids=HOSTILE)
def test_a_network_that_asks_for_too_much_is_refused(
    write: WriteBundle, new_machine: Path, make: Callable[[], bytes], said: str
) -> None:
    bundle = write("hostile", make())
    with pytest.raises(ModelError, match=said) as caught:
        Embedder(bundle)
    assert len(str(caught.value).splitlines()) == 1
    assert not (new_machine / "networks").exists()


def test_a_network_that_does_not_end_is_ended(write: WriteBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrialLimits, "of", lambda network_bytes, size: TrialLimits(1, 2**28))
    bundle = write("hostile", functions_that_double(60))
    with pytest.raises(ModelError, match=r"more than \d+ s .* OBELISK_TRUSTED=" + bundle.fingerprint):
        Embedder(bundle)


def test_a_loop_is_refused_unseen() -> None:
    """Its number of turns may depend on the photo, so a trial would prove nothing."""
    for operator in ("Loop", "Scan", "SequenceMap"):
        network = from_nodes(constant("most", 2**62), constant("yes", True), endless_loop(operator))
        with pytest.raises(ModelError, match=f"has a loop .`{operator}`"):
            check_network(network)


def test_a_network_of_too_many_parts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obelisk.embedding.network_check.MOST_FIELDS", 50)
    check_network(b"\x3a\x28" + b"\x0a\x00" * 20)
    with pytest.raises(ModelError, match="damaged"):
        check_network(b"\x3a\x78" + b"\x0a\x00" * 60)


def test_known_networks_are_not_tried(
    write: WriteBundle, new_machine: Path, count_trials: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = Bundle.load(bundled_gallery() / "model")
    try_first(shipped)
    try_first(shipped.save_to(new_machine / "copy"))
    assert count_trials == []

    bundle = write()
    try_first(bundle)
    tried.clear()  # as in the next process
    try_first(bundle)
    assert count_trials == [bundle.fingerprint]

    trusted = write("trusted", from_nodes())
    monkeypatch.setenv(VARIABLE, f"0,{trusted.fingerprint}")
    try_first(trusted)
    assert count_trials == [bundle.fingerprint]


def test_a_cache_that_cannot_be_written_costs_one_trial_a_process(
    write: WriteBundle, new_machine: Path, count_trials: list[str]
) -> None:
    new_machine.write_text("not a folder")
    bundle = write()
    try_first(bundle)
    try_first(bundle)
    assert count_trials == [bundle.fingerprint]


def test_without_a_home_nothing_is_remembered(
    write: WriteBundle, count_trials: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("obelisk.embedding.network_trial.cache_folder", no_home)
    bundle = write()
    try_first(bundle)
    assert count_trials == [bundle.fingerprint]


def test_limits_grow_with_the_network_and_the_photo() -> None:
    small, large, wide = TrialLimits.of(10**6, 224), TrialLimits.of(10**9, 224), TrialLimits.of(10**9, 448)
    assert small.seconds == 3
    assert small.memory < 2**29
    assert large.seconds > 100
    assert large.memory > 4 * 10**9
    assert wide.seconds > 3 * large.seconds
    assert wide.memory > large.memory
