"""Bundles made to do harm: each gets a clear error, within 5 s of processor time and 512 MB."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from obelisk.embedding import Bundle, write_bundle

pytestmark = [pytest.mark.stress, pytest.mark.skipif(sys.platform != "linux", reason="measures as Linux does")]

SECONDS, MEGABYTES = 5.0, 512
D = 48
RULE: dict[str, Any] = {"size": 32, "resize": "squash", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

Change = Callable[[Path], object]

USE = r"""
import json, re, resource, sys
from pathlib import Path
from obelisk.embedding import Bundle, Embedder, read_classifier, read_layer
from obelisk.errors import ObeliskError
from obelisk.recognition import read_background
from obelisk.recognition.calibration import CALIBRATION, read_calibration
def most():
    # MB of this process at its largest; ru_maxrss would count the process that started it.
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
before = most()
try:
    bundle = Bundle.load(sys.argv[1])
    bundle.read_card()
    read_classifier(bundle)
    read_layer(bundle)
    read_background(bundle)
    found = bundle.read_attachment(CALIBRATION)
    if found is not None:
        read_calibration(found, bundle.folder / CALIBRATION)
    embedded = Embedder(bundle).embed_one(Path(sys.argv[2]))
    said = f"answered: {embedded.embedding is not None}"
except ObeliskError as error:
    said = f"refused: {error}"
own, tried = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
seconds = own.ru_utime + own.ru_stime + tried.ru_utime + tried.ru_stime
print(json.dumps([said, seconds, max(most(), tried.ru_maxrss / 1024) - before]))
"""


def network(*nodes: onnx.NodeProto, **given: Any) -> bytes:
    """A network from photos to ``embedding``, by way of ``row``, the photo as a vector of 3,072 numbers."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["photos"], ["row"]), *nodes],
        "hostile",
        [helper.make_tensor_value_info("photos", TensorProto.FLOAT, given.pop("photos", ["N", 3, 32, 32]))],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, None)],
        given.pop("weights", []),
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("made.up", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8, **given).SerializeToString())


def constant(name: str, value: Any) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value)))


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


ONE = numpy_helper.from_array(np.ones(1, np.float32))
SOUND = network(constant("columns", np.arange(D)), node("Gather", "row columns", "embedding", axis=1))


def filled(rows: int, columns: int) -> list[onnx.NodeProto]:
    return [constant("shape", [rows, columns]), node("ConstantOfShape", "shape", "filled", value=ONE)]


