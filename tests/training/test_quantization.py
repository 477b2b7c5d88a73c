"""Networks computed in int8: which ranges their activations get, and what rounding makes of them."""

import importlib.util

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from obelisk.embedding import OnnxModel
from obelisk.training.export.int8 import choose_ranges, find_ranges, round_activations, round_ends, round_weights

SIDE = 8
has_openvino = importlib.util.find_spec("openvino") is not None


def convolve(rng: np.random.Generator) -> bytes:
    """Return photos → convolution → ReLU6 → convolution → depthwise convolution → embedding."""
    weights = {
        "w1": rng.normal(size=(6, 3, 3, 3)),
        "w2": rng.normal(size=(4, 6, 1, 1)),
        "w3": rng.normal(size=(4, 1, 3, 3)),
        "least": np.array(0.0),
        "most": np.array(6.0),
    }
    nodes = [
        helper.make_node("Conv", ["photos", "w1"], ["c1"], pads=[1] * 4),
        helper.make_node("Clip", ["c1", "least", "most"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"]),
        helper.make_node("Conv", ["c2", "w3"], ["c3"], pads=[1] * 4, group=4),
        helper.make_node("Flatten", ["c3"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("photos", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 4 * SIDE * SIDE])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    model: bytes = helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    return model


@pytest.fixture
def photos() -> list[np.ndarray]:
    return list(np.random.default_rng(1).uniform(-1, 1, (20, 3, SIDE, SIDE)).astype(np.float32))


def test_ranges_are_those_of_what_convolutions_take(photos: list[np.ndarray]) -> None:
    ranges = find_ranges(convolve(np.random.default_rng(0)), photos)
    assert list(ranges) == ["r1", "c2"]
    assert ranges["r1"] == pytest.approx((0.0, 6.0), abs=0.1)
    low, high = ranges["c2"]
    step = (high - low) / 255
    assert low < 0 < high
    assert low / step == pytest.approx(round(low / step))


def test_zero_is_a_level_of_every_range() -> None:
    for low, high in ((0.0, 6.0), (-3.1, 17.0), (-9.0, 0.0), (-0.001, 40.0)):
        ends = round_ends(low, high)
        step = (ends[1] - ends[0]) / 255
        assert step == pytest.approx((high - low) / 255)
        assert abs(ends[0] - low) <= step / 2 + 1e-9
        assert ends[0] / step == pytest.approx(round(ends[0] / step), abs=1e-6)


def test_rounding_is_that_of_bytes(photos: list[np.ndarray]) -> None:
    network, ends = convolve(np.random.default_rng(0)), (0.0, 6.0)
    plain = onnx.load_from_string(network)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in plain.graph.initializer}
    plain.graph.output.append(helper.make_empty_tensor_value_info("r1"))
    watched = onnx.load_from_string(round_activations(network, {"r1": ends}))
    watched.graph.output.append(helper.make_empty_tensor_value_info("c2"))
    photo = photos[0][np.newaxis]
    (before,) = OnnxModel(plain.SerializeToString()).compute(["r1"], photo)
    (found,) = OnnxModel(watched.SerializeToString()).compute(["c2"], photo)
    levels = np.rint(np.clip(before, *ends) * 255 / 6)
    steps = np.abs(weights["w2"]).max(axis=1, keepdims=True) / 127
    byte_weights = np.rint(weights["w2"] / steps)
    np.testing.assert_array_equal(byte_weights, np.rint(round_weights(weights["w2"]) / steps))
    expected = np.einsum("nchw,ocij->nohw", levels * 6 / 255, byte_weights * steps)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_what_costs_too_much_stays_in_float(photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    network = convolve(np.random.default_rng(0))
    assert set(choose_ranges(network, photos)) == {"r1", "c2"}
    monkeypatch.setattr("obelisk.training.export.int8.KEPT_COSINE", 0.9999999)
    assert choose_ranges(network, photos) == {}


@pytest.mark.skipif(not has_openvino, reason="the extra `openvino` is not installed")
@pytest.mark.filterwarnings("default")  # of OpenVINO's own imports
def test_openvino_computes_in_int8_what_rounding_gives(photos: list[np.ndarray]) -> None:
    from obelisk.embedding.openvino_model import OpenVinoModel

    network = convolve(np.random.default_rng(0))
    ranges = find_ranges(network, photos)
    rows = np.stack(photos)
    plain, rounded = OnnxModel(network).run(rows), OnnxModel(round_activations(network, ranges)).run(rows)
    computed = OpenVinoModel(network, SIDE, arithmetic="i8", ranges=ranges).run(rows)
    assert np.abs(computed - rounded).max() < 0.1 * np.abs(plain - rounded).max()
    np.testing.assert_allclose(OpenVinoModel(network, SIDE).run(rows), plain, rtol=1e-3, atol=1e-3)
