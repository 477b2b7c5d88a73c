"""Networks that may be computed in int8: the ranges of their activations, found on photos.

Convolutions take most of a network's time, and processors multiply bytes several times as fast as floats. What that
costs in accuracy differs between tensors by a hundred times: the most sensitive ones stay in float32, so many that the
embeddings keep a mean cosine of 0.997 to those of the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Embeddings, paired_cosines
from obelisk.embedding import OnnxModel
from obelisk.embedding.activation_ranges import LEVELS, Range

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

KEPT_COSINE = 0.997
CLIPPED = 0.01  # percent of a photo's values at each end: what lies there is not worth coarser levels
FEW_PHOTOS = 16  # to rank the tensors by


def choose_ranges(network: bytes, photos: Sequence[NDArray[np.float32]]) -> dict[str, Range]:
    """Return the ranges of the activations of a serialized ONNX graph that may be rounded to bytes, by tensor.

    ``photos`` are some dozens, each prepared as the network takes it, (3, H, W). The result may be empty, if
    every tensor costs too much.
    """
    ranges = find_ranges(network, photos)
    if not ranges:  # as in a transformer, whose only convolution reads the photo itself
        return {}
    expected = embed(network, photos)
    few, few_expected = photos[:FEW_PHOTOS], expected[:FEW_PHOTOS]
    kept = {
        tensor: paired_cosines(embed(round_activations(network, {tensor: ends}), few), few_expected).mean()
        for tensor, ends in ranges.items()
    }
    left = sorted(ranges, key=lambda tensor: kept[tensor], reverse=True)
    while left:
        rounded = embed(round_activations(network, pick(ranges, left)), photos)
        if paired_cosines(rounded, expected).mean() >= KEPT_COSINE:
            break
        left.pop()
    return {tensor: ranges[tensor] for tensor in ranges if tensor in left}


def pick(ranges: Mapping[str, Range], tensors: Sequence[str]) -> dict[str, Range]:
    """Return the ranges of some tensors."""
    return {tensor: ranges[tensor] for tensor in tensors}


def find_ranges(network: bytes, photos: Sequence[NDArray[np.float32]]) -> dict[str, Range]:
    """Return, for the input of each convolution but the first, the range that its 256 levels should stand for.

    The photo itself has 256 levels already. One level is zero, which borders are filled with.
    """
    import onnx

    model = onnx.load_from_string(network)
    photo = model.graph.input[0].name
    tensors = list(dict.fromkeys(node.input[0] for node in convolutions(model) if node.input[0] != photo))
    if not tensors:
        return {}
    shown = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(each) for each in tensors if each not in shown)
    watched = OnnxModel(model.SerializeToString())
    low, high = np.zeros(len(tensors)), np.zeros(len(tensors))
    for pixels in photos:
        for index, values in enumerate(watched.compute(tensors, pixels[np.newaxis])):
            ends = np.percentile(values, [CLIPPED, 100.0 - CLIPPED])
            low[index], high[index] = min(low[index], ends[0]), max(high[index], ends[1])
    return {
        tensor: round_ends(*ends)
        for tensor, *ends in zip(tensors, low.tolist(), high.tolist(), strict=True)
        if ends[0] < ends[1]
    }


def round_ends(low: float, high: float) -> Range:
    """Return the range moved so that one of its levels is zero."""
    step = (high - low) / (LEVELS - 1)
    below = round(-low / step)
    return -below * step, (LEVELS - 1 - below) * step


def round_activations(network: bytes, ranges: Mapping[str, Range]) -> bytes:
    """Return the network with the inputs of its convolutions rounded as int8 would, and the weights of these, too.

    It computes in float32, to show how the embeddings change.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(network)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    rounded = [node for node in convolutions(model) if node.input[0] in ranges]
    for node in rounded:
        tensor = weights[node.input[1]]
        tensor.CopyFrom(numpy_helper.from_array(round_weights(numpy_helper.to_array(tensor)), tensor.name))
    added: dict[str, list[NodeProto]] = {}
    for name in {node.input[0] for node in rounded}:
        low, high = ranges[name]
        step = np.float32((high - low) / (LEVELS - 1))
        constants = {"step": step, "least": np.rint(np.float32(low) / step), "most": np.rint(np.float32(high) / step)}
        model.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value), f"{name}_{kind}") for kind, value in constants.items()
        )
        # Not by QuantizeLinear: what ONNX Runtime makes of many of them computes otherwise.
        added[name] = [
            helper.make_node("Div", [name, f"{name}_step"], [f"{name}_scaled"]),
            helper.make_node("Round", [f"{name}_scaled"], [f"{name}_whole"]),
            helper.make_node("Clip", [f"{name}_whole", f"{name}_least", f"{name}_most"], [f"{name}_levels"]),
            helper.make_node("Mul", [f"{name}_levels", f"{name}_step"], [f"{name}_rounded"]),
        ]
    for node in rounded:
        node.input[0] = f"{node.input[0]}_rounded"
    nodes = [each for node in model.graph.node for each in (node, *behind(node, added))]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    serialized: bytes = model.SerializeToString()
    return serialized


def behind(node: NodeProto, added: Mapping[str, Sequence[NodeProto]]) -> list[NodeProto]:
    """Return the operations that were added on what a node gives."""
    return [each for output in node.output for each in added.get(output, ())]


def convolutions(model: ModelProto) -> list[NodeProto]:
    """Return the convolutions of a graph, in its order."""
    return [node for node in model.graph.node if node.op_type == "Conv"]


def round_weights(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return weights (C, …) rounded to 255 levels per channel, ``w ← s · round(w / s)`` with ``s = max|w| / 127``."""
    steps = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True) / np.float32(127)
    steps[steps == 0] = 1
    rounded: NDArray[np.float32] = (np.rint(weights / steps) * steps).astype(np.float32)
    return rounded


def embed(network: bytes, photos: Sequence[NDArray[np.float32]]) -> Embeddings:
    """Return the embeddings (N, D) of prepared photos."""
    model = OnnxModel(network)
    return np.concatenate([model.run(pixels[np.newaxis]) for pixels in photos])