def outside(location: str) -> bytes:
    tensor = numpy_helper.from_array(np.zeros((3072, D), np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return network(node("MatMul", "row w", "embedding"), weights=[tensor])


def loop(operator: str) -> bytes:
    body = helper.make_graph(
        [node("Identity", "on", "on_"), node("Identity", "v", "v_")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on_", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_", TensorProto.FLOAT, None),
        ],
    )
    return network(
        constant("most", 2**62), constant("yes", True), node(operator, "most yes row", "embedding", body=body)
    )


def doubling(depth: int) -> bytes:
    """Functions that call the next one twice each."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("made.up", 1)]
    functions = []
    for level in range(depth):
        inner = {"op_type": f"f{level + 1}", "domain": "made.up"} if level < depth - 1 else {"op_type": "Abs"}
        calls = [helper.make_node(inputs=[a], outputs=[b], **inner) for a, b in (("x", "y"), ("y", "z"))]
        functions.append(helper.make_function("made.up", f"f{level}", ["x"], ["z"], calls, opsets))
    return network(helper.make_node("f0", ["row"], ["embedding"], domain="made.up"), functions=functions)


def products(count: int, side: int) -> bytes:
    nodes = filled(side, side) + [node("MatMul", f"m{n} filled", f"m{n + 1}") for n in range(count)]
    nodes.insert(2, node("Identity", "filled", "m0"))
    return network(*nodes, node("ReduceSum", f"m{count}", "sum", keepdims=0), node("Mul", "row sum", "embedding"))


def depends_on_the_photo() -> bytes:
    """A vector of as many numbers as the photo is bright, times two billion."""
    return network(
        node("ReduceMax", "row", "most", keepdims=0),
        constant("times", np.float32(2e9)),
        node("Abs", "most", "positive"),
        constant("half", np.float32(0.5)),
        node("Add", "positive half", "shifted"),
        node("Mul", "shifted times", "many"),
        node("Cast", "many", "whole", to=TensorProto.INT64),
        constant("axes", [0]),
        node("Unsqueeze", "whole axes", "shape"),
        node("ConstantOfShape", "shape", "filled", value=ONE),
        node("ReduceSum", "filled", "sum", keepdims=0),
        node("Mul", "row sum", "embedding"),
    )


NETWORKS: dict[str, bytes] = {
    "no bytes": b"",
    "text": b"hello",
    "zeros": bytes(10_000_000),
    "a million parts": b"\x3a\x80\xda\xc4\x09" + b"\x0a\x00" * 10_000_000,
    "half a network": SOUND[: len(SOUND) // 2],
    "a tensor longer than the file": SOUND + b"\x3a\xff\xff\xff\xff\x07",
    "weights at the root": outside("/etc/passwd"),
    "weights above": outside("../../x"),
    "weights beside": outside("model.onnx"),
    "a loop": loop("Loop"),
    "a scan": loop("Scan"),
    "a sequence map": loop("SequenceMap"),
    "functions that double 20 times": doubling(20),
    "functions that double 60 times": doubling(60),
    "a constant of 400 MB": network(*filled(3072, 34_000), node("MatMul", "row filled", "embedding")),
    "a constant of 8 GB": network(*filled(3072, 700_000), node("MatMul", "row filled", "embedding")),
    "a constant of 40 TB": network(*filled(3072, 10**10), node("MatMul", "row filled", "embedding")),
    "a shape beyond 64 bits": network(*filled(2**62, 2**62), node("MatMul", "row filled", "embedding")),
    "a negative shape": network(*filled(-5, 48), node("MatMul", "row filled", "embedding")),
    "60 products of 3000 x 3000": products(60, 3000),
    "60 products of 6000 x 6000": products(60, 6000),
    "a tile of 12 GB": network(constant("t", [1, 10**6]), node("Tile", "row t", "embedding")),
    "an expansion of 1 GB": network(constant("t", [90_000, 3072]), node("Expand", "row t", "embedding")),
    "a range of 8 GB": network(
        constant("a", 0),
        constant("b", 10**9),
        constant("c", 1),
        node("Range", "a b c", "r"),
        node("Size", "r", "s"),
        node("Cast", "s", "f", to=1),
        node("Mul", "row f", "embedding"),
    ),
    "padding of 40 GB": network(
        constant("p", [0, 0, 50_000, 50_000, 0, 0, 50_000, 50_000]),
        node("Pad", "photos p", "padded"),
        node("GlobalAveragePool", "padded", "embedding"),
    ),
    "enlarged 10,000 times": network(
        constant("sides", np.array([1, 1, 10_000, 10_000], np.float32)),
        helper.make_node("Resize", ["photos", "", "sides"], ["large"]),
        node("GlobalAveragePool", "large", "embedding"),
    ),
    "memory by the photo": depends_on_the_photo(),
    "an operation of its own": network(helper.make_node("Run", ["row"], ["embedding"], domain="made.up")),
    "an input of another size": network(photos=["N", 3, 48, 48]),
    "another number of dimensions": network(node("Identity", "row", "embedding")),
    "no output": network(node("Identity", "row", "other")),
    "100,000 nodes": network(*(node("Identity", f"n{n}", f"n{n + 1}") for n in range(100_000))),
}


def set_field(**fields: object) -> Change:
    def change(folder: Path) -> None:
        path = folder / "bundle.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return change


def set_text(text: bytes) -> Change:
    return lambda folder: (folder / "bundle.json").write_bytes(text)


MEMBER = {"file": "a.onnx", "size": 32, "resize": "crop", "mean": [0, 0, 0], "std": [1, 1, 1], "dimensions": 48}
MANIFESTS: dict[str, Change] = {
    "manifest: no bytes": set_text(b""),
    "manifest: zeros": set_text(bytes(1_000_000)),
    "manifest: nested": set_text(b"[" * 1_000_000),
    "manifest: nested objects": set_text(b'{"a":' * 200_000),
    "manifest: many numbers": set_text(b"[" + b"1," * 500_000 + b"1]"),
    "manifest: many keys": set_text(b"{" + b",".join(b'"%06d":1' % n for n in range(90_000)) + b"}"),
    "manifest: a number of many digits": set_text(b'{"size":' + b"9" * 1_000_000 + b"}"),
    "manifest: not UTF-8": set_text(b'{"name":"\xff"}'),
    "manifest: a newer format": set_field(format=99),
    "manifest: a long name": set_field(name="x" * 900_000),
    "manifest: a side of a million": set_field(size=10**6),
    "manifest: a wrong fingerprint": set_field(fingerprint="0" * 32),
    "manifest: 20,000 attachments": set_field(files={f"f{n}": "0" for n in range(20_000)}),
    "manifest: an attachment above": set_field(files={"../x": "0"}),
    "manifest: an attachment that is missing": set_field(files={"background.npy": "0"}),
    "manifest: 5,000 members": set_field(size=None, resize=None, mean=None, std=None, members=[MEMBER] * 5000),
}


def put_hole(name: str, size: int) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        with (folder / name).open("wb") as file:
            file.truncate(size)

    return change


def put(name: str, make: Callable[[Path], object]) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return change


FILES: dict[str, Change] = {
    "files: a network of 1.9 GB of nothing": put_hole("model.onnx", 1_900_000_000),
    "files: a network of 3 GB of nothing": put_hole("model.onnx", 3_000_000_000),
    "files: a network of 1 TB of nothing": put_hole("model.onnx", 2**40),
    "files: a manifest of 1 TB of nothing": put_hole("bundle.json", 2**40),
    "files: a card of 1 TB of nothing": put_hole("card.md", 2**40),
    "files: the network is a pipe": put("model.onnx", os.mkfifo),
    "files: the manifest is a pipe": put("bundle.json", os.mkfifo),
    "files: the card is a pipe": put("card.md", os.mkfifo),
    "files: the network is a device": put("model.onnx", lambda path: path.symlink_to("/dev/zero")),
    "files: the manifest is a device": put("bundle.json", lambda path: path.symlink_to("/dev/zero")),
    "files: the network is a link to itself": put("model.onnx", lambda path: path.symlink_to("model.onnx")),
    "files: the manifest is a folder": put("bundle.json", Path.mkdir),
    "files: no network": put("model.onnx", lambda path: None),
}


def npy(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header.encode() + b"\n" + data


def saved(array: np.ndarray[Any, Any], **given: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **given)
    return file.getvalue()


ROWS = "{'descr': '<f2', 'fortran_order': False, 'shape': (%s), }"
ATTACHMENTS: dict[str, tuple[str, bytes]] = {
    "background: no bytes": ("background.npy", b""),
    "background: zip": ("background.npy", b"PK\x03\x04" + bytes(30)),
    "background: pickle": ("background.npy", saved(np.array([{}], dtype=object), allow_pickle=True)),
    "background: 2 TB claimed": ("background.npy", npy(ROWS % f"{2**40},")),
    "background: a side of 400 digits": ("background.npy", npy(ROWS % ("9" * 400 + ","))),
    "background: open brackets": ("background.npy", npy("{'descr': (((((")),
    "background: brackets": ("background.npy", npy("(" * 60_000)),
    "background: zeros": ("background.npy", saved(np.zeros((600_000, D), np.float16))),
    "background: not numbers": ("background.npy", saved(np.full((9, D), np.nan, np.float16))),
    "background: too large": ("background.npy", bytes(2**26 + 1)),
    "calibration: nested": ("calibration.json", b"[" * 1_000_000),
    "calibration: not a number": ("calibration.json", b'{"slope":NaN,"centre":1,"growth":1,"precisions":[[0,1]]}'),
    "calibration: infinite": ("calibration.json", b'{"slope":1e999,"centre":1,"growth":1,"precisions":[[0,1]]}'),
    "calibration: many precisions": ("calibration.json", b'{"precisions":[' + b"0," * 480_000 + b"0]}"),
    "calibration: many keys": ("calibration.json", b"{" + b",".join(b'"%06d":1' % n for n in range(90_000)) + b"}"),
    "calibration: 8 MB": ("calibration.json", b" " * 2**23),
    "classifier: k without end": ("classifier.json", b'{"k":1' + b"0" * 1_000_000 + b"}"),
    "classifier: a list": ("classifier.json", b"[]"),
    "layer: 16 million landmarks": ("layer.json", b'{"landmarks":[' + b"1," * 16_000_000 + b"1]}"),
    "layer: a million wrong landmarks": ("layer.json", b'{"landmarks":[' + b'"a",' * 1_000_000 + b'"a"]}'),
    "layer: a landmark twice": ("layer.json", b'{"landmarks":[' + b"1," * 1_000_000 + b"1]}"),
    "layer: 99,000 keys": ("layer.json", b"{" + b",".join(b'"%06d":1' % n for n in range(99_000)) + b"}"),
    "ranges: many wrong ends": ("ranges.json", b'{"a":{' + b",".join(b'"%06d":0' % n for n in range(90_000)) + b"}}"),
    "ranges: infinite": ("ranges.json", b'{"model.onnx":{"a":[-1e999,1]}}'),
    "an attachment of 64 MB": ("thing.bin", bytes(2**26)),
}
CASES: dict[str, tuple[bytes, dict[str, bytes], Change]] = {
    "sound": (SOUND, {}, lambda folder: None),
    **{f"network: {name}": (content, {}, lambda folder: None) for name, content in NETWORKS.items()},
    **{name: (SOUND, {}, change) for name, change in {**MANIFESTS, **FILES}.items()},
    **{name: (SOUND, {file: content}, lambda folder: None) for name, (file, content) in ATTACHMENTS.items()},
}
# What does no harm may be used.
HARMLESS = ("sound", "an attachment of 64 MB", "files: the card is a pipe", "network: 100,000 nodes")


def make_bundle(folder: Path, content: bytes, attached: dict[str, bytes], change: Change) -> Bundle:
    about = {"name": "hostile", "dimensions": D, "licence": "MIT", "data": "none"}
    bundle = write_bundle(folder, network=content, card="", attachments=attached, **about, **RULE)
    change(folder)
    return bundle


@pytest.mark.parametrize(("content", "attached", "change"), CASES.values(), ids=CASES)
def test_a_hostile_bundle_is_one_clear_error(
    content: bytes, attached: dict[str, bytes], change: Change, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    make_bundle(tmp_path / "bundle", content, attached, change)
    Image.new("RGB", (40, 30), (200, 100, 50)).save(tmp_path / "photo.png")
    environment = {**os.environ, "OBELISK_CACHE": str(tmp_path / "cache"), "OBELISK_RUNTIME": "onnxruntime"}
    command = [sys.executable, "-c", USE, str(tmp_path / "bundle"), str(tmp_path / "photo.png")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    shutil.rmtree(tmp_path / "bundle", ignore_errors=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    said, seconds, megabytes = json.loads(ended.stdout)
    print(f"{seconds:.1f} s, {megabytes:.0f} MB: {said[:200]}")
    assert said.startswith("refused: ") or any(name in request.node.name for name in HARMLESS)
    assert len(said.splitlines()) == 1
    assert len(said) < 2000
    assert seconds <= SECONDS
    assert megabytes <= MEGABYTES
