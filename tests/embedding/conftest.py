"""Networks small enough to be written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper
from PIL import Image

from obelisk.embedding import Bundle, write_bundle

SIZE = 32
RULE: dict[str, Any] = {"size": SIZE, "resize": "squash", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.25, 0.5)}
ABOUT: dict[str, Any] = {"licence": "MIT", "data": "none"}


def serialise(
    nodes: Sequence[NodeProto],
    *,
    size: int | str = SIZE,
    dimensions: int | str = 48,
    initialisers: Sequence[TensorProto] = (),
    features: Sequence[int] | None = None,
    domains: Sequence[str] = ("",),
) -> bytes:
    """Photos (N, 3, size, size) → ``embedding`` (N, dimensions), unchecked: some of these are meant to be wrong."""
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", dimensions])]
    if features:
        outputs.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", *features]))
    graph = helper.make_graph(
        nodes,
        "made_for_tests",
        [helper.make_tensor_value_info("photos", TensorProto.FLOAT, ["N", 3, size, size])],
        outputs,
        list(initialisers),
    )
    opsets = [helper.make_opsetid(domain, 17 if not domain else 1) for domain in domains]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def grid_nodes(cell: int = 8, *, maps: str = "maps") -> list[NodeProto]:
    """Return a network that sees the mean color of each ``cell`` × ``cell`` pixels."""
    return [
        helper.make_node("AveragePool", ["photos"], [maps], kernel_shape=[cell, cell], strides=[cell, cell]),
        helper.make_node("Flatten", [maps], ["row"]),
        helper.make_node("LpNormalization", ["row"], ["embedding"], axis=1, p=2),
    ]


def grid_network(size: int = SIZE, cell: int = 8) -> bytes:
    """Return the checked network of :func:`grid_nodes`."""
    network = serialise(grid_nodes(cell), size=size, dimensions=3 * (size // cell) ** 2)
    onnx.checker.check_model(onnx.load_from_string(network))
    return network


WriteBundle = Callable[..., Bundle]


@pytest.fixture
def write(tmp_path: Path) -> WriteBundle:
    """Write a bundle of a network, by default the color grid, into its own folder."""

    def write_one(name: str = "bundle", network: bytes | None = None, **changed: Any) -> Bundle:
        about = {"name": name, "dimensions": 48, "card": "# Made for tests\n", **RULE, **ABOUT, **changed}
        return write_bundle(tmp_path / name, network=grid_network() if network is None else network, **about)

    return write_one


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo of noise, 50 × 40."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def other_photo(tmp_path: Path) -> Path:
    """Another photo of noise, 70 × 90."""
    pixels = np.random.default_rng(1).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "other.png")
    return tmp_path / "other.png"


@pytest.fixture(scope="session")
def grids() -> tuple[bytes, bytes]:
    """Two networks that take photos of 32 and of 48 pixels."""
    return grid_network(), grid_network(48, 24)


@pytest.fixture(scope="session")
def tiny_network() -> bytes:
    """A network with weights, of a few kilobytes."""
    weights = np.random.default_rng(0).normal(size=(48, 48)).astype(np.float32)
    nodes = grid_nodes()[:2]
    nodes += [
        helper.make_node("MatMul", ["row", "weights"], ["mixed"]),
        helper.make_node("LpNormalization", ["mixed"], ["embedding"], axis=1, p=2),
    ]
    return serialise(nodes, initialisers=[onnx.numpy_helper.from_array(weights, "weights")])


@pytest.fixture(scope="session")
def mapped_network() -> bytes:
    """The color grid, whose means are also its feature maps."""
    return serialise(grid_nodes(maps="features"), features=(3, 4, 4))
