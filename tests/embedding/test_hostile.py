"""Bundles that are damaged, or made to do harm: one clear error each, and nothing read outside the folder."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from obelisk.embedding import Bundle, Embedder, Member, OnnxModel
from obelisk.embedding.network_check import check_network
from obelisk.errors import ModelError

WriteBundle = Callable[..., Bundle]
Fields = dict[str, Any]


def edit(bundle: Bundle, change: Callable[[Fields], object]) -> Path:
    path = bundle.folder / "bundle.json"
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))
    return bundle.folder


# What is done to bundle.json, and what the error says.
MANIFESTS: dict[str, tuple[Callable[[Fields], object], str]] = {
    "another fingerprint": (lambda f: f.update(fingerprint="0" * 32), "does not match the manifest's"),
    "another photo rule": (lambda f: f.update(resize="crop"), "does not match the manifest's"),
    "a newer format": (lambda f: f.update(format=3, shape="round"), "bundle format 3 is newer than 2 .* upgrade"),
    "an unknown key": (lambda f: f.update(shape="round"), "shape: Extra inputs are not permitted"),
    "a missing key": (lambda f: f.pop("licence"), "licence: Field required"),
    "no photo rule": (lambda f: f.pop("size"), "are needed, or `members`"),
    "a huge side": (lambda f: f.update(size=10**9), "size: Input should be less than or equal to 4096"),
    "a huge number of dimensions": (lambda f: f.update(dimensions=10**12), "dimensions: Input should be less"),
    "a deviation of zero": (
        lambda f: f.update(std=[0, 1, 1]),
        "std.0: Input should be greater than or equal to 0.0001",
    ),
    "a deviation next to zero": (
        lambda f: f.update(std=[1e-300, 1, 1]),
        "std.0: Input should be greater than or equal",
    ),
    "a huge deviation": (lambda f: f.update(std=[1e300, 1, 1]), "std.0: Input should be less than or equal"),
    "a huge mean": (lambda f: f.update(mean=[1e300, 0, 0]), "mean.0: Input should be less than or equal to 10"),
    "a format in quotes": (lambda f: f.update(format="9"), "format: Input should be a valid integer"),
    "format 0": (lambda f: f.update(format=0), "format: Input should be greater than or equal to 1"),
    "a negative format": (lambda f: f.update(format=-5), "format: Input should be greater than or equal to 1"),
    "a format that is true": (lambda f: f.update(format=True), "format: Input should be a valid integer"),
    "text for a number": (lambda f: f.update(size="large"), "size: Input should be a valid integer"),
    "an attachment elsewhere": (lambda f: f.update(files={"../x": "0"}), "cannot be the name of a file"),
    "an attachment at the root": (lambda f: f.update(files={"/etc/passwd": "0"}), "cannot be the name of a file"),
    "an attachment in hiding": (lambda f: f.update(files={".x": "0"}), "cannot be the name of a file"),
    "the manifest as attachment": (lambda f: f.update(files={"bundle.json": "0"}), "cannot be the name of a file"),
    "the network as attachment": (lambda f: f.update(files={"model.onnx": "0"}), "one file is named twice"),
}


@pytest.mark.parametrize(("change", "said"), MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_that_does_not_fit_is_refused(
    write: WriteBundle, change: Callable[[Fields], object], said: str
) -> None:
    folder = edit(write(), change)
    with pytest.raises(ModelError, match=said) as caught:
        Bundle.load(folder)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("file", ["../other/model.onnx", "/etc/hostname", "a/b.onnx", "", ".hidden", "a\0b", "x" * 200])
def test_a_network_outside_the_folder_is_refused(write: WriteBundle, file: str) -> None:
    write("other")

    def change(fields: Fields) -> None:
        rule = {key: fields.pop(key) for key in ("size", "resize", "mean", "std")}
        fields["members"] = [{"file": file, **rule, "dimensions": 48}]

    with pytest.raises(ModelError, match="cannot be the name of a file"):
        Bundle.load(edit(write(), change))


# The bytes of bundle.json, and what the error says.
TEXTS = {
    "nothing": (b"", "not JSON"),
    "no JSON": (b"{]", "not JSON"),
    "no text": (b"\xff\xfe\0\0", "not JSON"),
    "a list": (b"[]", "the whole file"),
    "nested a million deep": (b"[" * 1_000_000, "not JSON"),
    "two mebibytes": (b" " * 2**21, "more than 1,048,576 bytes"),
    "a number of many digits": (b'{"size": ' + b"9" * 5000 + b"}", "unreadable manifest"),
}


@pytest.mark.parametrize(("text", "said"), TEXTS.values(), ids=TEXTS)
def test_a_manifest_that_is_none_is_refused(write: WriteBundle, text: bytes, said: str) -> None:
    bundle = write()
    (bundle.folder / "bundle.json").write_bytes(text)
    with pytest.raises(ModelError, match=said):
        Bundle.load(bundle.folder)


@pytest.mark.parametrize("name", ["model.onnx", "bundle.json"])
@pytest.mark.parametrize("instead", ["nothing", "a folder", "a pipe", "a broken link"])
def test_a_missing_file_is_named(write: WriteBundle, name: str, instead: str) -> None:
    bundle = write()
    path = bundle.folder / name
    path.unlink()
    if instead == "a folder":
        path.mkdir()
    elif instead == "a pipe" and not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    elif instead == "a pipe":
        os.mkfifo(path)
    elif instead == "a broken link":
        path.symlink_to("nowhere")
    with pytest.raises(ModelError, match=f"`{name}` is missing"):
        Bundle.load(bundle.folder)


def outside_weights(location: str) -> bytes:
    """Return a network whose weights lie in another file."""
    return from_nodes(
        [helper.make_node("Flatten", ["photos"], ["row"]), helper.make_node("MatMul", ["row", "w"], ["embedding"])],
        initialisers=[outside_tensor(location)],
    )


def outside_tensor(location: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros((3 * 32 * 32, 48), np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def from_nodes(nodes: list[onnx.NodeProto], **given: Any) -> bytes:
    graph = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info("photos", TensorProto.FLOAT, ["N", 3, given.pop("size", 32), 32])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 48])],
        given.pop("initialisers", []),
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("made.up", 1)]
    return bytes(helper.make_model(graph, opset_imports=domains, ir_version=8, **given).SerializeToString())


def in_a_branch(location: str) -> bytes:
    """Hide a tensor that lies elsewhere in the branches of an If."""
    value = helper.make_node("Constant", [], ["out"], value=outside_tensor(location))
    branch = helper.make_graph([value], "branch", [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)])
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["yes"], ["w"], then_branch=branch, else_branch=branch),
        helper.make_node("Flatten", ["photos"], ["row"]),
        helper.make_node("MatMul", ["row", "w"], ["embedding"]),
    ]
    return from_nodes(nodes)


def constant_of(shape: list[int]) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array(shape, np.int64))),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Flatten", ["photos"], ["row"]),
        helper.make_node("MatMul", ["row", "zeros"], ["embedding"]),
    ]


SAME_SIZE = helper.make_node("Flatten", ["photos"], ["embedding"])
NETWORKS: dict[str, tuple[bytes, str]] = {
    "no network": (b"hello", "damaged or cut off|cannot be run"),
    "empty": (b"", "cannot be run"),
    "weights above the folder": (outside_weights("../../secret.bin"), "weights in another file"),
    "weights at the root": (outside_weights("/etc/passwd"), "weights in another file"),
    "weights beside it": (outside_weights("model.onnx"), "weights in another file"),
    "weights outside, in a branch": (in_a_branch("/etc/passwd"), "weights in another file"),
    "an operation of its own": (
        from_nodes([helper.make_node("Run", ["photos"], ["embedding"], domain="made.up")]),
        "cannot be run",
    ),
    "a file to write": (
        from_nodes([helper.make_node("PyFunction", ["photos"], ["embedding"], domain="ai.onnx.contrib")]),
        "cannot be run",
    ),
    "a shape beyond 64 bits": (from_nodes(constant_of([2**62, 2**62])), "cannot be run"),
    "a negative shape": (from_nodes(constant_of([-5, 48])), "cannot be run"),
    "an input of another size": (from_nodes([SAME_SIZE], size=48), r"takes an input of .* not photos of 32 pixels"),
    "another number of dimensions": (from_nodes([SAME_SIZE]), "gives .*3072.* not an embedding of 48"),
}


@pytest.mark.parametrize(("network", "said"), NETWORKS.values(), ids=NETWORKS)
def test_a_hostile_network_is_refused(
    write: WriteBundle, photo: Path, network: bytes, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = Bundle.load(write("bundle", network).folder)
    with pytest.raises(ModelError, match=said) as caught:
        Embedder(bundle).embed_one(photo)
    assert len(str(caught.value).splitlines()) == 1
    assert capfd.readouterr() == ("", "")


def test_a_network_cut_off_anywhere_is_refused(tiny_network: bytes) -> None:
    for end in range(0, len(tiny_network), max(1, len(tiny_network) // 40)):
        with pytest.raises(ModelError):
            OnnxModel(tiny_network[:end])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(ModelError):
        check_network(data)


def test_a_graph_nested_without_end_is_refused() -> None:
    message = b""
    for _ in range(40):  # graph → node → attribute → graph …
        for tag in (0x3A if message == b"" else 0x32, 0x2A, 0x0A):
            message = bytes([tag]) + varint(len(message)) + message
    with pytest.raises(ModelError, match="damaged"):
        check_network(bytes([0x3A]) + varint(len(message)) + message)


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def test_more_members_than_an_ensemble_may_have_are_refused(write: WriteBundle) -> None:
    rule = {"size": 32, "resize": "squash", "mean": [0.5] * 3, "std": [0.5] * 3, "dimensions": 48}
    members = [Member.model_validate({"file": f"{n}.onnx", **rule}) for n in range(17)]

    def change(fields: Fields) -> None:
        for key in ("size", "resize", "mean", "std"):
            del fields[key]
        fields["members"] = [member.model_dump() for member in members]

    with pytest.raises(ModelError, match="members: Tuple should have at most 16 items"):
        Bundle.load(edit(write(), change))


def test_the_runtime_is_not_loaded_to_read_a_bundle() -> None:
    code = "import sys, obelisk.embedding; print('onnxruntime' in sys.modules or 'openvino' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "False"


def test_running_a_network_sends_nothing(write: WriteBundle, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code = "import sys; from obelisk.embedding import Bundle, Embedder; Embedder(Bundle.load(sys.argv[1]))"
    # ONNX Runtime reports nothing where it sees a CI or its own tests at work.
    silent = ("CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS")
    environment = {name: value for name, value in os.environ.items() if name not in silent and "XDG" not in name}
    command = [sys.executable, "-c", code, str(write().folder)]
    environment["HOME"] = str(home)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    assert done.stderr == ""
    assert [path for path in home.rglob("*") if "icrosoft" in str(path) or "onnxruntime" in str(path)] == []
